// Disk images for measuring: made from a seed, so that every run of the benchmark measures the same bytes. Everything
// is written to stable storage here, so that nobody's measured time pays for it. Refuses no path: it is given new ones.

import { spawnSync } from 'node:child_process'
import { createCipheriv, type Cipher } from 'node:crypto'
import { mkdir, open, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

export const KIB = 1 << 10
export const MIB = 1 << 20
export const GIB = 2 ** 30
export const BLOCK_BYTES = 4 * KIB

export type Piece = Readonly<{ offset: number; length: number }>

/** Bytes made or read at once: large enough for the disk, small enough for the cache of the processor. */
const CHUNK_BYTES = 4 * MIB
const MKFS_TIMEOUT_MS = 120_000

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

/** A file full of random bytes. */
export async function makeRandomFile(path: string, sizeBytes: number, seed: string): Promise<void> {
  await makeSparseFile(path, sizeBytes, [{ offset: 0, length: sizeBytes }], seed)
}

/** A file of `sizeBytes` that is a hole but for random bytes in `pieces`. */
export async function makeSparseFile(
  path: string,
  sizeBytes: number,
  pieces: readonly Piece[],
  seed: string,
): Promise<void> {
  const bytes = new SeededBytes(seed)
  await using handle = disposable(await open(path, 'wx'))
  await handle.file.truncate(sizeBytes)
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; done += CHUNK_BYTES) {
      await writeAll(handle.file, bytes.next(Math.min(CHUNK_BYTES, length - done)), offset + done)
    }
  }
  await handle.file.sync()
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

/** Different blocks of 4 KiB: `count` of those the file has, by chance. Byte offsets, ascending. */
export function pickBlocks(sizeBytes: number, count: number, seed: string): number[] {
  const random = new SeededBytes(seed)
  const picked = new Set<number>()
  while (picked.size < count) picked.add(random.below(sizeBytes / BLOCK_BYTES))
  return [...picked].sort((a, b) => a - b).map((block) => block * BLOCK_BYTES)
}

/** Overwrites blocks of 4 KiB with random bytes from the seed. */
export async function overwriteBlocks(
  path: string,
  byteOffsets: readonly number[],
  seed: string,
): Promise<void> {
  const bytes = new SeededBytes(seed)
  await using handle = disposable(await open(path, 'r+'))
  for (const byteOffset of byteOffsets) await writeAll(handle.file, bytes.next(BLOCK_BYTES), byteOffset)
  await handle.file.sync()
}

/**
 * An image with a file system that is `share` full of files with random contents, the rest holes; where there is no
 * mkfs.ext4, random pieces stand for the files. Resolves with what it is, in words.
 */
export async function makeUsedImage(
  path: string,
  sizeBytes: number,
  share: number,
  mkfs: string | null,
  seed: string,
): Promise<string> {
  if (mkfs === null) {
    const pieces = scatter(
      sizeBytes,
      512,
      Math.floor((sizeBytes * share) / 512 / BLOCK_BYTES) * BLOCK_BYTES,
      seed,
    )
    await makeSparseFile(path, sizeBytes, pieces, seed)
    return 'random pieces of equal length (no mkfs.ext4 here)'
  }
  const tree = `${path}.files`
  await mkdir(tree)
  try {
    const random = new SeededBytes(seed)
    let leftBytes = Math.floor(sizeBytes * share)
    for (let index = 0; leftBytes > 0; index += 1) {
      // As on real disks, most files are small and most bytes are in large ones: 1 KiB to 64 MiB, evenly by logarithm.
      const fileBytes = Math.min(leftBytes, Math.round(KIB * 2 ** (random.below(1600) / 100)))
      await makeRandomFile(join(tree, `file-${index}`), fileBytes, `${seed}${index}`)
      leftBytes -= fileBytes
    }
    await makeSparseFile(path, sizeBytes, [], seed)
    const made = spawnSync(mkfs, ['-q', '-F', '-d', tree, path], {
      timeout: MKFS_TIMEOUT_MS,
      encoding: 'utf8',
    })
    if (made.status !== 0)
      throw new Error(`mkfs.ext4 ended with ${made.status ?? made.signal}: ${made.stderr}`)
    await syncFile(path)
    return 'an ext4 file system with files of 1 KiB to 64 MiB'
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

/** Bytes of an image that are allocated: what `du` counts. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512
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

async function syncFile(path: string): Promise<void> {
  await using handle = disposable(await open(path, 'r+'))
  await handle.file.sync()
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, byteOffset: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, byteOffset + done)
    done += bytesWritten
  }
}

/** FileHandle is disposable from Node 20 on, but not in its types for the floor. */
function disposable(file: FileHandle): AsyncDisposable & { file: FileHandle } {
  return { file, [Symbol.asyncDispose]: () => file.close() }
}
