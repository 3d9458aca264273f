// Any text at all, and configurations with random values in them: a Config, or one SyncError with places; never anything else.

import { readFileSync } from 'node:fs'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'

import { configLines } from '../../src/config/problems.js'
import { editDistance, nearest } from '../../src/config/suggest.js'
import { SyncError } from '../../src/errors.js'
import { configOf, PARSERS } from './support.js'

const EVERY_KEY = readFileSync(
  new URL('../../docs/examples/replicate/every-key.yaml', import.meta.url),
  'utf8',
)

/** Throws where what comes is neither. */
function checkText(text: string): 'read' | 'refused' {
  try {
    configOf(text)
    return 'read'
  } catch (thrown) {
    if (!(thrown instanceof SyncError) || thrown.code !== 'config/invalid') throw thrown
    const lines = configLines(thrown).filter((line) => !/^and \d+ more$/.test(line))
    for (const line of lines) expect(line).toMatch(/^a\.yaml:[1-9]\d*:[1-9]\d*: ./)
    return 'refused'
  }
}

const JOB_KEYS = [
  'every cron timezone jitter windows snapshot snapshot_size track quiesce keep lag verify_every hooks notify boot'.split(
    ' ',
  ),
  ['disks', 'source', 'destination', '__proto__', 'constructor'],
  PARSERS.jobOptions.map(({ name }) => name),
  [...PARSERS.refusedOptions.keys()],
].flat()
const WORDS = [
  [
    '15m',
    '10%',
    'mon-fri 22:00-06:00',
    '* * * * *',
    'lvm',
    'none',
    '/a',
    'k:/a',
    'ssh -p 1',
    'zstd',
    '[',
    '\u0000',
  ],
  'libvirt command create last pre expect memory timeout http mail freeze'.split(' '),
].flat()
const { value: anyValue } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(...WORDS),
    fc.string(),
    fc.double(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...WORDS), fc.string()), tie('value'), { maxKeys: 4 }),
  ),
}))
const anyJob = fc.dictionary(fc.constantFrom(...JOB_KEYS), anyValue, { maxKeys: 6 })
const anyConfig = fc.record(
  {
    state_dir: anyValue,
    max_parallel: anyValue,
    bwlimit: anyValue,
    metrics: anyValue,
    notify: anyValue,
    defaults: fc.oneof(anyJob, anyValue),
    jobs: fc.oneof(fc.dictionary(fc.string(), anyJob), anyValue),
  },
  { requiredKeys: [] },
)
/** What YAML makes something of. */
const INDICATORS = [
  'a b jobs: - ? [ ] { } & * ! | > \' " % @ ` # , ~ 0 --- &a *a <<:'.split(' '),
  ['\n', '\n  ', ' ', '\t', '\\', '\u0085', '\ufeff'],
].flat()
const anyYaml = fc.string({
  unit: fc.constantFrom(...INDICATORS),
  maxLength: 200,
})

describe('any text', () => {
  it('is a configuration or refused', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), anyYaml), (text) => {
        seen.add(checkText(text))
      }),
      { numRuns: 1000 },
    )
    expect(seen.has('refused')).toBe(true)
  })

  it('that was a configuration before something in it changed', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(
        fc.nat({ max: EVERY_KEY.length }),
        fc.nat({ max: 20 }),
        fc.oneof(anyYaml, fc.constant('')),
        (at, length, instead) => {
          seen.add(checkText(EVERY_KEY.slice(0, at) + instead.slice(0, 10) + EVERY_KEY.slice(at + length)))
        },
      ),
      { numRuns: 500 },
    )
    expect([...seen].toSorted()).toEqual(['read', 'refused'])
  })

  it('of the right shape with any values', () => {
    fc.assert(
      fc.property(anyConfig, (config) => {
        checkText(stringify(config))
      }),
      { numRuns: 1000 },
    )
  })

  it.each([
    ['brackets', '['.repeat(100_000)],
    ['braces', '{a: '.repeat(50_000)],
    ['dashes', '- '.repeat(50_000)],
    ['question marks', '? '.repeat(50_000)],
    ['steps', Array.from({ length: 1000 }, (_, index) => `${' '.repeat(index)}a:`).join('\n')],
    [
      'steps of dashes',
      Array.from({ length: 60 }, (_, index) => `${' '.repeat(60 * index)}${'- '.repeat(30)}a:`).join('\n'),
    ],
    ['brackets in a mapping', `a: ${'[{a: '.repeat(20_000)}`],
  ])('without end, of %s, is refused and ends nothing', (_name, text) => {
    expect(() => configOf(text)).toThrow(/nested more than 64 levels deep/)
  })

  it('may have many brackets that are not open', () => {
    expect(
      configOf(
        `# ${'['.repeat(500)}\njobs: {}\nnotify: [{ command: ["${'['.repeat(500)}"] }, {command: '${'{'.repeat(99)}'}]`,
      ).notify,
    ).toHaveLength(2)
  })
})

describe('what was meant', () => {
  it.each([
    ['bwlimt', 'bwlimit'],
    ['bw-limit', 'bwlimit'],
    ['BWLIMIT', 'bwlimit'],
    ['onError', 'on_error'],
    ['blocksize', 'block-size'],
    ['kepe', 'keep'],
    ['x', null],
    ['entirely', null],
  ])('by %s is %s', (word, meant) => {
    expect(nearest(word, ['bwlimit', 'on_error', 'block-size', 'keep', 'every'])).toBe(meant)
  })

  it('is measured by letters', () => {
    expect([editDistance('', 'abc'), editDistance('abc', 'acb'), editDistance('kitten', 'sitting')]).toEqual([
      3, 1, 3,
    ])
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        const distance = editDistance(a, b)
        expect(distance).toBe(editDistance(b, a))
        expect(distance === 0).toBe(a === b)
        expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length))
      }),
    )
  })
})
