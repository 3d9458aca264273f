// `serve` and its engine in one piece: what the far end of a run loads, and nothing else.

import { serve } from '../sync/serve.js'
import { openWireInput } from '../transport/streams.js'
import { serveCommand, type ServeProcess } from './serve.js'

const STDIN_FD = 0

/** Serves on the process's own stdin and stdout; resolves with the exit status when the input has ended. */
export async function runFar(words: readonly string[], exit: (status: number) => void): Promise<number> {
  return await serveCommand(words, ownProcess(), () => Promise.resolve(serve), exit)
}

/** `process.stdin` is not touched where its descriptor is read in another way: it would read there too. */
function ownProcess(): ServeProcess {
  return {
    openInput: () => openWireInput(STDIN_FD, () => process.stdin),
    stdout: process.stdout,
    stderr: process.stderr,
    originalCommand: process.env['SSH_ORIGINAL_COMMAND'] ?? null,
    on: (signal, handler) => process.on(signal, handler),
    removeListener: (signal, handler) => process.removeListener(signal, handler),
  }
}
