// One pass over a range of a disk of a run, from the near end: the start frame goes out, and this process runs its half, of
// whichever role. What both ends say of it comes out. Refuses nothing itself: the halves do.

import type { Compression } from '../codec/codec.js'
import type { Digester, Range } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import type { AgreedSize } from '../guard/pair.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions, VerifyChoice } from '../options.js'
import type { Throttle } from '../rate/throttle.js'
import type { PairKeeper } from '../state/pair-keeper.js'
import type { KnownDisk, PairStart } from '../state/record.js'
import type { DiskUndo } from '../undo/journal.js'
import type { FinishedMessage, FinishMessage, OpenedMessage, StartMessage } from '../wire/control.js'
import { encodeStart } from '../wire/control.js'
import { FRAME, protocolError } from '../wire/frame.js'
import type { LeavesWish } from '../wire/leaves.js'
import { openCompressor } from './compression.js'
import { runDestination } from './destination.js'
import type { DiskMeter, PartMeter } from './meter.js'
import type { DiskPair } from './report.js'
import type { Scan } from './scan.js'
import type { Session } from './session.js'
import { beginSource } from './source.js'
import type { RangeSink } from './written-ranges.js'

/** A disk of the run, open and checked at both ends. `near` is the one that is open in this process. */
export type OpenPair = Readonly<{
  disk: number
  pair: DiskPair
  near: Endpoint
  /** What is known of the near disk; that of the far one is in `far`. */
  known: KnownDisk | null
  /** Keeps the record of the near disk. */
  keeper: PairKeeper
  /** Keeps the old content of a near destination, or makes a journal void; null where there is none. */
  undo: DiskUndo | null
  far: OpenedMessage
  size: AgreedSize
  meter: DiskMeter
}>

/** What the passes over one disk share. */
export type PassContext = Readonly<{
  push: boolean
  options: SyncOptions
  digester: Digester
  /** For payload that is sent from here. */
  throttle: Throttle
  compression: Compression | null
  /** What a far source may send in one lane as it is now; null is no limit. */
  farBytesPerSecond: () => number | null
  native: NativeCore | null
}>

export type PassRequest = Readonly<{
  range: Range
  mode: 'write' | 'compare'
  /** Read back from the device of the destination: by a pass that writes what it wrote, by one that compares everything. */
  verify: VerifyChoice
  /** What a far destination is marked with; null in all passes but the first one that writes. */
  pair: PairStart | null
  /** What a far destination keeps of its leaves; null (absent) is nothing. */
  leaves?: LeavesWish | null
  /** A scan of the range that was started early, with the same digester, or null. */
  scan: Scan | null
  /** A near destination is not written before this resolves. */
  permitted: Promise<unknown>
  part?: PartMeter
  onWritten?: RangeSink
}>

/** What both ends said, and the section digests of what was gone over as this end has them. */
export type PassOutcome = Readonly<{
  said: FinishMessage
  destination: Pick<FinishedMessage, 'root' | 'readBytes' | 'verifiedBytes' | 'undoBytes'>
  sections: Buffer
}>

/** A pass under way. `limitTo` is that of SourceHandle, wherever the source is. */
export type Pass = Readonly<{ done: Promise<PassOutcome>; limitTo: (block: number) => Promise<number> }>

/** Begins it. */
export async function beginPass(
  session: Session,
  open: OpenPair,
  context: PassContext,
  request: PassRequest,
): Promise<Pass> {
  const { push, digester, throttle, compression, options } = context
  const { disk, near } = open
  const { channel } = session
  channel.post(FRAME.start, disk, encodeStart(startOf(open, context, request)))
  if (!push) return beginDestination(session, open, context, request)
  const { range, mode, scan, part, onWritten } = request
  const source = beginSource({
    channel,
    disk,
    endpoint: near,
    digester,
    mode,
    range,
    scan,
    throttle,
    compressor: await openCompressor(compression, throttle),
    badSectors: badSectorsOf(options),
    ...(onWritten === undefined ? {} : { onWritten }),
    ...(part === undefined ? {} : { onProgress: part.sourceProgress }),
  })
  return { done: source.done, limitTo: async (block) => source.limitTo(block) }
}

/** The start frame of a pass: what a far end is asked for. */
export function startOf(
  { size }: OpenPair,
  { push, digester, farBytesPerSecond, compression, options }: PassContext,
  {
    range,
    mode,
    verify,
    pair,
    leaves = null,
  }: Pick<PassRequest, 'range' | 'mode' | 'verify' | 'pair' | 'leaves'>,
): StartMessage {
  const { algorithm, seed, geometry } = digester.parameters
  return {
    mode,
    offsetBytes: range.offset,
    lengthBytes: range.length,
    destinationBytes: size.destinationBytes,
    ...geometry,
    algorithm,
    seed,
    bytesPerSecond: push ? null : farBytesPerSecond(),
    compression: push ? null : compression,
    verify,
    badSectors: push ? 'stop' : badSectorsOf(options),
    leaves: push ? leaves : null,
    pair: push ? pair : null,
  }
}

/** What a far destination keeps of its leaves: only one pass over all of the disk knows all of them. */
export function leavesOf(
  { pair, size }: OpenPair,
  { length }: Range,
  mode: PassRequest['mode'],
): LeavesWish | null {
  if (pair.leaves === undefined || mode !== 'write' || length !== size.lengthBytes) return null
  return { root: pair.leaves.root }
}

export function badSectorsOf({ rescue }: SyncOptions): 'stop' | 'skip' {
  return rescue === null ? 'stop' : 'skip'
}

/** A map is made of what could not be read in a pass over `range`. Throws session/protocol. */
export function checkUnreadable(ranges: readonly Range[], range: Range, badSectors: 'stop' | 'skip'): void {
  if (ranges.length > 0 && badSectors === 'stop')
    throw protocolError('finish frame with unreadable ranges that were not to be skipped')
  let at = range.offset
  for (const { offset, length } of ranges) {
    if (offset < at || length === 0 || offset + length > range.offset + range.length)
      throw protocolError(
        `finish frame with unreadable ${offset}+${length}, out of order or outside the pass`,
      )
    at = offset + length
  }
}

function beginDestination(
  session: Session,
  { disk, near, pair, undo }: OpenPair,
  { digester, native }: PassContext,
  { range, mode, verify, permitted, part, onWritten }: PassRequest,
): Pass {
  const { channel } = session
  let onBegun = (): void => undefined
  const begun = new Promise<void>((resolve) => (onBegun = resolve))
  const { leafBytes } = digester.parameters.geometry
  const done = runDestination({
    channel,
    disk,
    endpoint: near,
    digester,
    mode,
    range,
    operand: pair.destination.typed,
    verify: { what: verify, native },
    permitted,
    preserver: mode === 'write' ? (undo?.preserver(near, leafBytes) ?? null) : null,
    onBegun,
    ...(onWritten === undefined ? {} : { onWritten }),
    ...(part === undefined ? {} : { onProgress: part.destinationProgress }),
  }).then(({ sourceSays: said, sections, ...destination }) => ({ said, destination, sections }))
  return {
    done,
    async limitTo(block) {
      // until the far end has begun this one, a pass before it would answer
      await Promise.race([begun, done])
      return await session.limit(disk, block)
    },
  }
}
