// Checkpoints of runs: one file for each pair in the state directory of the near end, a line of JSON with digests behind it.
// Written as a whole or not at all; a file that is broken is set aside and said, never used.

import { createHash } from 'node:crypto'
import { readdir, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import type { AlgorithmName } from '../digest/digester.js'
import type { StableIdentity } from '../endpoint/endpoint.js'
import { errnoOf } from '../errors.js'
import { readPlainFile, removeLeftBehind, setAside, syncDirectory, writeAtomically } from './atomic-file.js'
import { subdirectory } from './directory.js'
import { countOf, objectOf, oneOf, RecordError, textOf, timeOf } from './fields.js'
import { checkedStable, isPairId } from './record.js'

/** Sections of a disk of 64 TiB: a file of 32 MiB, written again from time to time. Of larger disks no checkpoint is kept. */
export const MAX_CHECKPOINT_SECTIONS = 1 << 20
/** Places that are done; a lane leaves one, and an interruption a few more. */
export const MAX_DONE_RUNS = 4096
/** A SHA-256 for each section. */
export const SECTION_DIGEST_BYTES = 32

const FIRST_LINE = 'blocksync-resume-1'
/** Two identities, and a few numbers for each of MAX_DONE_RUNS. */
const MAX_HEADER_BYTES = 256 << 10
const SUM_BYTES = 32
const MAX_FILE_BYTES = MAX_HEADER_BYTES + MAX_CHECKPOINT_SECTIONS * SECTION_DIGEST_BYTES + SUM_BYTES
const MAX_STAMP_UNITS = 128
const DIRECTORY = 'resume'
const SUFFIX = '.checkpoint'
/** Nobody goes on with a run after a quarter of a year. */
const FORGOTTEN_MS = 90 * 86_400_000

/** Sections from the first number up to the second one, which is not part of it. */
export type SectionRun = readonly [number, number]

/** A disk as it was then: who it is, and its stamp (KnownDisk). */
export type CheckpointEnd = Readonly<{ stable: StableIdentity; stamp: string | null }>

/** What of a pair was equal, flushed and agreed on by both ends at some moment of a run. */
export type Checkpoint = Readonly<{
  pairId: string
  /** The destination's record names it as the run that is writing (RunningMark), as long as nobody else wrote. */
  runId: string
  /** ISO 8601, UTC. */
  savedAt: string
  source: CheckpointEnd
  destination: CheckpointEnd
  lengthBytes: number
  destinationBytes: number
  algorithm: AlgorithmName
  /** 16 bytes in hex. */
  seed: string
  blockBytes: number
  leafBytes: number
  /** Whether what was written had been read back. */
  verified: 'none' | 'written'
  /** Ascending, not touching. */
  done: readonly SectionRun[]
  /** 32 bytes for each section that is done, in their order. */
  digests: Buffer
}>

/** A checkpoint, or why there is none that can be used; `problem` is a sentence, null where there is simply none. */
export type LoadedCheckpoint =
  | Readonly<{ checkpoint: Checkpoint; problem: null }>
  | Readonly<{ checkpoint: null; problem: string | null }>

/** True where any checkpoint may be kept. */
export async function hasCheckpoints(state: string): Promise<boolean> {
  try {
    return (await stat(join(state, DIRECTORY))).isDirectory()
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return false
  }
}

/** That of a pair. Rejects with the system's error where its file cannot be read. */
export async function loadCheckpoint(state: string, pairId: string): Promise<LoadedCheckpoint> {
  const path = pathOf(state, pairId)
  try {
    const bytes = await readPlainFile(path, MAX_FILE_BYTES)
    if (bytes === null) return { checkpoint: null, problem: null }
    const checkpoint = parseCheckpoint(bytes)
    if (checkpoint.pairId !== pairId) throw new RecordError('it is that of another pair')
    return { checkpoint, problem: null }
  } catch (error) {
    if (!(error instanceof RecordError || error instanceof RangeError)) throw error
    const to = await setAside(path)
    const where = to === null ? 'it could not be set aside' : `it is ${to} now`
    return {
      checkpoint: null,
      problem: `the checkpoint ${path} is broken and not used (${error.message}); ${where}`,
    }
  }
}

/** Replaces that of its pair; when it resolves it lasts. Rejects with the system's error; the old one is there then. */
export async function saveCheckpoint(state: string, checkpoint: Checkpoint): Promise<void> {
  const isNew = !(await hasCheckpoints(state))
  const directory = await subdirectory(state, DIRECTORY)
  if (isNew) await syncDirectory(state)
  await writeAtomically(pathOf(state, checkpoint.pairId), checkpointBytes(checkpoint))
  await removeLeftBehind(directory, Date.now())
  await removeForgotten(directory, Date.now())
}

/** Pairs that were never run again leave one. Never rejects for what the system says. */
async function removeForgotten(directory: string, nowMs: number): Promise<void> {
  try {
    for (const name of (await readdir(directory)).filter((each) => each.includes(SUFFIX))) {
      const path = join(directory, name)
      if (nowMs - (await stat(path)).mtimeMs > FORGOTTEN_MS) await unlink(path)
    }
  } catch (error) {
    // tidying up is for the next one too
    if (errnoOf(error) === null) throw error
  }
}

/** Removes that of a pair, where there is one. Rejects with the system's error. */
export async function removeCheckpoint(state: string, pairId: string): Promise<void> {
  try {
    await unlink(pathOf(state, pairId))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw error
  }
  await syncDirectory(join(state, DIRECTORY))
}

/** The file of a checkpoint. */
export function checkpointBytes({ digests, ...header }: Checkpoint): Buffer {
  const body = Buffer.concat([Buffer.from(`${FIRST_LINE}\n${JSON.stringify(header)}\n`), digests])
  return Buffer.concat([body, sumOf(body)])
}

/** Throws RecordError. */
export function parseCheckpoint(bytes: Buffer): Checkpoint {
  const body = bytes.subarray(0, Math.max(0, bytes.length - SUM_BYTES))
  const line = body.indexOf('\n')
  if (line < 0 || body.toString('latin1', 0, Math.min(line, MAX_STAMP_UNITS)) !== FIRST_LINE)
    throw new RecordError('it is no checkpoint of this version of blocksync')
  if (!sumOf(body).equals(bytes.subarray(body.length))) throw new RecordError('its checksum does not fit')
  const end = body.indexOf('\n', line + 1)
  if (end < 0 || end > MAX_HEADER_BYTES) throw new RecordError('it has no header')
  let header: unknown
  try {
    header = JSON.parse(body.toString('utf8', line + 1, end))
  } catch (cause) {
    throw new RecordError('its header is not JSON', { cause })
  }
  return checked(header, body.subarray(end + 1))
}

function checked(value: unknown, digests: Buffer): Checkpoint {
  const fields = objectOf(value, 'its header')
  const { pairId, runId } = fields
  if (!isPairId(pairId) || !isPairId(runId)) throw new RecordError('its ids are none')
  const done = doneRuns(fields['done'])
  if (sectionCount(done) * SECTION_DIGEST_BYTES !== digests.length)
    throw new RecordError('it has not one digest for each section')
  return {
    pairId,
    runId,
    savedAt: timeOf(fields, 'savedAt'),
    source: endOf(fields['source']),
    destination: endOf(fields['destination']),
    lengthBytes: countOf(fields, 'lengthBytes'),
    destinationBytes: countOf(fields, 'destinationBytes'),
    algorithm: oneOf(fields, 'algorithm', ['xxh3-128', 'xxh64x2', 'sha256']),
    seed: textOf(fields, 'seed', /^[0-9a-f]{32}$/),
    blockBytes: countOf(fields, 'blockBytes'),
    leafBytes: countOf(fields, 'leafBytes'),
    verified: oneOf(fields, 'verified', ['none', 'written']),
    done,
    digests,
  }
}

/** How many sections they are. */
export function sectionCount(runs: readonly SectionRun[]): number {
  return runs.reduce((sum, [from, end]) => sum + end - from, 0)
}

function doneRuns(value: unknown): SectionRun[] {
  if (!Array.isArray(value) || value.length > MAX_DONE_RUNS) throw new RecordError('done is no short list')
  let before = -1
  return value.map((run: unknown) => {
    const [from, end] = Array.isArray(run) ? (run as unknown[]) : []
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(end))
      throw new RecordError('done is no list of runs')
    const [first, last] = [from as number, end as number]
    if (first <= before || last <= first || last > MAX_CHECKPOINT_SECTIONS)
      throw new RecordError('done is out of order')
    before = last
    return [first, last] as const
  })
}

function endOf(value: unknown): CheckpointEnd {
  const { stable, stamp } = objectOf(value, 'an end')
  if (stamp !== null && (typeof stamp !== 'string' || stamp.length > MAX_STAMP_UNITS))
    throw new RecordError('a stamp is no short text')
  return { stable: checkedStable(stable), stamp }
}

function pathOf(state: string, pairId: string): string {
  return join(state, DIRECTORY, `${pairId}${SUFFIX}`)
}

function sumOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
