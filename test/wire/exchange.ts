// The worked exchange of docs/protocol.md: two small disks, both halves of a pass in this process, and every byte that
// crossed, cut into banners and frames with names.

import { PassThrough } from 'node:stream'

import { createDigester } from '../../src/digest/open.js'
import type { EndpointInfo, Role } from '../../src/endpoint/endpoint.js'
import { runDestination } from '../../src/sync/destination.js'
import { sessionDigester } from '../../src/sync/prepare.js'
import { runSource } from '../../src/sync/source.js'
import { Throttle } from '../../src/rate/throttle.js'
import { Channel } from '../../src/wire/channel.js'
import {
  decodeOpen,
  decodeOpened,
  decodeStart,
  encodeControl,
  encodeOpen,
  encodeStart,
} from '../../src/wire/control.js'
import { FRAME, frameName } from '../../src/wire/frame.js'
import type { Banner } from '../../src/wire/handshake.js'
import { agreeVersion, encodeBanner, readBanner } from '../../src/wire/handshake.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { twinFrames } from './twin.js'

export const BLOCK_BYTES = 16384
export const LEAF_BYTES = 512
/** Three blocks and 100 bytes. */
export const LENGTH_BYTES = 3 * BLOCK_BYTES + 100
/** The one leaf of block 1 that is not what it was: in the second of its two groups. */
export const CHANGED_OFFSET = BLOCK_BYTES + 20 * LEAF_BYTES

export const SEED = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')

export const PATH = '/images/web.img'

export type Piece = { name: string; hex: string }
export type Exchange = { pieces: Piece[]; source: Buffer; destination: Buffer; roots: [string, string] }

/** Leaf `index` of a disk: a line of 32 bytes, sixteen times. */
function leafText(age: 'old' | 'new', index: number): string {
  return `${age} text of leaf ${index}`
    .padEnd(31, '.')
    .concat('\n')
    .repeat(LEAF_BYTES / 32)
}

/** The source: text, text with one new leaf, zeros, a hole. The destination: text, text, text, a hole. */
function disks(): { source: Buffer; destination: Buffer } {
  const source = Buffer.alloc(LENGTH_BYTES)
  const destination = Buffer.alloc(LENGTH_BYTES)
  for (let at = 0; at < 2 * BLOCK_BYTES; at += LEAF_BYTES) source.write(leafText('old', at / LEAF_BYTES), at)
  for (let at = 0; at < 3 * BLOCK_BYTES; at += LEAF_BYTES)
    destination.write(leafText('old', at / LEAF_BYTES), at)
  source.write(leafText('new', CHANGED_OFFSET / LEAF_BYTES), CHANGED_OFFSET)
  return { source, destination }
}

const HOLE = { offset: 3 * BLOCK_BYTES, length: LENGTH_BYTES - 3 * BLOCK_BYTES }

function info(path: string, inode: number): EndpointInfo {
  return {
    path,
    kind: 'file',
    sizeBytes: LENGTH_BYTES,
    logicalSectorBytes: 512,
    created: false,
    direct: false,
    identity: { machine: 'host2', aliases: [`file:2049:${inode}`] },
  }
}

function disk(role: Role, content: Buffer, info: EndpointInfo): MemoryDisk {
  return new MemoryDisk({ role, content, holes: [HOLE], info })
}

function banner(side: Banner['side']): Banner {
  return {
    side,
    least: 2,
    most: 2,
    program: '0.1.0',
    node: 'v20.19.0',
    native: false,
    algorithms: ['xxh64x2', 'sha256'],
    codecs: ['brotli'],
    processors: 2,
    process: null,
    timeoutMs: null,
    bonds: false,
  }
}

/** Runs the exchange: a push, as the client does it, and a server that answers from memory. */
export async function runExchange(): Promise<Exchange> {
  const { source, destination } = disks()
  const toServer = new Tap()
  const toClient = new Tap()
  const [here, there] = await Promise.all([
    clientSide(toClient.stream, toServer.stream, disk('source', source, info('/dev/vg/web', 1))),
    serverSide(toServer.stream, toClient.stream, disk('destination', destination, info(PATH, 2))),
  ])
  return {
    pieces: [...cut('C', toServer.bytes()), ...cut('S', toClient.bytes())],
    source,
    destination,
    roots: [here, there],
  }
}

async function clientSide(input: PassThrough, output: PassThrough, endpoint: MemoryDisk): Promise<string> {
  const greeting = await readBanner(input, 'server', 'host2', 5000)
  if (greeting === null) throw new Error('no banner')
  agreeVersion(greeting.banner, 'host2')
  output.write(encodeBanner(banner('client')))
  const channel = new Channel(input, output, greeting.rest)
  channel.post(
    FRAME.open,
    0,
    encodeOpen({
      role: 'destination',
      path: PATH,
      access: 'write',
      create: 'never',
      createSizeBytes: LENGTH_BYTES,
      guards: 'on',
      force: [],
      peer: null,
      lane: null,
      undo: 'none',
      standsFor: null,
      lockWaitMs: 0,
    }),
  )
  decodeOpened((await channel.expect(FRAME.opened)).body)
  const parameters = {
    algorithm: 'xxh64x2' as const,
    seed: SEED,
    geometry: { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES },
  }
  const sizes = { lengthBytes: LENGTH_BYTES, destinationBytes: LENGTH_BYTES }
  channel.post(
    FRAME.start,
    0,
    encodeStart({
      mode: 'write',
      offsetBytes: 0,
      ...sizes,
      ...parameters.geometry,
      algorithm: parameters.algorithm,
      seed: SEED,
      bytesPerSecond: null,
      compression: null,
      pair: null,
      verify: 'none',
      badSectors: 'stop',
      leaves: null,
    }),
  )
  const digester = await createDigester(parameters, null)
  const pass = {
    channel,
    disk: 0,
    endpoint,
    digester,
    mode: 'write',
    range: { offset: 0, length: LENGTH_BYTES },
    throttle: new Throttle(null),
    compressor: null,
    scan: null,
  } as const
  const { said } = await runSource(pass)
  channel.post(FRAME.bye, 0)
  channel.end()
  return said.root
}

async function serverSide(input: PassThrough, output: PassThrough, endpoint: MemoryDisk): Promise<string> {
  output.write(encodeBanner(banner('server')))
  const greeting = await readBanner(input, 'client', 'the client', 5000)
  if (greeting === null) throw new Error('no banner')
  const channel = new Channel(input, output, greeting.rest)
  const { path } = decodeOpen((await channel.expect(FRAME.open)).body)
  channel.post(FRAME.opened, 0, encodeControl(endpoint.info))
  const start = decodeStart((await channel.expect(FRAME.start)).body)
  const digester = await sessionDigester(start, null)
  const { root } = await runDestination({
    channel,
    disk: 0,
    endpoint,
    digester,
    mode: start.mode,
    range: { offset: 0, length: start.lengthBytes },
    operand: path,
  })
  await channel.expect(FRAME.bye)
  channel.end()
  return root
}

/** A stream, and everything that went through it. */
class Tap {
  readonly stream = new PassThrough()
  readonly #chunks: Buffer[] = []

  constructor() {
    const write = this.stream._transform.bind(this.stream)
    this.stream._transform = (chunk: Buffer, encoding, done) => {
      this.#chunks.push(Buffer.from(chunk))
      write(chunk, encoding, done)
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }
}

/** One direction of a session as its banner and its frames, numbered: 'C1 banner', 'C2 open'... */
function cut(side: 'C' | 'S', bytes: Buffer): Piece[] {
  const bannerBytes = bytes.indexOf(0x0a) + 1
  const pieces: Piece[] = [{ name: `${side}1 banner`, hex: bytes.toString('hex', 0, bannerBytes) }]
  let at = bannerBytes
  for (const { type, body } of twinFrames(bytes.subarray(bannerBytes))) {
    const end = at + 8 + body.length
    pieces.push({
      name: `${side}${pieces.length + 1} ${frameName(type)}`,
      hex: bytes.toString('hex', at, end),
    })
    at = end
  }
  return pieces
}
