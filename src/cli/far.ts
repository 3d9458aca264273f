// `serve` and its engine in one piece: what the far end of a run loads, and nothing else.

import { serve } from '../sync/serve.js'
import { ownFarProcess } from './far-process.js'
import { serveCommand } from './serve.js'

/** Serves on the process's own stdin and stdout; resolves with the exit status when the input has ended. */
export async function runFar(words: readonly string[], exit: (status: number) => void): Promise<number> {
  const originalCommand = process.env['SSH_ORIGINAL_COMMAND'] ?? null
  return await serveCommand(
    words,
    { ...ownFarProcess(), originalCommand },
    () => Promise.resolve(serve),
    exit,
  )
}
