// The halves under test, the real ones, over streams in memory: `serve` with disks that are none, and the near end's
// session with its passes.

import { Readable, Writable } from 'node:stream'

import { createDigester } from '../../src/digest/open.js'
import type { Role } from '../../src/endpoint/endpoint.js'
import { SyncError } from '../../src/errors.js'
import { checkPair } from '../../src/guard/pair.js'
import { loadNative } from '../../src/native.js'
import { syncOptions } from '../../src/options.js'
import { Throttle } from '../../src/rate/throttle.js'
import { runDisk } from '../../src/sync/disk-run.js'
import { Lanes } from '../../src/sync/lanes.js'
import { DiskMeter } from '../../src/sync/meter.js'
import { serve } from '../../src/sync/serve.js'
import { openSession } from '../../src/sync/session.js'
import type { Connection, FarExit } from '../../src/transport/transport.js'
import type { Known } from './controllers.js'
import { SEED } from './controllers.js'
import type { RecordedDisk } from './disk.js'
import type { Random } from './random.js'

/** How a half ended: as it should, or with the error that it would show. */
export type Ended = Readonly<{ error: SyncError | null }>

/** What comes in is pushed, whenever it likes. */
export class WireInput extends Readable {
  override _read(): void {
    // nothing is waited for
  }
}

/** What goes out is looked at; a peer that does not read holds it. */
export class WireOutput extends Writable {
  isHeld = false
  readonly #onBytes: (bytes: Buffer) => void
  #held: (() => void) | null = null

  constructor(onBytes: (bytes: Buffer) => void) {
    super({ highWaterMark: 64 << 10 })
    this.#onBytes = onBytes
  }

  release(): void {
    this.isHeld = false
    this.#held?.()
    this.#held = null
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#onBytes(chunk)
    if (this.isHeld) this.#held = done
    else done()
  }
}

export type Wire = Readonly<{ input: WireInput; output: WireOutput }>

/** The far end. `open` gives the disk of each `open` frame. */
export async function runServe(
  { input, output }: Wire,
  open: (role: Role) => RecordedDisk,
  directory: string,
): Promise<Ended> {
  await serve(input, output, {
    native: 'auto',
    stateDir: directory,
    undo: { directory: null, maxBytes: null },
    restriction: null,
    signal: new AbortController().signal,
    openDisk: ({ role }) => Promise.resolve(open(role).opened(role)),
  })
  return { error: null } // what it says of a failure is on the wire
}

/** With the core where it is built: it is what most run with, and quicker. */
const NATIVE = loadNative('auto')
const FAR = { kind: 'local' } as const

/** The near end: passes over one disk, some compared and some written. */
export async function runNear(
  { input, output }: Wire,
  role: Role,
  disk: RecordedDisk,
  known: Known,
  random: Random,
): Promise<Ended> {
  const { blockBytes, leafBytes, sizeBytes } = known.shape
  const push = role === 'source'
  const pair = {
    source: { at: FAR, path: '/s', typed: '/s' },
    destination: { at: FAR, path: '/d', typed: '/d' },
  }
  const connection = connectionOf(input, output)
  const common = {
    blockBytes,
    granularityBytes: leafBytes,
    digest: 'xxh64x2',
    native: 'auto',
    streams: 1,
  } as const
  try {
    const session = await openSession(FAR, syncOptions(common), NATIVE, SEED, {
      takeConnection: () => Promise.resolve(connection),
    })
    try {
      session.open(0, {
        role: push ? 'destination' : 'source',
        path: '/far',
        access: push ? 'write' : 'read',
        create: 'never',
        createSizeBytes: 0,
        guards: 'off',
        force: [],
        peer: null,
        lane: null,
        undo: 'none',
        standsFor: null,
        lockWaitMs: 0,
      })
      const far = await session.opened()
      const digester = known.digester
      for (let count = random.between(1, 40); count > 0; count -= 1) {
        const isKnown = push || known.roots.has(`0+${sizeBytes}`)
        const mode = isKnown && random.int(3) > 0 ? 'write' : 'verify'
        const options = syncOptions({ ...common, mode })
        const [source, destination] = push ? [disk.info, far] : [far, disk.info]
        const size = checkPair({
          source,
          destination,
          sourceName: '/s',
          destinationName: '/d',
          policy: 'min',
          access: mode === 'write' ? 'write' : 'read',
        })
        const meter = new DiskMeter(pair, 0, 1, options, {})
        meter.connected(session, false, push, null)
        const { stable, known: facts, keeper, undo } = disk.opened(role)
        meter.opened(size.lengthBytes, false, false, {
          source,
          destination,
          stable: { source: stable, destination: stable },
        })
        if (role === 'destination' && mode === 'write') disk.allowed = { offset: 0, length: size.lengthBytes }
        await runDisk(
          session,
          { disk: 0, pair, near: disk, known: facts, keeper, undo, far, size, meter },
          {
            push,
            options,
            digester,
            throttle: new Throttle(null),
            compression: null,
            farBytesPerSecond: () => null,
            lanes: new Lanes(session, () => Promise.reject(new SyncError('connect/failed', 'no lanes')), {}),
            invitation: () => session.invite(),
            scan: null,
            native: NATIVE,
            verify: 'none',
            pair: null,
            before: null,
            checkpoints: null,
          },
        )
        disk.allowed = null
        if (random.once(4)) await session.roundTripMs()
        if (random.once(6)) await session.invite()
      }
      await session.goodbye()
      return { error: null }
    } catch (thrown) {
      return { error: await session.giveUp(thrown) }
    }
  } catch (thrown) {
    return {
      error:
        thrown instanceof SyncError ? thrown : new SyncError('internal', String(thrown), { cause: thrown }),
    }
  }
}

/** Ends when the input does. */
function connectionOf(input: WireInput, output: WireOutput): Connection {
  const exit = new Promise<FarExit>((resolve) =>
    input.once('close', () => resolve({ exitStatus: 0, signal: null, stderrTail: '' })),
  )
  const kill = (): void => {
    input.destroy()
  }
  return {
    peerName: 'far',
    kind: 'local',
    cipher: null,
    input,
    output,
    exit,
    end: () => output.end(),
    kill,
    forward: null,
    explain: () => new SyncError('session/lost', 'the far end is gone'),
    [Symbol.asyncDispose]: async () => {
      kill()
      await exit
    },
  }
}

export async function knownDisk(shape: Known['shape']): Promise<Known> {
  const { blockBytes, leafBytes, content, sizeBytes } = shape
  const parameters = { algorithm: 'xxh64x2', seed: SEED, geometry: { blockBytes, leafBytes } } as const
  const digester = await createDigester(parameters, NATIVE)
  const blocks: Buffer[] = []
  for (let at = 0; at < sizeBytes; at += blockBytes) {
    const length = Math.min(blockBytes, sizeBytes - at)
    const data = Buffer.alloc(length)
    data.set(content.subarray(at, at + length))
    const leaves = Buffer.alloc(Math.ceil(length / leafBytes) * digester.digestBytes)
    digester.digestLeaves(data, leaves)
    const digest = Buffer.alloc(digester.digestBytes)
    digester.digestItems(leaves, leaves.length, digest)
    blocks.push(digest)
  }
  return { shape, digester, blocks: Buffer.concat(blocks), roots: new Map() }
}
