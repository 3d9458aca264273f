// docs/cli.md and README.md against the program: options both ways, statuses, codes, JSON fields, and command lines.

import { describe, expect, it } from 'vitest'

import { SERVE_HELP } from '../../src/cli/serve.js'
import { EXIT, exitStatusOf, isErrorCode } from '../../src/errors.js'
import { splitWords } from '../../src/cli/words.js'
import { diskReport, progress, runWords } from '../cli/fixtures.js'
import { codeSpans, fences, prose, readText, section, tableRows } from './text.js'

const CLI = readText('docs/cli.md')
const README = readText('README.md')

/** Long and short options in the help of a command. */
async function optionsInHelp(command: readonly string[]): Promise<string[]> {
  const { stdout } = await runWords([...command, '--help'])
  const lines = stdout.matchAll(/^ {2}(?:(-\w), )?(--[a-z][a-z-]+)/gm)
  return Array.from(lines).flatMap(([, short, long]) => [short, long].filter((name) => name !== undefined))
}

/** Options of the tables in docs/cli.md, with the letters of the commands that take them. */
function documentedOptions(): { name: string; letters: string[] }[] {
  return tableRows(section(CLI, 'Options')).flatMap(([names = '', letters = '']) =>
    codeSpans(names).map((span) => ({ name: span.split(' ')[0] ?? '', letters: letters.split(' ') })),
  )
}

const REPLICATE_COMMANDS = [
  'check-config',
  'run',
  'daemon',
  'status',
  'history',
  'pause',
  'resume',
  'promote',
  'reverse',
  'restore',
  'drill',
]

/** Each option of each command of replicate. */
async function optionsOfReplicate(): Promise<{ command: string; name: string }[]> {
  const all = await Promise.all(
    REPLICATE_COMMANDS.map(async (command) =>
      (await optionsInHelp(['replicate', command])).map((name) => ({ command, name })),
    ),
  )
  return all.flat()
}

describe('docs/cli.md, replicate and check', () => {
  it('has each option of each command, and no others', async () => {
    const rows = tableRows(section(CLI, 'Replicate')).filter(([cell = '']) => /^`--?[a-z]/.test(cell))
    const documented = rows.flatMap(([names = '', of = '']) =>
      codeSpans(names).flatMap((span) =>
        (of === 'all' ? REPLICATE_COMMANDS : codeSpans(of)).map(
          (command) => `${command} ${span.split(' ')[0] ?? ''}`,
        ),
      ),
    )
    const inHelp = (await optionsOfReplicate()).map(({ command, name }) => `${command} ${name}`)
    expect(documented.toSorted()).toEqual(inHelp.toSorted())
  })

  it('has each command', async () => {
    const rows = tableRows(section(CLI, 'Replicate')).filter(([cell = '']) => /^`[a-z]/.test(cell))
    const named = rows.flatMap(([cell = '']) => codeSpans(cell).map((span) => span.split(' ')[0] ?? ''))
    for (const command of REPLICATE_COMMANDS) expect(named).toContain(command)
    const { stdout } = await runWords(['replicate', '--help'])
    for (const command of REPLICATE_COMMANDS) expect(stdout).toMatch(new RegExp(`(replicate|\\|) ${command}`))
  })

  it('has the options of check', async () => {
    const rows = tableRows(section(CLI, 'Check')).filter(([cell = '']) => /^`--?[a-z]/.test(cell))
    const documented = rows.flatMap(([cell = '']) => codeSpans(cell).map((span) => span.split(' ')[0] ?? ''))
    expect(documented.toSorted()).toEqual((await optionsInHelp(['check'])).toSorted())
  })
})

describe('docs/cli.md, options', () => {
  it.each([
    ['s', [] as string[]],
    ['v', ['verify']],
    ['g', ['digest']],
    ['t', ['status']],
    ['u', ['undo']],
    ['d', ['doctor']],
    ['b', ['bwlimit']],
    ['m', ['migrate']],
  ])('has the options of command %s, and no others', async (letter, words) => {
    const documented = documentedOptions().filter(({ letters }) => letters.includes(letter))
    const inHelp = await optionsInHelp(words)
    expect(inHelp).toContain('--help')
    expect(documented.map(({ name }) => name).toSorted()).toEqual(inHelp.toSorted())
  })

  it('is the only place options come from: no document names one that is not there', async () => {
    const ofServe = SERVE_HELP.match(/--[a-z][a-z-]+/g) ?? []
    const known = [
      ...(await optionsInHelp([])),
      ...(await optionsInHelp(['digest'])),
      ...(await optionsInHelp(['migrate'])),
      ...(await optionsOfReplicate()).map(({ name }) => name),
      ...(await optionsInHelp(['check'])),
      ...ofServe,
    ]
    for (const path of ['README.md', 'docs/cli.md', 'CHANGELOG.md', 'docs/architecture.md']) {
      const named = codeSpans(prose(readText(path))).flatMap(
        (span) => /^--[a-z][a-z-]+/.exec(span)?.[0] ?? [],
      )
      expect(named.filter((name) => !known.includes(name) && name !== '--rsync-path')).toEqual([])
    }
  })
})

describe('exit statuses', () => {
  const statuses = Object.values(EXIT).toSorted((a, b) => a - b)

  it('are those of src/errors.ts in docs/cli.md, README.md and --help', async () => {
    const numbers = (text: string): number[] =>
      tableRows(text).flatMap(([cell = '']) => (/^[0-9]/.test(cell) ? cell.split(', ').map(Number) : []))
    expect(numbers(section(CLI, 'Exit status'))).toEqual(statuses)
    expect(numbers(section(README, 'Exit status'))).toEqual(statuses)
    const { stdout } = await runWords(['--help'])
    for (const status of statuses) expect(stdout).toMatch(new RegExp(`^  ${status} |, ${status} by `, 'm'))
  })

  it('are given for each error code', () => {
    const codes = readText('src/errors.ts').matchAll(/^ {2}'?([a-z/-]+)'?: EXIT\.\w+,$/gm)
    const expected = Array.from(codes, (match) => match[1] ?? '').filter(isErrorCode)
    expect(expected.length).toBeGreaterThan(20)
    const rows = tableRows(section(CLI, 'Exit status')).filter(([cell = '']) => cell.startsWith('`'))
    const documented = rows.map(([code = '', status]) => [code.slice(1, -1), Number(status)])
    expect(documented).toEqual(expected.map((code) => [code, exitStatusOf(code)]))
  })
})

describe('docs/cli.md, JSON', () => {
  const examples = [...fences(section(CLI, 'JSON'), 'json'), ...fences(section(CLI, 'Doctor'), 'json')].map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  )
  const [progressExample, resultExample, failureExample] = examples

  async function printed(): Promise<Record<string, unknown>[]> {
    const { stdout } = await runWords(['--json', '/a', 'host2:/a'], {
      engine: ({ hooks }) => {
        hooks.onProgress?.(progress())
        return { disks: [diskReport()], error: null }
      },
    })
    return stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  it('shows a progress event with the fields it has', async () => {
    const [event] = await printed()
    expect(Object.keys(progressExample ?? {})).toEqual(Object.keys(event ?? { none: 0 }))
  })

  it('shows and lists the fields of the result, in order', async () => {
    const result = (await printed()).at(-1) ?? {}
    const fields = Object.keys(result)
    const rows = tableRows(section(CLI, 'JSON'))
    const listed = rows.filter(([cell = '']) => /^`\w+`$/.test(cell)).map(([cell = '']) => cell.slice(1, -1))
    expect(fields).toContain('wireBytesSent')
    expect(Object.keys(resultExample ?? {})).toEqual(fields)
    expect(listed.slice(0, fields.length + 1)).toEqual([...fields, 'error'])
  })

  it('shows and lists the fields of a disk', async () => {
    const { disks } = (await printed()).at(-1) as { disks: Record<string, unknown>[] }
    const fields = Object.keys(disks[0] ?? { none: 0 })
    const { disks: shown } = resultExample as { disks: Record<string, unknown>[] }
    expect(Object.keys(shown[0] ?? {})).toEqual(fields)
    const table = section(CLI, 'JSON').split('| field of a disk |')[1] ?? ''
    const listed = tableRows(table).flatMap(([cell = '']) => codeSpans(cell))
    expect(listed.toSorted()).toEqual(fields.toSorted())
  })

  it('shows a usage error as it is printed', async () => {
    const { stdout } = await runWords(['--json'])
    expect(failureExample).toEqual(JSON.parse(stdout))
  })
})

/** What a command asks for that is no run. */
function missingFor(words: readonly string[]): string | null {
  const [command = ''] = words
  if (command === 'verify' && words.includes('--receipt') && words.length === 4) return 'no receipts'
  return (
    {
      doctor: 'no doctor',
      bwlimit: 'no runs',
      digest: 'no digests',
      status: 'no records',
      undo: 'no undo',
      migrate: 'no migrations',
      replicate: 'no replication',
    }[command] ?? null
  )
}

describe('command lines', () => {
  const lines = [README, CLI].flatMap((text) =>
    fences(text, 'console').flatMap((block) =>
      block.split('\n').filter((line) => line.startsWith('$ blocksync ')),
    ),
  )

  it('README has seven', () => {
    expect(
      fences(README, 'console')
        .join('')
        .match(/^\$ blocksync /gm),
    ).toHaveLength(7)
  })

  it.each(lines.map((line) => line.slice('$ '.length)))('%s is understood', async (line) => {
    const [, ...words] = splitWords('a document', line)
    const { status, stderr, calls } = await runWords(words, words.length > 4 ? { receipts: new Map() } : {})
    const missing = missingFor(words)
    if (words[0] === 'check') {
      expect([status, stderr]).toEqual([3, expect.stringContaining('no replication')])
    } else if (missing !== null) {
      // it came as far as looking for what this test does not have
      expect([status, stderr]).toEqual([EXIT.internal, expect.stringContaining(missing)])
    } else {
      expect([stderr, calls.length]).toEqual(['', 1])
    }
  })

  it('the examples of --help are understood', async () => {
    const { stdout } = await runWords(['--help'])
    const examples = Array.from(
      stdout.matchAll(/^ {2}blocksync (.*?)(?: {2,}.*)?$/gm),
      (match) => match[1] ?? '',
    )
    expect(examples.length).toBeGreaterThan(3)
    for (const example of examples) {
      const { calls } = await runWords(splitWords('--help', example))
      expect(calls, example).toHaveLength(1)
    }
  })
})
