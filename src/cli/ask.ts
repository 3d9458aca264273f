// Asks the person at the terminal a question that is answered with yes or no. Everything but a clear yes is no, the end of
// the input and an interruption too.

import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'

import { printable } from '../printable.js'

/** Resolves with true for y or yes. Never rejects. */
export async function askYesOrNo(
  question: string,
  terminal: Readonly<{ input: Readable; output: Writable }>,
  signal: AbortSignal,
): Promise<boolean> {
  const lines = createInterface({ ...terminal, terminal: false })
  const ended = new AbortController()
  lines.once('close', () => ended.abort())
  try {
    const either = AbortSignal.any([signal, ended.signal])
    // the space behind the question mark stays
    const answer = await lines.question(printable(question), { signal: either })
    return /^\s*y(es)?\s*$/i.test(answer)
  } catch {
    // no answer came, whatever the reason: where it is an interruption, the run reports that
    terminal.output.write('\n')
    return false
  } finally {
    lines.close()
  }
}
