// Layers that touch a disk: reads that come from it and not from the page cache, a loop device read directly, writes and
// their flush. Makes a loop device of its own where it may, and takes it away again.

import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import { SEED_BYTES, spanDigests } from '../src/digest/digester.js'
import { createDigester } from '../src/digest/open.js'
import { openEndpoint } from '../src/endpoint/open.js'
import { run } from '../src/exec.js'
import type { NativeCore } from '../src/native.js'
import { SYNC_DEFAULTS } from '../src/options.js'
import { SPAN_BYTES } from '../src/sync/scan.js'
import { MAX_DATA_PAYLOAD_BYTES } from '../src/wire/frame.js'
import { has } from '../test/support/needs.js'
import { copyImage, MIB, SeededBytes, warm } from './images.js'
import { type Layer, LAYER_BYTES } from './layer.js'
import { type Bench, dropCached, nothing } from './rounds.js'

/** Long enough for a disk to show what it does beyond its own cache. */
const WRITE_BYTES = 256 * MIB
/** Scattered blocks, as 2 % of 2 GiB changed. */
const SCATTERED_COUNT = 10_485
const SCATTERED_BYTES = 4096
const LOSETUP_TIMEOUT_MS = 20_000

export type DiskLayers = AsyncDisposable & Readonly<{ layers: readonly Layer[] }>

/** `path` is a file of LAYER_BYTES of random data that nobody writes to. Who gets the layers disposes of them. */
export async function diskLayers(bench: Bench, path: string, core: NativeCore): Promise<DiskLayers> {
  const target = join(bench.directory, 'layers-written.img')
  const backing = join(bench.directory, 'layers-loop.img')
  const layers: Layer[] = [
    {
      name: 'read + digest, xxh3-128, from the disk (not cached)',
      bytes: LAYER_BYTES,
      prepare: () => dropCached(path, bench.signal),
      run: () => digestDisk(path, core, 2),
    },
    {
      name: 'write 1 MiB pieces to a new file, with flush',
      bytes: WRITE_BYTES,
      prepare: () => rm(target, { force: true }),
      run: () => writePieces(target, core, MAX_DATA_PAYLOAD_BYTES, WRITE_BYTES / MAX_DATA_PAYLOAD_BYTES),
    },
    {
      name: `write ${SCATTERED_COUNT} scattered blocks of 4 KiB, with flush`,
      bytes: SCATTERED_COUNT * SCATTERED_BYTES,
      prepare: nothing,
      run: () => writePieces(target, core, SCATTERED_BYTES, SCATTERED_COUNT),
    },
  ]
  const remove = async (): Promise<void> => {
    for (const file of [target, backing]) await rm(file, { force: true })
  }
  if (!has('loop')) {
    bench.say('layer, a loop device: not measured, this needs root and losetup')
    return { layers, [Symbol.asyncDispose]: remove }
  }
  await copyImage(path, backing, [{ offset: 0, length: LAYER_BYTES }])
  // Without --direct-io the loop device reads its file through the page cache: then our own path is what is measured.
  const device = (await losetup('--find', '--show', '--read-only', backing)).trim()
  return {
    layers: [
      ...layers,
      ...[2, 4].map((callsAtOnce) => ({
        name: `read + digest, xxh3-128, loop device with O_DIRECT, ${callsAtOnce} calls at once`,
        bytes: LAYER_BYTES,
        prepare: () => warm(backing, [{ offset: 0, length: LAYER_BYTES }]),
        run: () => digestDisk(device, core, callsAtOnce),
      })),
    ],
    [Symbol.asyncDispose]: async () => {
      await losetup('--detach', device)
      await remove()
    },
  }
}

async function losetup(...words: readonly string[]): Promise<string> {
  const { exitStatus, stdout, stderrTail } = await run({
    argv: ['losetup', ...words],
    timeoutMs: LOSETUP_TIMEOUT_MS,
    errorCode: 'internal',
    operand: words.at(-1) ?? 'losetup',
  })
  if (exitStatus !== 0) throw new Error(`losetup ${words.join(' ')} ended with ${exitStatus}: ${stderrTail}`)
  return stdout
}

/** Through an endpoint, as a run reads: directly where it is a device. */
async function digestDisk(path: string, core: NativeCore, callsAtOnce: number): Promise<void> {
  const { blockBytes, granularityBytes: leafBytes } = SYNC_DEFAULTS
  const geometry = { blockBytes, leafBytes }
  const digester = await createDigester(
    { algorithm: 'xxh3-128', seed: Buffer.alloc(SEED_BYTES, 7), geometry },
    core,
  )
  const request = {
    path,
    role: 'source',
    access: 'read',
    create: 'never',
    createSizeBytes: 0,
    claim: 'exclusive',
  } as const
  await using endpoint = await openEndpoint(request, core)
  if ((endpoint.info.kind === 'block-device') !== endpoint.info.direct)
    throw new Error(`${path} was ${endpoint.info.direct ? '' : 'not '}opened for direct reading`)
  let next = 0
  const lane = async (): Promise<void> => {
    const out = spanDigests(geometry, digester.digestBytes, SPAN_BYTES)
    while (next < LAYER_BYTES) {
      const offset = next
      next += SPAN_BYTES
      await endpoint.digestSpan({ offset, length: SPAN_BYTES }, digester, out)
    }
  }
  await Promise.all(Array.from({ length: callsAtOnce }, lane))
}

/** `count` pieces of `pieceBytes`, evenly spread over WRITE_BYTES, in frames' worth of them, and a flush. */
async function writePieces(path: string, core: NativeCore, pieceBytes: number, count: number): Promise<void> {
  const bytes = new SeededBytes('write').next(MAX_DATA_PAYLOAD_BYTES)
  const request = {
    path,
    role: 'destination',
    access: 'write',
    create: 'if-missing',
    createSizeBytes: WRITE_BYTES,
    claim: 'exclusive',
  } as const
  await using endpoint = await openEndpoint(request, core)
  const stepBytes = Math.floor(WRITE_BYTES / count / SCATTERED_BYTES) * SCATTERED_BYTES
  const atOnce = MAX_DATA_PAYLOAD_BYTES / pieceBytes
  for (let first = 0; first < count; first += atOnce) {
    const ranges = Array.from({ length: Math.min(atOnce, count - first) }, (_, index) => ({
      offset: (first + index) * stepBytes,
      length: pieceBytes,
    }))
    await endpoint.write(ranges, bytes.subarray(0, ranges.length * pieceBytes))
  }
  await endpoint.flush()
}
