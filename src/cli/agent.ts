// `blocksync agent`: the far end of a migration, in one piece. Its stdin and stdout are the lines of src/host/link.ts, so every
// word of text goes to stderr. Imports no argument parser, since it is started over a connection; refuses a terminal.

import { EXIT, SyncError, toSyncError } from '../errors.js'
import { serveAgent } from '../host/agent.js'
import type { NativeMode } from '../options.js'
import { FarEnd, type FarProcess, ownFarProcess, sayOn } from './far-process.js'
import { errorLines } from './output.js'

/** What `agent --help` says. */
export const AGENT_HELP = `Usage: blocksync agent [--native=auto|require|off] [--state-dir=/DIR]

The far end of blocksync migrate, which starts it on the other host by itself, over ssh; stdin and stdout are its lines,
text goes to stderr. It ends when its input ends and the programs that it started have ended.
`

/** Serves on the process's own stdin and stdout; resolves with the exit status. */
export async function runAgent(words: readonly string[], exit: (status: number) => void): Promise<number> {
  return await agentCommand(words, ownFarProcess(), exit)
}

/**
 * Serves until the input ends and nothing runs any more. SIGINT and SIGHUP are ignored: they come from the terminal of the
 * near side, which ends things in order. SIGTERM is as if the input had ended; a second one ends it at once.
 */
export async function agentCommand(
  words: readonly string[],
  process: FarProcess,
  exit: (status: number) => void,
): Promise<number> {
  const say = sayOn(process.stderr)
  using far = new FarEnd(process, exit, () => undefined)
  try {
    const parsed = parseAgentWords(words)
    if (parsed === 'help') {
      say(AGENT_HELP)
      return EXIT.ok
    }
    const input = far.open({
      command: 'agent',
      notDone: 'nothing was done',
      hint: 'Write blocksync migrate GUEST HOST: that starts the agent on the host.',
    })
    const status = await serveAgent(input, process.stdout, { ...parsed, signal: far.signal })
    return far.signal.aborted ? EXIT.sigterm : status
  } catch (thrown) {
    const error = toSyncError(thrown)
    for (const line of errorLines(error)) say(line)
    return error.exitStatus
  }
}

/** The options of agent. Throws `usage`. */
export function parseAgentWords(
  words: readonly string[],
): 'help' | Readonly<{ native: NativeMode; stateDir: string | null }> {
  let native: NativeMode = 'auto'
  let stateDir: string | null = null
  for (const word of words) {
    if (word === '-h' || word === '--help') return 'help'
    if (word === '--native=auto') native = 'auto'
    else if (word === '--native=require') native = 'require'
    else if (word === '--native=off') native = 'off'
    else if (word.startsWith('--state-dir=/')) stateDir = word.slice('--state-dir='.length)
    else
      throw new SyncError('usage', `agent does not know '${word}'; nothing was done`, {
        operand: word,
        hint: 'Is the blocksync on the far side of the same version? blocksync doctor HOST tells.',
      })
  }
  return { native, stateDir }
}
