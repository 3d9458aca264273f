// Two byte streams as JSON lines both ways, for either end of an agent's connection: banners first, pings in between, and
// the end told once. Refuses lines that are too long or no JSON objects, and a side that does not read or is silent.

import type { Readable, Writable } from 'node:stream'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { packageVersion } from '../version.js'
import { Keepalive } from '../wire/keepalive.js'
import { AGENT_PROTOCOL, notUnderstood } from './agent-protocol.js'
import { jsonObject, text } from './shapes.js'

/** What may stand before a banner: messages of the day, shell start-up noise. */
const MAX_NOISE_BYTES = 64 << 10
const MAX_BANNER_BYTES = 256
/** What waits for a side that does not read. */
const MAX_WAITING_BYTES = 128 << 20
/** Bodies of pings are a few bytes. */
const MAX_PING_UNITS = 64
const NEWLINE = 0x0a
/** Least patience that can be asked for. */
const MIN_TIMEOUT_MS = 1000

type Side = 'agent' | 'controller'

export type AgentBanner = Readonly<{ least: number; most: number; program: string; timeoutMs: number | null }>

/** The line that either side begins with. */
export function encodeAgentBanner(side: Side, timeoutMs: number | null): string {
  const { least, most } = AGENT_PROTOCOL
  const patience = timeoutMs === null ? '' : ` timeout=${timeoutMs}`
  return `BLOCKSYNC ${side} ${least}-${most} program=${packageVersion()}${patience}\n`
}

/**
 * Reads the other side's banner. Resolves with it and what came behind it, or with null where the stream ended first. Rejects
 * with connect/garbage where something else came, or nothing within `timeoutMs`, connect/capability where it is `serve`, and
 * connect/version.
 */
export async function readAgentBanner(
  input: Readable,
  from: Side,
  peerName: string,
  timeoutMs: number,
): Promise<{ banner: AgentBanner; rest: Buffer } | null> {
  let received = Buffer.alloc(0)
  return await new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      clearTimeout(timer)
      input.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onEnd)
      input.pause()
      act()
    }
    const timer = setTimeout(() => settle(() => reject(noBanner(peerName, received))), timeoutMs)
    const onEnd = (): void => settle(() => resolve(null))
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk])
      const found = findBanner(received, from)
      if (found !== null)
        settle(() => (isSpoken(found.banner) ? resolve(found) : reject(noVersion(peerName, found.banner))))
      else if (/(?:^|\n)BLOCKSYNC server .*\n/.test(received.toString('latin1')))
        settle(() => reject(onlyServes(peerName)))
      else if (received.length > MAX_NOISE_BYTES) settle(() => reject(noBanner(peerName, received)))
    }
    input.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onEnd)
    if (input.readableEnded || input.destroyed) onEnd()
  })
}

function findBanner(received: Buffer, from: Side): { banner: AgentBanner; rest: Buffer } | null {
  const prefix = `BLOCKSYNC ${from} `
  for (let at = received.indexOf(prefix); at !== -1; at = received.indexOf(prefix, at + 1)) {
    const length = received.subarray(at, at + MAX_BANNER_BYTES).indexOf(NEWLINE)
    const line = received.toString('latin1', at + prefix.length, at + Math.max(length, 0))
    const match = /^(\d{1,5})-(\d{1,5}) program=(\S{1,64})(?: timeout=(\d{1,10}))?(?: \S*)*\r?$/.exec(line)
    if (length === -1 || match === null) continue
    const [, least, most, program = '', timeout] = match
    return {
      banner: {
        least: Number(least),
        most: Number(most),
        program: printable(program),
        timeoutMs: timeout === undefined ? null : Number(timeout),
      },
      rest: received.subarray(at + length + 1),
    }
  }
  return null
}

function isSpoken({ least, most }: AgentBanner): boolean {
  return least <= AGENT_PROTOCOL.most && most >= AGENT_PROTOCOL.least
}

function noVersion(peerName: string, { least, most, program }: AgentBanner): SyncError {
  return new SyncError(
    'connect/version',
    `versions of the agent do not overlap: ${AGENT_PROTOCOL.least}-${AGENT_PROTOCOL.most} here, ${least}-${most} on ${peerName} (blocksync ${program}); nothing was done`,
    { operand: peerName, hint: 'Install the same version of blocksync on both hosts.' },
  )
}

function onlyServes(peerName: string): SyncError {
  return new SyncError(
    'connect/capability',
    `${peerName} started blocksync serve instead of an agent: the key that was used runs that and nothing else; nothing was done`,
    {
      operand: peerName,
      hint: 'Use another key (-i); authorized_keys on that host says what this one may do.',
    },
  )
}

function noBanner(peerName: string, received: Buffer): SyncError {
  const firstLine = printable(received.toString('latin1', 0, 200).split('\n')[0] ?? '').slice(0, 80)
  return new SyncError('connect/garbage', `${peerName} did not start as an agent; nothing was done`, {
    operand: peerName,
    hint: `${firstLine === '' ? 'It said nothing.' : `It began with "${firstLine}".`} Is blocksync there of the same version?`,
  })
}

export type LinkOptions = Readonly<{
  maxLineBytes: number
  /** How long nothing may be heard; 0 is for ever. */
  timeoutMs: number
  peerName: string
  /** What came behind the banner. */
  rest: Buffer
  onMessage: (message: Readonly<Record<string, unknown>>) => void
  /** Once: null where the other side ended its stream, else why this is over. */
  onEnd: (error: SyncError | null) => void
}>

export class Link {
  readonly #output: Writable
  readonly #input: Readable
  readonly #options: LinkOptions
  readonly #keepalive: Keepalive
  #pieces: Buffer[] = []
  #pieceBytes = 0
  #receivedBytes = 0
  #sentBytes = 0
  #isOver = false
  #isFailed = false

  constructor(input: Readable, output: Writable, options: LinkOptions) {
    this.#input = input
    this.#output = output
    this.#options = options
    const { timeoutMs, peerName } = options
    const patienceMs = timeoutMs === 0 ? 0 : Math.max(timeoutMs, MIN_TIMEOUT_MS)
    this.#keepalive = new Keepalive(
      {
        receivedBytes: () => this.#receivedBytes,
        sentBytes: () => this.#sentBytes,
        isDeaf: () => false,
        ping: (body) => this.send({ ping: body.toString() }),
        fail: (error) => this.fail(error),
      },
      patienceMs,
      peerName,
    )
    // shows as the end of the input, or as silence
    output.on('error', () => undefined)
  }

  /** From now on messages are taken, and the end is told; what is there already at once. */
  start(): void {
    const input = this.#input
    input.on('data', (chunk: Buffer) => this.#take(chunk))
    input.on('error', () => this.#end(null))
    for (const event of ['end', 'close']) input.on(event, () => this.#end(null))
    if (this.#options.rest.length > 0) this.#take(this.#options.rest)
    if (input.readableEnded || input.destroyed) this.#end(null)
    else input.resume()
  }

  /** Puts a message in line, also for a side that has no more to say; nothing where nobody can hear it. */
  send(message: Readonly<Record<string, unknown>>): void {
    if (this.#isFailed || !this.#output.writable) return
    const line = Buffer.from(`${JSON.stringify(message)}\n`)
    this.#sentBytes += line.length
    this.#output.write(line)
    if (this.#output.writableLength > MAX_WAITING_BYTES)
      this.fail(new SyncError('session/lost', `${this.#options.peerName} does not read what it asked for`))
  }

  /** This side has no more to say; what the other one says is still heard. */
  finish(): void {
    this.#output.end()
  }

  /** Ends it for this reason. */
  fail(error: SyncError): void {
    this.#isFailed = true
    this.#end(error)
    this.#input.destroy()
  }

  #end(error: SyncError | null): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#keepalive[Symbol.dispose]()
    this.#pieces = []
    this.#options.onEnd(error)
  }

  /** The chunk may be lent: what is kept of it is copied. */
  #take(chunk: Buffer): void {
    this.#receivedBytes += chunk.length
    let start = 0
    for (;;) {
      if (this.#isOver) return
      const end = chunk.indexOf(NEWLINE, start)
      const part = chunk.subarray(start, end === -1 ? chunk.length : end)
      if (this.#pieceBytes + part.length > this.#options.maxLineBytes)
        return this.fail(
          new SyncError('session/protocol', `${this.#options.peerName} sent a line of too many bytes`),
        )
      if (end === -1) {
        if (part.length > 0) this.#pieces.push(Buffer.from(part))
        this.#pieceBytes += part.length
        return
      }
      const line = Buffer.concat([...this.#pieces, part]).toString()
      this.#pieces = []
      this.#pieceBytes = 0
      start = end + 1
      this.#takeLine(line)
    }
  }

  #takeLine(line: string): void {
    try {
      const message = jsonObject(parse(line))
      if (Object.hasOwn(message, 'ping')) this.send({ pong: text(message['ping']).slice(0, MAX_PING_UNITS) })
      else if (Object.hasOwn(message, 'pong')) this.#keepalive.takes(Buffer.from(text(message['pong'])))
      else this.#options.onMessage(message)
    } catch (error) {
      this.fail(error instanceof SyncError ? error : notUnderstood(error))
    }
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new SyncError('session/protocol', 'what came is no JSON', { cause: error })
  }
}
