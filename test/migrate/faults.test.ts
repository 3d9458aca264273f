// Every call of a migration x every fault x every way to recover: never two, never none, nothing written is lost, nothing is
// left behind, and the status is the documented one.

import { describe, expect, it } from 'vitest'

import type { Procedure } from '../../src/migrate/journal.js'
import { withoutStacks } from '../support/no-stacks.js'
import { Scenario, type Ended, type ScenarioOptions } from './scenario.js'
import { FAULTS, isRunningOn, type Fault } from './world.js'

withoutStacks()

const PROCEDURES: readonly Procedure[] = ['warm', 'cold', 'off', 'live']

const SEQUENCES = {
  continue: ['continue'],
  abort: ['abort'],
  'abort without the line, then continue': ['abort cut', 'continue'],
} as const
type Sequence = keyof typeof SEQUENCES

/** Recoveries that may be needed beyond those of the sequence, before it counts as never ending. */
const MOST_RECOVERIES = 6

/** What a report may say, and that it is true. */
function problemsOfReport(
  { world, wasRunning }: Scenario,
  ended: Ended,
  may: 'succeed' | 'be asked for',
): string[] {
  if (ended.kind !== 'report') return []
  const { report } = ended
  const { error, runsOn } = report
  const problems: string[] = []
  if (error !== null && ![8, 9, 10].includes(error.exitStatus))
    problems.push(`status ${error.exitStatus}: ${error.message}`)
  if (error?.exitStatus === 8 && may === 'succeed') problems.push('status 8 of a migration')
  if (error?.exitStatus === 9 && wasRunning && !isRunningOn(world.source))
    problems.push('status 9, and it does not run here')
  if (error?.exitStatus === 10 && (error.hint ?? '') === '') problems.push('status 10 without what to type')
  if (runsOn === 'source' && !isRunningOn(world.source)) problems.push('it does not run on the source')
  if (runsOn === 'destination' && !isRunningOn(world.destination) && world.destination.isUp)
    problems.push('it does not run on the destination')
  return problems
}

/** Brings it to its end; resolves with what did not hold. */
async function recoverToEnd(scenario: Scenario, sequence: Sequence): Promise<string[]> {
  const problems: string[] = []
  const words: string[] = [...SEQUENCES[sequence]]
  const { world } = scenario
  for (let turn = 0; turn < MOST_RECOVERIES; turn += 1) {
    const word = words.shift() ?? 'continue'
    scenario.mend()
    if (word === 'abort cut') world.cutLink()
    const ended = await scenario.recover(word === 'continue' ? 'continue' : 'abort')
    problems.push(...problemsOfReport(scenario, ended, 'be asked for'))
    if (ended.kind === 'killed') problems.push('killed without a fault')
    if (ended.kind === 'refused') {
      const { code, message } = ended.error
      if (code === 'migrate/ended' || code === 'migrate/unknown') {
        if (words.length === 0) return problems
      } else if (!(code === 'migrate/refused' && word !== 'continue'))
        problems.push(`refused: ${code} ${message}`)
    }
  }
  return [...problems, 'it comes to no end']
}

export async function play(
  procedure: Procedure,
  at: number,
  fault: Fault,
  sequence: Sequence,
  options: ScenarioOptions = {},
): Promise<string[]> {
  const scenario = new Scenario(procedure, options)
  scenario.world.faults.set(at, fault)
  const ended = await scenario.migrate()
  const problems = problemsOfReport(scenario, ended, 'succeed')
  const isUntouched = ended.kind === 'refused'
  if (
    isUntouched &&
    scenario.world.source.journals.size + scenario.world.destination.journals.size > 0 &&
    fault !== 'link drops after'
  ) {
    // what could not be removed is seen and taken away by the recovery below
  }
  problems.push(...(await recoverToEnd(scenario, sequence)))
  scenario.mend()
  problems.push(...scenario.problemsAtEnd())
  return problems
}

describe.each(PROCEDURES)('%s', (procedure) => {
  it('goes through', async () => {
    const scenario = new Scenario(procedure)
    const ended = await scenario.migrate()
    expect(ended).toMatchObject({ kind: 'report', report: { ok: true, error: null, warnings: [] } })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it.each(Object.keys(SEQUENCES) as Sequence[])(
    'survives every fault at every call, then %s',
    async (sequence) => {
      const dry = new Scenario(procedure)
      await dry.migrate()
      const { trace } = dry.world
      const failures: string[] = []
      for (let at = 0; at < trace.length; at += 1) {
        for (const fault of FAULTS) {
          const problems = await play(procedure, at, fault, sequence)
          if (problems.length > 0)
            failures.push(`${at} ${trace[at] ?? ''}, ${fault}: ${problems.slice(0, 3).join(' | ')}`)
        }
      }
      expect(failures.slice(0, 40), `${failures.length} failures`).toEqual([])
    },
  )
})
