// A disk of 2 GiB that changes all the time, replicated every 10 s for as long as BLOCKSYNC_LAB_MINUTES says: how far behind the
// replica gets, what the daemon takes of memory and descriptors, and what is left over. `npm run lab:soak -- 30`.

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { describe, expect, it } from 'vitest'

import { useLab } from '../lab.js'
import { processesOf, ReplicaLab } from '../replicate.js'

const MINUTES = Number(process.env['BLOCKSYNC_LAB_MINUTES'] ?? '30')
const DISK_MIB = Number(process.env['BLOCKSYNC_LAB_MIB'] ?? '2048')
const EVERY_SECONDS = 10
const CHANGE_BYTES_PER_SECOND = 5_000_000
const MOST_DAEMON_MIB = 150
const MOST_GROWTH_MIB = 5
/** Until the daemon has everything loaded and its heap found its size. */
const WARM_UP_MS = 120_000
const SAMPLE_MS = 1000
const UP_TIMEOUT_MS = 300_000

type Sample = Readonly<{ atMs: number; lagMs: number; rssMiB: number; descriptors: number }>

describe('a job that runs for long', () => {
  const lab = useLab()

  it(
    'keeps up, and takes no more and more',
    async () => {
      const hosts = lab.hosts()
      await using job = await ReplicaLab.make(hosts, {
        diskMiB: DISK_MIB,
        everySeconds: EVERY_SECONDS,
        snapshot: 'reflink',
        keepLast: 2,
      })
      const writer = await job.scribble(CHANGE_BYTES_PER_SECOND)
      const daemon = await job.daemon()
      const upBy = performance.now() + UP_TIMEOUT_MS
      while ((job.record()?.generations.length ?? 0) === 0) {
        expect(performance.now(), 'no first generation').toBeLessThan(upBy)
        await sleep(SAMPLE_MS)
      }
      const samples: Sample[] = []
      const startedMs = performance.now()
      while (performance.now() - startedMs < MINUTES * 60_000) {
        await sleep(SAMPLE_MS)
        const takenAt = job.record()?.generations.at(-1)?.takenAt ?? ''
        samples.push({
          atMs: performance.now() - startedMs,
          lagMs: Date.now() - Date.parse(takenAt),
          rssMiB: rssMiB(daemon.pid),
          descriptors: readdirSync(`/proc/${daemon.pid}/fd`).length,
        })
      }
      process.kill(daemon.pid, 'SIGTERM')
      const { status } = await daemon.ended
      process.kill(writer.pid, 'SIGTERM')
      await writer.ended
      const warm = samples.filter(({ atMs }) => atMs > Math.min(WARM_UP_MS, MINUTES * 20_000))
      const half = Math.floor(warm.length / 2)
      const lags = samples.map(({ lagMs }) => lagMs).toSorted((a, b) => a - b)
      const figures = {
        minutes: MINUTES,
        generations: job.record()?.generations.at(-1)?.number,
        attempts: job.state()?.totals,
        lagSeconds: { median: seconds(lags[lags.length >> 1]), most: seconds(lags.at(-1)) },
        daemonMiB: { first: mean(warm.slice(0, half)), second: mean(warm.slice(half)), most: most(warm) },
        descriptors: { first: warm[0]?.descriptors, last: warm.at(-1)?.descriptors },
      }
      console.log(JSON.stringify(figures, null, 1))
      expect(status).toBe(0)
      expect(figures.lagSeconds.most).toBeLessThan(2 * EVERY_SECONDS)
      expect(figures.daemonMiB.most).toBeLessThan(MOST_DAEMON_MIB)
      expect(figures.daemonMiB.second - figures.daemonMiB.first).toBeLessThan(MOST_GROWTH_MIB)
      expect(figures.attempts?.failures).toBe(0)
      expect(await job.snapshots()).toEqual([])
      for (const host of ['A', 'B'] as const)
        expect(await processesOf(hosts, host, 'main.js (replicate|serve|agent)')).toEqual([])
    },
    MINUTES * 60_000 + 2 * UP_TIMEOUT_MS,
  )
})

function rssMiB(pid: number): number {
  const [, kib = 'NaN'] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) / 1024
}

function mean(samples: readonly Sample[]): number {
  return samples.reduce((sum, { rssMiB: one }) => sum + one, 0) / Math.max(1, samples.length)
}

function most(samples: readonly Sample[]): number {
  return Math.max(...samples.map(({ rssMiB: one }) => one))
}

function seconds(ms = Number.NaN): number {
  return Math.round(ms / 100) / 10
}
