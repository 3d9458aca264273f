// A checkpoint of an earlier run against what is there now: its file, both ends and their records go in, what the run goes on
// with comes out. Refuses to use one that does not fit in every respect, says why, and removes it.

import { availableAlgorithms, createDigester } from '../digest/open.js'
import { type Range } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import { errnoOf } from '../errors.js'
import { minuteText } from '../guard/direction.js'
import { fitOf } from '../state/match.js'
import type { KnownDisk } from '../state/record.js'
import {
  type Checkpoint,
  type CheckpointEnd,
  loadCheckpoint,
  removeCheckpoint,
  SECTION_DIGEST_BYTES,
  sectionCount,
  type SectionRun,
} from '../state/resume-file.js'
import { beginPass } from './disk-pass.js'
import type { RunHooks } from './report.js'
import { nothing, type ResumeCase, type ResumeContext, type Resumed } from './resuming.js'
import type { Session } from './session.js'

/** Sections of the checkpoint that are looked at wherever they are, besides those that are likely to have changed. */
const RANDOM_SECTIONS = 4
/** Places of signatures that are looked at: who mounts a file system changes its first blocks. */
const MAX_SIGNATURE_SECTIONS = 8

/** `asked`: by --resume; `frozen`: the source cannot have changed; `unasked`, `no`: it is not gone on with. */
export type ResumeWish = 'asked' | 'frozen' | 'unasked' | 'no'

type GoOn = Readonly<{ state: string; wish: ResumeWish; hooks: RunHooks }>

/** What the disk is gone on with; null where all of it is to be compared, and there is no checkpoint any more then. */
export async function goOn(
  session: Session,
  found: ResumeCase,
  context: ResumeContext,
  { state, wish, hooks }: GoOn,
): Promise<(Resumed & { runId: string }) | null> {
  const { open, paired } = found
  const { pairId } = paired
  const { checkpoint, problem } = await load(state, pairId)
  if (problem !== null) hooks.onWarning?.(problem)
  if (checkpoint === null) {
    if (wish === 'asked') hooks.onNote?.(`--resume: ${nothing(open)}`)
    return null
  }
  const destination = open.pair.destination.typed
  const from = `the checkpoint of ${minuteText(checkpoint.savedAt)}`
  const misfit = misfitOf(checkpoint, found, session, context)
  if (wish === 'no' || wish === 'unasked') {
    if (wish === 'unasked' && misfit === null)
      hooks.onNote?.(
        `${from} is given up, and all of ${destination} is compared; --resume goes on from one, where the source has not changed since`,
      )
    await remove(state, pairId, hooks)
    return null
  }
  const resumed = misfit === null ? await prove(session, found, context, checkpoint) : misfit
  if (typeof resumed === 'string') {
    hooks.onWarning?.(`${from} is not used: ${resumed}; all of ${destination} is compared`)
    await remove(state, pairId, hooks)
    return null
  }
  const why =
    wish === 'frozen' ? ', since the source is a snapshot that is read-only (--no-resume compares all)' : ''
  const { lengthBytes } = open.size
  hooks.onNote?.(
    `goes on from ${from}${why}: ${mebibytes(bytesOf(resumed.before.runs, lengthBytes))} of ${mebibytes(lengthBytes)} are not compared again`,
  )
  return resumed
}

/** Why a checkpoint must not be used, a phrase for people; null where it fits in every respect. */
export function misfitOf(
  checkpoint: Checkpoint,
  { open, paired, source, destination }: ResumeCase,
  { far }: Pick<Session, 'far'>,
  { push, options, digester, native }: Pick<ResumeContext, 'push' | 'options' | 'digester' | 'native'>,
): string | null {
  const { size, near } = open
  const info = push ? open.far : near.info
  const record = destination.pairs.find(({ pairId }) => pairId === paired.pairId)
  const running = record?.role === 'destination' ? record.running : null
  if (running === null) return 'the destination has no record of that run, or of its end'
  if (running.overtaken === true) return 'somebody else wrote to the destination since'
  if (running.runId !== checkpoint.runId) return 'another run wrote to the destination since'
  const sourceMisfit = endMisfit(checkpoint.source, source)
  if (sourceMisfit !== null) return `the source ${sourceMisfit}`
  const destinationMisfit = endMisfit(checkpoint.destination, destination)
  if (destinationMisfit !== null) return `the destination ${destinationMisfit}`
  if (info.created || size.destinationBytes !== info.sizeBytes)
    return 'the destination was made, or made longer, anew'
  const { lengthBytes, destinationBytes } = checkpoint
  if (lengthBytes !== size.lengthBytes || destinationBytes !== size.destinationBytes)
    return 'the sizes are others than then'
  const { blockBytes, leafBytes } = digester.parameters.geometry
  if (checkpoint.blockBytes !== blockBytes || checkpoint.leafBytes !== leafBytes)
    return 'the run had another --block-size or --granularity'
  const { algorithm } = checkpoint
  const isAgreed = options.digest === 'auto' || options.digest === algorithm
  const isThere = availableAlgorithms(native).includes(algorithm) && far.algorithms.includes(algorithm)
  if (!isAgreed || !isThere) return `the run had the digest ${algorithm}`
  if (options.verify === 'written' && checkpoint.verified === 'none')
    return 'what the run wrote was not read back'
  const sections = Math.ceil(lengthBytes / SECTION_BYTES)
  if ((checkpoint.done.at(-1)?.[1] ?? 0) > sections) return 'it is longer than the disk'
  return null
}

function endMisfit(then: CheckpointEnd, now: KnownDisk): string | null {
  if (fitOf(then.stable, now.stable).kind !== 'same') return 'is another disk'
  return then.stamp === now.stamp ? null : 'has changed since'
}

/** Looks at a few sections at both ends; what it goes on with, or why not. */
async function prove(
  session: Session,
  { open, source, destination }: ResumeCase,
  context: ResumeContext,
  checkpoint: Checkpoint,
): Promise<(Resumed & { runId: string }) | string> {
  const { lengthBytes } = open.size
  const { algorithm, blockBytes, leafBytes, runId, digests, verified } = checkpoint
  const seed = Buffer.from(checkpoint.seed, 'hex')
  const parameters = { algorithm, seed, geometry: { blockBytes, leafBytes } }
  const digester = await createDigester(parameters, context.native)
  open.meter.started(context.lanes.channels, digester)
  const signatures = [...source.content, ...destination.content].map(({ offsetBytes }) =>
    Math.floor(offsetBytes / SECTION_BYTES),
  )
  const read = { source: 0, destination: 0 }
  for (const section of sampleOf(checkpoint.done, signatures, Math.random)) {
    const offset = section * SECTION_BYTES
    const range = { offset, length: Math.min(SECTION_BYTES, lengthBytes - offset) }
    const isEqual = await isAsThen(
      session,
      open,
      { ...context, digester },
      range,
      digestOf(checkpoint, section),
      read,
    )
    if (!isEqual) {
      open.meter.resumed(0, read)
      return `what it says of byte ${offset} to ${offset + range.length} is not so any more`
    }
  }
  // a run always ends with a pass: where all was done, its last section is done again
  const isAll = sectionCount(checkpoint.done) === Math.ceil(lengthBytes / SECTION_BYTES)
  const runs = isAll ? withoutLast(checkpoint.done) : checkpoint.done
  const before = { runs, digests: digests.subarray(0, sectionCount(runs) * SECTION_DIGEST_BYTES) }
  open.meter.resumed(bytesOf(runs, lengthBytes), read)
  return { digester, before, verified, runId }
}

/** True where both ends have in `range`, a section, what `digest` stands for. Adds to `read`. */
async function isAsThen(
  session: Session,
  open: ResumeCase['open'],
  context: ResumeContext,
  range: Range,
  digest: Buffer,
  read: { source: number; destination: number },
): Promise<boolean> {
  const request = { range, mode: 'compare', verify: 'none', pair: null, scan: null } as const
  const pass = await beginPass(session, open, context, { ...request, permitted: Promise.resolve() })
  const { said, destination, sections } = await pass.done
  read.source += said.readBytes
  read.destination += destination.readBytes
  return said.root === destination.root && sections.equals(digest)
}

/**
 * Sections to look at: the first one, the one before the interruption, those with signatures, and some by chance (`random`
 * from 0 to 1). Ascending, each once.
 */
export function sampleOf(
  done: readonly SectionRun[],
  signatures: readonly number[],
  random: () => number,
): number[] {
  const isDone = (section: number): boolean => done.some(([from, end]) => section >= from && section < end)
  const count = sectionCount(done)
  const nth = (index: number): number => {
    let left = index
    for (const [from, end] of done) {
      if (left < end - from) return from + left
      left -= end - from
    }
    return done[0]?.[0] ?? 0
  }
  const likely = [...new Set(signatures.filter(isDone))].slice(0, MAX_SIGNATURE_SECTIONS)
  const chance = Array.from({ length: RANDOM_SECTIONS }, () =>
    nth(Math.min(count - 1, Math.floor(random() * count))),
  )
  const ends = [done[0], done.at(-1)].flatMap((run) => (run === undefined ? [] : [run[0], run[1] - 1]))
  return [...new Set([...ends, ...likely, ...chance])].toSorted((a, b) => a - b)
}

function digestOf({ done, digests }: Checkpoint, section: number): Buffer {
  let before = 0
  for (const [from, end] of done) {
    if (section < end) {
      const at = (before + section - from) * SECTION_DIGEST_BYTES
      return digests.subarray(at, at + SECTION_DIGEST_BYTES)
    }
    before += end - from
  }
  return Buffer.alloc(0)
}

function withoutLast(runs: readonly SectionRun[]): SectionRun[] {
  const [from, end] = runs.at(-1) ?? [0, 0]
  return [...runs.slice(0, -1), ...(end - 1 > from ? [[from, end - 1] as const] : [])]
}

function bytesOf(runs: readonly SectionRun[], lengthBytes: number): number {
  const end = runs.at(-1)?.[1] ?? 0
  const beyond = Math.max(0, end * SECTION_BYTES - lengthBytes)
  return sectionCount(runs) * SECTION_BYTES - beyond
}

async function load(state: string, pairId: string): ReturnType<typeof loadCheckpoint> {
  try {
    return await loadCheckpoint(state, pairId)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === null) throw error
    return { checkpoint: null, problem: `the checkpoint of the pair in ${state} cannot be read: ${errno}` }
  }
}

async function remove(state: string, pairId: string, hooks: RunHooks): Promise<void> {
  try {
    await removeCheckpoint(state, pairId)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === null) throw error
    hooks.onWarning?.(`a checkpoint that is not used stays in ${state}: ${errno}`)
  }
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / (1 << 20))} MiB`
}
