// Progress with clocks made by hand: what is drawn, how often, how wide, and when there is a rate and an ETA.

import { describe, expect, it } from 'vitest'

import { Output } from '../../src/cli/output.js'
import { etaMs, progressLine, ProgressView, RateWindow } from '../../src/cli/progress.js'
import type { ProgressStyle } from '../../src/cli/progress.js'
import { jsonLines, MemoryStream, MIB, progress } from './fixtures.js'

const GIB = 1024 * MIB

const full = progress({
  doneBytes: 421 * GIB,
  totalBytes: 1024 * GIB,
  sentBytes: 3.1 * GIB,
  sameBlocks: 990,
  differentBlocks: 5,
  zeroBlocks: 2,
  skippedBlocks: 3,
})
const rates = { doneBytesPerSecond: 1.86 * GIB, sentBytesPerSecond: 88.2 * MIB }
const none = { doneBytesPerSecond: null, sentBytesPerSecond: null }

function stage(style: ProgressStyle): {
  view: ProgressView
  stdout: MemoryStream
  stderr: MemoryStream
  at: (ms: number) => void
} {
  const stdout = new MemoryStream()
  const stderr = new MemoryStream()
  let nowMs = 1_000_000
  const start = nowMs
  const view = new ProgressView(style, new Output(stdout, stderr), () => nowMs)
  return { view, stdout, stderr, at: (ms) => void (nowMs = start + ms) }
}

describe('the line', () => {
  it('has everything where there is room', () => {
    expect(progressLine(full, rates, 200)).toBe(
      'vm-root  41.1%  421 GiB/1.00 TiB  1.86 GiB/s  sent 3.10 GiB 88.2 MiB/s  diff 0.7%  ETA 0:05:24',
    )
  })

  it.each<[number, string]>([
    [94, 'vm-root  41.1%  421 GiB/1.00 TiB  1.86 GiB/s  sent 3.10 GiB 88.2 MiB/s  diff 0.7%  ETA 0:05:24'],
    [93, 'vm-root  41.1%  421 GiB/1.00 TiB  1.86 GiB/s  sent 3.10 GiB 88.2 MiB/s  ETA 0:05:24'],
    [79, '41.1%  421 GiB/1.00 TiB  1.86 GiB/s  sent 3.10 GiB 88.2 MiB/s  ETA 0:05:24'],
    [60, '41.1%  421 GiB/1.00 TiB  1.86 GiB/s  ETA 0:05:24'],
    [40, '41.1%  1.86 GiB/s  ETA 0:05:24'],
    [20, '41.1%  ETA 0:05:24'],
    [10, '41.1%'],
    [3, '41.'],
    [0, ''],
  ])('fits into %d columns', (columns, text) => {
    expect(progressLine(full, rates, columns)).toBe(text)
    expect(text.length).toBeLessThanOrEqual(columns)
  })

  it('promises nothing before it has measured', () => {
    expect(progressLine(full, none, 200)).toBe('vm-root  41.1%  421 GiB/1.00 TiB  sent 3.10 GiB  diff 0.7%')
    expect(progressLine(full, { doneBytesPerSecond: 0, sentBytesPerSecond: 0 }, 200)).not.toContain('ETA')
    expect(etaMs(full, { doneBytesPerSecond: 1, sentBytesPerSecond: 0 })).toBe(null)
  })

  it('says 100 % and 0 % only where it is so', () => {
    expect(progressLine(progress({ doneBytes: 1024 * MIB - 1 }), none, 200)).toContain('  99.9%')
    expect(progressLine(progress({ doneBytes: 1024 * MIB }), none, 200)).toContain('  100.0%')
    expect(progressLine(progress({ doneBytes: 1 }), none, 200)).toContain('  0.1%')
    expect(progressLine(progress(), none, 200)).toContain('  0.0%')
    expect(progressLine(progress({ totalBytes: 0 }), none, 200)).toContain('  100.0%')
  })

  it('numbers several disks and cuts long names', () => {
    const line = progressLine(
      progress({ diskIndex: 1, diskCount: 3, source: `h:/x/${'n'.repeat(60)}` }),
      none,
      200,
    )
    expect(line).toMatch(/^2\/3 n{21}\.\.\. {2}0\.0%/)
  })

  it('counts what may be two columns wide as two', () => {
    const wide = progress({ source: '/dev/磁碟磁碟磁碟' })
    expect(progressLine(wide, none, 41)).not.toContain('磁')
    expect(progressLine(wide, none, 42)).toContain('磁')
  })
})

describe('rates', () => {
  it('come after a second, over ten seconds', () => {
    const window = new RateWindow()
    expect(window.add(0, 0, 0).doneBytesPerSecond).toBe(null)
    expect(window.add(999, 1000, 0).doneBytesPerSecond).toBe(null)
    expect(window.add(1000, 1000, 500)).toEqual({ doneBytesPerSecond: 1000, sentBytesPerSecond: 500 })
    let last = window.add(1000, 1000, 500)
    for (let ms = 1200; ms <= 20_000; ms += 200) last = window.add(ms, 1000, 500)
    expect(last).toEqual({ doneBytesPerSecond: 0, sentBytesPerSecond: 0 })
  })

  it('follow a change within the window', () => {
    const window = new RateWindow()
    let last = window.add(0, 0, 0)
    for (let ms = 100; ms <= 60_000; ms += 100)
      last = window.add(ms, ms < 30_000 ? ms * 10 : 300_000 + (ms - 30_000), 0)
    expect(last.doneBytesPerSecond).toBeCloseTo(1000, 6)
  })

  it('do not fall below nothing where a total goes back', () => {
    const window = new RateWindow()
    window.add(0, 5000, 0)
    expect(window.add(2000, 0, 0).doneBytesPerSecond).toBe(0)
  })
})

describe('when it is shown', () => {
  it('redraws at most five times a second and leaves nothing behind', () => {
    const { view, stderr, stdout, at } = stage('redraw')
    for (let ms = 0; ms < 2000; ms += 10) {
      at(ms)
      view.update(progress({ doneBytes: ms * MIB }))
    }
    const draws = stderr.text.split('\r\u001b[K').slice(1)
    expect(draws).toHaveLength(10)
    for (const draw of draws) expect(draw.length).toBeLessThan(stderr.columns)
    view.end()
    expect(stderr.text.endsWith('\r\u001b[K')).toBe(true)
    view.end()
    expect(stderr.text.split('\r\u001b[K')).toHaveLength(12)
    expect(stdout.text).toBe('')
  })

  it('takes a terminal that does not know its width for an ordinary one', () => {
    const { view, stderr } = stage('redraw')
    stderr.columns = 0
    view.update(progress({ doneBytes: MIB }))
    expect(stderr.text).toBe('\r\u001b[Kvm-root  0.1%  1.00 MiB/1.00 GiB  sent 0 B')
  })

  it('takes the line away before other text comes', () => {
    const stdout = new MemoryStream()
    const stderr = new MemoryStream()
    const output = new Output(stdout, stderr)
    output.status('42 %')
    output.note('a warning')
    output.status('43 %')
    output.line('a result')
    expect(stderr.text).toBe('\r\u001b[K42 %\r\u001b[Ka warning\n\r\u001b[K43 %\r\u001b[K')
    expect(stdout.text).toBe('a result\n')
  })

  it('prints a line every 30 seconds, the first after 30', () => {
    const { view, stderr, at } = stage('lines')
    for (let ms = 0; ms <= 95_000; ms += 500) {
      at(ms)
      view.update(progress({ doneBytes: ms * 1024 }))
    }
    const lines = stderr.text.trimEnd().split('\n')
    expect(lines).toHaveLength(3)
    expect(lines[0]).toMatch(/^vm-root {2}2\.8% .* ETA /)
    expect(stderr.text).not.toContain('\u001b')
  })

  it('emits an event a second and one at the end of each disk', () => {
    const { view, stdout, stderr, at } = stage('json')
    const total = 1024 * MIB
    for (let ms = 0; ms <= 3100; ms += 50) {
      at(ms)
      view.update(
        progress({ doneBytes: Math.floor((total * ms) / 3100), diskCount: 2, elapsedMs: ms + 0.25 }),
      )
    }
    view.update(progress({ doneBytes: total, diskCount: 2 }))
    at(3150)
    view.update(progress({ doneBytes: total, diskCount: 2, diskIndex: 1 }))
    const events = jsonLines(stdout.text)
    const atTwoSeconds = Math.floor((total * 2000) / 3100)
    expect(events.map(({ elapsedMs, disk }) => [elapsedMs, disk])).toEqual([
      [0, 1],
      [1000, 1],
      [2000, 1],
      [3000, 1],
      [3100, 1],
      [0, 2],
    ])
    expect(events[2]).toEqual({
      event: 'progress',
      disk: 1,
      disks: 2,
      source: '/dev/vg/vm-root',
      destination: 'host2:/dev/vg/vm-root',
      doneBytes: atTwoSeconds,
      totalBytes: total,
      sentBytes: 0,
      sameBlocks: 0,
      differentBlocks: 0,
      zeroBlocks: 0,
      skippedBlocks: 0,
      totalBlocks: 1024,
      elapsedMs: 2000,
      bytesPerSecond: Math.round(atTwoSeconds / 2),
      sentBytesPerSecond: 0,
      etaMs: 1100,
    })
    expect(events[0]).toMatchObject({ bytesPerSecond: null, etaMs: null })
    expect(stderr.text).toBe('')
  })

  it('shows nothing where nothing is wanted', () => {
    const { view, stdout, stderr } = stage('none')
    view.update(full)
    view.end()
    expect(stdout.text + stderr.text).toBe('')
  })
})
