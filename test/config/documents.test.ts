// Every configuration in the documents is loaded; the tables name every key and no other; the JSON Schema is that of the reader.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { fromJSONSchema } from 'zod'

import { jsonSchema } from '../../src/config/json-schema.js'
import { loadConfig } from '../../src/config/load.js'
import { schemasOf } from '../../src/config/schema.js'
import { codeSpans, documents, fences, readText, ROOT, section, tableRows } from '../docs/text.js'
import { configOf, PARSERS, TemporaryDirectory } from './support.js'

const EXAMPLES = join(ROOT, 'docs', 'examples', 'replicate')
const DOCUMENT = readText('docs/replicate-config.md')
const SCHEMA = join(ROOT, 'docs', 'replicate.schema.json')

const files = readdirSync(EXAMPLES)
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => [name, readFileSync(join(EXAMPLES, name), 'utf8')] as const)
/** Those of replicate-config.md are whole; elsewhere a part may be shown, and YAML that is no configuration. */
const blocks = documents().flatMap((path) =>
  fences(readText(path), 'yaml').flatMap((text, index) => {
    const isPart =
      /^(?:metrics|notify|defaults|max_parallel|bwlimit|state_dir):/m.test(text) && !/^jobs:/m.test(text)
    if (path !== 'docs/replicate-config.md' && !isPart && !/^jobs:/m.test(text)) return []
    return [[`${path}, block ${index + 1}`, isPart ? `${text}jobs: {}\n` : text] as const]
  }),
)
const schemas = schemasOf(PARSERS)

/** Names in the first column of the section's own table. */
function keysIn(title: string): string[] {
  return tableRows(section(DOCUMENT, title).split(/^###/m)[0] ?? '').flatMap(([cell = '']) => codeSpans(cell))
}

describe('configurations in the documents', () => {
  it('are there', () => {
    expect(files.length).toBeGreaterThanOrEqual(5)
    expect(blocks.length).toBeGreaterThanOrEqual(5)
  })

  it.each(files)('%s is loaded', async (name, text) => {
    using directory = new TemporaryDirectory()
    const { jobs } = await loadConfig({ paths: [directory.put(name, text)] }, PARSERS)
    expect(jobs.length).toBeGreaterThan(0)
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\.\/\.\.\/replicate\.schema\.json\n# \S/)
  })

  it.each(blocks)('%s is loaded', (_name, text) => {
    expect(configOf(text).files).toEqual(['a.yaml'])
  })

  it('has an example with every key', () => {
    const text = readFileSync(join(EXAMPLES, 'every-key.yaml'), 'utf8')
    const own = Object.keys(schemas.job.shape)
    expect(own.filter((key) => !new RegExp(`^ *-? ?${key}:`, 'm').test(text))).toEqual([])
  })
})

describe('docs/replicate-config.md', () => {
  it('lists the keys of the main file', () => {
    const shape = Object.keys(schemas.main.shape).flatMap((key) =>
      key === 'metrics' ? ['metrics.textfile', 'metrics.listen'] : [key],
    )
    expect(keysIn('Keys of the main file').toSorted()).toEqual(shape.toSorted())
  })

  it('lists the keys and options of a job', () => {
    const options = PARSERS.jobOptions.map(({ name }) => name)
    const own = Object.keys(schemas.job.shape)
      .filter((key) => !options.includes(key))
      .flatMap((key) => (key === 'lag' ? ['lag.warning', 'lag.critical'] : [key]))
    expect(keysIn('Keys of a job').toSorted()).toEqual(own.toSorted())
    expect(keysIn('Options of a sync').toSorted()).toEqual(options.toSorted())
  })

  it('has examples of options that are understood', () => {
    const examples = tableRows(section(DOCUMENT, 'Options of a sync')).map(
      ([, cell = '']) => codeSpans(cell)[0] ?? '',
    )
    for (const example of examples.slice(1))
      expect(
        configOf(`jobs: {j: {source: /a, destination: "b:/c"}}\ndefaults:\n  ${example}`).jobs,
      ).toHaveLength(1)
  })
})

describe('docs/replicate.schema.json', () => {
  it('is what the reader has (BLOCKSYNC_UPDATE_SCHEMA=1 writes it)', () => {
    const schema = jsonSchema(PARSERS)
    if (process.env['BLOCKSYNC_UPDATE_SCHEMA'] === '1')
      writeFileSync(SCHEMA, `${JSON.stringify(schema, null, 2)}\n`)
    expect(JSON.parse(readFileSync(SCHEMA, 'utf8'))).toEqual(JSON.parse(JSON.stringify(schema)))
  })

  const checked = fromJSONSchema(
    JSON.parse(readFileSync(SCHEMA, 'utf8')) as Parameters<typeof fromJSONSchema>[0],
  )

  it.each([...files, ...blocks])('takes %s', (_name, text) => {
    expect(checked.safeParse(parse(text)).error?.issues ?? []).toEqual([])
  })

  it.each([
    'jobs: { a: { source: /a, destination: "b:/a", bwlimt: 1M } }',
    'jobs: { a: { source: /a, destination: "b:/a", compress: zst } }',
    'jobs: { a: { source: /a, destination: "b:/a", keep: { last: 0 } } }',
    'jobs: { .a: { source: /a, destination: "b:/a" } }',
    'max_parallel: many',
    'defaults: { disks: [] }',
  ])('refuses %s', (text) => {
    expect(checked.safeParse(parse(text)).success).toBe(false)
  })
})
