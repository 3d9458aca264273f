// Tells systemd how the daemon is (sd_notify(3)): ready, reading its configuration again, at its end, alive. Without NOTIFY_SOCKET it
// tells nobody. Refuses addresses that are no unix socket; a message that is lost is a line in the log, never a failure.

import type { NativeCore } from '../native.js'
import { errnoOf } from '../errors.js'
import { run } from '../exec.js'
import { within } from '../within.js'

/** systemd reads its socket at once; a program that needs longer hangs. */
const PROGRAM_TIMEOUT_MS = 5_000
/** Its queue may be full when a machine starts; what counts is tried again so often. */
const MAX_TRIES = 50
const TRY_AGAIN_MS = 20
/** sun_path of unix(7). */
const MAX_ADDRESS_BYTES = 108
/** STATUS= is shown in one line. */
const MAX_STATUS_UNITS = 200

/** What a daemon tells. All resolve when it is told or given up. */
export interface ServiceManager {
  /** All that was to be opened is open. */
  ready(status: string): Promise<void>
  /** Before a configuration is read again; `ready` ends it. */
  reloading(): Promise<void>
  stopping(): Promise<void>
  status(text: string): Promise<void>
  /** Half of what systemd waits for a sign of life, ms; null where it waits for none. */
  readonly aliveEveryMs: number | null
  alive(): Promise<void>
}

/** One datagram with this text. Rejects with why it was not taken. */
export type SendText = (text: string) => Promise<void>

/** The manager that the environment names; `onFailure` is called once, with the first failure. */
export function serviceManager(
  environment: NodeJS.ProcessEnv,
  native: NativeCore | null,
  onFailure: (message: string) => void,
): ServiceManager {
  const address = environment['NOTIFY_SOCKET'] ?? ''
  const send = address === '' ? null : sender(address, native)
  let failure: 'none' | 'told' = 'none'
  const tell = async (...words: string[]): Promise<void> => {
    if (send === null) return
    try {
      await send(words.join('\n'))
    } catch (error) {
      if (failure === 'told') return
      failure = 'told'
      onFailure(`systemd could not be told: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return {
    ready: (status) => tell('READY=1', statusWord(status)),
    // without the time systemd would take the READY=1 before it for the end of the reload
    reloading: () => tell('RELOADING=1', `MONOTONIC_USEC=${monotonicMicroseconds()}`),
    stopping: () => tell('STOPPING=1'),
    status: (text) => tell(statusWord(text)),
    aliveEveryMs: send === null ? null : watchdogMs(environment),
    alive: () => tell('WATCHDOG=1'),
  }
}

/** Half of WATCHDOG_USEC, where it is for this process (sd_watchdog_enabled(3)). */
export function watchdogMs(environment: NodeJS.ProcessEnv): number | null {
  const microseconds = Number(environment['WATCHDOG_USEC'] ?? '')
  const pid = environment['WATCHDOG_PID'] ?? ''
  if (pid !== '' && pid !== String(process.pid)) return null
  if (!Number.isSafeInteger(microseconds) || microseconds <= 0) return null
  return Math.max(1, Math.floor(microseconds / 2000))
}

function statusWord(text: string): string {
  return `STATUS=${text.replaceAll('\n', ' ').slice(0, MAX_STATUS_UNITS)}`
}

/** CLOCK_MONOTONIC, which is what Node.js counts by on Linux. */
function monotonicMicroseconds(): bigint {
  return process.hrtime.bigint() / 1000n
}

function sender(address: string, native: NativeCore | null): SendText {
  const isAbstract = address.startsWith('@')
  if (!isAbstract && !address.startsWith('/')) {
    return async () => {
      await Promise.reject(new Error(`NOTIFY_SOCKET=${address} is neither a path nor an abstract name`))
    }
  }
  const bytes = Buffer.from(isAbstract ? `\0${address.slice(1)}` : address)
  if (bytes.length > MAX_ADDRESS_BYTES) {
    return async () => {
      await Promise.reject(new Error('NOTIFY_SOCKET is too long for an address'))
    }
  }
  return native === null ? sendByProgram : async (text) => sendByCore(native, bytes, text)
}

async function sendByCore(native: NativeCore, address: Uint8Array, text: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      native.sendDatagram(address, Buffer.from(text))
      return
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN' || tries >= MAX_TRIES) throw error
      await within(new Promise<never>(() => undefined), TRY_AGAIN_MS)
    }
  }
}

/** systemd's own program; it takes NOTIFY_SOCKET from our environment, and says that it speaks for us. */
async function sendByProgram(text: string): Promise<void> {
  const { exitStatus, stderrTail } = await run({
    argv: ['systemd-notify', `--pid=${process.pid}`, ...text.split('\n')],
    timeoutMs: PROGRAM_TIMEOUT_MS,
    errorCode: 'host/program',
    operand: 'systemd-notify',
  })
  if (exitStatus !== 0) throw new Error(`systemd-notify ended with ${exitStatus}: ${stderrTail}`)
}
