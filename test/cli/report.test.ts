// Reports as golden texts, and the shape of the JSON result.

import { describe, expect, it } from 'vitest'

import { errorLines } from '../../src/cli/output.js'
import { lastLine, reportLines, stoppedLine, retryText } from '../../src/cli/report.js'
import { failedResult, resultOf, retryEvent } from '../../src/cli/result.js'
import { SyncError } from '../../src/errors.js'
import type { DiskPair } from '../../src/sync/report.js'
import { diskReport, MIB } from './fixtures.js'

const lost = new SyncError('session/lost', 'the connection broke', {
  operand: 'host2',
  hint: 'Run it again.',
})
const partial = diskReport({
  state: 'partial',
  sameBlocks: 400,
  differentBlocks: 70,
  zeroBlocks: 0,
  digest: null,
})
const waiting = diskReport({
  source: '/dev/vg/swap',
  destination: 'host2:/dev/vg/swap',
  state: 'not-started',
  sameBlocks: 0,
  differentBlocks: 0,
  zeroBlocks: 0,
  skippedBlocks: 0,
  totalBlocks: 128,
  sizeBytes: 128 * MIB,
  sentBytes: 0,
  zeroedBytes: 0,
  digest: null,
})

function pairOf(source: string, destination: string): DiskPair {
  return {
    source: { at: { kind: 'local' }, path: source, typed: source },
    destination: { at: { kind: 'local' }, path: destination, typed: destination },
  }
}

const onePair = [pairOf('/dev/vg/web', 'host2:/dev/vg/web')]
const twoPairs = [...onePair, pairOf('/dev/vg/swap', 'host2:/dev/vg/swap')]
const plain = { mode: 'write', perDisk: 'hidden', stats: 'hidden' } as const

describe('text', () => {
  it('ends with the line that scripts read', () => {
    const classic = diskReport({ sameBlocks: 900, skippedBlocks: 42, differentBlocks: 80, zeroBlocks: 2 })
    expect(reportLines({ disks: [classic], error: null }, plain, 0)).toEqual([
      'same: 942, diff: 82, 1024/1024',
    ])
    expect(lastLine([])).toBe('same: 0, diff: 0, 0/0')
    expect(lastLine([partial, waiting])).toBe('same: 442, diff: 70, 512/1152')
  })

  it('has a line for each disk where there are several, or with -v', () => {
    const line =
      '/dev/vg/web -> host2:/dev/vg/web: same 900, diff 80, zero 2, skipped 42, sent 10.0 MiB in 2.00 s'
    expect(reportLines({ disks: [diskReport()], error: null }, { ...plain, perDisk: 'shown' }, 0)).toEqual([
      line,
      'same: 942, diff: 82, 1024/1024',
    ])
    expect(reportLines({ disks: [diskReport(), partial, waiting], error: lost }, plain, 0)).toEqual([
      line,
      '/dev/vg/web -> host2:/dev/vg/web: stopped early: same 400, diff 70, zero 0, skipped 42, sent 10.0 MiB in 2.00 s',
      '/dev/vg/swap -> host2:/dev/vg/swap: not started: same 0, diff 0, zero 0, skipped 0, sent 0 B in 2.00 s',
      'same: 1384, diff: 152, 1536/2176',
    ])
  })

  it('answers a dry run and verify', () => {
    const same = diskReport({ different: false, differentBlocks: 0, zeroBlocks: 0, sameBlocks: 982 })
    const lines = (mode: 'dry-run' | 'verify', disk = diskReport()): string[] =>
      reportLines({ disks: [disk], error: null }, { ...plain, mode }, 0)
    expect(lines('dry-run')).toEqual([
      'would send 10485760 bytes; nothing was written',
      'same: 942, diff: 82, 1024/1024',
    ])
    expect(lines('verify')[0]).toBe('different: 82 of 1024 blocks differ')
    expect(lines('verify', same)[0]).toBe('identical')
    expect(lines('verify', { ...same, different: true })[0]).toBe('different')
    expect(reportLines({ disks: [partial], error: lost }, { ...plain, mode: 'verify' }, 0)).toEqual([
      'same: 442, diff: 70, 512/1024',
    ])
  })

  it('shows everything with --stats', () => {
    const lines = reportLines(
      { disks: [diskReport({ cipher: 'aes128-gcm', lanes: 3, compression: 'zstd' })], error: null },
      { ...plain, stats: 'shown' },
      0,
    )
    expect(lines.join('\n')).toBe(`/dev/vg/web -> host2:/dev/vg/web
  size:           1.00 GiB (1073741824 bytes), 1024 blocks of 1.00 MiB
  read, digested: source 982 MiB (1029701632 bytes), destination 1.00 GiB (1073741824 bytes)
  same:           900 blocks
  different:      80 blocks
  zero:           2 blocks
  skipped:        42 blocks
  sent:           10.0 MiB (10485760 bytes)
  zeroed:         2.00 MiB (2097152 bytes)
  on the wire:    sent 11.0 MiB (11534336 bytes), received 19.5 KiB (20000 bytes)
  rates:          compared 512 MiB/s, sent 5.00 MiB/s
  elapsed:        2.00 s
  digest:         xxh3-128, leaves of 4.00 KiB, root aa55
  verified:       none
  native:         source yes, destination no
  transport:      openssh, aes128-gcm
  connections:    3
  compression:    zstd
same: 942, diff: 82, 1024/1024`)
    const two = reportLines(
      { disks: [diskReport(), waiting], error: null },
      { ...plain, stats: 'shown' },
      61_000,
    )
    expect(two).toContain('all 2 disks')
    expect(two.at(-2)).toBe('  elapsed:        0:01:01')
    expect(two).toContain('  digest:         none: it did not come that far')
  })

  it('says how far a failed run got', () => {
    expect(stoppedLine({ disks: [partial], error: lost }, 'write')).toBe(
      'stopped at /dev/vg/web -> host2:/dev/vg/web; 512 of 1024 blocks done; run the same command again to continue',
    )
    expect(stoppedLine({ disks: [diskReport(), waiting], error: lost }, 'write')).toBe(
      'stopped at /dev/vg/swap -> host2:/dev/vg/swap (disk 2 of 2); 1024 of 1152 blocks done; run the same command again to continue',
    )
    expect(stoppedLine({ disks: [partial], error: lost }, 'verify')).toMatch(/512 of 1024 blocks done$/)
    expect(stoppedLine({ disks: [waiting], error: lost }, 'write')).toBe(null)
    expect(stoppedLine({ disks: [], error: lost }, 'write')).toBe(null)
  })

  it('names the operand of an error once', () => {
    expect(errorLines(lost)).toEqual(['blocksync: host2: the connection broke', 'Run it again.'])
    expect(errorLines(new SyncError('usage', '--x is bad', { operand: '--x' }))).toEqual([
      'blocksync: --x is bad',
    ])
    expect(errorLines(new SyncError('internal', 'oh'))).toEqual(['blocksync: oh'])
  })
})

describe('a retry', () => {
  const retry = { retry: 2, retries: 5, waitMs: 1730, error: lost }

  it('is a line for people and an event for programs', () => {
    expect(retryText(retry)).toBe('retrying in 2 s (2 of 5): the connection broke')
    expect(retryText({ ...retry, waitMs: 0 })).toContain('in 1 s')
    expect(retryEvent(retry)).toEqual({
      event: 'retry',
      retry: 2,
      retries: 5,
      waitMs: 1730,
      error: {
        code: 'session/lost',
        message: 'the connection broke',
        operand: 'host2',
        hint: 'Run it again.',
      },
    })
  })
})

describe('the JSON result', () => {
  it('has every promised field for one disk', () => {
    const report = { disks: [diskReport()], error: null }
    const result = resultOf({ pairs: onePair, mode: 'write', report, attempts: 1, elapsedMs: 2100.4 })
    const counts = {
      sizeBytes: 1024 * MIB,
      sameBlocks: 900,
      differentBlocks: 80,
      zeroBlocks: 2,
      skippedBlocks: 42,
      totalBlocks: 1024,
      sentBytes: 10 * MIB,
      wireBytesSent: 11 * MIB,
      wireBytesReceived: 20_000,
    }
    const common = {
      source: '/dev/vg/web',
      destination: 'host2:/dev/vg/web',
      ...counts,
      digest: { algorithm: 'xxh3-128', root: 'aa55', seed: '0102', blockBytes: MIB, leafBytes: 4096 },
      verified: 'none',
      verifiedBytes: 0,
      undo: null,
      unreadable: null,
      resumedBytes: 0,
      native: { source: true, destination: false },
      changed: true,
      created: false,
      state: 'done',
      transport: 'openssh',
      cipher: null,
      lanes: 1,
      compression: null,
    }
    expect(result).toEqual({
      event: 'result',
      ok: true,
      ...common,
      durationMs: 2100,
      attempts: 1,
      dryRun: false,
      disks: [
        {
          ...common,
          durationMs: 2000,
          different: true,
          zeroedBytes: 2 * MIB,
          readBytes: { source: 982 * MIB, destination: 1024 * MIB },
          pair: null,
        },
      ],
    })
  })

  it('sums several disks and keeps each', () => {
    const disks = [
      diskReport({ verified: 'all', native: { source: true, destination: true } }),
      diskReport({ verified: 'written', sentBytes: 5, state: 'partial', digest: null }),
    ]
    const result = resultOf({
      pairs: twoPairs,
      mode: 'write',
      report: { disks, error: lost },
      attempts: 1,
      elapsedMs: 1,
    })
    expect(result).toMatchObject({
      ok: false,
      source: ['/dev/vg/web', '/dev/vg/swap'],
      destination: ['host2:/dev/vg/web', 'host2:/dev/vg/swap'],
      totalBlocks: 2048,
      sentBytes: 10 * MIB + 5,
      digest: { algorithm: 'xxh3-128', root: ['aa55', null], seed: ['0102', null] },
      verified: 'written',
      native: { source: true, destination: false },
      state: 'partial',
      error: {
        code: 'session/lost',
        message: 'the connection broke',
        operand: 'host2',
        hint: 'Run it again.',
      },
    })
    expect(result).toHaveProperty('disks.length', 2)
  })

  it('changes nothing in a dry run or verify', () => {
    const report = { disks: [diskReport()], error: null }
    expect(resultOf({ pairs: onePair, mode: 'dry-run', report, attempts: 1, elapsedMs: 0 })).toMatchObject({
      changed: false,
      dryRun: true,
    })
    expect(resultOf({ pairs: onePair, mode: 'verify', report, attempts: 1, elapsedMs: 0 })).toMatchObject({
      changed: false,
      dryRun: false,
    })
    const idle = { disks: [diskReport({ sentBytes: 0, zeroedBytes: 0 })], error: null }
    expect(
      resultOf({ pairs: onePair, mode: 'write', report: idle, attempts: 1, elapsedMs: 0 }),
    ).toMatchObject({
      changed: false,
    })
  })

  it('has the same fields where nothing was begun', () => {
    const done = resultOf({
      pairs: onePair,
      mode: 'write',
      report: { disks: [diskReport()], error: null },
      attempts: 1,
      elapsedMs: 0,
    })
    const failed = failedResult(lost)
    expect(Object.keys(failed)).toEqual([...Object.keys(done), 'error'])
    expect(failed).toMatchObject({
      ok: false,
      source: null,
      destination: null,
      totalBlocks: 0,
      digest: null,
      state: 'not-started',
    })
  })
})
