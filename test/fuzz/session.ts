// One session of the fuzzer: a half under test, a peer that mostly keeps to the rules, and what is held against the half:
// it ends, with an error that it may have, writes only where it was told, and sends nothing but frames.

import { setTimeout as delay } from 'node:timers/promises'

import type { Role } from '../../src/endpoint/endpoint.js'
import { FRAME, FrameDecoder, HEADER_BYTES } from '../../src/wire/frame.js'
import { encodeBanner, ownBanner } from '../../src/wire/handshake.js'
import { ClientController, type Controller, type Known, ServerController } from './controllers.js'
import { RecordedDisk } from './disk.js'
import { type Ended, runNear, runServe, WireInput, WireOutput } from './halves.js'
import { mutate } from './mutate.js'
import { Random } from './random.js'

export type Half = 'serve-destination' | 'serve-source' | 'pull' | 'push'
/** More often the ones that write. */
const HALVES: readonly Half[] = ['serve-destination', 'serve-destination', 'serve-source', 'pull', 'push']

export type Outcome = Readonly<{
  half: Half
  /** Which of the disks. */
  disk: number
  frames: number
  /** Empty where all is well. */
  violations: readonly string[]
  /** How it ended, for the statistics: a code, or 'done'. */
  ending: string
  /** What was sent, in the pieces it was sent in: for the corpus. */
  sent: readonly Buffer[]
  writes: number
}>

/** A half that has heard the end of its input and does not end in so many turns of the event loop hangs. */
const MAX_TURNS = 5000
const MAX_END_MS = 10_000
/** A half that says nothing for so long waits for us: opening a disk and making a digester take real time. */
const MAX_SILENCE_MS = 6
/** What waits to be read is not added to. */
const MAX_BUFFERED_BYTES = 4 << 20
// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/

const BANNERS = {
  client: Buffer.from(encodeBanner(ownBanner('client', false, ['xxh64x2', 'sha256'], ['brotli']))),
  server: Buffer.from(encodeBanner(ownBanner('server', false, ['xxh64x2', 'sha256'], ['brotli']))),
}

export async function runSession(
  disks: readonly Known[],
  seed: number,
  session: number,
  directory: string,
): Promise<Outcome> {
  const random = new Random(seed, session)
  const half = random.pick(HALVES)
  const disk = random.int(disks.length)
  const known = disks[disk]
  if (known === undefined) throw new Error('no disks')
  const role: Role = half === 'serve-source' || half === 'push' ? 'source' : 'destination'
  const isServe = half === 'serve-destination' || half === 'serve-source'
  const controller = isServe
    ? new ClientController(role, known, random)
    : new ServerController(role, known, random)
  return { ...(await new Run(half, role, known, controller, random).run(directory)), disk }
}

/** What was sent once, again: `half` is told it in the same pieces, whatever it answers. */
export async function replay(
  half: Half,
  known: Known,
  pieces: readonly Buffer[],
  directory: string,
): Promise<Outcome> {
  const role: Role = half === 'serve-source' || half === 'push' ? 'source' : 'destination'
  const silent = { next: () => null, heard: () => undefined, isChanged: () => true }
  return await new Run(half, role, known, silent, new Random(1, 1)).replay(pieces, directory)
}

class Run {
  readonly #half: Half
  readonly #role: Role
  readonly #known: Known
  readonly #controller: Controller
  readonly #random: Random
  readonly #input = new WireInput()
  readonly #output: WireOutput
  readonly #violations: string[] = []
  readonly #sent: Buffer[] = []
  /** By the number that the frames give them. */
  readonly #disks = new Map<number, RecordedDisk>()
  readonly #opening: number[] = []
  readonly #all: RecordedDisk[] = []
  /** Frames as they came out, and as they went in after all changes. */
  readonly #heard = new FrameDecoder()
  readonly #told = new FrameDecoder()
  #isTold = true
  #isGreeted = false
  #isReplay = false
  #hasBanner = false
  #heardCount = 0
  #isPassOn = false
  #ended: Ended | null = null
  #errorCode: string | null = null
  #frames = 0

  constructor(half: Half, role: Role, known: Known, controller: Controller, random: Random) {
    this.#half = half
    this.#role = role
    this.#known = known
    this.#controller = controller
    this.#random = random
    this.#output = new WireOutput((bytes) => this.#onOutput(bytes))
    controller.isChanged = () => this.#all.some(({ isChanged }) => isChanged)
  }

  async run(directory: string): Promise<Outcome> {
    const random = this.#random
    this.#start(directory)
    const banner = BANNERS[this.#isServe ? 'client' : 'server']
    this.#feed([random.once(60) ? damaged(banner, random) : banner])
    this.#isGreeted = true
    await turn()
    // some peers are wild, most are wrong once in a few hundred frames, a few never
    const every = random.pick([3, 100, 1000, 10_000, 10_000, 1e9])
    const budget = random.pick([400, 4000, 8000])
    let idle = 0
    let last: Buffer = Buffer.alloc(HEADER_BYTES)
    while (this.#ended === null && this.#frames < budget && idle < 3) {
      if (random.once(100)) this.#output.isHeld = true
      else if (this.#output.isHeld && random.once(20)) this.#output.release()
      const frames: Buffer[] = []
      for (let count = random.between(1, 64); count > 0; count -= 1) {
        const frame = this.#controller.next()
        if (frame === null) break
        if (random.once(every)) frames.push(...mutate(frame, last, random))
        else frames.push(frame)
        last = frame
      }
      idle = frames.length === 0 ? idle + 1 : 0
      this.#frames += frames.length
      if (this.#input.readableLength < MAX_BUFFERED_BYTES) this.#feed(frames)
      await turn()
      if (idle > 0) this.#output.release()
      if (idle > 0) await this.#somethingHeard()
    }
    return await this.#end()
  }

  /** What takes real time, as opening a disk does, is waited for; a half that waits for us says nothing. */
  async #somethingHeard(): Promise<void> {
    const before = this.#heardCount
    for (
      let waitedMs = 0;
      waitedMs < MAX_SILENCE_MS && this.#heardCount === before && this.#ended === null;
      waitedMs += 2
    )
      await delay(2)
  }

  async replay(pieces: readonly Buffer[], directory: string): Promise<Outcome> {
    this.#isReplay = true
    this.#start(directory)
    for (const piece of pieces) {
      this.#feed([piece])
      await turn()
    }
    return await this.#end()
  }

  get #isServe(): boolean {
    return this.#half.startsWith('serve')
  }

  #start(directory: string): void {
    const wire = { input: this.#input, output: this.#output }
    const end = (ended: Ended): void => {
      this.#ended = ended
    }
    const fail = (thrown: unknown): void => {
      this.#ended = { error: null }
      const code = (thrown as { code?: unknown }).code
      // a client without a banner has nobody to be told
      if (code === 'connect/garbage' || code === 'connect/version') this.#errorCode = code
      else
        this.#violations.push(
          `it rejected: ${thrown instanceof Error ? (thrown.stack ?? '') : String(thrown)}`,
        )
    }
    if (this.#isServe) {
      runServe(wire, () => this.#newDisk(this.#opening.shift() ?? -1), directory).then(end, fail)
      return
    }
    const disk = this.#newDisk(0)
    runNear(wire, this.#role, disk, this.#known, this.#random).then(end, fail)
  }

  #newDisk(number: number): RecordedDisk {
    const disk = new RecordedDisk(this.#role, this.#known.shape)
    this.#disks.set(number, disk)
    this.#all.push(disk)
    return disk
  }

  /** In pieces that end anywhere. */
  #feed(frames: readonly Buffer[]): void {
    const bytes = frames.length === 1 && frames[0] !== undefined ? frames[0] : Buffer.concat(frames)
    if (bytes.length === 0 || this.#input.destroyed) return
    let at = 0
    for (let count = this.#random.int(3); count > 0 && at < bytes.length; count -= 1) {
      const to = this.#random.between(at, bytes.length)
      if (to > at) this.#tell(bytes.subarray(at, to))
      at = to
    }
    if (at < bytes.length) this.#tell(bytes.subarray(at))
  }

  #tell(piece: Buffer): void {
    this.#sent.push(piece)
    this.#watch(piece)
    this.#input.push(piece)
  }

  /** What the half was told of its disks, read as it reads it. */
  #watch(piece: Buffer): void {
    if (!this.#isServe || !this.#isTold) return
    let frames = piece
    if (!this.#isGreeted) {
      // frames begin behind the line of the banner; `run` says itself when that is out
      const end = this.#isReplay ? piece.indexOf(0x0a) : -1
      if (end < 0) return
      this.#isGreeted = true
      frames = piece.subarray(end + 1)
    }
    try {
      this.#told.push(frames, ({ type, disk, body }) => {
        if (type === FRAME.open) this.#opening.push(disk)
        if (type !== FRAME.start || this.#isPassOn) return
        this.#isPassOn = true
        const start = JSON.parse(body.toString()) as Record<string, unknown>
        const target = this.#disks.get(disk)
        if (target === undefined || start['mode'] !== 'write') return
        target.allowed = { offset: Number(start['offsetBytes']), length: Number(start['lengthBytes']) }
        target.allowedBytes = Number(start['destinationBytes'])
      })
    } catch {
      // the half refuses it as well: it is told nothing more
      this.#isTold = false
    }
  }

  #onOutput(bytes: Buffer): void {
    let rest = bytes
    if (!this.#hasBanner) {
      const end = bytes.indexOf(0x0a)
      if (end < 0) return
      this.#hasBanner = true
      rest = bytes.subarray(end + 1)
    }
    try {
      this.#heard.push(rest, (frame) => {
        if (frame.type === FRAME.error) {
          const { code } = JSON.parse(frame.body.toString()) as { code: string }
          this.#errorCode = code
          this.#closeDisks()
        }
        if (frame.type === FRAME.finished) this.#closeDisks()
        this.#heardCount += 1
        this.#controller.heard(frame)
      })
    } catch (thrown) {
      this.#violations.push(`it sent what is no frame: ${String(thrown)}`)
    }
  }

  /** Behind `finished` or `error` nothing is written. */
  #closeDisks(): void {
    if (!this.#isServe) return
    this.#isPassOn = false
    for (const disk of this.#all) {
      disk.allowed = null
      disk.allowedBytes = 0
    }
  }

  async #end(): Promise<Outcome> {
    this.#output.release()
    if (this.#random.once(8)) this.#input.destroy()
    else this.#input.push(null)
    const startMs = performance.now()
    for (let turns = 0; this.#ended === null; turns += 1) {
      if (turns > MAX_TURNS && performance.now() - startMs > MAX_END_MS) {
        this.#violations.push('it did not end')
        break
      }
      await turn()
    }
    const error = this.#ended?.error ?? null
    const code = error?.code ?? this.#errorCode
    if (code === 'internal')
      this.#violations.push(
        `an internal error: ${error?.cause instanceof Error ? error.cause.stack : 'see error'}`,
      )
    if (error !== null && UNPRINTABLE.test(`${error.message}${error.hint ?? ''}${error.operand ?? ''}`))
      this.#violations.push(`unprintable: ${JSON.stringify(error.message)}`)
    for (const { violations } of this.#all) this.#violations.push(...violations)
    return {
      half: this.#half,
      disk: 0,
      frames: this.#frames,
      violations: this.#violations,
      ending: code ?? 'done',
      sent: this.#sent,
      writes: this.#all.reduce((sum, { writes }) => sum + writes, 0),
    }
  }
}

function damaged(banner: Buffer, random: Random): Buffer {
  const copy = Buffer.from(banner)
  copy[random.int(copy.length)] = random.next()
  return random.once(2) ? copy : Buffer.concat([random.bytes(random.int(2000)), banner])
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}
