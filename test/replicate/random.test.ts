// Faults and accidents one after the other: whatever comes, every generation of the record can be had at every moment, and where
// nothing comes any more the next attempt is done and leaves nothing over.

import fc from 'fast-check'
import { describe, it } from 'vitest'

import type { Retention } from '../../src/config/config.js'
import { Scenario, type Storage } from './scenario.js'
import { FAULTS, type Fault, type World } from './world.js'

const KEEPS: readonly Retention[] = [
  { last: 1, hourly: 0, daily: 0, weekly: 0 },
  { last: 3, hourly: 0, daily: 0, weekly: 0 },
  { last: 1, hourly: 4, daily: 2, weekly: 1 },
]
const RUNS = Number(process.env['BLOCKSYNC_TEST_RUNS'] ?? 60)

type Turn = Readonly<{
  at: number
  fault: Fault | null
  later: number
  second: Fault | null
  isFull: World['isFull']
  clockMs: number
}>

const turn: fc.Arbitrary<Turn> = fc.record({
  at: fc.nat(90),
  fault: fc.option(fc.constantFrom(...FAULTS), { freq: 3 }),
  later: fc.integer({ min: 1, max: 20 }),
  second: fc.option(fc.constantFrom(...FAULTS), { freq: 1 }),
  isFull: fc.constantFrom<World['isFull'][]>('no', 'no', 'undo', 'all'),
  // the clock of the controller jumps, back too
  clockMs: fc.constantFrom(0, 0, 0, 86_400_000, -7_200_000),
})

async function play(storage: Storage, keep: Retention, turns: readonly Turn[]): Promise<void> {
  using scenario = new Scenario(storage, keep)
  const { world } = scenario
  const problems: string[] = []
  for (const { at, fault, later, second, isFull, clockMs } of turns) {
    scenario.live()
    world.nowMs += clockMs
    world.isFull = isFull
    if (fault !== null) world.faults.set(world.calls + at, fault)
    if (second !== null) world.faults.set(world.calls + at + later, second)
    const ended = await scenario.attempt()
    world.check('at the end')
    if (ended.kind !== 'killed') problems.push(...(await scenario.problems(ended)))
    world.revive()
    if (problems.length > 0) break
  }
  world.isFull = 'no'
  scenario.live()
  const last = await scenario.attempt()
  problems.push(...(await scenario.problems(last)), ...scenario.leftOver())
  if (last.kind !== 'record' || last.record.outcome !== 'done')
    problems.push(`not done: ${JSON.stringify(last)}`)
  if (problems.length > 0) throw new Error(`${problems.join('\n')}\n${world.trace.join('\n')}`)
}

describe('faults and accidents in a row', () => {
  it.each(['undo', 'mixed', 'copies'] as const)('%s', async (storage) => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...KEEPS),
        fc.array(turn, { minLength: 1, maxLength: 8 }),
        async (keep, turns) => play(storage, keep, turns),
      ),
      { numRuns: RUNS },
    )
  })
})
