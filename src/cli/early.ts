// A run whose far end is started before the engine is loaded: ssh needs longer than that, so it goes first. Not for runs
// that the engine could refuse without a connection, and not for ssh2, which works in this process.

import { existsSync } from 'node:fs'

import { loadNative } from '../native.js'
import type { SyncOptions } from '../options.js'
import { EarlyFar, farSideOf, startFar } from '../sync/start-far.js'
import type { DiskPair } from '../sync/report.js'
import { chooseSsh } from '../transport/open.js'
import type { RunSync } from './sync.js'

/** What is used of the rest of the program; a test gives its own. */
export type EarlyParts = Readonly<{
  loadEngine: () => Promise<RunSync>
  start: typeof startFar
  choose: typeof chooseSsh
}>

export const EARLY_PARTS: EarlyParts = {
  loadEngine: async () => (await import('./engine.js')).runSync,
  start: startFar,
  choose: chooseSsh,
}

/** The engine, with its far end started first. What the engine does not take over is ended here. */
export function runEarly({ loadEngine, start, choose }: EarlyParts): RunSync {
  return async (pairs, options, hooks) => {
    const [first] = pairs
    if (first === undefined || !(await canStartEarly(pairs, options, choose))) {
      const run = await loadEngine()
      return await run(pairs, options, hooks)
    }
    const onStderrLine = hooks.onStderrLine ?? ((): void => undefined)
    const starting = start(farSideOf(first), options, loadNative(options.native), onStderrLine)
    // loading the engine occupies the process: not before the far end is on its way. A failure is the engine's to report.
    await Promise.allSettled([starting])
    const far = new EarlyFar(starting)
    try {
      const run = await loadEngine()
      return await run(pairs, options, { ...hooks, takeConnection: () => far.take() })
    } finally {
      await far.endUntaken()
    }
  }
}

/** Nothing is started for what is refused before anything is opened: a missing source, a core or digest that is not here. */
async function canStartEarly(
  pairs: readonly DiskPair[],
  { native, digest, transport }: SyncOptions,
  choose: typeof chooseSsh,
): Promise<boolean> {
  if (native === 'require' || digest !== 'auto') return false
  if (!pairs.every(({ source }) => source.at.kind === 'remote' || existsSync(source.path))) return false
  const isLocal = pairs.every(({ source, destination }) => source.at.kind === destination.at.kind)
  return isLocal || (await choose(transport)) === 'openssh'
}
