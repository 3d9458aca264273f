// Every document's relative links lead to a file or a heading that is there; docs/architecture.md lists the files that
// are there and limits with the values they have.

import { existsSync, readdirSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

import { describe, expect, it } from 'vitest'

import { codeSpans, documents, prose, readText, ROOT, section, tableRows } from './text.js'

/** Targets of links, without those to other hosts. */
function relativeLinks(text: string): string[] {
  const targets = Array.from(prose(text).matchAll(/\]\(([^)\s]+)\)/g), (match) => match[1] ?? '')
  return targets.filter((target) => !/^[a-z]+:/.test(target))
}

/** The name that a heading gets as a link's target. */
function anchors(text: string): string[] {
  const headings = Array.from(prose(text).matchAll(/^#+ (.*)$/gm), (match) => match[1] ?? '')
  return headings.map((words) =>
    words
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

describe('links', () => {
  it.each(documents())('of %s lead somewhere', (path) => {
    const broken = relativeLinks(readText(path)).filter((target) => {
      const [file = '', anchor] = target.split('#')
      const to = file === '' ? path : normalize(join(dirname(path), file))
      if (!existsSync(join(ROOT, to))) return true
      return anchor !== undefined && !anchors(readText(to)).includes(anchor)
    })
    expect(broken).toEqual([])
  })

  it('README leads to every document about the whole', () => {
    const named = [
      'docs/cli.md',
      'docs/architecture.md',
      'docs/protocol.md',
      'docs/benchmarks.md',
      'CHANGELOG.md',
      'LICENSE',
    ]
    expect(relativeLinks(readText('README.md'))).toEqual(expect.arrayContaining(named))
  })
})

describe('docs/architecture.md', () => {
  const text = readText('docs/architecture.md')

  it('lists the files of src and native, each once', () => {
    const listed = tableRows(section(text, 'Files')).flatMap(([cell = '']) => codeSpans(cell))
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    const native = readdirSync(join(ROOT, 'native'))
    const there = [
      ...sources.filter((path) => path.endsWith('.ts')).map((path) => join('src', path)),
      ...native.filter((path) => /\.(c|h|js)$/.test(path)).map((path) => join('native', path)),
    ]
    expect(there.length).toBeGreaterThan(50)
    expect(listed.toSorted()).toEqual(there.toSorted())
  })

  it('names limits that are there, with the values they have', () => {
    const rows = tableRows(section(text, 'Bounds'))
    expect(rows.length).toBeGreaterThan(15)
    for (const [name = '', file = '', bound = ''] of rows) {
      const [constant = ''] = codeSpans(name)
      const [path = ''] = codeSpans(file)
      const definition = new RegExp(`(?:const|#define) ${constant}\\b(?: =)? (.+)`).exec(readText(path))?.[1]
      expect(definition, `${constant} in ${path}`).toBeDefined()
      expect([constant, valuesIn(bound)]).toEqual([
        constant,
        expect.arrayContaining([valueOf(definition ?? '')]),
      ])
    }
  })

  it('names files and folders that are there', () => {
    const paths = codeSpans(prose(text)).filter((span) => /^(src|test|native|bench)\/[\w./-]+$/.test(span))
    expect(paths.length).toBeGreaterThan(50)
    const generic = paths.filter((path) => !path.includes('NAME'))
    expect(generic.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })
})

/** `16 << 20`, `4 * WINDOW_BYTES`, `30_000`... as a number; null where it is made of other constants that are not known here. */
function valueOf(definition: string): number | null {
  const plain = definition
    .replaceAll(/\(\(?(?:size_t|uint64_t)\)?/g, '')
    .replaceAll(/[()]/g, '')
    .replace('WINDOW_BYTES', String(16 << 20))
    .replace('DIRECT_CHUNK_BYTES + SLACK_BYTES', String(1 << 20))
    .replaceAll('_', '')
    .trim()
  const product = /^(\d+)(?: (<<|\*) (\d+))?$/.exec(plain)
  if (product === null) return null
  const [, left = '', sign, right = '1'] = product
  return sign === '<<' ? Number(left) * 2 ** Number(right) : Number(left) * Number(right)
}

/** Every number of a sentence, with its unit taken into account. */
function valuesIn(sentence: string): number[] {
  const units: Record<string, number> = { KiB: 1024, MiB: 1024 ** 2, s: 1000 }
  const numbers = sentence.matchAll(/(\d+)(?: (KiB|MiB|s)\b)?/g)
  return Array.from(
    numbers,
    ([, digits, unit]) => Number(digits) * (unit === undefined ? 1 : (units[unit] ?? 1)),
  )
}
