// `blocksync serve`: the far end. Its stdin and stdout are the wire, so every word of text goes to stderr. Imports no
// argument parser: it is started for every run, over a connection where milliseconds count. Refuses a terminal.

import type { Readable, Writable } from 'node:stream'

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { NativeMode } from '../options.js'
import type { Restriction } from '../guard/restrict.js'
import { printable } from '../printable.js'
import { FarEnd, type FarProcess, sayOn } from './far-process.js'
import { errorLines } from './output.js'
import { askedWords, takeRestriction } from './restrict-words.js'

/** Where undo journals of this host go, and the most they may take. */
type UndoWords = Readonly<{ directory: string | null; maxBytes: number | null }>

/** The engine's far half; resolves with the exit status. */
export type RunServe = (
  input: Readable,
  output: Writable,
  options: {
    native: NativeMode
    stateDir: string | null
    undo: UndoWords
    restriction: Restriction | null
    signal: AbortSignal
  },
) => Promise<number>

export type ServeProcess = FarProcess & {
  /** SSH_ORIGINAL_COMMAND: what the client asked sshd to run, where authorized_keys says another command. */
  readonly originalCommand: string | null
}

/** What `serve --help` says; its options are not those of the other commands. */
export const SERVE_HELP = `Usage: blocksync serve [--native=auto|require|off] [--state-dir=/DIR]
                       [--undo-dir=/DIR] [--undo-max=BYTES]
                       [--restrict-to /PATH... [--read-only|--write-only]]

The far end of a run. blocksync starts it on the other host by itself, over ssh; stdin and stdout are the wire
(docs/protocol.md), text goes to stderr. It ends when its input ends.

--restrict-to is for a forced command in authorized_keys: such a key opens these disks, and disks in these directories,
and no others. What its client asks for beside --native is left out.
`

/**
 * Serves until the input ends; resolves with the exit status. SIGINT and SIGHUP are ignored: they come from the
 * terminal of the near side, which ends the run in order. SIGTERM ends it with 143, a second one at once.
 */
export async function serveCommand(
  words: readonly string[],
  process: ServeProcess,
  loadServe: () => Promise<RunServe>,
  exit: (status: number) => void,
): Promise<number> {
  const say = sayOn(process.stderr)
  using far = new FarEnd(
    process,
    exit,
    () =>
      new SyncError(
        'interrupt/sigterm',
        'the far end was ended by SIGTERM; everything acknowledged is on disk',
      ),
  )
  const { signal } = far
  try {
    const parsed = parseServeWords(words, process.originalCommand, (word) =>
      say(`blocksync: ${printable(word)}: not for this key to choose; left out`),
    )
    if (parsed.kind === 'help') {
      say(SERVE_HELP)
      return EXIT.ok
    }
    const input = far.open({
      command: 'serve',
      notDone: 'nothing was opened',
      hint: 'Write blocksync SOURCE HOST:/path: that starts serve on the host.',
    })
    const serve = await loadServe()
    const { native, stateDir, undo, restriction } = parsed
    const status = await serve(input, process.stdout, { native, stateDir, undo, restriction, signal })
    return signal.aborted ? EXIT.sigterm : status
  } catch (thrown) {
    if (signal.aborted) return EXIT.sigterm
    const error = toSyncError(thrown)
    for (const line of errorLines(error)) say(line)
    return error.exitStatus
  }
}

export type ServeWords = Readonly<
  | { kind: 'help' }
  | {
      kind: 'serve'
      native: NativeMode
      stateDir: string | null
      undo: UndoWords
      restriction: Restriction | null
    }
>

/**
 * The options of serve. With --restrict-to the client's own command line (`originalCommand`) is looked at too: what it may
 * not choose is left out, and `onIgnored` told. Rejects with `usage`.
 */
export function parseServeWords(
  given: readonly string[],
  originalCommand: string | null = null,
  onIgnored: (word: string) => void = () => undefined,
): ServeWords {
  const { restriction, rest } = takeRestriction(given)
  const asked = askedWords(restriction === null ? null : originalCommand)
  for (const word of asked.ignored) onIgnored(word)
  // what the key says comes last, and so holds
  const words = [...asked.honoured, ...rest]
  let native: NativeMode = 'auto'
  let stateDir: string | null = null
  const undo: { directory: string | null; maxBytes: number | null } = { directory: null, maxBytes: null }
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word === '-h' || word === '--help') return { kind: 'help' }
    if (word === '--native') native = nativeMode(words[++index] ?? '')
    else if (word.startsWith('--native=')) native = nativeMode(word.slice('--native='.length))
    else if (word.startsWith('--undo-dir=/')) undo.directory = word.slice('--undo-dir='.length)
    else if (/^--undo-max=\d{1,15}$/.test(word)) undo.maxBytes = Number(word.slice('--undo-max='.length))
    else if (word.startsWith('--state-dir=/')) stateDir = word.slice('--state-dir='.length)
    else {
      throw new SyncError('usage', `serve does not know '${word}'; nothing was opened`, {
        operand: word,
        hint: 'Is the blocksync on the far side of the same version? blocksync doctor HOST tells.',
      })
    }
  }
  return { kind: 'serve', native, stateDir, undo, restriction }
}

function nativeMode(value: string): NativeMode {
  if (value === 'auto' || value === 'require' || value === 'off') return value
  throw new SyncError('usage', `--native is auto, require or off, not '${value}'; nothing was opened`, {
    operand: '--native',
    hint: 'Write for example --native=auto.',
  })
}
