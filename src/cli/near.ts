// The command line of this process in one piece: what every command but `serve` loads. The engine is a piece of its own.

import { processContext } from './process.js'
import { runProgram } from './program.js'

/** Runs one command line (`words` without node and script); resolves with the exit status. Never rejects. */
export async function runNear(words: readonly string[], exit: (status: number) => void): Promise<number> {
  return await runProgram(words, processContext(exit))
}
