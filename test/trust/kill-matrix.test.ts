// Runs that are hit while they go on: killed, stopped, cut off, interrupted, at each phase of the protocol and at any moment
// between. By hand for as long as one likes: npm run kills -- --runs 1000 --seed 1.

import { describe, expect, it } from 'vitest'

import { useScratch } from '../support/disks.js'
import { useFarSides, ways as waysHere } from '../support/far-sides.js'
import { has } from '../support/needs.js'
import { DISK_BYTES } from './kill-content.js'
import { runKillCase, type KillOutcome, type KillStage } from './kill-case.js'
import { describePlan, planOf, type KillWay } from './kill-plan.js'

/** By hand: how many, from which seed on. In a test run the same ones each time, few enough for a bounded time. */
const RUNS = Number(process.env['BLOCKSYNC_KILL_RUNS'] ?? '16')
const SEED = Number(process.env['BLOCKSYNC_KILL_SEED'] ?? '1')
/** By hand: no further run is begun after so long. */
const SECONDS = Number(process.env['BLOCKSYNC_KILL_SECONDS'] ?? '86400')
const IS_BY_HAND = process.env['BLOCKSYNC_KILL_RUNS'] !== undefined
/** At once: each case is up to four processes, and half of its time it waits. */
const WORKERS = 2
const CASE_TIMEOUT_MS = 120_000

const scratch = useScratch()
const far = useFarSides()

async function stages(): Promise<KillStage[]> {
  const on = scratch()
  const sshConfig = waysHere('openssh').length > 0 ? far.sshd().clientConfigPath : null
  const made: KillStage[] = []
  for (let worker = 0; worker < WORKERS; worker += 1) {
    const backing = await on.sparseFile(`backing-${worker}.img`, DISK_BYTES)
    made.push({ loop: has('loop') ? await on.loopDevice(backing) : null, sshConfig })
  }
  return made
}

describe('whatever is hit, and when', () => {
  it(`${RUNS} runs from seed ${SEED} on`, { timeout: 60_000 + RUNS * CASE_TIMEOUT_MS }, async () => {
    const all = await stages()
    const ways: KillWay[] = all[0]?.sshConfig === null ? ['relay', 'local'] : ['relay', 'local', 'openssh']
    const failures: string[] = []
    const outcomes: KillOutcome[] = []
    let next = SEED
    const endMs = performance.now() + SECONDS * 1000
    const worker = async (stage: KillStage): Promise<void> => {
      while (next < SEED + RUNS && performance.now() < endMs) {
        const plan = planOf(next++, ways)
        const startMs = performance.now()
        try {
          outcomes.push(await runKillCase(plan, stage))
        } catch (error) {
          failures.push(`${describePlan(plan)}\n  ${String(error)}`)
          if (IS_BY_HAND) console.log(failures.at(-1))
        }
        const done = outcomes.length + failures.length
        if (process.env['BLOCKSYNC_KILL_SHOW'] === '1')
          console.log(
            `${Math.round(performance.now() - startMs)} ms ${describePlan(plan)} ${JSON.stringify(outcomes.at(-1))}`,
          )
        if (IS_BY_HAND && done % 50 === 0) console.log(`${done} of ${RUNS}, ${failures.length} broken`)
      }
    }
    await Promise.all(all.map(worker))
    const count = (is: (outcome: KillOutcome) => boolean): number => outcomes.filter(is).length
    if (IS_BY_HAND) {
      const statuses = new Map<string, number>()
      for (const { status } of outcomes) statuses.set(String(status), (statuses.get(String(status)) ?? 0) + 1)
      console.log({
        runs: outcomes.length + failures.length,
        broken: failures.length,
        hit: count(({ hit }) => hit),
        mixed: count(({ found }) => found === 'mixed'),
        old: count(({ found }) => found === 'old'),
        new: count(({ found }) => found === 'new'),
        undone: count(({ undone }) => undone),
        undoHits: outcomes.reduce((sum, { undoHits }) => sum + undoHits, 0),
        statuses: Object.fromEntries(statuses),
      })
    }
    expect(failures).toEqual([])
    if (RUNS < 10) return
    // a matrix whose blows fall beside the runs shows nothing
    expect(count(({ hit }) => hit)).toBeGreaterThan(outcomes.length / 2)
    expect(count(({ found }) => found !== 'new')).toBeGreaterThan(outcomes.length / 4)
  })
})
