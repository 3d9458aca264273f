// Disk images for measuring: made from a seed, so that every run of the benchmark measures the same bytes. Everything
// is written to stable storage here, so that nobody's measured time pays for it. Refuses no path: it is given new ones.

import { createCipheriv, type Cipher } from 'node:crypto'
import { open, stat, type FileHandle } from 'node:fs/promises'

export const KIB = 1 << 10
export const MIB = 1 << 20
export const GIB = 2 ** 30
export const BLOCK_BYTES = 4 * KIB

export type Piece = Readonly<{ offset: number; length: number }>

/** Bytes made or read at once: large enough for the disk, small enough for the cache of the processor. */
const CHUNK_BYTES = 4 * MIB

/** An endless stream of bytes that look random and depend on `seed` only: AES-128 in counter mode over zeros. */
export class SeededBytes {
  readonly #cipher: Cipher
  readonly #zeros = Buffer.alloc(CHUNK_BYTES)

  constructor(seed: string) {
    this.#cipher = createCipheriv(
      'aes-128-ctr',
      Buffer.from(seed.padEnd(16, '.')).subarray(0, 16),
      Buffer.alloc(16),
    )
  }

  /** The next `lengthBytes` (at most CHUNK_BYTES) bytes. */
  next(lengthBytes: number): Buffer {
    return this.#cipher.update(this.#zeros.subarray(0, lengthBytes))
  }

  /** A number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor((this.next(4).readUInt32LE(0) / 2 ** 32) * limit)
  }
}

/** A file full of random bytes, flushed. */
export async function makeRandomFile(
  path: string,
  sizeBytes: number,
  seed: string,
  signal?: AbortSignal,
): Promise<void> {
  await makeSparseFile(path, sizeBytes, [{ offset: 0, length: sizeBytes }], seed, signal)
}

/** A file of `sizeBytes` that is a hole but for random bytes in `pieces`. */
export async function makeSparseFile(
  path: string,
  sizeBytes: number,
  pieces: readonly Piece[],
  seed: string,
  signal?: AbortSignal,
): Promise<void> {
  await using handle = disposable(await open(path, 'wx'))
  await handle.file.truncate(sizeBytes)
  await fill(handle.file, pieces, seed, signal)
  await handle.file.sync()
}

/** Makes a file longer, with random bytes in `pieces`, and flushes it. */
export async function growSparseFile(
  path: string,
  sizeBytes: number,
  pieces: readonly Piece[],
  seed: string,
  signal: AbortSignal,
): Promise<void> {
  await using handle = disposable(await open(path, 'r+'))
  await handle.file.truncate(sizeBytes)
  await fill(handle.file, pieces, seed, signal)
  await handle.file.sync()
}

async function fill(
  file: FileHandle,
  pieces: readonly Piece[],
  seed: string,
  signal?: AbortSignal,
): Promise<void> {
  const bytes = new SeededBytes(seed)
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; done += CHUNK_BYTES) {
      signal?.throwIfAborted()
      await writeAll(file, bytes.next(Math.min(CHUNK_BYTES, length - done)), offset + done)
    }
  }
}

/** Pieces of `pieceBytes`, spread evenly with a random place in each stretch, on the 4 KiB grid. */
export function scatter(sizeBytes: number, pieceCount: number, pieceBytes: number, seed: string): Piece[] {
  const random = new SeededBytes(seed)
  const stretchBlocks = Math.floor(sizeBytes / pieceCount / BLOCK_BYTES)
  return Array.from({ length: pieceCount }, (_, index) => {
    const shift = random.below(stretchBlocks - pieceBytes / BLOCK_BYTES)
    return { offset: (index * stretchBlocks + shift) * BLOCK_BYTES, length: pieceBytes }
  })
}

/** Copies pieces of one file to the same places of another, and flushes it. */
export async function copyPieces(fromPath: string, toPath: string, pieces: readonly Piece[]): Promise<void> {
  await using from = disposable(await open(fromPath))
  await using to = disposable(await open(toPath, 'r+'))
  const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; done += CHUNK_BYTES) {
      const { bytesRead } = await from.file.read(
        chunk,
        0,
        Math.min(CHUNK_BYTES, length - done),
        offset + done,
      )
      await writeAll(to.file, chunk.subarray(0, bytesRead), offset + done)
    }
  }
  await to.file.sync()
}

/** Copies a file, holes as holes where its pieces say so, to a path where there is none, and flushes it. */
export async function copyImage(fromPath: string, toPath: string, pieces: readonly Piece[]): Promise<void> {
  const { size } = await stat(fromPath)
  await makeSparseFile(toPath, size, [], '')
  await copyPieces(fromPath, toPath, pieces)
}

/** Where a file has data: what is not zeros, in whole blocks of 4 KiB, neighbours together. */
export async function dataPieces(path: string, signal: AbortSignal): Promise<Piece[]> {
  await using handle = disposable(await open(path))
  const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  const zeros = Buffer.alloc(BLOCK_BYTES)
  const { size } = await handle.file.stat()
  const pieces: { offset: number; length: number }[] = []
  for (let start = 0; start < size; start += CHUNK_BYTES) {
    signal.throwIfAborted()
    const { bytesRead } = await handle.file.read(chunk, 0, CHUNK_BYTES, start)
    for (let at = 0; at < bytesRead; at += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, bytesRead - at)
      if (chunk.compare(zeros, 0, length, at, at + length) === 0) continue
      const last = pieces.at(-1)
      if (last !== undefined && last.offset + last.length === start + at) last.length += length
      else pieces.push({ offset: start + at, length })
    }
  }
  return pieces
}

/** Bytes of an image that are allocated: what `du` counts. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512
}

/** A size for a title. */
export function sizeWords(bytes: number): string {
  return bytes < GIB ? `${Math.round(bytes / MIB)} MiB` : `${Number((bytes / GIB).toFixed(2))} GiB`
}

/** Reads pieces of a file once, so that they are in the page cache. */
export async function warm(path: string, pieces: readonly Piece[]): Promise<void> {
  await using handle = disposable(await open(path))
  const chunk = Buffer.allocUnsafeSlow(MIB)
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; done += MIB)
      await handle.file.read(chunk, 0, Math.min(MIB, length - done), offset + done)
  }
}

/** Rejects where two files differ in length, in or in these pieces: then nothing counts. */
export async function assertEqual(aPath: string, bPath: string, pieces: readonly Piece[]): Promise<void> {
  await using a = disposable(await open(aPath))
  await using b = disposable(await open(bPath))
  const [aInfo, bInfo] = [await a.file.stat(), await b.file.stat()]
  if (aInfo.size !== bInfo.size) throw new Error(`${aPath} has ${aInfo.size} bytes, ${bPath} ${bInfo.size}`)
  const [aChunk, bChunk] = [Buffer.allocUnsafeSlow(MIB), Buffer.allocUnsafeSlow(MIB)]
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; done += MIB) {
      const take = Math.min(MIB, length - done)
      await Promise.all([
        a.file.read(aChunk, 0, take, offset + done),
        b.file.read(bChunk, 0, take, offset + done),
      ])
      if (!aChunk.subarray(0, take).equals(bChunk.subarray(0, take))) {
        throw new Error(`${aPath} and ${bPath} differ in the ${take} bytes from ${offset + done}`)
      }
    }
  }
}

/** Flushes a file. */
export async function syncFile(path: string): Promise<void> {
  await using handle = disposable(await open(path, 'r+'))
  await handle.file.sync()
}

/** Writes all of `bytes`, or rejects. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, byteOffset: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, byteOffset + done)
    done += bytesWritten
  }
}

/** FileHandle is disposable from Node 20 on, but not in its types for the floor. */
export function disposable(file: FileHandle): AsyncDisposable & { file: FileHandle } {
  return { file, [Symbol.asyncDispose]: () => file.close() }
}
