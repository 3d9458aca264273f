// docs/migrate.md against the code: the steps in their order with all that is said of them, hooks and their variables, and
// the verdicts of its table.

import { describe, expect, it } from 'vitest'

import { decide, type Evidence } from '../../src/migrate/decide.js'
import { HOOK_NAMES, hookEnvironment } from '../../src/migrate/hooks.js'
import {
  emptyState,
  fold,
  STEP_NAMES,
  type JournalRecord,
  type JournalState,
} from '../../src/migrate/journal.js'
import { Ledger } from '../../src/migrate/ledger.js'
import { STEPS, stepsOf } from '../../src/migrate/steps.js'
import { Work } from '../../src/migrate/work.js'
import { codeSpans, readText, section, tableRows } from '../docs/text.js'
import { contextOf } from './fakes.js'
import { planOf } from './scenario.js'
import { World } from './world.js'

const TEXT = readText('docs/migrate.md')

describe('docs/migrate.md', () => {
  it('has the steps of the code, in order, with what is said of them', () => {
    const COLUMNS = 7
    const rows = tableRows(section(TEXT, 'What it does')).filter(
      ({ length, 0: cell = '' }) => length === COLUMNS && codeSpans(cell).length === 1,
    )
    const expected = STEPS.map(({ name, procedures, says }) => [
      `\`${name}\``,
      procedures.length === 4 ? 'all' : procedures.join(', '),
      says.does,
      says.undo,
      says.mayRun,
      says.onContinue,
      says.onAbort,
    ])
    expect(rows).toEqual(expected)
    expect(STEPS.map(({ name }) => name)).toEqual(STEP_NAMES)
  })

  it('has the hooks and their variables', () => {
    const { context, host } = contextOf(new World())
    const work = new Work(planOf('warm'), context, new Ledger('x', host, 'boot', [], context.clock), 'boot')
    const spans = tableRows(section(TEXT, 'Hooks')).flatMap(([cell = '']) => codeSpans(cell))
    const variables = Object.keys(hookEnvironment(work, 'before-save', { runsOn: 'source', error: null }))
    expect(spans.toSorted()).toEqual([...HOOK_NAMES, ...variables].toSorted())
  })
})

function stateOf(...records: readonly JournalRecord[]): JournalState {
  const state = emptyState()
  for (const record of records) fold(state, record, 1)
  return state
}

const bootId = 'boot'
const SAVED: readonly JournalRecord[] = [
  { type: 'intent', step: 'save', bootId },
  { type: 'done', step: 'save', facts: { stamps: {} } },
]
const fence = { id: 'x', guest: 'web', uuid: 'u1', renamedTo: null, autostart: false, kept: {} }
const FENCED: readonly JournalRecord[] = [
  ...SAVED,
  { type: 'intent', step: 'fence', bootId },
  { type: 'done', step: 'fence', facts: { fence, protections: [], stamps: {} } },
]
const BACK: JournalRecord = { type: 'rollback', why: 'why', by: 'itself' }

type Row = readonly [text: string, change: Partial<Evidence>, forward: string, back: string]

describe('what may be done', () => {
  const there = 'paused'
  it.each<Row>([
    [
      'not FENCED, nothing touched, unreachable',
      { source: stateOf(), destination: 'unreachable', here: 'running', there: 'unknown' },
      'no',
      'freely',
    ],
    [
      'nothing touched, and the hypervisor here is silent',
      { source: stateOf(), here: 'unknown', there: 'absent' },
      'no',
      'freely',
    ],
    [
      'not FENCED, unreachable',
      { source: stateOf(...SAVED), destination: 'unreachable', there: 'unknown' },
      'no',
      'freely',
    ],
    [
      'not FENCED, forgotten',
      { source: stateOf(...SAVED), destination: 'forgotten', there: 'absent' },
      'no',
      'freely',
    ],
    ['not FENCED', { source: stateOf(...SAVED), there }, 'before-handover', 'freely'],
    ['not FENCED, it runs here again', { source: stateOf(...SAVED), here: 'running', there }, 'no', 'freely'],
    [
      'not FENCED, the hypervisor here is silent',
      { source: stateOf(...SAVED), here: 'unknown', there },
      'no',
      'no',
    ],
    ['not FENCED, it runs there', { source: stateOf(...SAVED), there: 'running' }, 'no', 'no'],
    [
      'a save that the host did not survive',
      { source: stateOf({ type: 'intent', step: 'save', bootId }), sameBoot: 'no' },
      'no',
      'freely',
    ],
    [
      'a save that came to its end unseen',
      { source: stateOf({ type: 'intent', step: 'save', bootId }) },
      'before-handover',
      'freely',
    ],
    ['FENCED', { source: stateOf(...FENCED), there }, 'handover', 'after-aborted'],
    ['FENCED, it runs here', { source: stateOf(...FENCED), here: 'running', there }, 'no', 'after-aborted'],
    ['FENCED, it runs there', { source: stateOf(...FENCED), there: 'running' }, 'handover', 'no'],
    [
      'FENCED, aborted',
      { source: stateOf(...FENCED), destination: stateOf({ type: 'aborted' }) },
      'no',
      'after-aborted',
    ],
    [
      'FENCED, go',
      { source: stateOf(...FENCED), destination: stateOf({ type: 'go' }), there },
      'finish',
      'no',
    ],
    [
      'FENCED, go, it runs here',
      { source: stateOf(...FENCED), destination: stateOf({ type: 'go' }), here: 'running' },
      'no',
      'no',
    ],
    [
      'FENCED, unreachable',
      { source: stateOf(...FENCED), destination: 'unreachable', there: 'unknown' },
      'no',
      'no',
    ],
    ['FENCED, forgotten', { source: stateOf(...FENCED), destination: 'forgotten' }, 'no', 'no'],
    ['go, and no FENCED', { source: stateOf(...SAVED), destination: stateOf({ type: 'go' }) }, 'no', 'no'],
    [
      'being put back',
      { source: stateOf(...FENCED, BACK), destination: 'unreachable', there: 'unknown' },
      'no',
      'freely',
    ],
    [
      'given back by hand, and go',
      { source: stateOf(...FENCED, BACK), destination: stateOf({ type: 'go' }) },
      'no',
      'no',
    ],
    [
      'over',
      { source: stateOf({ type: 'ended', how: 'moved', runsOn: 'destination', left: 'nothing' }) },
      'no',
      'no',
    ],
  ])('%s', (_text, change, forward, back) => {
    const evidence: Evidence = {
      procedure: 'warm',
      source: stateOf(),
      destination: stateOf(),
      here: 'off',
      there: 'absent',
      sameBoot: 'yes',
      ...change,
    }
    const verdict = decide(evidence)
    expect(verdict).toMatchObject({ forward, back })
    expect(verdict.why === '').toBe(forward !== 'no' || back !== 'no')
  })

  const moving = stateOf({ type: 'intent', step: 'live', bootId })
  const movedAway = stateOf(
    { type: 'intent', step: 'live', bootId },
    { type: 'done', step: 'live', facts: {} },
  )
  it.each<Row>([
    ['runs here', { source: moving, here: 'running' }, 'no', 'freely'],
    ['runs on both', { source: moving, here: 'running', there: 'running' }, 'no', 'no'],
    ['runs there', { source: moving, there: 'running' }, 'before-handover', 'no'],
    ['runs nowhere', { source: moving }, 'no', 'no'],
    ['paused here, nothing there', { source: moving, here: 'paused' }, 'no', 'freely'],
    [
      'paused here, nobody knows about there',
      { source: moving, here: 'paused', there: 'unknown', destination: 'unreachable' },
      'no',
      'no',
    ],
    [
      'moved for certain, unreachable',
      { source: movedAway, there: 'unknown', destination: 'unreachable' },
      'before-handover',
      'no',
    ],
    ['moved, and runs here again', { source: movedAway, here: 'running' }, 'no', 'no'],
  ])('live: %s', (_text, change, forward, back) => {
    const evidence: Evidence = {
      procedure: 'live',
      source: moving,
      destination: stateOf(),
      here: 'off',
      there: 'absent',
      sameBoot: 'yes',
      ...change,
    }
    expect(decide(evidence)).toMatchObject({ forward, back })
  })

  it('has the steps of each way in the order of the table', () => {
    const names = (procedure: 'warm' | 'cold' | 'off' | 'live', start: 'yes' | 'no' = 'no'): string =>
      stepsOf(procedure, { start })
        .map(({ name }) => name)
        .join(' ')
    expect(names('warm')).toBe(
      'prepare rounds before-save save final restore check fence go define resume after-restore finish',
    )
    expect(names('cold')).toBe(
      'prepare rounds before-save shutdown final fence go define start after-restore finish',
    )
    expect(names('off')).toBe('prepare before-save final fence go define after-restore finish')
    expect(names('off', 'yes')).toContain('define start')
    expect(names('live')).toBe('prepare before-save live fence go define start after-restore finish')
  })
})
