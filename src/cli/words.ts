// A command line as one option value (-e), split into words the way rsync splits it. Nothing is expanded and no shell
// sees it. Refuses an open quote, control characters and a value without words.

import { SyncError } from '../errors.js'

/** A command line longer than this is a mistake. */
const MAX_COMMAND_LINE = 4096

/**
 * Words of `text`: blanks separate, '...' and "..." keep blanks; a backslash is an ordinary character, and a quote
 * character doubled inside its own quotes stands for itself (the rule of rsync(1) for --rsh). Rejects with `usage`.
 */
export function splitWords(option: string, text: string): string[] {
  if (text.length > MAX_COMMAND_LINE) throw refuse(option, `is longer than ${MAX_COMMAND_LINE} characters`)
  if (hasControlCharacter(text)) throw refuse(option, 'contains a control character')
  const words: string[] = []
  let word: string | null = null
  let quote: string | null = null
  for (let index = 0; index < text.length; index++) {
    const character = text.charAt(index)
    if (quote !== null) {
      if (character !== quote) word = (word ?? '') + character
      else if (text.charAt(index + 1) === quote) word = (word ?? '') + text.charAt(++index)
      else quote = null
    } else if (character === ' ') {
      if (word !== null) words.push(word)
      word = null
    } else if (character === "'" || character === '"') {
      quote = character
      word ??= ''
    } else {
      word = (word ?? '') + character
    }
  }
  if (quote !== null) throw refuse(option, `has a ${quote} that is never closed`)
  if (word !== null) words.push(word)
  if ((words[0] ?? '') === '') throw refuse(option, 'names no program')
  return words
}

/** True where `text` holds a C0 or C1 control character or DEL: never part of a name here, and able to fool a terminal. */
export function hasControlCharacter(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return true
  }
  return false
}

function refuse(option: string, problem: string): SyncError {
  return new SyncError('usage', `the command line ${problem}; nothing was opened`, {
    operand: option,
    hint: `Write for example ${option} 'ssh -o ConnectTimeout=10'.`,
  })
}
