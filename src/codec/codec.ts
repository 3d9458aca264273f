// What a codec is: one piece of data in, one compressed piece out, and back to exactly as many bytes as were announced.
// Never on the main thread. Refuses pieces above MAX_PIECE_BYTES before it takes memory for them.

import { SyncError } from '../errors.js'

/** Names as they appear in options and on the wire. */
export type CodecName = 'zstd' | 'brotli'

/** Wire ids of a `data` frame's payload; 0 is a payload as it is. */
export const CODEC_ID = { none: 0, zstd: 1, brotli: 2 } as const

export type CodecId = (typeof CODEC_ID)[keyof typeof CODEC_ID]

/** The order of preference: zstd takes about half the time for the same ratio. */
export const CODEC_NAMES: readonly CodecName[] = ['zstd', 'brotli']

/** What is compressed in one piece: the payload of one `data` frame (MAX_DATA_PAYLOAD_BYTES). */
export const MAX_PIECE_BYTES = 1 << 20

/**
 * Binary logarithm of the largest window a piece may ask its reader to keep: it never has to be longer than the piece.
 * A reader refuses more, so a few bytes from the far end cannot make it take more than about 1 MiB.
 */
export const WINDOW_LOG = 20

/** What a source does with its payload: the codec, and whether it is always tried or only where the line is slow. */
export type Compression = Readonly<{ codec: CodecName; mode: 'always' | 'auto' }>

export interface Codec {
  readonly name: CodecName
  readonly id: CodecId

  /** `data` (1 to MAX_PIECE_BYTES) as one compressed piece; it may be longer than `data`. `data` is not changed, and must not be, until then. */
  compress(data: Uint8Array): Promise<Buffer>

  /**
   * The reverse: exactly `rawBytes` (1 to MAX_PIECE_BYTES), no more memory than that for them. Rejects with
   * session/protocol where the piece is corrupt, cut, longer than its content, or of any other length.
   */
  decompress(data: Uint8Array, rawBytes: number): Promise<Buffer>
}

/** The name behind a wire id that decodeData let through. */
export function codecName(id: Exclude<CodecId, 0>): CodecName {
  return id === CODEC_ID.zstd ? 'zstd' : 'brotli'
}

/** Refuses a piece that must not be begun: a defect on this side, since the wire's limits are checked before. */
export function checkPieceBytes(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > MAX_PIECE_BYTES)
    throw new SyncError('internal', `a compressed piece of ${bytes} bytes (1 to ${MAX_PIECE_BYTES})`)
}

/** A compressed piece from the far end that is not what was announced. */
export function pieceError(message: string, cause?: unknown): SyncError {
  return new SyncError('session/protocol', `the far end broke the protocol: ${message}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: 'Nothing after this point was written. Run the same command again without -z; if that works, compare the versions with blocksync doctor HOST.',
  })
}
