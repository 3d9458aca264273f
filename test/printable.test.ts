// Text on its way to a terminal: what stays, what becomes a space, what becomes a question mark.

import { describe, expect, it } from 'vitest'

import { printable } from '../src/printable.js'

const range = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, index) => String.fromCharCode(first + index))

describe('printable', () => {
  it.each([
    ['plain', 'straße €'],
    ['a pair of surrogates', 'disk \u{1f4be} \u{10ffff}'],
    ['letters that are written from right to left', 'שלום سلام'],
    ['joiners, which words of several scripts need', 'می\u200cخواهم \u{1f469}\u200d\u{1f52c}'],
    ['nothing', ''],
  ])('keeps %s', (_, text) => {
    expect(printable(text)).toBe(text)
  })

  it.each([
    ['C0, but for the tab', range(0x00, 0x1f).filter((character) => character !== '\t')],
    ['DEL and C1', range(0x7f, 0x9f)],
    ['separators of lines and paragraphs', ['\u2028', '\u2029']],
    [
      'marks and overrides of direction',
      ['\u061c', '\u200e', '\u200f', ...range(0x202a, 0x202e), ...range(0x2066, 0x206f)],
    ],
    ['halves of pairs', ['\ud800', '\udbff', '\udc00', '\udfff']],
  ])('replaces %s', (_, characters) => {
    for (const character of characters) {
      expect(printable(`a${character}b${character}`), JSON.stringify(character)).toBe('a?b?')
    }
  })

  it('makes a tab a space', () => {
    expect(printable('c\td\t')).toBe('c d ')
  })

  it('leaves of an escape sequence what is harmless', () => {
    expect(printable('a\u001b[2Jb\u009bc\td\n')).toBe('a?[2Jb?c d?')
  })

  it('does not take two halves in the wrong order for a pair', () => {
    expect(printable('\ude00\ud83d')).toBe('??')
  })

  it('is the same when it is done twice', () => {
    const text = `a\u001b\u202e\ud800\t${'\u{1f4be}'}`
    expect(printable(printable(text))).toBe(printable(text))
  })
})
