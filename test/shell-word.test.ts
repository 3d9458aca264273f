// Words for a shell: what is quoted, and that a real shell takes it for the word that it was.

import { execFileSync } from 'node:child_process'

import { describe, expect, it } from 'vitest'

import { isPlainWord, shellWord, shownWord } from '../src/shell-word.js'

const SHELL_TIMEOUT_MS = 10_000

describe('a word for a shell', () => {
  it.each([
    ['web-1', 'web-1'],
    ['/srv/a b', "'/srv/a b'"],
    ["a'; rm -rf x", "'a'\\''; rm -rf x'"],
    ['$(reboot)', "'$(reboot)'"],
    ['<state>', "'<state>'"],
    ['~', "'~'"],
    ['', "''"],
  ])('%s is %s', (text, word) => {
    expect(shellWord(text)).toBe(word)
    expect(shownWord(text)).toBe(word)
    expect(isPlainWord(text)).toBe(text === word)
    const options = { encoding: 'utf8', timeout: SHELL_TIMEOUT_MS } as const
    expect(execFileSync('sh', ['-c', `printf '%s.' ${word}`], options)).toBe(`${text}.`)
  })

  it('of what others wrote is harmless on a terminal', () => {
    expect(shownWord('a\u001b[2Jb')).toBe("'a?[2Jb'")
    expect(shellWord('a\u001bb')).toBe("'a\u001bb'")
  })
})
