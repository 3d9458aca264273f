// Receipts: what a run reported comes in, the document of docs/receipt.md comes out; and the other way, checked strictly.
// Refuses a file that is no receipt, or one of a later version, before any disk is opened.

import os from 'node:os'

import type { AlgorithmName, DigestParameters } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import type { EndpointInfo, StableIdentity } from '../endpoint/endpoint.js'
import { errnoOf, SyncError } from '../errors.js'
import { syncOptions } from '../options.js'
import type { DiskPair, DiskReport, Operand } from '../sync/report.js'
import { packageVersion } from '../version.js'
import { isObject } from '../json.js'

export const RECEIPT_KIND = 'blocksync-receipt'
export const RECEIPT_VERSION = 1
/** Section digests are left out beyond this: 4 TiB of disk, and some 4 MiB of file. */
export const MAX_LISTED_SECTIONS = 65_536
const SECTION_DIGEST_BYTES = 32

/** What a receipt is made from. `by`: user@host. */
export type ReceiptFacts = Readonly<{
  mode: 'sync' | 'verify'
  pairs: readonly DiskPair[]
  disks: readonly DiskReport[]
  startedAt: Date
  finishedAt: Date
  by: string
  /** The name of this machine. */
  hostName: string
}>

/** What is checked again with a receipt: one disk of it. */
export type ReceiptDisk = Readonly<{
  source: string
  destination: string
  lengthBytes: number
  parameters: DigestParameters
  root: string
  /** 32 bytes for each section, or null where the receipt has none. */
  sections: Buffer | null
}>

/** The document of a run that ended now, here. */
export function receiptNow(facts: Omit<ReceiptFacts, 'finishedAt' | 'by' | 'hostName'>): object {
  const hostName = os.hostname()
  return receiptOf({ ...facts, finishedAt: new Date(), by: `${userName()}@${hostName}`, hostName })
}

/** Of this process; a user without an entry has a number. */
function userName(): string {
  try {
    return os.userInfo().username
  } catch (error) {
    if (errnoOf(error) !== null) return String(process.getuid?.() ?? 'unknown')
    throw error
  }
}

/** The document. All disks of the run are done. */
export function receiptOf({ mode, pairs, disks, startedAt, finishedAt, by, hostName }: ReceiptFacts): object {
  const far = disks.find(({ evidence }) => evidence !== null)?.evidence?.far ?? null
  return {
    kind: RECEIPT_KIND,
    version: RECEIPT_VERSION,
    mode,
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
    by,
    versions: {
      near: { blocksync: packageVersion(), node: process.version },
      far: far === null ? null : { blocksync: far.version, node: far.node },
      protocol: far?.protocol ?? null,
    },
    disks: disks.map((disk, index) => diskOf(disk, pairs[index], hostName)),
  }
}

function diskOf(disk: DiskReport, pair: DiskPair | undefined, hostName: string): object {
  const { evidence, digest } = disk
  if (evidence === null || digest === null || pair === undefined)
    throw new SyncError('internal', `no evidence for ${disk.destination}`)
  const { sections, written, flushedAt } = evidence
  return {
    source: endOf(pair.source, evidence.source, evidence.stable.source, hostName),
    destination: endOf(pair.destination, evidence.destination, evidence.stable.destination, hostName),
    lengthBytes: disk.sizeBytes,
    digest: {
      algorithm: digest.algorithm,
      seed: digest.seed,
      blockBytes: digest.blockBytes,
      leafBytes: digest.leafBytes,
      root: digest.root,
      sectionBytes: SECTION_BYTES,
      sections: hexSections(sections),
    },
    resumedBytes: disk.resumedBytes,
    verified: disk.verified,
    pair: disk.pair,
    startedAt: evidence.startedAt.toISOString(),
    flushedAt: flushedAt?.toISOString() ?? null,
    written: {
      count: written.count,
      bytes: written.bytes,
      ranges: written.ranges?.map(({ offset, length }) => [offset, length]) ?? null,
      sections: written.sections,
    },
  }
}

function endOf(
  { typed, path, at }: Operand,
  info: EndpointInfo,
  stable: StableIdentity | null,
  hostName: string,
): object {
  return {
    typed,
    host: at.kind === 'local' ? hostName : at.host,
    path,
    kind: info.kind,
    sizeBytes: info.sizeBytes,
    identity: info.identity,
    stable,
  }
}

function hexSections(sections: Buffer): string[] | null {
  const count = sections.length / SECTION_DIGEST_BYTES
  if (count > MAX_LISTED_SECTIONS) return null
  return Array.from({ length: count }, (_, index) =>
    sections.toString('hex', index * SECTION_DIGEST_BYTES, (index + 1) * SECTION_DIGEST_BYTES),
  )
}

/** The disks of a receipt. Rejects with `usage` where `text` is none; `file` is what to call it. */
export function parseReceipt(text: string, file: string): ReceiptDisk[] {
  try {
    return disksOf(JSON.parse(text))
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown)
    throw new SyncError('usage', `${file} is not a receipt that can be used: ${why}; nothing was opened`, {
      operand: file,
      hint: 'Name a file that blocksync --receipt FILE wrote.',
      cause: thrown,
    })
  }
}

/** The one disk of a receipt that is meant: the only one, or the one with one of these names. Rejects with `usage`. */
export function chooseDisk(
  disks: readonly ReceiptDisk[],
  names: readonly string[],
  file: string,
): ReceiptDisk {
  const [only] = disks
  if (only !== undefined && disks.length === 1) return only
  const found = disks.filter(
    ({ source, destination }) => names.includes(source) || names.includes(destination),
  )
  const [disk] = found
  if (disk !== undefined && found.length === 1) return disk
  throw new SyncError(
    'usage',
    `${file} is about ${disks.length} disks, and ${names[0] ?? ''} is ${found.length === 0 ? 'none' : 'more than one'} of them; nothing was opened`,
    {
      operand: file,
      hint: `It has ${disks.map(({ destination }) => destination).join(', ')}: name the disk by the path it has there.`,
    },
  )
}

type Fields = Readonly<Record<string, unknown>>

function disksOf(document: unknown): ReceiptDisk[] {
  const fields = objectAt(document, 'it')
  if (fields['kind'] !== RECEIPT_KIND) throw new Error(`its kind is not ${RECEIPT_KIND}`)
  if (fields['version'] !== RECEIPT_VERSION)
    throw new Error(`it is of version ${JSON.stringify(fields['version'])}, known is ${RECEIPT_VERSION}`)
  const disks = fields['disks']
  if (!Array.isArray(disks) || disks.length === 0) throw new Error('it has no disks')
  return disks.map((disk: unknown) => diskFrom(objectAt(disk, 'a disk')))
}

function diskFrom(fields: Fields): ReceiptDisk {
  const digest = objectAt(fields['digest'], 'digest')
  const algorithm = algorithmOf(digest['algorithm'])
  const blockBytes = countAt(digest, 'blockBytes')
  const leafBytes = countAt(digest, 'leafBytes')
  syncOptions({ blockBytes, granularityBytes: leafBytes })
  if (digest['sectionBytes'] !== SECTION_BYTES) throw new Error(`its sectionBytes are not ${SECTION_BYTES}`)
  const lengthBytes = countAt(fields, 'lengthBytes')
  return {
    source: textAt(objectAt(fields['source'], 'source'), 'path'),
    destination: textAt(objectAt(fields['destination'], 'destination'), 'path'),
    lengthBytes,
    parameters: {
      algorithm,
      seed: Buffer.from(hexOf(digest['seed'], 'seed', SEED_BYTES), 'hex'),
      geometry: { blockBytes, leafBytes },
    },
    root: hexOf(digest['root'], 'root', 32),
    sections: sectionsOf(digest['sections'], Math.ceil(lengthBytes / SECTION_BYTES)),
  }
}

function sectionsOf(value: unknown, count: number): Buffer | null {
  if (value === null || value === undefined) return null
  if (!Array.isArray(value) || value.length !== count)
    throw new Error(`its sections are not ${count} digests`)
  const texts = value.map((each: unknown) => hexOf(each, 'sections', SECTION_DIGEST_BYTES))
  return Buffer.from(texts.join(''), 'hex')
}

function algorithmOf(value: unknown): AlgorithmName {
  if (value === 'xxh3-128' || value === 'xxh64x2' || value === 'sha256') return value
  throw new Error(`its algorithm ${JSON.stringify(value)} is not known`)
}

function objectAt(value: unknown, what: string): Fields {
  if (isObject(value)) return value
  throw new Error(`${what} is no object`)
}

function countAt(fields: Fields, name: string): number {
  const value = fields[name]
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new Error(`its ${name} is not a number of bytes`)
}

function textAt(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value === 'string') return value
  throw new Error(`its ${name} is no text`)
}

function hexOf(value: unknown, name: string, bytes: number): string {
  if (typeof value === 'string' && value.length === bytes * 2 && /^[0-9a-f]*$/.test(value)) return value
  throw new Error(`its ${name} is not ${bytes} bytes in lower-case hex`)
}
