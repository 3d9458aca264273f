// The words of a forced command, and what the client may add to them.

import { describe, expect, it } from 'vitest'

import { askedWords, takeRestriction } from '../../src/cli/restrict-words.js'
import { parseServeWords } from '../../src/cli/serve.js'

describe('the words of a restriction', () => {
  it.each<[string, object | null, string[]]>([
    ['', null, []],
    ['--native=off', null, ['--native=off']],
    ['--restrict-to /dev/vg0 /srv/images', { paths: ['/dev/vg0', '/srv/images'], only: null }, []],
    ['--restrict-to=/a --restrict-to /b --write-only', { paths: ['/a', '/b'], only: 'write' }, []],
    ['--read-only --restrict-to /a/ --native off', { paths: ['/a'], only: 'read' }, ['--native', 'off']],
    ['--restrict-to /a --state-dir=/s', { paths: ['/a'], only: null }, ['--state-dir=/s']],
    ['--restrict-to /', { paths: ['/'], only: null }, []],
    ['/a', null, ['/a']],
  ])('%s', (words, restriction, rest) => {
    expect(takeRestriction(words.split(' ').filter((word) => word !== ''))).toEqual({ restriction, rest })
  })

  it.each([
    ['--restrict-to'],
    ['--restrict-to --read-only'],
    ['--restrict-to relative'],
    ['--restrict-to /a/../b'],
    ['--restrict-to='],
    ['--read-only'],
    ['--restrict-to /a --read-only --write-only'],
  ])('refuses %s', (words) => {
    expect(() => takeRestriction(words.split(' '))).toThrow('nothing was opened')
  })
})

describe('the command line of a client with a restricted key', () => {
  const parse = (command: string | null, words = ['--restrict-to', '/a']): [object, string[]] => {
    const ignored: string[] = []
    return [parseServeWords(words, command, (word) => ignored.push(word)), ignored]
  }

  it('chooses whether the native core is used, and nothing else', () => {
    const [parsed, ignored] = parse(
      'nice blocksync serve --native=off --state-dir=/x --undo-dir=/y --restrict-to=/',
    )
    expect(parsed).toMatchObject({
      native: 'off',
      stateDir: null,
      undo: { directory: null },
      restriction: { paths: ['/a'] },
    })
    expect(ignored).toEqual(['--state-dir=/x', '--undo-dir=/y', '--restrict-to=/'])
  })
  it('does not override what the key says', () => {
    const words = ['--restrict-to', '/a', '--native=auto', '--state-dir=/s']
    expect(parse('blocksync serve --native=off', words)[0]).toMatchObject({ native: 'auto', stateDir: '/s' })
  })
  it('counts only where the key is restricted', () => {
    expect(parse('blocksync serve --native=off', [])).toMatchObject([
      { native: 'auto', restriction: null },
      [],
    ])
  })
  it.each([['rm -rf /'], ['sftp-server'], ['']])('that is %j runs nothing', (command) => {
    expect(() => askedWords(command)).toThrow('nothing else')
  })
  it('that is none is one that asks for nothing', () => {
    expect(askedWords(null)).toEqual({ honoured: [], ignored: [] })
  })
})
