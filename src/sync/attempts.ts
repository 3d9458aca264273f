// A run that is not given up at the first obstacle: again after a connection that was lost (--retries), and when another run
// has let go of a disk (--lock-wait). Between two attempts nothing is held, here or there; what is final stays final.

import { setTimeout as delay } from 'node:timers/promises'

import { SyncError, toSyncError } from '../errors.js'
import { lockDisk } from '../guard/lock.js'
import { loadNative } from '../native.js'
import type { SyncOptions } from '../options.js'
import { SILENCE_TIMEOUT_MS } from '../wire/keepalive.js'
import type { DiskPair, Operand, RunHooks, RunReport } from './report.js'
import { newSeed, openSession } from './session.js'
import { sync } from './sync.js'

/** Before the first of the retries; doubled for each further one. */
const FIRST_BACKOFF_MS = 1000
/** Longer pauses would only make the end of an outage last longer. */
const MOST_BACKOFF_MS = 60_000
/** Up to so much of a pause is left out, by chance: runs that one outage ended do not all come back at once. */
const JITTER = 0.25
/** After a lost connection the far end of it may still have its disks: it notices as late as we do, then flushes. */
const FLUSH_GRACE_MS = 10_000
/** Two runs that each wait for a disk of the other let go of all; by chance one comes back first. */
const MOST_YIELD_MS = 500

/**
 * As `sync`, with the retries and waits of its options. Never rejects. The report is that of the last attempt;
 * `hooks.onRetry` is told of each one but the first.
 */
export async function syncPersistently(
  pairs: readonly DiskPair[],
  options: SyncOptions,
  hooks: RunHooks,
): Promise<RunReport> {
  const waiting = new LockWait(pairs, options, hooks)
  for (let retries = 0; ;) {
    const report = await sync(pairs, options, hooks)
    const { error } = report
    if (error === null || hooks.signal?.aborted === true) return report
    try {
      if (error.code === 'guard/locked') {
        await waiting.untilFree(error)
        continue
      }
      if (!error.isRetriable || retries >= options.retries) return report
      retries += 1
      waiting.afterLoss()
      const waitMs = backoffMs(retries, Math.random())
      hooks.onRetry?.({ retry: retries, retries: options.retries, waitMs, error })
      await delay(waitMs, undefined, signalOf(hooks))
    } catch (thrown) {
      const { signal } = hooks
      return { ...report, error: toSyncError(signal?.aborted === true ? signal.reason : thrown) }
    }
  }
}

/** How long to wait before a retry, the first being 1; `chance` is from 0 to 1. */
export function backoffMs(retry: number, chance: number): number {
  const most = Math.min(MOST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (retry - 1))
  return Math.round(most * (1 - JITTER * chance))
}

function signalOf({ signal }: RunHooks): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

/** The waits for locks of one run: all together they last no longer than was said. */
class LockWait {
  readonly #pairs: readonly DiskPair[]
  readonly #options: SyncOptions
  readonly #hooks: RunHooks
  #patienceMs: number
  #sinceMs: number | null = null

  constructor(pairs: readonly DiskPair[], options: SyncOptions, hooks: RunHooks) {
    this.#pairs = pairs
    this.#options = options
    this.#hooks = hooks
    this.#patienceMs = options.lockWaitMs
  }

  /** What has a disk now may be what is left of our own last attempt: that goes when it has noticed. */
  afterLoss(): void {
    const noticedMs = (this.#options.timeoutMs || SILENCE_TIMEOUT_MS) + FLUSH_GRACE_MS
    this.#patienceMs = Math.max(this.#options.lockWaitMs, noticedMs)
    this.#sinceMs = null
  }

  /** Resolves when the disk that `error` (guard/locked) is about was free for a moment. Rejects with it when time is up. */
  async untilFree(error: SyncError): Promise<void> {
    const isFirst = this.#sinceMs === null
    this.#sinceMs ??= performance.now()
    const leftMs = this.#patienceMs - (performance.now() - this.#sinceMs)
    const operand = this.#pairs
      .flatMap(({ source, destination }) => [source, destination])
      .find(({ typed, path }) => error.operand === typed || error.operand === path)
    if (this.#patienceMs === 0 || operand === undefined) throw error
    if (leftMs <= 0) throw this.#timeIsUp(error)
    const what = error.message.replace(/; nothing was written$/, '')
    if (isFirst) this.#hooks.onWaiting?.(`waiting up to ${Math.ceil(leftMs / 1000)} s: ${what}`)
    else await delay(Math.random() * MOST_YIELD_MS, undefined, signalOf(this.#hooks))
    try {
      // of two disks here both are waited for here, whoever opens them
      if (operand.at.kind === 'remote') await this.#waitThere(operand, leftMs)
      else await this.#waitHere(operand, leftMs)
    } catch (thrown) {
      this.#hooks.signal?.throwIfAborted()
      if (toSyncError(thrown).code === 'guard/locked') throw this.#timeIsUp(error)
      // whatever else is wrong, the next attempt says it better
    }
  }

  #timeIsUp({ message, operand, cause }: SyncError): SyncError {
    const seconds = Math.round(this.#patienceMs / 1000)
    return new SyncError(
      'guard/locked',
      message.replace(/; nothing was written$/, `, still after ${seconds} s; nothing was written`),
      {
        ...(operand === null ? {} : { operand }),
        hint: 'Run the same command again when that has ended.',
        cause,
      },
    )
  }

  async #waitHere(operand: Operand, waitMs: number): Promise<void> {
    const { signal = null } = this.#hooks
    const request = { path: operand.path, ...this.#rights(operand), waitMs }
    const lock = await lockDisk(request, {
      native: loadNative(this.#options.native),
      peerProcess: null,
      signal,
    })
    await lock.release()
  }

  /** In a session of its own, which has nothing else. */
  async #waitThere(operand: Operand, waitMs: number): Promise<void> {
    const { signal } = this.#hooks
    const options = this.#options
    const native = loadNative(options.native)
    await using session = await openSession(operand.at, options, native, newSeed(), this.#hooks)
    const onAbort = (): void => session.channel.fail(toSyncError(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      if (signal?.aborted === true) onAbort()
      const { role, mode } = this.#rights(operand)
      session.open(0, {
        path: operand.path,
        role,
        access: mode === 'exclusive' ? 'write' : 'read',
        create: 'never',
        createSizeBytes: 0,
        guards: 'off',
        force: [],
        peer: null,
        lane: null,
        undo: 'none',
        standsFor: null,
        lockWaitMs: Math.ceil(waitMs),
      })
      await session.opened()
      await session.goodbye()
    } catch (thrown) {
      throw await session.giveUp(thrown)
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #rights(operand: Operand): { role: 'source' | 'destination'; mode: 'shared' | 'exclusive' } {
    const role = this.#pairs.some(({ source }) => source === operand) ? 'source' : 'destination'
    return { role, mode: role === 'destination' && this.#options.mode === 'write' ? 'exclusive' : 'shared' }
  }
}
