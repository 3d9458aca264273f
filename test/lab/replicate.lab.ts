// `replicate` between two hosts that are as real as here they can be: a disk that changes all the time, a daemon, and the
// daemon, the far end or the link struck at random. A few strikes here; `npm run lab:replicate -- 200` strikes 200 times.

import { setTimeout as sleep } from 'node:timers/promises'

import { describe, expect, it } from 'vitest'

import { EXIT } from '../../src/errors.js'
import { Random } from '../fuzz/random.js'
import type { Running } from './hosts.js'
import { useLab } from './lab.js'
import type { Answer } from './programs.js'
import { JOB, processesOf, ReplicaLab } from './replicate.js'

const STRIKES = Number(process.env['BLOCKSYNC_LAB_STRIKES'] ?? '3')
const SEED = Number(process.env['BLOCKSYNC_LAB_SEED'] ?? '1')
/** A strike, the generation that is there after it written out and compared, and what it takes to go on. */
const STRIKE_TIMEOUT_MS = 60_000
/** Within the next attempt, and sometimes between two. */
const MOST_WAIT_MS = 3000
const CHANGE_BYTES_PER_SECOND = 4_000_000

type Victim = 'daemon' | 'attempt' | 'far end' | 'link'
const VICTIMS: readonly Victim[] = ['daemon', 'attempt', 'far end', 'link']

describe('a replica', () => {
  const lab = useLab()

  // of a reflink the daemon keeps the clone, and only what changed is read
  it.each(['command', 'reflink'] as const)(
    'always has its last complete generation, whatever was struck: %s',
    async (snapshot) => {
      const hosts = lab.hosts()
      await using job = await ReplicaLab.make(hosts, {
        diskMiB: 64,
        everySeconds: 1,
        snapshot,
        keepLast: 2,
      })
      if (snapshot === 'reflink') await job.keepEach()
      const random = new Random(SEED, 0)
      const writer = await job.scribble(CHANGE_BYTES_PER_SECOND)
      let daemon = await job.daemon()
      await until('a first generation', () => job.record()?.generations.length ?? 0)
      let compared = 0
      for (let strike = 1; strike <= STRIKES; strike += 1) {
        const victim = VICTIMS[random.int(VICTIMS.length)] ?? 'daemon'
        await sleep(random.int(MOST_WAIT_MS))
        daemon = await hit(victim, job, daemon)
        if ((job.record()?.generations.length ?? 0) === 0)
          throw new Error(`strike ${strike} at the ${victim}: no generation is left`)
        const newest = await newestKept(job)
        // what was complete when it was struck can be written out while the daemon goes on
        await expectRestoresInTime(job, newest)
        compared += 1
        console.log(`${strike} of ${STRIKES}: ${victim}; generation ${newest} is what was cut`)
        await until(`a newer generation than ${newest}`, () =>
          (job.record()?.generations.at(-1)?.number ?? 0) > newest ? 1 : 0,
        )
        await job.forgetOld()
      }
      expect(compared).toBe(STRIKES)
      await end(daemon)
      expect(daemon.child.exitCode).toBe(0)
      await end(writer)
      expect(await job.snapshots()).toEqual([])
      for (const host of ['A', 'B'] as const)
        expect(await processesOf(hosts, host, 'main.js (replicate|serve|agent)')).toEqual([])
    },
    (STRIKES + 4) * STRIKE_TIMEOUT_MS,
  )

  it('is promoted where it is when its source is gone, and goes the other way round afterwards', async () => {
    const hosts = lab.hosts()
    await using job = await ReplicaLab.make(hosts, {
      diskMiB: 64,
      everySeconds: 60,
      snapshot: 'none',
      keepLast: 2,
    })
    await ends(job.replicate('run', JOB, '--now'), 0)
    await job.change('A', 3)
    await ends(job.replicate('run', JOB, '--now'), 0)

    const alive = await ends(job.replicateThere('promote', JOB, '--yes'), EXIT.guard)
    expect(alive.stderr).toContain('--force-source-alive')
    await hosts.must('A', ['ip', 'link', 'set', 'eth0', 'down'])
    await ends(job.replicateThere('promote', JOB, '--yes'), 0)
    await job.change('B', 7)
    await hosts.must('A', ['ip', 'link', 'set', 'eth0', 'up'])

    const refused = await ends(job.replicate('run', JOB, '--now'), EXIT.guard)
    expect(refused.stderr).toContain('promoted')
    await ends(job.replicate('reverse', JOB, '--yes'), 0)
    await ends(job.replicate('run', JOB, '--now'), 0)
    const [there, back] = await job.contents()
    expect(there).toBe(back)
    expect(job.state()?.last?.sentBytes).toBeLessThan(8 << 20)

    await ends(job.replicate('promote', JOB, '--yes', '--force-source-alive'), 0)
    await job.change('A', 11)
    await ends(job.replicate('reverse', JOB, '--yes'), 0)
    await ends(job.replicate('run', JOB, '--now'), 0)
    const [source, replica] = await job.contents()
    expect(source).toBe(replica)
    expect(job.state()).toMatchObject({ direction: 'forward', last: { outcome: 'done' } })
    await ends(job.replicate('drill', JOB), 0)
  })
})

/** The newest generation that can be compared: of a struck attempt's there may be nothing, and then there will be a newer one. */
async function newestKept(job: ReplicaLab): Promise<number> {
  const deadline = performance.now() + STRIKE_TIMEOUT_MS
  for (;;) {
    const newest = job.record()?.generations.at(-1)
    if (newest !== undefined && (await job.isKept(newest.attempt))) return newest.number
    if (performance.now() > deadline)
      throw new Error(`nothing is kept of the newest generation: ${JSON.stringify(job.state()?.last)}`)
    await sleep(50)
  }
}

async function ends(running: Promise<Answer>, status: number): Promise<Answer> {
  const answer = await running
  expect(answer.status, `${answer.stderr}${answer.stdout}`).toBe(status)
  return answer
}

/** The next attempts may have made it too old to be kept: then it is the newest of now that has to be there. */
async function expectRestoresInTime(job: ReplicaLab, number: number): Promise<void> {
  try {
    await job.expectRestores(number)
  } catch (error) {
    const numbers = job.record()?.generations.map((one) => one.number) ?? []
    const newest = numbers.at(-1)
    if (newest === undefined || numbers.includes(number)) throw error
    await job.expectRestores(newest)
  }
}

/** Strikes, and mends so far as a host or a person would; resolves with the daemon that runs then. */
async function hit(victim: Victim, job: ReplicaLab, daemon: Running): Promise<Running> {
  const { hosts } = job
  switch (victim) {
    case 'daemon':
      process.kill(daemon.pid, 'SIGKILL')
      await daemon.ended
      return await job.daemon()
    case 'attempt':
      await killAll(job, 'A', 'replicate run')
      return daemon
    case 'far end':
      await killAll(job, 'B', 'main.js (serve|agent)')
      return daemon
    case 'link':
      await hosts.must('A', ['ip', 'link', 'set', 'eth0', 'down'])
      await sleep(500)
      await hosts.must('A', ['ip', 'link', 'set', 'eth0', 'up'])
      return daemon
    default:
      return victim satisfies never
  }
}

async function killAll(job: ReplicaLab, host: 'A' | 'B', word: string): Promise<void> {
  const pids = await processesOf(job.hosts, host, word)
  if (pids.length > 0) await job.hosts.run(host, ['kill', '-KILL', ...pids.map(String)])
}

async function until(what: string, count: () => number): Promise<void> {
  const deadline = performance.now() + STRIKE_TIMEOUT_MS
  while (count() === 0) {
    if (performance.now() > deadline) throw new Error(`there is no ${what} after ${STRIKE_TIMEOUT_MS} ms`)
    await sleep(50)
  }
}

async function end(running: Running): Promise<void> {
  process.kill(running.pid, 'SIGTERM')
  await running.ended
}
