// Files that must be refused, each with the lines that it has to be refused with (test/config/refused/*.yaml and .txt).

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { configLines } from '../../src/config/problems.js'
import { readConfig } from '../../src/config/read.js'
import { configOf, linesOf, PARSERS, refusalOf } from './support.js'

const REFUSED = join(import.meta.dirname, 'refused')
const names = readdirSync(REFUSED)
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => name.slice(0, -'.yaml'.length))

function read(name: string): () => unknown {
  const text = readFileSync(join(REFUSED, `${name}.yaml`), 'utf8')
  return () => readConfig([{ file: `${name}.yaml`, text }], PARSERS)
}

describe('refused configurations', () => {
  it('are many, and none is without its lines', () => {
    expect(names.length).toBeGreaterThan(25)
    expect(names.filter((name) => !existsSync(join(REFUSED, `${name}.txt`)))).toEqual([])
  })

  it.each(names)('%s.yaml (BLOCKSYNC_UPDATE_REFUSED=1 writes the lines: read them)', (name) => {
    const error = refusalOf(read(name))
    expect([error.code, error.exitStatus, error.operand]).toEqual(['config/invalid', 2, `${name}.yaml`])
    expect(error.message).toContain('nothing was started')
    const lines = configLines(error)
    const place = new RegExp(`^${name}\\.yaml:[1-9]\\d*:[1-9]\\d*: \\S`)
    for (const line of lines) expect(line).toMatch(place)
    const path = join(REFUSED, `${name}.txt`)
    if (process.env['BLOCKSYNC_UPDATE_REFUSED'] === '1') writeFileSync(path, `${lines.join('\n')}\n`)
    expect(lines).toEqual(readFileSync(path, 'utf8').trimEnd().split('\n'))
  })
})

describe('the error of several problems', () => {
  it('has the first one, their number, and each on a line of its own', () => {
    const error = refusalOf(() => configOf('max_paralel: 1\njobs: { a: {} }\n'))
    expect(error.message.split('\n')).toEqual([
      'a.yaml:1:1: max_paralel: unknown key; did you mean max_parallel?; nothing was started (the first of 2 problems)',
      'a.yaml:2:12: jobs.a: there are no disks; write source and destination, or disks',
    ])
    expect(error.hint).toContain('check-config')
  })

  it('is bounded', () => {
    const jobs = Array.from({ length: 500 }, (_, index) => `  j${index}: {}`)
    const lines = linesOf(() => configOf(`jobs:\n${jobs.join('\n')}\n`))
    expect([lines.length, lines.at(-1)]).toEqual([201, 'and 300 more'])
  })

  it('is of all files', () => {
    const lines = linesOf(() => configOf('jobs: { a: {} }\n', 'jobs: { b: { sorce: /a } }\n'))
    expect(lines.map((line) => line.split(':')[0])).toEqual(['a.yaml', 'b.yaml'])
  })
})
