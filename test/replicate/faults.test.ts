// Every call of an attempt x every fault x every kind of storage: at every moment every generation of the record can be had, byte for
// byte, and the next attempt leaves nothing over.

import pLimit from 'p-limit'
import { describe, expect, it } from 'vitest'

import type { Retention } from '../../src/config/config.js'
import { withoutStacks } from '../support/no-stacks.js'
import { Scenario, type Storage } from './scenario.js'
import { FAULTS, type Fault } from './world.js'

withoutStacks()

const STORAGES: readonly Storage[] = ['undo', 'mixed', 'copies']
/** Which attempts are interrupted: a selection stands for all where not everything is asked for. */
const WARM_UPS: Readonly<Record<Storage, readonly number[]>> =
  process.env['BLOCKSYNC_TEST_FULL'] === '1'
    ? { undo: [0, 1, 4], mixed: [0, 1, 4], copies: [0, 1, 4] }
    : { undo: [0, 1], mixed: [4], copies: [4] }
/** Each waits for files half of its time. */
const AT_ONCE = 4
const KEEP: Retention = { last: 2, hourly: 0, daily: 2, weekly: 0 }

/** One attempt with the fault, then one that meets nothing. */
async function play(ready: Scenario, at: number, fault: Fault): Promise<string[]> {
  using scenario = ready.fork()
  const { world } = scenario
  world.faults.set(at, fault)
  const ended = await scenario.attempt()
  world.check('at the end')
  const problems = ended.kind === 'killed' ? [] : await scenario.problems(ended)
  world.revive()
  scenario.live()
  const next = await scenario.attempt()
  problems.push(...(await scenario.problems(next)), ...scenario.leftOver())
  if (next.kind !== 'record' || next.record.outcome !== 'done')
    problems.push(`the next one is not done: ${JSON.stringify(next)}`)
  return [...new Set(problems)]
}

/** Behind so many attempts that met nothing. */
async function readyScenario(storage: Storage, warmUp: number): Promise<Scenario> {
  const scenario = new Scenario(storage, KEEP)
  for (let count = 0; count < warmUp; count += 1) {
    scenario.live()
    await scenario.attempt()
  }
  scenario.live()
  return scenario
}

describe.each(STORAGES)('%s', (storage) => {
  it('goes through, and keeps what is wanted', async () => {
    using scenario = new Scenario(storage, KEEP)
    for (let count = 0; count < 60; count += 1) {
      scenario.live()
      const ended = await scenario.attempt()
      expect(ended).toMatchObject({ kind: 'record', record: { outcome: 'done', error: null, warnings: [] } })
      expect(await scenario.problems(ended)).toEqual([])
      expect(scenario.leftOver()).toEqual([])
    }
  })

  // the first attempt, the second one, and one behind which generations go
  it.each(WARM_UPS[storage])('survives every fault at every call of attempt %i', async (warmUp) => {
    using ready = await readyScenario(storage, warmUp)
    using dry = ready.fork()
    await dry.attempt()
    const calls = dry.world.trace
    expect(calls.length).toBeGreaterThan(20)
    const failures: string[] = []
    const limit = pLimit(AT_ONCE)
    const played = calls.flatMap((name, at) =>
      FAULTS.map((fault) =>
        limit(async () => {
          const problems = await play(ready, at, fault)
          if (problems.length > 0)
            failures.push(`${at} ${name}, ${fault}: ${problems.slice(0, 3).join(' | ')}`)
        }),
      ),
    )
    await Promise.all(played)
    expect(failures.slice(0, 20), `${failures.length} failures`).toEqual([])
  })
})
