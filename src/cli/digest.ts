// `blocksync digest DISK` and `blocksync verify --receipt FILE DISK`: one disk of this host in, its root digest out, or
// whether it is still what a receipt says. Only reads. Refuses disks on other hosts, and parameters given twice.

import { realpath } from 'node:fs/promises'

import type { AlgorithmName, DigestParameters } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import { EXIT, errnoOf, toSyncError } from '../errors.js'
import { type NativeMode, SYNC_DEFAULTS, syncOptions } from '../options.js'
import type { DiskRoot, RootRequest } from '../sync/disk-root.js'
import type { CommandContext } from './context.js'
import { localDisk } from './operand.js'
import { type ReceiptDisk, chooseDisk, parseReceipt } from './receipt.js'
import { errorOf } from './result.js'
import { runSignal } from './signals.js'

/** What these commands ask of the rest of the program. */
export type DigestEngine = Readonly<{
  /** What this host can compute, the best first. Throws native/required. */
  algorithms: (native: NativeMode) => readonly AlgorithmName[]
  diskRoot: (request: RootRequest, native: NativeMode, signal: AbortSignal) => Promise<DiskRoot>
}>

export type DigestFlags = {
  digest?: AlgorithmName | 'auto'
  seed?: string
  receipt?: string
  blockSize?: number
  granularity?: number
  length?: number
  native?: NativeMode
  json?: true
}

export type VerifyReceiptFlags = { native?: NativeMode; json?: true; quiet?: true }

/** Without --seed: the same everywhere, so that two people can compare what they see. */
const PLAIN_SEED = '00'.repeat(SEED_BYTES)
/** Sections that a text names; --json has more. */
const MAX_NAMED_SECTIONS = 4
/** Sections that the JSON result lists. */
const MAX_LISTED_SECTIONS = 4096

/** Prints the root of a disk; resolves with 0, or the status of what failed. Rejects with `usage`. */
export async function digestCommand(
  typed: string,
  flags: DigestFlags,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  const path = localPath(typed, context)
  const receipt = flags.receipt === undefined ? null : await receiptDisk(flags.receipt, path, context)
  const native = flags.native ?? SYNC_DEFAULTS.native
  const engine = await context.loadDigest()
  const [best = 'sha256'] = engine.algorithms(native)
  const parameters = receipt?.parameters ?? parametersOf(flags, best)
  if (receipt === null && (flags.digest ?? 'auto') === 'auto' && best !== 'xxh3-128')
    output.note(
      `blocksync: warning: no native core here, so this is ${best}; elsewhere type --digest ${best} to compare`,
    )
  const lengthBytes = receipt?.lengthBytes ?? flags.length ?? null
  return await ran(typed, 'digest', flags.json, context, async (signal, elapsedMs) => {
    const found = await engine.diskRoot({ path, parameters, lengthBytes }, native, signal)
    if (flags.json === true)
      output.json({
        event: 'result',
        ok: true,
        command: 'digest',
        disk: typed,
        ...countsOf(found, elapsedMs()),
        digest: digestOf(parameters, found.root),
      })
    else output.line(`${found.root}  ${typed}`)
    return EXIT.ok
  })
}

/** Whether a disk is what a receipt says: resolves with 0 where it is, 1 where it is not. Rejects with `usage`. */
export async function verifyReceiptCommand(
  typed: string,
  file: string,
  flags: VerifyReceiptFlags,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  const path = localPath(typed, context)
  const receipt = await receiptDisk(file, path, context)
  const native = flags.native ?? SYNC_DEFAULTS.native
  const engine = await context.loadDigest()
  return await ran(typed, 'verify', flags.json, context, async (signal, elapsedMs) => {
    const { parameters, lengthBytes } = receipt
    const found = await engine.diskRoot({ path, parameters, lengthBytes }, native, signal)
    const isEqual = found.root === receipt.root
    const sections = isEqual ? [] : differingSections(found.sections, receipt.sections)
    if (flags.json === true)
      output.json({
        event: 'result',
        ok: true,
        command: 'verify',
        disk: typed,
        receipt: file,
        equal: isEqual,
        ...countsOf(found, elapsedMs()),
        digest: digestOf(parameters, found.root),
        expectedRoot: receipt.root,
        sectionBytes: SECTION_BYTES,
        differentSections: sections?.slice(0, MAX_LISTED_SECTIONS) ?? null,
      })
    else if (flags.quiet !== true)
      output.line(isEqual ? 'identical' : differenceText(sections, found.sections.length / 32, lengthBytes))
    return isEqual ? EXIT.ok : EXIT.different
  })
}

function differenceText(sections: readonly number[] | null, count: number, lengthBytes: number): string {
  if (sections === null) return 'different: the receipt has no section digests to say where'
  if (sections.length === 0) return 'different: the sections are equal, so the receipt contradicts itself'
  const named = sections.slice(0, MAX_NAMED_SECTIONS).map((section) => {
    const from = section * SECTION_BYTES
    return `${section} (bytes ${from} to ${Math.min(from + SECTION_BYTES, lengthBytes) - 1})`
  })
  const more = sections.length > named.length ? ', ...' : ''
  return `different: ${sections.length} of ${count} sections differ: ${named.join(', ')}${more}`
}

/** Numbers of the sections that differ; null where the receipt does not have them. */
function differingSections(found: Buffer, expected: Buffer | null): number[] | null {
  if (expected === null) return null
  const sections: number[] = []
  for (let at = 0; at < found.length; at += 32)
    if (found.compare(expected, at, at + 32, at, at + 32) !== 0) sections.push(at / 32)
  return sections
}

/** What both commands do around their work: signals, and a failure said as that of any run. */
async function ran(
  typed: string,
  command: 'digest' | 'verify',
  json: true | undefined,
  context: CommandContext,
  work: (signal: AbortSignal, elapsedMs: () => number) => Promise<number>,
): Promise<number> {
  const { output } = context
  const startMs = context.nowMs()
  using interruption = runSignal(context.signals, (text) => output.note(text), context.exit)
  try {
    return await work(interruption.signal, () => Math.round(context.nowMs() - startMs))
  } catch (thrown) {
    const error = toSyncError(interruption.signal.aborted ? interruption.signal.reason : thrown)
    output.error(error)
    if (json === true)
      output.json({ event: 'result', ok: false, command, disk: typed, error: errorOf(error) })
    return error.exitStatus
  }
}

function countsOf({ info, lengthBytes, readBytes }: DiskRoot, durationMs: number): object {
  return { sizeBytes: info.sizeBytes, lengthBytes, readBytes, durationMs }
}

function digestOf({ algorithm, seed, geometry }: DigestParameters, root: string): object {
  return { algorithm, root, seed: Buffer.from(seed).toString('hex'), ...geometry }
}

function parametersOf(flags: DigestFlags, best: AlgorithmName): DigestParameters {
  const { blockBytes, granularityBytes: leafBytes } = syncOptions({
    ...(flags.blockSize === undefined ? {} : { blockBytes: flags.blockSize }),
    ...(flags.granularity === undefined ? {} : { granularityBytes: flags.granularity }),
  })
  const algorithm = flags.digest === undefined || flags.digest === 'auto' ? best : flags.digest
  const seed = Buffer.from(flags.seed ?? PLAIN_SEED, 'hex')
  return { algorithm, seed, geometry: { blockBytes, leafBytes } }
}

/** A disk of this host. */
function localPath(typed: string, { names }: CommandContext): string {
  return localDisk(typed, names, { what: 'reads a disk of this host only', command: 'blocksync' })
}

async function receiptDisk(
  file: string,
  path: string,
  { loadReceipts }: CommandContext,
): Promise<ReceiptDisk> {
  const receipts = await loadReceipts()
  const disks = parseReceipt(await receipts.read(file), file)
  return chooseDisk(disks, [path, await realName(path)], file)
}

async function realName(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    // opening it will say what is wrong with it
    if (errnoOf(error) !== null) return path
    throw error
  }
}
