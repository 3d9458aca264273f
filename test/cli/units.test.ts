// Units, rates, times and command-line words as tables.

import { describe, expect, it } from 'vitest'

import {
  formatBytes,
  formatDuration,
  formatElapsed,
  formatRate,
  parseDuration,
  parsePort,
  parseRate,
  parseSize,
} from '../../src/cli/units.js'
import { splitWords } from '../../src/cli/words.js'
import { SyncError } from '../../src/errors.js'

const K = 1024

function failure(action: () => unknown): SyncError {
  try {
    action()
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('it was not refused')
}

describe('sizes', () => {
  it.each<[string, number]>([
    ['0', 0],
    ['4096', 4096],
    ['4096B', 4096],
    ['64K', 64 * K],
    ['64k', 64 * K],
    ['64KiB', 64 * K],
    ['64KB', 64_000],
    ['1M', K * K],
    ['1MiB', K * K],
    ['1MB', 1_000_000],
    ['1.5G', 1.5 * K ** 3],
    ['2 GiB', 2 * K ** 3],
    ['1T', K ** 4],
    ['1TB', 10 ** 12],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('%s', (text, bytes) => {
    expect(parseSize('--block-size', text)).toBe(bytes)
  })

  it.each([
    '',
    ' ',
    'M',
    '-1',
    '+1',
    '1e6',
    '0x10',
    '1.K',
    '.5K',
    '1X',
    '1P',
    '1 M B',
    '1Mbit',
    '0.1K',
    '1/s',
    'off',
    '9007199254740992',
    '99999T',
    '１',
    'NaN',
    'Infinity',
    '1'.repeat(30),
  ])('refuses %j', (text) => {
    const error = failure(() => parseSize('--block-size', text))
    expect(error).toMatchObject({ code: 'usage', operand: '--block-size' })
    expect(error.hint).toMatch(/--block-size 1M/)
  })
})

describe('rates', () => {
  it.each<[string, number | null]>([
    ['0', null],
    ['off', null],
    ['0M', null],
    ['80M', 80 * K * K],
    ['10MB/s', 10_000_000],
    ['1.5K/s', 1536],
    ['1.2345K', 1264],
    ['1', 1],
  ])('%s', (text, rate) => {
    expect(parseRate('--bwlimit', text)).toBe(rate)
  })

  it.each(['', '/s', '-1M', '10Mbit', '0.5', 'OFF ', 'fast', '10M/m'])('refuses %j', (text) => {
    expect(failure(() => parseRate('--bwlimit', text))).toMatchObject({ code: 'usage', operand: '--bwlimit' })
  })
})

describe('ports', () => {
  it('are 1 to 65535', () => {
    expect([parsePort('--port', '1'), parsePort('--port', '65535')]).toEqual([1, 65535])
  })
  it.each(['', '0', '65536', '-1', '22 ', '1e3', 'ssh', '123456'])('refuses %j', (text) => {
    expect(failure(() => parsePort('--port', text)).message).toMatch(/port/)
  })
})

describe('what people read', () => {
  it.each<[number, string]>([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [10 * K - 1, '10.0 KiB'],
    [88.2 * K * K, '88.2 MiB'],
    [99.96 * K, '100 KiB'],
    [1023.6 * K, '1.00 MiB'],
    [421 * K ** 3, '421 GiB'],
    [K ** 4, '1.00 TiB'],
    [K ** 6, '1024 PiB'],
  ])('%d bytes', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text)
    expect(formatRate(bytes)).toBe(`${text}/s`)
  })

  it.each<[number, string]>([
    [0, '0:00:00'],
    [312_000, '0:05:12'],
    [59_600, '0:01:00'],
    [3_599_400, '0:59:59'],
    [100 * 3_600_000, '100:00:00'],
  ])('%d ms', (ms, text) => {
    expect(formatDuration(ms)).toBe(text)
  })

  it('is exact below a minute', () => {
    expect([0, 164, 59_994, 59_995, 312_000].map(formatElapsed)).toEqual([
      '0.00 s',
      '0.16 s',
      '59.99 s',
      '0:01:00',
      '0:05:12',
    ])
  })
})

describe('words', () => {
  it.each<[string, string[]]>([
    ['ssh', ['ssh']],
    ['  ssh   -p  22 ', ['ssh', '-p', '22']],
    ['ssh -o "ProxyCommand nc %h %p"', ['ssh', '-o', 'ProxyCommand nc %h %p']],
    ["ssh -i '/my key'", ['ssh', '-i', '/my key']],
    ['ssh -o"A B"C', ['ssh', '-oA BC']],
    ['ssh ""', ['ssh', '']],
    ["ssh 'it''s'", ['ssh', "it's"]],
    ['ssh "a""b"', ['ssh', 'a"b']],
    ['ssh a\\ b', ['ssh', 'a\\', 'b']],
    ['ssh $HOME `id` ;', ['ssh', '$HOME', '`id`', ';']],
  ])('%s', (text, words) => {
    expect(splitWords('--rsh', text)).toEqual(words)
  })

  it.each(['', '   ', '""', "'' ssh", 'ssh "open', "ssh 'open", 'ssh\n-v', 'x'.repeat(5000)])(
    'refuses %j',
    (text) => {
      expect(failure(() => splitWords('--rsh', text))).toMatchObject({ code: 'usage', operand: '--rsh' })
    },
  )
})

describe('a time', () => {
  it.each([
    ['0', 0],
    ['30', 30_000],
    ['1.5', 1500],
    ['90s', 90_000],
    ['5m', 300_000],
    ['1.5h', 5_400_000],
    ['2d', 172_800_000],
    ['10 m', 600_000],
  ])('%s', (text, ms) => {
    expect(parseDuration('--timeout', text)).toBe(ms)
  })

  it.each(['', 'm', '-1', '5 minutes', '1e3', '5M', '1h30m', '9'.repeat(30), 'off'])('not %s', (text) => {
    expect(() => parseDuration('--timeout', text)).toThrow(/is not a time; nothing was opened/)
  })
})
