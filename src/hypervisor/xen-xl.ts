// Runs xl on a host: argv goes in, what it printed comes out. Refuses a host without Xen, and a guest's name that xl would take
// for a number or an option.

import { setTimeout as delay } from 'node:timers/promises'

import { SyncError, type ErrorCode } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host, ProgramResult } from '../host/host.js'
import { printable } from '../printable.js'
import {
  parseDomains,
  parseInfo,
  parseLive,
  type LiveGuest,
  type XenDomain,
  type XenInfo,
} from './xen-output.js'

/** Questions take tenths of a second; a lost xenstored lets xl hang. */
const QUERY_TIMEOUT_MS = 60_000
/** Pause, unpause, destroy: hot-plug scripts have 40 s each in libxl. */
export const ACTION_TIMEOUT_MS = 300_000
/**
 * A guest of a TiB on a slow disk. A save must not be killed on the way: Xen 4.17 has no command that resumes a guest
 * that is suspended.
 */
export const SAVE_TIMEOUT_MS = 12 * 3_600_000
/** Between two looks at a guest that is about to end. xl has no way to wait for that without another domain's event. */
const POLL_MS = 200
/** The last words of xl that are told; before them it lists what it did. */
const MAX_WORDS = 400

export type XlAction = Readonly<{
  argv: Argv
  timeoutMs: number
  /** What the sentence of a failure begins with: 'web could not be saved'. */
  failure: string
  operand: string
  leavesBehind?: true
}>

export class Xl {
  readonly #host: Host

  constructor(host: Host) {
    this.#host = host
  }

  async domains(): Promise<readonly XenDomain[]> {
    return parseDomains(await this.#ask(['xl', 'list', '-v']))
  }

  async info(): Promise<XenInfo> {
    return parseInfo(await this.#ask(['xl', 'info']))
  }

  async live(): Promise<readonly LiveGuest[]> {
    return parseLive(await this.#ask(['xl', 'list', '-l']))
  }

  /** By name or UUID; null where it is not in memory. */
  async find(guest: string): Promise<XenDomain | null> {
    const domains = await this.domains()
    return (
      domains.find(({ name }) => name === guest) ??
      domains.find(({ uuid }) => uuid === guest.toLowerCase()) ??
      null
    )
  }

  /**
   * The word that means this guest to xl: its name, or the number of its domain where xl would take the name for something
   * else. Rejects with migrate/guest where it does not run.
   */
  async word(guest: string): Promise<string> {
    if (isPlainName(guest)) return guest
    const domain = await this.find(guest)
    if (domain !== null) return isPlainName(domain.name) ? domain.name : String(domain.id)
    throw new SyncError('migrate/guest', `${printable(guest)} does not run on ${this.#host.name}`, {
      operand: printable(guest),
      hint: 'xl list shows what runs there.',
    })
  }

  /** Runs it and resolves however it ended; a program that did not end in time is migrate/hypervisor. */
  async attempt({ argv, timeoutMs, failure, operand, leavesBehind }: XlAction): Promise<ProgramResult> {
    try {
      return await this.#host.run({
        argv,
        timeoutMs,
        ...(leavesBehind === undefined ? {} : { leavesBehind }),
      })
    } catch (thrown) {
      throw translated(thrown, 'migrate/hypervisor', `${failure} on ${this.#host.name}`, operand, argv)
    }
  }

  /** As `attempt`; rejects with migrate/hypervisor where it failed. */
  async act(action: XlAction): Promise<void> {
    const result = await this.attempt(action)
    if (result.exitStatus !== 0) throw this.failed(action, result)
  }

  failed({ argv, failure, operand }: XlAction, { exitStatus, stderrTail }: ProgramResult): SyncError {
    return new SyncError(
      'migrate/hypervisor',
      `${failure} on ${this.#host.name}: ${lastWords(stderrTail, exitStatus)}`,
      {
        operand,
        hint: `Try it there by hand: ${argv.join(' ')}`,
      },
    )
  }

  /** Looks until `isDone` says so of it, at most `timeoutMs` and at least once; resolves with what was seen last. */
  async settled(
    guest: string,
    timeoutMs: number,
    isDone: (domain: XenDomain | null) => boolean,
  ): Promise<XenDomain | null> {
    for (const until = performance.now() + timeoutMs; ; await delay(POLL_MS)) {
      const domain = await this.find(guest)
      if (isDone(domain) || performance.now() >= until) return domain
    }
  }

  async #ask(argv: Argv): Promise<string> {
    const failure = `the Xen of ${this.#host.name} could not be asked (${argv.join(' ')})`
    let result: ProgramResult
    try {
      result = await this.#host.run({ argv, timeoutMs: QUERY_TIMEOUT_MS })
    } catch (thrown) {
      throw translated(thrown, 'migrate/daemon', failure, this.#host.name, argv)
    }
    if (result.exitStatus === 0) return result.stdout
    throw new SyncError('migrate/daemon', `${failure}: ${lastWords(result.stderrTail, result.exitStatus)}`, {
      operand: this.#host.name,
      hint:
        result.exitStatus === 127
          ? 'Is it a Xen host? Install xen-utils there.'
          : `Run this as root, and try it there by hand: ${argv.join(' ')}`,
    })
  }
}

/** Whether xl takes it for a name: a number is a domain's, and what begins with - an option. */
function isPlainName(name: string): boolean {
  return !/^\d+$|^-|^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(name)
}

function lastWords(stderrTail: string, exitStatus: number): string {
  const words = printable(stderrTail.trim().split('\n').slice(-3).join('; ')).slice(-MAX_WORDS)
  return words === '' ? `it ended with status ${exitStatus}` : words
}

/** A program that did not end, as what it means here. A lost host stays one. */
function translated(thrown: unknown, code: ErrorCode, failure: string, operand: string, argv: Argv): unknown {
  if (!(thrown instanceof SyncError) || thrown.code !== 'host/program') return thrown
  return new SyncError(code, `${failure}: ${thrown.message}`, {
    operand,
    hint: `Try it there by hand: ${argv.join(' ')}`,
    cause: thrown,
  })
}
