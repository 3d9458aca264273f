// A word for a POSIX shell, for commands that somebody is to type: any text in, that text as one word out. Refuses nothing.

import { printable } from './printable.js'

/** What no shell takes for anything else. */
const PLAIN_WORD = /^[A-Za-z0-9_@%+=:,./-]+$/

/** True for a word that every shell takes as it stands. */
export function isPlainWord(word: string): boolean {
  return PLAIN_WORD.test(word)
}

/** The word as it would be typed; in quotes only where a shell needs them. */
export function shellWord(word: string): string {
  return isPlainWord(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/** The same of text that others wrote, for a terminal: what is typed after reading a hint must do nothing else. */
export function shownWord(text: string): string {
  return shellWord(printable(text))
}
