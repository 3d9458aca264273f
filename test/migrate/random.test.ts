// Faults and accidents one after the other, in the run and in each recovery: whatever comes, no two run, nothing old is
// used, and where nobody else meddled it comes to its end.

import fc from 'fast-check'
import { describe, it } from 'vitest'

import type { Procedure } from '../../src/migrate/journal.js'
import { Scenario } from './scenario.js'
import { diskPaths, FAULTS, type Fault } from './world.js'

/** What happens to the machines between two controllers. `hard`: a person may have to decide then. */
const ACCIDENTS = {
  nothing: 'soft',
  'the source reboots': 'hard',
  'the destination reboots': 'hard',
  'the destination forgets': 'hard',
  'somebody writes to the source': 'hard',
  'somebody starts it on the source': 'hard',
  'somebody shuts it down on the source': 'hard',
  'the source has no room': 'soft',
} as const
type Accident = keyof typeof ACCIDENTS

const ACTIONS = ['continue', 'abort', 'abort cut', 'continue cut'] as const

type Turn = Readonly<{
  accident: Accident
  action: (typeof ACTIONS)[number]
  at: number
  fault: Fault | null
  /** One more, so many calls behind the first. */
  later: number
  second: Fault | null
}>

const turn: fc.Arbitrary<Turn> = fc.record({
  accident: fc.oneof(
    { weight: 4, arbitrary: fc.constant<Accident>('nothing') },
    { weight: 1, arbitrary: fc.constantFrom(...(Object.keys(ACCIDENTS) as Accident[])) },
  ),
  action: fc.constantFrom(...ACTIONS),
  at: fc.nat(60),
  fault: fc.option(fc.constantFrom(...FAULTS), { freq: 3 }),
  later: fc.integer({ min: 1, max: 15 }),
  second: fc.option(fc.constantFrom(...FAULTS), { freq: 1 }),
})

function befall(scenario: Scenario, accident: Accident): void {
  const { world } = scenario
  const { source, destination } = world
  switch (accident) {
    case 'nothing':
      return
    case 'the source reboots':
      world.crash(source)
      world.boot(source)
      return
    case 'the destination reboots':
      world.crash(destination)
      world.boot(destination)
      return
    case 'the destination forgets':
      destination.journals.clear()
      return
    case 'somebody writes to the source':
      // what ran at the destination is newer: only a guest that is nowhere in memory is harmed by it
      if (destination.guests.size === 0 && world.hasAll(source)) world.foreignWrite(source, '/a/vda.img')
      return
    case 'somebody starts it on the source': {
      // in the instant between a live move and its fence nothing could keep a person from it
      if (scenario.procedure === 'live') return
      const definition = source.definitions.get('web')
      const isFree = diskPaths('source').every((path) => source.files.get(path)?.protectedBy === null)
      if (definition !== undefined && isFree && source.guests.size === 0) world.bootGuest(source, definition)
      return
    }
    case 'somebody shuts it down on the source':
      if (source.guests.get('web')?.state === 'running') source.guests.clear()
      return
    case 'the source has no room':
      source.isFull = true
      return
    default:
      accident satisfies never
  }
}

async function play(
  procedure: Procedure,
  first: Turn,
  turns: readonly Turn[],
  vanish: boolean,
): Promise<void> {
  const scenario = new Scenario(procedure)
  const { world } = scenario
  // at the paths of protected disks there is nothing then
  if (vanish) world.renames = '/a/vda.img'
  if (vanish) world.closes = '/dev/vg/vdb'
  // where a live move was cut short and the other host then lost its memory, nobody can tell whether it had moved
  const all = [first, ...turns]
  let isHard =
    procedure === 'live' && all.some(({ fault, second }) => `${fault} ${second}`.includes('destination dies'))
  const arm = (from: number, { at, fault, later, second }: Turn): void => {
    if (fault !== null) world.faults.set(from + at, fault)
    if (second !== null) world.faults.set(from + at + later, second)
  }
  const reached = (): string => [...world.violations].join(' | ')
  arm(0, { ...first, at: first.at * 3 })
  await scenario.migrate()
  for (const each of turns) {
    scenario.mend()
    befall(scenario, each.accident)
    if (ACCIDENTS[each.accident] === 'hard') isHard = true
    if (each.action.endsWith(' cut')) world.cutLink()
    arm(world.calls, each)
    await scenario.recover(each.action.startsWith('abort') ? 'abort' : 'continue')
    world.faults.clear()
    if (reached() !== '') throw new Error(`${reached()}\n${world.trace.join('\n')}`)
  }
  for (let left = 6; ; left -= 1) {
    scenario.mend()
    const ended = await scenario.recover(left % 2 === 0 ? 'continue' : 'abort')
    if (ended.kind === 'refused' && ['migrate/ended', 'migrate/unknown'].includes(ended.error.code)) break
    if (left > 0) continue
    if (!isHard || reached() !== '')
      throw new Error(`it comes to no end: ${JSON.stringify(ended)} ${reached()}\n${world.trace.join('\n')}`)
    return
  }
  scenario.mend()
  const problems = isHard ? [...world.violations] : scenario.problemsAtEnd()
  if (problems.length > 0) throw new Error(`${problems.join(' | ')}\n${world.trace.join('\n')}`)
}

const RUNS = Number(process.env['BLOCKSYNC_TEST_RUNS'] ?? 500)

describe('faults and accidents in a row', () => {
  it.each(['warm', 'cold', 'off', 'live'] as const)('%s', async (procedure) => {
    await fc.assert(
      fc.asyncProperty(turn, fc.array(turn, { maxLength: 5 }), fc.boolean(), async (first, turns, vanish) => {
        await play(procedure, first, turns, vanish)
      }),
      { numRuns: RUNS },
    )
  })
})
