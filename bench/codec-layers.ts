// The codecs as layers: frames' payloads of a disk's kind of data compressed and decompressed, several at once as in a
// run. In memory; what each makes of its data is compared with what went in before its time counts.

import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { MAX_PIECE_BYTES } from '../src/codec/codec.js'
import { availableCodecs, openCodec } from '../src/codec/open.js'
import { MIB, SeededBytes } from './images.js'
import type { Layer } from './layer.js'
import { nothing } from './rounds.js'

/** One pass over the pieces takes a good part of a second. */
const CODEC_BYTES = 64 * MIB
/** Pieces under way at once: as many as Node's thread pool has threads. */
const AT_ONCE = 4
/** Programs and libraries are what compresses on a system's disk. */
const FILES_FROM = '/usr/bin'

/** Compressing and decompressing with each codec that this Node has. */
export async function codecLayers(): Promise<Layer[]> {
  const pieces = await piecesOfPrograms()
  const layers: Layer[] = []
  for (const name of availableCodecs()) {
    const codec = await openCodec(name)
    const packed = await all(pieces, (piece) => codec.compress(piece))
    const back = await all(packed, (piece) => codec.decompress(piece, MAX_PIECE_BYTES))
    if (!back.every((piece, index) => piece.equals(pieces[index] ?? Buffer.alloc(0))))
      throw new Error(`${name} does not give back what it was given`)
    const packedBytes = packed.reduce((sum, { length }) => sum + length, 0)
    const bytes = pieces.length * MAX_PIECE_BYTES
    const measured = (what: string, run: () => Promise<unknown>): Layer => ({
      name: `codec ${name}: ${what}`,
      bytes,
      prepare: nothing,
      run: async () => {
        await run()
      },
    })
    layers.push(
      measured(`compress programs (to ${Math.round((100 * packedBytes) / bytes)} %)`, () =>
        all(pieces, (piece) => codec.compress(piece)),
      ),
      measured('decompress them', () => all(packed, (piece) => codec.decompress(piece, MAX_PIECE_BYTES))),
    )
  }
  return layers
}

async function all(pieces: readonly Buffer[], work: (piece: Buffer) => Promise<Buffer>): Promise<Buffer[]> {
  const done: Buffer[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    for (let index = next++; index < pieces.length; index = next++) {
      const piece = pieces[index]
      if (piece !== undefined) done[index] = await work(piece)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return done
}

/** Whole pieces out of programs, in the order of their names; random bytes where there are too few. */
async function piecesOfPrograms(): Promise<Buffer[]> {
  const chunks: Buffer[] = []
  let leftBytes = CODEC_BYTES
  const entries = await readdir(FILES_FROM, { withFileTypes: true })
  for (const { name } of entries
    .filter((entry) => entry.isFile())
    .sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(FILES_FROM, name)
    const { size, mode } = await stat(path)
    if ((mode & 0o004) === 0 || size > leftBytes) continue
    chunks.push(await readFile(path))
    leftBytes -= size
  }
  const random = new SeededBytes('codec')
  for (; leftBytes > 0; leftBytes -= Math.min(leftBytes, MIB))
    chunks.push(random.next(Math.min(leftBytes, MIB)))
  const whole = Buffer.concat(chunks)
  return Array.from({ length: CODEC_BYTES / MAX_PIECE_BYTES }, (_, index) =>
    whole.subarray(index * MAX_PIECE_BYTES, (index + 1) * MAX_PIECE_BYTES),
  )
}
