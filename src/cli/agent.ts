// `blocksync agent`: the far end of a migration, in one piece. Its stdin and stdout are the lines of src/host/link.ts, so every
// word of text goes to stderr. Imports no argument parser, since it is started over a connection; refuses a terminal.

import type { Readable, Writable } from 'node:stream'

import { EXIT, SyncError, toSyncError } from '../errors.js'
import { serveAgent } from '../host/agent.js'
import type { NativeMode } from '../options.js'
import { openWireInput } from '../transport/streams.js'
import { errorLines } from './output.js'
import type { TextStream } from './output.js'

const STDIN_FD = 0

/** What `agent --help` says. */
export const AGENT_HELP = `Usage: blocksync agent [--native=auto|require|off] [--state-dir=/DIR]

The far end of blocksync migrate, which starts it on the other host by itself, over ssh; stdin and stdout are its lines,
text goes to stderr. It ends when its input ends and the programs that it started have ended.
`

/** The part of `process` that the agent uses. */
export type AgentProcess = {
  openInput(): Readable & { isTTY?: boolean }
  readonly stdout: Writable
  readonly stderr: TextStream
  on(signal: 'SIGINT' | 'SIGHUP' | 'SIGTERM', handler: () => void): unknown
  removeListener(signal: 'SIGINT' | 'SIGHUP' | 'SIGTERM', handler: () => void): unknown
}

/** Serves on the process's own stdin and stdout; resolves with the exit status. */
export async function runAgent(words: readonly string[], exit: (status: number) => void): Promise<number> {
  return await agentCommand(
    words,
    {
      openInput: () => openWireInput(STDIN_FD, () => process.stdin),
      stdout: process.stdout,
      stderr: process.stderr,
      on: (signal, handler) => process.on(signal, handler),
      removeListener: (signal, handler) => process.removeListener(signal, handler),
    },
    exit,
  )
}

/**
 * Serves until the input ends and nothing runs any more. SIGINT and SIGHUP are ignored: they come from the terminal of the
 * near side, which ends things in order. SIGTERM is as if the input had ended; a second one ends it at once.
 */
export async function agentCommand(
  words: readonly string[],
  process: AgentProcess,
  exit: (status: number) => void,
): Promise<number> {
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`)
  }
  // whoever reads stderr may be gone; that is no reason to stop
  process.stderr.on('error', () => undefined)
  const abort = new AbortController()
  const ignore = (): void => undefined
  const terminate = (): void => {
    if (abort.signal.aborted) exit(EXIT.sigterm)
    else abort.abort()
  }
  let input: ReturnType<AgentProcess['openInput']> | null = null
  try {
    const parsed = parseAgentWords(words)
    if (parsed === 'help') {
      say(AGENT_HELP)
      return EXIT.ok
    }
    input = process.openInput()
    if (input.isTTY === true)
      throw new SyncError('usage', 'agent talks to another blocksync, not to a terminal; nothing was done', {
        operand: 'agent',
        hint: 'Write blocksync migrate GUEST HOST: that starts the agent on the host.',
      })
    process.on('SIGINT', ignore)
    process.on('SIGHUP', ignore)
    process.on('SIGTERM', terminate)
    const status = await serveAgent(input, process.stdout, { ...parsed, signal: abort.signal })
    return abort.signal.aborted ? EXIT.sigterm : status
  } catch (thrown) {
    const error = toSyncError(thrown)
    for (const line of errorLines(error)) say(line)
    return error.exitStatus
  } finally {
    // an input that nobody reads to its end would keep the process alive
    input?.destroy()
    process.removeListener('SIGINT', ignore)
    process.removeListener('SIGHUP', ignore)
    process.removeListener('SIGTERM', terminate)
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
