// `blocksync replicate status --watch`: the status drawn again every two seconds, until q, Ctrl-C or SIGTERM. Refuses where stdout is
// no terminal.

import { setTimeout as sleep } from 'node:timers/promises'

import { EXIT, toSyncError } from '../errors.js'
import type { CommandContext } from './context.js'
import { contradiction } from './flags.js'
import { errorLines } from './output.js'

const REDRAW_EVERY_MS = 2000

/** Resolves with 0 when it was told to end. Rejects with `usage`. */
export async function watch(
  page: () => Promise<Readonly<{ lines: readonly string[] }>>,
  context: CommandContext,
): Promise<number> {
  const { output, signals } = context
  if (!output.isScreen(context.environment))
    throw contradiction('--watch', 'wants a terminal', 'Leave it away, or take --json.')
  const ended = new AbortController()
  const end = (): void => ended.abort()
  signals.on('SIGINT', end)
  signals.on('SIGTERM', end)
  using _keys = context.onKey((key) => {
    // raw keys: Ctrl-C is one of them, and Ctrl-D
    if (['q', 'Q', '\u0003', '\u0004'].includes(key)) end()
  })
  output.openScreen()
  try {
    while (!ended.signal.aborted) {
      output.screen([...(await linesOf(page)), '', 'q ends'])
      await pause(ended.signal)
    }
  } finally {
    output.closeScreen()
    signals.removeListener('SIGINT', end)
    signals.removeListener('SIGTERM', end)
  }
  return EXIT.ok
}

/** What cannot be read now is said, and may be read the next time: a configuration is being edited. */
async function linesOf(
  page: () => Promise<Readonly<{ lines: readonly string[] }>>,
): Promise<readonly string[]> {
  try {
    return (await page()).lines
  } catch (thrown) {
    return errorLines(toSyncError(thrown))
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  try {
    await sleep(REDRAW_EVERY_MS, undefined, { signal })
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  }
}
