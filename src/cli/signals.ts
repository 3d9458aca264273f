// SIGINT and SIGTERM during a run: the first asks the run to end cleanly at both ends, the second ends this process now.

import { EXIT, SyncError } from '../errors.js'

type Handler = () => void

/** The part of `process` that is needed here. */
export type SignalSource = {
  on(signal: 'SIGINT' | 'SIGTERM', handler: Handler): unknown
  removeListener(signal: 'SIGINT' | 'SIGTERM', handler: Handler): unknown
}

/** A signal to hand to the engine; disposing it gives SIGINT and SIGTERM back to whoever had them. */
export type RunSignal = Disposable & { readonly signal: AbortSignal }

/**
 * The first SIGINT or SIGTERM aborts `signal` with an interrupt/* SyncError and says so; any second one calls `exit`
 * with 130 or 143.
 */
export function runSignal(
  source: SignalSource,
  say: (text: string) => void,
  exit: (status: number) => void,
): RunSignal {
  const controller = new AbortController()
  const handle = (name: 'sigint' | 'sigterm'): void => {
    if (controller.signal.aborted) {
      exit(EXIT[name])
      return
    }
    say('blocksync: stopping; press again to stop at once')
    controller.abort(
      new SyncError(
        `interrupt/${name}`,
        `interrupted by ${name.toUpperCase()}; everything acknowledged is on disk`,
      ),
    )
  }
  const onInterrupt = (): void => handle('sigint')
  const onTerminate = (): void => handle('sigterm')
  source.on('SIGINT', onInterrupt)
  source.on('SIGTERM', onTerminate)
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      source.removeListener('SIGINT', onInterrupt)
      source.removeListener('SIGTERM', onTerminate)
    },
  }
}
