// The disk of a machine that is in use, and the same disk a day later: an ext4 file system, 60 % full, and blocks of it
// that changed. Made from a seed and from what is under /usr, so it is the same on every run on one machine.

import { copyFile, mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { run } from '../src/exec.js'
import { findProgram } from '../test/support/needs.js'
import {
  allocatedBytes,
  BLOCK_BYTES,
  copyImage,
  dataPieces,
  disposable,
  KIB,
  makeRandomFile,
  makeSparseFile,
  MIB,
  type Piece,
  scatter,
  SeededBytes,
  syncFile,
  writeAll,
} from './images.js'

export type Change = '0.1 %' | '2 %'

/** The disk a day later: `pieces` are where it differs from the disk before, in bytes `changedBytes` in all. */
export type Aged = Readonly<{ path: string; pieces: readonly Piece[]; changedBytes: number }>

export type UsedDisk = Readonly<{
  path: string
  sizeBytes: number
  allocatedBytes: number
  /** Where it is not zeros. */
  data: readonly Piece[]
  aged: Readonly<Record<Change, Aged>>
  /** What is on it. */
  words: string
}>

const USED_SHARE = 0.6
/** Of what is used: files as a system has them, which compress; the rest are random bytes, as photographs and archives. */
const FILES_SHARE = 0.8
const FILES_FROM = '/usr'
/** No file is larger than this part of the disk, so that the shares come out. */
const LARGEST_FILE_SHARE = 1 / 16
const MKFS_TIMEOUT_MS = 300_000
/** Of the blocks that change: a quarter in runs, as a database or a new file; the others one by one. */
const IN_RUNS_SHARE = 0.25
const RUN_BLOCKS = MIB / BLOCK_BYTES
/** Of the single ones: in blocks that had data; the others in free space. */
const OVER_DATA_SHARE = 0.85

/** Makes the disk, of files below `filesFrom`, and both of its later states in `directory`. */
export async function makeUsedDisk(
  directory: string,
  name: string,
  sizeBytes: number,
  signal: AbortSignal,
  filesFrom = FILES_FROM,
): Promise<UsedDisk> {
  const path = join(directory, `${name}.img`)
  const words = await makeUsedImage(path, sizeBytes, signal, filesFrom)
  const data = await dataPieces(path, signal)
  const allocated = await allocatedBytes(path)
  const aged = {
    '0.1 %': await makeAged(path, `${path}.aged-0.1`, sizeBytes, data, 0.001, signal),
    '2 %': await makeAged(path, `${path}.aged-2`, sizeBytes, data, 0.02, signal),
  }
  return { path, sizeBytes, allocatedBytes: allocated, data, aged, words }
}

/** Only the file system itself. Resolves with what is on it, in words. */
export async function makeUsedImage(
  path: string,
  sizeBytes: number,
  signal: AbortSignal,
  filesFrom = FILES_FROM,
): Promise<string> {
  const mkfs = findProgram('mkfs.ext4')
  if (mkfs === null) {
    const pieceBytes = Math.floor((sizeBytes * USED_SHARE) / 512 / BLOCK_BYTES) * BLOCK_BYTES
    await makeSparseFile(path, sizeBytes, scatter(sizeBytes, 512, pieceBytes, 'used'), 'used', signal)
    return 'random pieces of equal length (no mkfs.ext4 here)'
  }
  const tree = `${path}.files`
  await mkdir(tree)
  try {
    const usedBytes = sizeBytes * USED_SHARE
    const from = { path: filesFrom, largestBytes: sizeBytes * LARGEST_FILE_SHARE }
    const filesBytes = await copyFiles(tree, usedBytes * FILES_SHARE, from, signal)
    const random = new SeededBytes('sizes')
    let leftBytes = Math.floor(usedBytes - filesBytes)
    for (let index = 0; leftBytes > 0; index += 1) {
      // Evenly by logarithm, 4 KiB to 16 MiB: most files are small, and most bytes are in large ones.
      const fileBytes = Math.min(leftBytes, Math.round(4 * KIB * 2 ** (random.below(1200) / 100)))
      await makeRandomFile(join(tree, `random-${index}`), fileBytes, `random-${index}`, signal)
      leftBytes -= fileBytes
    }
    await makeSparseFile(path, sizeBytes, [], '')
    const { exitStatus, stderrTail } = await run({
      argv: [mkfs, '-q', '-F', '-d', tree, path],
      timeoutMs: MKFS_TIMEOUT_MS,
      errorCode: 'internal',
      operand: path,
      signal,
    })
    if (exitStatus !== 0) throw new Error(`mkfs.ext4 ended with ${exitStatus}: ${stderrTail}`)
    await syncFile(path)
    const share = Math.round((100 * filesBytes) / usedBytes)
    return `ext4, ${share} % of it files from ${filesFrom}, the rest random`
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

/** Copies files, chosen by chance, until they are `wantedBytes`; resolves with how many bytes they are. */
async function copyFiles(
  tree: string,
  wantedBytes: number,
  { path, largestBytes }: Readonly<{ path: string; largestBytes: number }>,
  signal: AbortSignal,
): Promise<number> {
  const names: string[] = []
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) names.push(join(entry.parentPath, entry.name))
  names.sort()
  const random = new SeededBytes('files')
  let copiedBytes = 0
  for (let left = names.length; left > 0 && copiedBytes <= wantedBytes - BLOCK_BYTES; left -= 1) {
    signal.throwIfAborted()
    const index = random.below(left)
    const name = names[index]
    names[index] = names[left - 1] ?? ''
    if (name === undefined) continue
    const { size, mode } = await stat(name)
    const roundedBytes = Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES
    const isReadable = process.getuid?.() === 0 || (mode & 0o004) !== 0
    if (!isReadable || size > largestBytes || copiedBytes + roundedBytes > wantedBytes) continue
    await copyFile(name, join(tree, `file-${left}`))
    copiedBytes += roundedBytes
  }
  return copiedBytes
}

async function makeAged(
  fromPath: string,
  path: string,
  sizeBytes: number,
  data: readonly Piece[],
  share: number,
  signal: AbortSignal,
): Promise<Aged> {
  await copyImage(fromPath, path, data)
  const random = new SeededBytes(`aged ${share}`)
  const [dataBlocks, freeBlocks] = blockNumbers(sizeBytes, data)
  const one = (among: readonly number[]): number => among[random.below(among.length)] ?? 0
  const wanted = Math.max(1, Math.round((sizeBytes / BLOCK_BYTES) * share))
  const changed = new Set<number>()
  await using handle = disposable(await open(path, 'r+'))
  const runBlocks = Math.max(1, Math.min(RUN_BLOCKS, Math.floor(wanted * IN_RUNS_SHARE)))
  const runCount = Math.floor((wanted * IN_RUNS_SHARE) / runBlocks)
  for (let made = 0; made < runCount;) {
    signal.throwIfAborted()
    const start = Math.min(one(made % 2 === 0 ? dataBlocks : freeBlocks), sizeBytes / BLOCK_BYTES - runBlocks)
    const blocks = Array.from({ length: runBlocks }, (_, index) => start + index)
    if (blocks.some((block) => changed.has(block))) continue
    await writeAll(handle.file, random.next(runBlocks * BLOCK_BYTES), start * BLOCK_BYTES)
    for (const block of blocks) changed.add(block)
    made += 1
  }
  const old = Buffer.alloc(BLOCK_BYTES)
  while (changed.size < wanted) {
    signal.throwIfAborted()
    const block = one(random.below(1000) < OVER_DATA_SHARE * 1000 ? dataBlocks : freeBlocks)
    if (changed.has(block)) continue
    await handle.file.read(old, 0, BLOCK_BYTES, block * BLOCK_BYTES)
    const next = rewritten(old, random)
    if (next.equals(old)) continue
    await writeAll(handle.file, next, block * BLOCK_BYTES)
    changed.add(block)
  }
  await handle.file.sync()
  const pieces = piecesOf([...changed].sort((a, b) => a - b))
  return { path, pieces, changedBytes: changed.size * BLOCK_BYTES }
}

/** What a guest makes of one block: 45 % something else, 35 % a few bytes of it, 15 % text, 5 % zeros. */
function rewritten(old: Buffer, random: SeededBytes): Buffer {
  const kind = random.below(100)
  if (kind < 45) return Buffer.from(random.next(BLOCK_BYTES))
  if (kind < 80) {
    const next = Buffer.from(old)
    const length = 64 + random.below(449)
    random.next(length).copy(next, random.below(BLOCK_BYTES - length))
    return next
  }
  if (kind < 95) {
    const line = `${random.below(86_400)} guest service[${random.below(9999)}]: request ${random.below(2 ** 30)} done\n`
    return Buffer.from(line.repeat(Math.ceil(BLOCK_BYTES / line.length)).slice(0, BLOCK_BYTES))
  }
  return Buffer.alloc(BLOCK_BYTES)
}

/** Numbers of the blocks that hold data, and of those that do not. */
function blockNumbers(sizeBytes: number, data: readonly Piece[]): [number[], number[]] {
  const isData = new Uint8Array(sizeBytes / BLOCK_BYTES)
  for (const { offset, length } of data) isData.fill(1, offset / BLOCK_BYTES, (offset + length) / BLOCK_BYTES)
  const numbers: [number[], number[]] = [[], []]
  for (const [block, flag] of isData.entries()) numbers[flag === 1 ? 0 : 1].push(block)
  return numbers
}

function piecesOf(blocks: readonly number[]): Piece[] {
  const pieces: { offset: number; length: number }[] = []
  for (const block of blocks) {
    const offset = block * BLOCK_BYTES
    const last = pieces.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += BLOCK_BYTES
    else pieces.push({ offset, length: BLOCK_BYTES })
  }
  return pieces
}
