// The format of a bonded stream: a byte stream cut into numbered pieces, each of which goes over any one of several
// streams. Refuses a length above the limit; the number is judged by who knows which is due.

/** sequence u32, length u32; big-endian. */
export const PIECE_HEADER_BYTES = 8
/** Small beside the 2 MiB window of an ssh channel, so that members share evenly; large beside its header. */
export const MAX_PIECE_BYTES = 64 << 10
/**
 * Pieces kept while an earlier one is still under way. What is sent ahead of credit is bounded far below it
 * (WINDOW_BYTES of wire/channel.ts), so only a peer that does not keep to the protocol comes here.
 */
export const MAX_REORDER_BYTES = 32 << 20
/** What a waiting piece costs beside its bytes: pieces may be short, and their number has to be bounded too. */
export const PIECE_COST_BYTES = 64
/** Streams of one bond, the plain one included: eight windows of 2 MiB are 320 MiB/s at 50 ms, what one ssh encrypts. */
export const MAX_MEMBERS = 8

/** `length` 0 marks the end: `sequence` is then the number after the last piece, and the member carries nothing more. */
export type PieceHeader = Readonly<{ sequence: number; length: number }>

/** Writes the header of a piece to the front of `target`. Numbers begin at 0 and wrap at 2^32. */
export function putPieceHeader(target: Buffer, { sequence, length }: PieceHeader): void {
  target.writeUInt32BE(sequence, 0)
  target.writeUInt32BE(length, 4)
}

/** What the first PIECE_HEADER_BYTES of `header` say, or null where the length is above the limit. */
export function readPieceHeader(header: Buffer): PieceHeader | null {
  const length = header.readUInt32BE(4)
  return length > MAX_PIECE_BYTES ? null : { sequence: header.readUInt32BE(0), length }
}
