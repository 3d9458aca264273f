// The metrics as Prometheus reads them, their file, and their table in the documents.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { METRICS, metricsText } from '../../src/daemon/metrics.js'
import { openTextfile } from '../../src/daemon/textfile.js'
import { codeSpans, readText, section, tableRows } from '../docs/text.js'
import { ago, attempt, jobStatusOf, logTo, shown } from './shown.js'
import type { LogLine, Shown } from './shown.js'

const LABEL = /(?:\\\\|\\"|\\n|[^\\"\n])*/.source
/** A line of the text format: a name, labels whose values are escaped, a number. */
const SAMPLE = new RegExp(`^([a-z_]+)(?:\\{((?:[a-z]+="${LABEL}",?)+)\\})? (-?[0-9.e+]+)$`)

async function textOf(view: Shown): Promise<string> {
  return metricsText(await view.metrics())
}

/** Value by `name{labels}`; fails on a line that is not of the format, or before its HELP and TYPE. */
function parse(text: string): Map<string, number> {
  const values = new Map<string, number>()
  let name = ''
  const types = new Set<string>()
  for (const line of text.split('\n').slice(0, -1)) {
    const [, type] = /^# TYPE ([a-z_]+) (?:gauge|counter)$/.exec(line) ?? []
    if (type !== undefined) {
      expect(type).toBe(name)
      expect(types.has(type)).toBe(false)
      types.add(type)
    } else if (line.startsWith('# HELP ')) {
      name = line.split(' ')[2] ?? ''
    } else {
      const [, own, labels = '', value] = SAMPLE.exec(line) ?? []
      expect([line, own]).toEqual([line, name])
      expect(types).toContain(own)
      const key = labels === '' ? name : `${name}{${labels}}`
      expect(values.has(key)).toBe(false)
      values.set(key, Number(value))
    }
  }
  return values
}

describe('the text', () => {
  it('has what is known of each job and of the daemon', async () => {
    const progress = { doneBytes: 5, totalBytes: 9, sentBytes: 4 }
    const view = shown(
      jobStatusOf({ atRiskBytes: 77 }),
      jobStatusOf({
        name: 'db',
        state: 'running',
        progress,
        last: attempt({ outcome: 'failed', durationMs: 1500 }),
        lastError: { code: 'destination/no-space', message: 'full' },
      }),
    )
    const text = await textOf(view)
    expect(text.endsWith('\n')).toBe(true)
    const values = parse(text)
    const of = (name: string): number | undefined => values.get(`blocksync_replicate_${name}`)
    expect(of('lag_seconds{job="web01"}')).toBe(68)
    expect(of('taken_timestamp_seconds{job="web01"}')).toBe(Date.parse(ago(68)) / 1000)
    expect(of('last_success_timestamp_seconds{job="web01"}')).toBe(Date.parse(ago(61)) / 1000)
    expect(of('generation{job="web01"}')).toBe(17)
    expect(of('attempts_total{job="web01"}')).toBe(19)
    expect(of('failures_total{job="web01"}')).toBe(2)
    expect(of('skipped_total{job="web01"}')).toBe(1)
    expect(of('sent_bytes_total{job="web01"}')).toBe(900 << 20)
    expect(of('at_risk_bytes{job="web01"}')).toBe(77)
    expect(of('at_risk_bytes{job="db"}')).toBeUndefined()
    expect(of('in_progress_bytes{job="web01"}')).toBe(0)
    expect(of('in_progress_bytes{job="db"}')).toBe(5)
    expect(of('last_attempt_ok{job="web01"}')).toBe(1)
    expect(of('last_attempt_ok{job="db"}')).toBe(0)
    expect(of('last_attempt_duration_seconds{job="db"}')).toBe(1.5)
    expect(of('state{job="db",state="running"}')).toBe(1)
    expect(of('state{job="db",state="idle"}')).toBe(0)
    expect(of('last_error{job="db",code="destination/no-space"}')).toBe(1)
    expect(Array.from(values.keys()).filter((name) => name.includes('last_error{'))).toHaveLength(1)
    expect(of('jobs')).toBe(2)
    expect(of('clock_steps_total')).toBe(0)
    expect(of('config_reload_ok')).toBe(1)
    expect(values.get('blocksync_build_info{version="0.1.0"}')).toBe(1)
  })

  it('has no sample of what is not known, also of a job that never ran', async () => {
    const view = shown(
      jobStatusOf({
        generation: null,
        lagSeconds: null,
        takenAt: null,
        lastSuccess: null,
        last: null,
        nextRun: null,
      }),
    )
    view.facts = { ...view.facts, isConfigReloadOk: false }
    const values = parse(await textOf(view))
    expect(Array.from(values.keys()).join()).not.toMatch(
      /lag_seconds|generation|success|last_attempt|next_run/,
    )
    expect(values.get('blocksync_replicate_attempts_total{job="web01"}')).toBe(19)
    expect(values.get('blocksync_replicate_config_reload_ok')).toBe(0)
    expect(parse(await textOf(shown())).get('blocksync_replicate_jobs')).toBe(0)
  })

  it('keeps a label together, whatever is in it', async () => {
    const name = 'a"b\\c\nd{e}'
    const values = parse(await textOf(shown(jobStatusOf({ name }))))
    expect(values.get('blocksync_replicate_lag_seconds{job="a\\"b\\\\c\\nd{e}"}')).toBe(68)
  })

  it('is what the documents say', () => {
    const rows = tableRows(section(readText('docs/replicate-operations.md'), 'Metrics'))
    const documented = rows.map(([name = '', type = '']) => [codeSpans(name)[0], type])
    expect(documented).toEqual(METRICS.map(({ name, type }) => [name, type]))
    const examples = readText('docs/replicate-operations.md').match(/blocksync_[a-z_]+/g) ?? []
    expect(examples.filter((name) => !METRICS.some((metric) => metric.name === name))).toEqual([])
  })
})

describe('the textfile', () => {
  let directory: string
  let lines: LogLine[]
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'blocksync-textfile-'))
    lines = []
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  it('is written at once and whenever it is asked for, whole, for everybody to read, and stays', async () => {
    const path = join(directory, 'blocksync.prom')
    const view = shown(jobStatusOf())
    const umask = process.umask(0o077)
    try {
      await using file = openTextfile(path, view, logTo(lines))
      await file.write()
      expect(readFileSync(path, 'utf8')).toBe(await textOf(view))
      expect(statSync(path).mode & 0o777).toBe(0o644)
      view.jobs = [jobStatusOf({ lagSeconds: 4 })]
      await file.write()
      expect(readFileSync(path, 'utf8')).toContain('lag_seconds{job="web01"} 4\n')
    } finally {
      process.umask(umask)
    }
    expect(readdirSync(directory)).toEqual(['blocksync.prom'])
    expect(view.listeners.size).toBe(0)
    expect(lines).toEqual([])
  })

  it('is written once for many changes, and the last one is in it', async () => {
    const path = join(directory, 'blocksync.prom')
    const view = shown(jobStatusOf())
    let asked = 0
    const metrics = view.metrics.bind(view)
    view.metrics = () => {
      asked++
      return metrics()
    }
    {
      await using file = openTextfile(path, view, logTo(lines))
      await file.write()
      for (let lagSeconds = 0; lagSeconds < 500; lagSeconds++) {
        view.jobs = [jobStatusOf({ lagSeconds })]
        view.changed()
        if (lagSeconds % 50 === 0) await metrics()
      }
    }
    expect(readFileSync(path, 'utf8')).toContain('lag_seconds{job="web01"} 499\n')
    expect(asked).toBeLessThanOrEqual(4)
  })

  it('is written a second after the last time, when something changed meanwhile', async () => {
    const path = join(directory, 'blocksync.prom')
    const view = shown(jobStatusOf())
    await using file = openTextfile(path, view, logTo(lines))
    await file.write()
    const written = new Promise<void>((resolve) => {
      const metrics = view.metrics.bind(view)
      view.metrics = () => {
        resolve()
        return metrics()
      }
    })
    view.jobs = [jobStatusOf({ lagSeconds: 7 })]
    view.changed()
    await written
    await file.write()
    expect(readFileSync(path, 'utf8')).toContain('lag_seconds{job="web01"} 7\n')
  })

  it('warns once while its directory is missing, and again only after it was there', async () => {
    const missing = join(directory, 'collector')
    const path = join(missing, 'blocksync.prom')
    await using file = openTextfile(path, shown(jobStatusOf()), logTo(lines))
    for (let turn = 0; turn < 3; turn++) await file.write()
    expect(lines).toEqual([
      {
        level: 'warning',
        job: null,
        message: `the metrics were not written to ${path}: the directory ${missing} is not there`,
      },
    ])
    mkdirSync(missing)
    await file.write()
    expect(existsSync(path)).toBe(true)
    expect(lines).toHaveLength(1)
    rmSync(missing, { recursive: true })
    await file.write()
    expect(lines).toHaveLength(2)
  })

  it('leaves nothing beside it when it cannot be renamed into its place', async () => {
    const path = join(directory, 'blocksync.prom')
    mkdirSync(join(path, 'in-the-way'), { recursive: true })
    chmodSync(path, 0o755)
    await using file = openTextfile(path, shown(jobStatusOf()), logTo(lines))
    await file.write()
    expect(lines).toHaveLength(1)
    expect(readdirSync(directory)).toEqual(['blocksync.prom'])
  })
})
