// The engine's layers one by one, each at the work it does in a run and nothing else: what a layer cannot do here, no run
// can do. Everything stays in this process, but xxhsum and the pipe's other end.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'

import type { AlgorithmName, Digester } from '../src/digest/digester.js'
import { SEED_BYTES, spanDigests } from '../src/digest/digester.js'
import { createDigester } from '../src/digest/open.js'
import { openEndpoint } from '../src/endpoint/open.js'
import { attemptNative, type NativeCore, requireCore } from '../src/native.js'
import { SYNC_DEFAULTS } from '../src/options.js'
import { SPAN_BYTES } from '../src/sync/scan.js'
import { decodeData, encodeData } from '../src/wire/bodies.js'
import { Channel } from '../src/wire/channel.js'
import { encodeHeader, FRAME, FrameDecoder, MAX_DATA_PAYLOAD_BYTES } from '../src/wire/frame.js'
import { findProgram } from '../test/support/needs.js'
import { GIB, makeRandomFile, SeededBytes, warm } from './images.js'
import type { Bench } from './scenarios.js'

/** One layer: bytes a second of each round. */
export type LayerSeries = { name: string; bytesPerSecond: number[] }

/** What one turn moves: long enough to be measured, and in the page cache of any machine. */
const LAYER_BYTES = GIB
/** xxhsum and cat over LAYER_BYTES take seconds. */
const PROGRAM_TIMEOUT_MS = 60_000
/** Pieces in which a pipe gives what was written. */
const PIPE_CHUNK_BYTES = 64 << 10

type Layer = Readonly<{ name: string; bytes: number; run: () => Promise<void> }>

/** Measures every layer in turn, `bench.rounds` times. `corePath` is the built native core. */
export async function measureLayers(bench: Bench, corePath: string): Promise<LayerSeries[]> {
  const path = join(bench.directory, 'layers.img')
  const target = join(bench.directory, 'layers-written.img')
  await makeRandomFile(path, LAYER_BYTES, 'layers')
  const core = requireCore(attemptNative(corePath))
  const whole = [{ offset: 0, length: LAYER_BYTES }]
  const layers: Layer[] = [
    {
      name: 'read + digest, xxh3-128, one call at a time',
      bytes: LAYER_BYTES,
      run: () => digestFile(path, 'xxh3-128', core, 1),
    },
    {
      name: 'read + digest, xxh3-128, two calls at once',
      bytes: LAYER_BYTES,
      run: () => digestFile(path, 'xxh3-128', core, 2),
    },
    {
      name: 'read + digest, xxh64x2 in WebAssembly',
      bytes: LAYER_BYTES,
      run: () => digestFile(path, 'xxh64x2', null, 1),
    },
    { name: 'read + digest, sha256', bytes: LAYER_BYTES, run: () => digestFile(path, 'sha256', core, 1) },
    ...(findProgram('xxhsum') === null
      ? []
      : [
          { name: 'limit: xxhsum -H2', bytes: LAYER_BYTES, run: () => xxhsum([path]) },
          {
            name: 'limit: two xxhsum -H2 at once, each',
            bytes: LAYER_BYTES,
            run: () => xxhsum([path, path]),
          },
        ]),
    { name: 'frames decoded from chunks of 64 KiB', bytes: LAYER_BYTES, run: async () => decodeFrames() },
    { name: 'channel through a pipe and back', bytes: LAYER_BYTES, run: channelThroughPipe },
    {
      name: 'write, with flush',
      bytes: LAYER_BYTES / 4,
      run: () => writeFile(target, core, LAYER_BYTES / 4),
    },
  ]
  const all = layers.map(({ name }): LayerSeries => ({ name, bytesPerSecond: [] }))
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const [index, { name, bytes, run }] of layers.entries()) {
      bench.signal.throwIfAborted()
      await rm(target, { force: true })
      await warm(path, whole)
      const startedMs = performance.now()
      await run()
      const bytesPerSecond = (bytes * 1000) / (performance.now() - startedMs)
      all[index]?.bytesPerSecond.push(bytesPerSecond)
      bench.say(`layer, ${name}: ${(bytesPerSecond / GIB).toFixed(2)} GiB/s`)
    }
  }
  await rm(path)
  await rm(target, { force: true })
  return all
}

async function digestFile(
  path: string,
  algorithm: AlgorithmName,
  core: NativeCore | null,
  callsAtOnce: number,
): Promise<void> {
  const { blockBytes, granularityBytes: leafBytes } = SYNC_DEFAULTS
  const parameters = { algorithm, seed: Buffer.alloc(SEED_BYTES, 7), geometry: { blockBytes, leafBytes } }
  const digester = await createDigester(parameters, core)
  const file = await open(path)
  try {
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < LAYER_BYTES) {
        const offset = next
        next += SPAN_BYTES
        await digestSpan(digester, file.fd, offset)
      }
    }
    await Promise.all(Array.from({ length: callsAtOnce }, lane))
  } finally {
    await file.close()
  }
}

async function digestSpan(digester: Digester, fd: number, offset: number): Promise<void> {
  const out = spanDigests(digester.parameters.geometry, digester.digestBytes, SPAN_BYTES)
  const readBytes = await digester.digestSpan(fd, { offset, length: SPAN_BYTES }, out)
  if (readBytes !== SPAN_BYTES) throw new Error(`${readBytes} bytes were read at ${offset}`)
}

async function xxhsum(paths: readonly string[]): Promise<void> {
  await Promise.all(
    paths.map(async (path) => {
      const child = spawn('xxhsum', ['-q', '-H2', path], {
        stdio: ['ignore', 'ignore', 'inherit'],
        timeout: PROGRAM_TIMEOUT_MS,
      })
      const [status] = (await once(child, 'close')) as [number | null]
      if (status !== 0) throw new Error(`xxhsum ended with status ${status}`)
    }),
  )
}

/** A data frame as a first copy sends it: one record, a megabyte. */
function dataFrame(): { header: Buffer; body: readonly Buffer[] } {
  const payload = new SeededBytes('frame').next(MAX_DATA_PAYLOAD_BYTES)
  const records = encodeData([{ kind: 'data', offset: 0, length: payload.length }])
  return { header: encodeHeader(FRAME.data, 0, records.length + payload.length), body: [records, payload] }
}

function decodeFrames(): void {
  const { header, body } = dataFrame()
  const bytes = Buffer.concat([header, ...body])
  const decoder = new FrameDecoder()
  let payloadBytes = 0
  for (let sent = 0; sent < LAYER_BYTES; sent += MAX_DATA_PAYLOAD_BYTES) {
    for (let at = 0; at < bytes.length; at += PIPE_CHUNK_BYTES) {
      decoder.push(bytes.subarray(at, at + PIPE_CHUNK_BYTES), (frame) => {
        payloadBytes += decodeData(frame.body).payload.length
        frame.recycle()
      })
    }
  }
  if (payloadBytes !== LAYER_BYTES) throw new Error(`${payloadBytes} bytes came out of the decoder`)
}

/** Sent by a channel into `cat`, received from it by the same one: both directions' work in one process. */
async function channelThroughPipe(): Promise<void> {
  const { body } = dataFrame()
  const cat = spawn('cat', [], { stdio: ['pipe', 'pipe', 'inherit'], timeout: PROGRAM_TIMEOUT_MS })
  const ended = once(cat, 'close')
  const channel = new Channel(cat.stdout, cat.stdin, Buffer.alloc(0))
  const receive = async (): Promise<void> => {
    for (let received = 0; received < LAYER_BYTES; received += MAX_DATA_PAYLOAD_BYTES) {
      channel.release(await channel.expect(FRAME.data))
    }
  }
  const send = async (): Promise<void> => {
    for (let sent = 0; sent < LAYER_BYTES; sent += MAX_DATA_PAYLOAD_BYTES)
      await channel.send(FRAME.data, 0, body)
  }
  try {
    await Promise.all([send(), receive()])
    channel.end()
    await ended
  } finally {
    cat.kill()
  }
}

async function writeFile(path: string, core: NativeCore, sizeBytes: number): Promise<void> {
  const bytes = new SeededBytes('write').next(MAX_DATA_PAYLOAD_BYTES)
  const request = {
    path,
    role: 'destination',
    access: 'write',
    create: 'if-missing',
    createSizeBytes: sizeBytes,
  } as const
  await using endpoint = await openEndpoint(request, core)
  for (let offset = 0; offset < sizeBytes; offset += bytes.length)
    await endpoint.write([{ offset, length: bytes.length }], bytes)
  await endpoint.flush()
}
