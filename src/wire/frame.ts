// The one place that knows byte positions of a frame: type, disk, length, body. Bytes of any cut come in, whole frames
// go out. Refuses unknown types, a set reserved byte and every body above its type's limit, before memory is taken.

import { SyncError } from '../errors.js'

/** Wire numbers of the frame types. 0 is never valid, so a run of zero bytes is never a frame. */
export const FRAME = {
  open: 1,
  opened: 2,
  start: 3,
  digests: 4,
  refine: 5,
  detail: 6,
  data: 7,
  mark: 8,
  finish: 9,
  finished: 10,
  credit: 11,
  error: 12,
  bye: 13,
  ping: 14,
  pong: 15,
  rate: 16,
  limit: 17,
  limited: 18,
  invite: 19,
  invited: 20,
  record: 21,
  recorded: 22,
  bond: 23,
  bonding: 24,
  bonded: 25,
} as const

export type FrameType = (typeof FRAME)[keyof typeof FRAME]

/** type u8, reserved u8 (zero), disk u16, body length u32; big-endian. */
export const HEADER_BYTES = 8

/** Payload of one data frame: large enough to be cheap, small enough to hold many. */
export const MAX_DATA_PAYLOAD_BYTES = 1 << 20
/** Records of one data frame: one a leaf of a megabyte in 4 KiB leaves, and as many zero ranges. */
export const MAX_DATA_RECORDS = 1024
/** Length of one zero record: zeroing more in one call would look like a stall, and takes the receiver long to check. */
export const MAX_ZERO_RECORD_BYTES = 1 << 30
/** Control frames are short JSON texts: paths of at most 4096 bytes, messages, roots. */
export const MAX_CONTROL_BYTES = 64 << 10
/** Digests of one span, or the leaves of one block at the finest granularity with the longest digest. */
export const MAX_SLAB_BYTES = 1 << 20
/** Runs of one digests frame: each becomes an object here, so the bytes of the frame alone do not bound them. */
export const MAX_DIGEST_RUNS = 1024
/** Blocks or groups asked for in one refine frame. */
export const MAX_REFINE_ITEMS = 1024
/** Disks of one session. */
export const MAX_DISKS = 4096

const MAX_BODY_BYTES: Readonly<Record<FrameType, number>> = {
  [FRAME.open]: MAX_CONTROL_BYTES,
  [FRAME.opened]: MAX_CONTROL_BYTES,
  [FRAME.start]: MAX_CONTROL_BYTES,
  [FRAME.digests]: 8 + MAX_DIGEST_RUNS * 8 + MAX_SLAB_BYTES,
  [FRAME.refine]: 8 + MAX_REFINE_ITEMS * 12,
  [FRAME.detail]: 8 + MAX_SLAB_BYTES,
  [FRAME.data]: 8 + MAX_DATA_RECORDS * 16 + MAX_DATA_PAYLOAD_BYTES,
  [FRAME.mark]: 8,
  [FRAME.finish]: MAX_CONTROL_BYTES,
  [FRAME.finished]: MAX_CONTROL_BYTES,
  [FRAME.credit]: 8,
  [FRAME.error]: MAX_CONTROL_BYTES,
  [FRAME.bye]: 0,
  [FRAME.ping]: 8,
  [FRAME.pong]: 8,
  [FRAME.rate]: 8,
  [FRAME.limit]: 8,
  [FRAME.limited]: 8,
  [FRAME.invite]: 0,
  [FRAME.invited]: MAX_CONTROL_BYTES,
  [FRAME.record]: MAX_CONTROL_BYTES,
  [FRAME.recorded]: MAX_CONTROL_BYTES,
  [FRAME.bond]: MAX_CONTROL_BYTES,
  [FRAME.bonding]: MAX_CONTROL_BYTES,
  [FRAME.bonded]: MAX_CONTROL_BYTES,
}

export const MAX_FRAME_BYTES = HEADER_BYTES + MAX_BODY_BYTES[FRAME.data]

/** Sent ahead of credit only by types that the receiver cannot bound otherwise; see docs/protocol.md, "Credit". */
export function isCredited(type: FrameType): boolean {
  return type === FRAME.digests || type === FRAME.data
}

/** Types that may come at any time, also in the middle of a pass: they are for the session, not for the pass. */
export function isAside(type: FrameType): boolean {
  return type === FRAME.pong || type >= FRAME.rate
}

export function frameName(type: number): string {
  const found = Object.entries(FRAME).find(([, value]) => value === type)
  return found === undefined ? `type ${type}` : found[0]
}

/** A received frame. `body` is valid until `recycle` is called (Channel does that when a frame is released). */
export type Frame = { type: FrameType; disk: number; body: Buffer; recycle: () => void }

/** Header of a frame whose body has `bodyBytes` bytes. Throws on a body above the limit: a defect on this side. */
export function encodeHeader(type: FrameType, disk: number, bodyBytes: number): Buffer {
  if (bodyBytes > MAX_BODY_BYTES[type] || disk >= MAX_DISKS) {
    throw new SyncError(
      'internal',
      `${frameName(type)} frame of ${bodyBytes} bytes for disk ${disk} exceeds its limit`,
    )
  }
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.writeUInt8(type, 0)
  header.writeUInt8(0, 1)
  header.writeUInt16BE(disk, 2)
  header.writeUInt32BE(bodyBytes, 4)
  return header
}

/** What a header announces, checked. Throws session/protocol. */
export function decodeHeader(header: Uint8Array): { type: FrameType; disk: number; bodyBytes: number } {
  const view = Buffer.from(header.buffer, header.byteOffset, header.byteLength)
  const type = view.readUInt8(0)
  const disk = view.readUInt16BE(2)
  const bodyBytes = view.readUInt32BE(4)
  const limit = (MAX_BODY_BYTES as Readonly<Record<number, number | undefined>>)[type]
  if (limit === undefined) throw protocolError(`unknown frame type ${type}`)
  if (view.readUInt8(1) !== 0) throw protocolError(`${frameName(type)} frame with the reserved byte set`)
  if (disk >= MAX_DISKS)
    throw protocolError(`${frameName(type)} frame for disk ${disk} (at most ${MAX_DISKS})`)
  if (bodyBytes > limit) throw protocolError(`${frameName(type)} frame of ${bodyBytes} bytes, limit ${limit}`)
  return { type: type as FrameType, disk, bodyBytes }
}

export function protocolError(message: string): SyncError {
  return new SyncError('session/protocol', `the far end broke the protocol: ${message}`, {
    hint: 'Nothing after this point was written. Run the same command again; if it happens again, compare the versions with blocksync doctor HOST.',
  })
}

/** Bodies below this are copied into small buffers, so that they do not pin the chunk they came in. */
const POOLED_BODY_BYTES = 64 << 10
/** Sizes of pooled bodies: a frame must not pin a buffer many times its size. */
const POOL_CLASSES_BYTES = [128 << 10, 256 << 10, 512 << 10, MAX_FRAME_BYTES] as const
/** Free bodies of each size kept for reuse; above that they go to the garbage collector. */
const MAX_POOLED_BODIES = 16

/** Cuts a byte stream into frames. A state per part: header, then body. */
export class FrameDecoder {
  readonly #header = Buffer.alloc(HEADER_BYTES)
  readonly #pools: readonly Buffer[][] = POOL_CLASSES_BYTES.map(() => [])
  #headerFilled = 0
  #current: Frame | null = null
  #bodyFilled = 0
  #isStopped = false

  /** True between frames: a stream that ends elsewhere was cut. */
  get isBetweenFrames(): boolean {
    return this.#headerFilled === 0
  }

  /** For `onFrame`: what follows the frame it was called with is not for here. */
  stop(): void {
    this.#isStopped = true
  }

  /**
   * Feeds bytes; `onFrame` is called for each frame completed by them, in order. Returns how many bytes were taken: all
   * but those behind a frame where it was stopped. Throws session/protocol.
   */
  push(chunk: Uint8Array, onFrame: (frame: Frame) => void): number {
    let at = 0
    // A frame without a body is complete with its header, so there may be one to hand out when the bytes are used up.
    while (at < chunk.length || this.#current !== null) {
      if (this.#current === null) {
        const take = Math.min(HEADER_BYTES - this.#headerFilled, chunk.length - at)
        this.#header.set(chunk.subarray(at, at + take), this.#headerFilled)
        this.#headerFilled += take
        at += take
        if (this.#headerFilled < HEADER_BYTES) return at
        const { type, disk, bodyBytes } = decodeHeader(this.#header)
        this.#current = this.#begin(type, disk, bodyBytes)
        this.#bodyFilled = 0
      }
      const frame = this.#current
      const take = Math.min(frame.body.length - this.#bodyFilled, chunk.length - at)
      frame.body.set(chunk.subarray(at, at + take), this.#bodyFilled)
      this.#bodyFilled += take
      at += take
      if (this.#bodyFilled === frame.body.length) {
        this.#current = null
        this.#headerFilled = 0
        onFrame(frame)
        if (this.#isStopped) {
          this.#isStopped = false
          return at
        }
      } else if (at === chunk.length) {
        return at
      }
    }
    return at
  }

  #begin(type: FrameType, disk: number, bodyBytes: number): Frame {
    if (bodyBytes < POOLED_BODY_BYTES)
      return { type, disk, body: Buffer.allocUnsafe(bodyBytes), recycle: nothing }
    const size = POOL_CLASSES_BYTES.findIndex((classBytes) => bodyBytes <= classBytes)
    const pool = this.#pools[size] ?? []
    const whole = pool.pop() ?? Buffer.allocUnsafeSlow(POOL_CLASSES_BYTES[size] ?? MAX_FRAME_BYTES)
    const recycle = (): void => {
      if (pool.length < MAX_POOLED_BODIES) pool.push(whole)
    }
    return { type, disk, body: whole.subarray(0, bodyBytes), recycle }
  }
}

function nothing(): void {
  // a small body has nothing to give back
}
