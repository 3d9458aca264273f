// Pair records on disk: whole or not at all, strictly read, bounded in number; broken ones are set aside and said.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { buildSync } from 'esbuild'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { MAX_STATE_FILE_BYTES } from '../../src/state/atomic-file.js'
import {
  diskKey,
  forgetWritten,
  loadAllRecords,
  loadRecords,
  MAX_PAIRS,
  parseRecord,
  saveRecord,
} from '../../src/state/disk-records.js'
import { RecordError } from '../../src/state/fields.js'
import { BY, end, finishedRun, OTHER_PAIR_ID, PAIR_ID, pairRecord } from './fixtures.js'

let state = ''
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'blocksync-records-'))
})
afterEach(() => rmSync(state, { recursive: true, force: true }))

const disk = pairRecord().disk.stable
const directory = (): string => join(state, 'disks', diskKey(disk))
const file = (): string => join(directory(), `${PAIR_ID}.json`)

function numbered(number: number): string {
  return `${String(number).padStart(8, '0')}-89ab-4cde-8f01-23456789abcd`
}

describe('pair records', () => {
  it('come back as they were written, private to their owner', async () => {
    const running = { runId: OTHER_PAIR_ID, since: '2026-11-21T01:02:03.004Z', by: BY, process: 'b 1 2' }
    const record = pairRecord({ running })
    await saveRecord(state, record)
    expect(await loadRecords(state, disk)).toEqual({ records: [record], problems: [] })
    expect(await loadAllRecords(state)).toEqual({ records: [record], problems: [] })
    expect(readdirSync(directory())).toEqual([`${PAIR_ID}.json`])
    expect(JSON.parse(readFileSync(file(), 'utf8'))).toMatchObject({ version: 1, pairId: PAIR_ID })
  })

  it('are none where there is nothing', async () => {
    expect(await loadRecords(join(state, 'none'), disk)).toEqual({ records: [], problems: [] })
    expect(await loadAllRecords(join(state, 'none'))).toEqual({ records: [], problems: [] })
  })

  it('take the place of those they replace', async () => {
    await saveRecord(state, pairRecord({ pairId: OTHER_PAIR_ID }))
    await saveRecord(state, pairRecord(), [OTHER_PAIR_ID, PAIR_ID])
    expect((await loadRecords(state, disk)).records.map(({ pairId }) => pairId)).toEqual([PAIR_ID])
  })

  it('are forgotten where what they tell of was undone: the newest, and those since then', async () => {
    const written = (pairId: string, finishedAt: string): ReturnType<typeof pairRecord> =>
      pairRecord({ pairId, role: 'destination', finished: finishedRun({ finishedAt }) })
    const left = async (): Promise<string[]> =>
      (await loadRecords(state, disk)).records.map(({ pairId }) => pairId).toSorted()
    expect(await forgetWritten(state, disk, '2026-11-20T00:00:00.000Z')).toBe(0)
    await saveRecord(state, pairRecord())
    for (const day of [18, 19, 20])
      await saveRecord(state, written(numbered(day), `2026-11-${day}T12:00:00.000Z`))
    expect(await forgetWritten(state, disk, '2026-11-20T13:00:00.000Z')).toBe(1)
    expect(await left()).toEqual([numbered(18), numbered(19), PAIR_ID])
    expect(await forgetWritten(state, disk, '2026-11-18T00:00:00.000Z')).toBe(2)
    expect(await left()).toEqual([PAIR_ID])
  })

  it('are at most 64 of a disk: the one that was used longest ago goes', async () => {
    for (let number = 0; number <= MAX_PAIRS; number++) {
      const minute = String(number % 60).padStart(2, '0')
      const finishedAt = `2026-11-20T${String(10 + Math.floor(number / 60))}:${minute}:00.000Z`
      await saveRecord(state, pairRecord({ pairId: numbered(number), finished: finishedRun({ finishedAt }) }))
    }
    const { records } = await loadRecords(state, disk)
    expect(records).toHaveLength(MAX_PAIRS)
    expect(records[0]?.pairId).toBe(numbered(MAX_PAIRS))
    expect(records.some(({ pairId }) => pairId === numbered(0))).toBe(false)
  })

  const broken: [name: string, text: string, why: RegExp][] = [
    ['is empty', '', /not JSON/],
    ['is cut off', JSON.stringify({ version: 1, ...pairRecord() }).slice(0, 300), /not JSON/],
    ['is a list', '[]', /no version/],
    ['has no version', JSON.stringify(pairRecord()), /no version/],
    [
      'is of another pair',
      JSON.stringify({ version: 1, ...pairRecord({ pairId: OTHER_PAIR_ID }) }),
      /another pair/,
    ],
    [
      'is of another disk',
      JSON.stringify({ version: 1, ...pairRecord({ disk: end('host1', '/x') }) }),
      /another pair/,
    ],
    ['is too long', ' '.repeat(MAX_STATE_FILE_BYTES + 1), /more than/],
  ]
  it.each(broken)('one that %s is set aside and said', async (_, text, why) => {
    mkdirSync(directory(), { recursive: true })
    writeFileSync(file(), text)
    const { records, problems } = await loadRecords(state, disk)
    expect(records).toEqual([])
    expect(problems).toEqual([expect.stringMatching(why)])
    expect(problems[0]).toContain(`${PAIR_ID}.json.broken-1 now`)
    expect(readdirSync(directory())).toEqual([`${PAIR_ID}.json.broken-1`])
    // and is not said again
    expect((await loadRecords(state, disk)).problems).toEqual([])
  })

  it('a link and a fifo are not followed', async () => {
    mkdirSync(directory(), { recursive: true })
    const elsewhere = join(state, 'elsewhere')
    writeFileSync(elsewhere, JSON.stringify({ version: 1, ...pairRecord() }))
    symlinkSync(elsewhere, file())
    expect((await loadRecords(state, disk)).problems).toEqual([expect.stringContaining('symbolic link')])
  })

  it('one of a later version stays where it is and is said', async () => {
    mkdirSync(directory(), { recursive: true })
    writeFileSync(file(), JSON.stringify({ version: 2, other: true }))
    expect((await loadRecords(state, disk)).problems).toEqual([expect.stringContaining('later blocksync')])
    expect(readdirSync(directory())).toEqual([`${PAIR_ID}.json`])
  })

  it.each([
    ['role', 'both'],
    ['pairId', '../../etc/passwd'],
    ['generation', -1],
    ['generation', 1.5],
    ['generation', 1e300],
    ['disk', null],
    ['peer', { stable: { machineId: 'x', hostName: 'h', names: [] }, path: '/' }],
    ['peer', { ...end('host2', '/x'), path: 'x'.repeat(4097) }],
    ['finished', {}],
    ['finished', { ...finishedRun(), root: 'AB' }],
    ['finished', { ...finishedRun(), finishedAt: 'yesterday' }],
    ['finished', { ...finishedRun(), algorithm: 'md5' }],
    ['running', { runId: PAIR_ID }],
  ])('refuses %s %j', (field, value) => {
    const text = JSON.stringify({ version: 1, ...pairRecord(), [field]: value })
    expect(() => parseRecord(text)).toThrow(RecordError)
  })

  it('text in them is made harmless', () => {
    const text = JSON.stringify({
      version: 1,
      ...pairRecord({ peer: { ...end('host2', '/x'), path: '/a\u001b[2J' } }),
    })
    expect(parseRecord(text).peer.path).toBe('/a?[2J')
  })

  it('tidies up what a killed process left, and not what one is writing', async () => {
    await saveRecord(state, pairRecord())
    const old = join(directory(), '.new-1-aaaa')
    const young = join(directory(), '.new-2-bbbb')
    writeFileSync(old, 'half')
    writeFileSync(young, 'half')
    utimesSync(old, new Date(0), new Date(0))
    await saveRecord(state, pairRecord())
    expect(readdirSync(directory()).toSorted()).toEqual(['.new-2-bbbb', `${PAIR_ID}.json`])
  })

  it('a directory that cannot be written leaves the record as it was', async () => {
    await saveRecord(state, pairRecord())
    const before = readFileSync(file(), 'utf8')
    // a file where the directory should be: fails for root too
    mkdirSync(join(state, 'other', 'disks'), { recursive: true })
    writeFileSync(join(state, 'other', 'disks', diskKey(disk)), '')
    await expect(saveRecord(join(state, 'other'), pairRecord())).rejects.toThrow(/EEXIST|ENOTDIR/)
    expect(readFileSync(file(), 'utf8')).toBe(before)
  })

  it('survives kill -9 at any instant: always one whole record', async () => {
    await saveRecord(state, pairRecord({ generation: 0 }))
    const script = join(state, 'save.mjs')
    const entry = join(import.meta.dirname, '..', '..', 'src', 'state', 'disk-records.ts')
    buildSync({
      entryPoints: [entry],
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      outfile: script,
    })
    const loop = `
      import { saveRecord } from ${JSON.stringify(script)}
      const record = ${JSON.stringify(pairRecord())}
      for (let generation = 1; ; generation++) {
        await saveRecord(${JSON.stringify(state)}, { ...record, generation })
        if (generation === 3) console.log('under way')
      }`
    const generations = new Set<number>()
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', loop], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      // more writes, a different number each time, none of which is waited for
      for (let turn = 0; turn < round * 200; turn++) await new Promise((resolve) => setImmediate(resolve))
      child.kill('SIGKILL')
      await once(child, 'exit')
      const { records, problems } = await loadRecords(state, disk)
      expect(problems).toEqual([])
      expect(records).toHaveLength(1)
      generations.add(records[0]?.generation ?? 0)
    }
    expect(Math.max(...generations)).toBeGreaterThanOrEqual(3)
  })
})
