// The engine's layers one by one, each at the work it does in a run and nothing else: what a layer cannot do here, no run
// can do. Everything stays in this process, but xxhsum and the pipe's other end. Those at a disk are in disk-layers.ts.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'

import type { AlgorithmName, Digester } from '../src/digest/digester.js'
import { NO_FD, SEED_BYTES, spanDigests } from '../src/digest/digester.js'
import { createDigester } from '../src/digest/open.js'
import { attemptNative, type NativeCore, requireCore } from '../src/native.js'
import { SYNC_DEFAULTS } from '../src/options.js'
import { SPAN_BYTES } from '../src/sync/scan.js'
import { decodeData, encodeData } from '../src/wire/bodies.js'
import { Channel } from '../src/wire/channel.js'
import { encodeHeader, FRAME, FrameDecoder, MAX_DATA_PAYLOAD_BYTES } from '../src/wire/frame.js'
import { findProgram } from '../test/support/needs.js'
import { codecLayers } from './codec-layers.js'
import { diskLayers } from './disk-layers.js'
import { GIB, makeRandomFile, SeededBytes, warm } from './images.js'
import { type Layer, LAYER_BYTES, type LayerSeries } from './layer.js'
import { type Bench, nothing } from './rounds.js'

/** xxhsum and cat over LAYER_BYTES take seconds. */
const PROGRAM_TIMEOUT_MS = 60_000
/** Pieces in which a pipe gives what was written. */
const PIPE_CHUNK_BYTES = 64 << 10

/** Measures every layer in turn, `bench.rounds` times, backwards in odd rounds. `corePath` is the built native core. */
export async function measureLayers(bench: Bench, corePath: string): Promise<LayerSeries[]> {
  const path = join(bench.directory, 'layers.img')
  await makeRandomFile(path, LAYER_BYTES, 'layers', bench.signal)
  const core = requireCore(attemptNative(corePath))
  const warmed = (): Promise<void> => warm(path, [{ offset: 0, length: LAYER_BYTES }])
  const digest = (
    name: string,
    algorithm: AlgorithmName,
    of: NativeCore | null,
    callsAtOnce: number,
  ): Layer => ({
    name: `read + digest, ${name}`,
    bytes: LAYER_BYTES,
    prepare: warmed,
    run: () => digestFile(path, algorithm, of, callsAtOnce),
  })
  const limit = (name: string, paths: readonly string[]): Layer => ({
    name: `limit: ${name}`,
    bytes: LAYER_BYTES,
    prepare: warmed,
    run: () => xxhsum(paths),
  })
  const inMemory = (name: string, run: () => Promise<void>): Layer => ({
    name,
    bytes: LAYER_BYTES,
    prepare: nothing,
    run,
  })
  await using disk = await diskLayers(bench, path, core)
  const layers: Layer[] = [
    digest('xxh3-128, one call at a time', 'xxh3-128', core, 1),
    digest('xxh3-128, two calls at once', 'xxh3-128', core, 2),
    digest('xxh64x2 in WebAssembly', 'xxh64x2', null, 1),
    digest('sha256', 'sha256', core, 1),
    ...(findProgram('xxhsum') === null
      ? []
      : [limit('xxhsum -H2', [path]), limit('two xxhsum -H2 at once, each', [path, path])]),
    ...disk.layers,
    ...(await codecLayers()),
    inMemory('frames decoded from chunks of 64 KiB', async () => decodeFrames()),
    inMemory('channel through a pipe and back', channelThroughPipe),
  ]
  const all = layers.map(({ name }): LayerSeries => ({ name, bytesPerSecond: [] }))
  for (let round = 0; round < bench.rounds; round += 1) {
    const order = [...layers.entries()]
    if (round % 2 === 1) order.reverse()
    for (const [index, { name, bytes, prepare, run }] of order) {
      bench.signal.throwIfAborted()
      await prepare()
      const startedMs = performance.now()
      await run()
      const bytesPerSecond = (bytes * 1000) / (performance.now() - startedMs)
      all[index]?.bytesPerSecond.push(bytesPerSecond)
      bench.say(`layer, ${name}: ${(bytesPerSecond / GIB).toFixed(2)} GiB/s`)
    }
  }
  await rm(path)
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
  const { bytes: readBytes } = await digester.digestSpan(
    { fd, directFd: NO_FD },
    { offset, length: SPAN_BYTES },
    out,
  )
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
