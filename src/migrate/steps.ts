// The state machine as a table: each step with its act, what takes it back, and what is said of it in docs/migrate.md.
// Which of them a migration has follows from how the guest is moved; nothing else decides it.

import { runHook, tryHook } from './hooks.js'
import type { FactsOf, Procedure, Stamps, StepName } from './journal.js'
import { prepare, undoPrepare } from './make.js'
import type { MigrateOptions } from './plan.js'
import { finalPass, rounds, undoFinal } from './steps-copy.js'
import {
  check,
  restore,
  resume,
  save,
  shutdown,
  start,
  undoRestore,
  undoSave,
  undoShutdown,
} from './steps-guest.js'
import { define, fence, finish, go, undoFence } from './steps-handover.js'
import { live, undoLive } from './steps-live.js'
import type { Work } from './work.js'

type StepOf<Name extends StepName> = Readonly<{
  name: Name
  procedures: readonly Procedure[]
  /** What happens. Again, after it was cut short anywhere, does the rest of it. */
  act: (work: Work) => Promise<FactsOf[Name]>
  /**
   * Takes back what it did, as far as it came; again is no error. `at` is the host that it needs. Resolves with new stamps
   * of the source's disks where those have changed by it.
   */
  undo: Readonly<{ at: 'source' | 'destination'; act: (work: Work) => Promise<Stamps | null> }> | null
  /** Whether its lines have to be on the destination's disk, too; `wanted` where the guest is safe without. */
  there: 'required' | 'wanted'
  /** Steps that are done once more when a migration is continued before the handover. */
  again: 'yes' | 'no'
  says: Readonly<{
    does: string
    undo: string
    mayRun: string
    onContinue: string
    onAbort: string
  }>
}>

export type Step = { [Name in StepName]: StepOf<Name> }[StepName]

const ALL: readonly Procedure[] = ['warm', 'cold', 'off', 'live']
const SOURCE = 'source'
const NEITHER = 'neither; the source may have it back'
const DESTINATION = 'destination'

/** In order. docs/migrate.md has the same rows. */
export const STEPS: readonly Step[] = [
  {
    name: 'prepare',
    procedures: ALL,
    act: prepare,
    undo: { at: 'destination', act: undoPrepare },
    there: 'required',
    again: 'no',
    says: {
      does: 'Makes files, volumes and directories at the destination, each one written down before it is made.',
      undo: 'Removes what was made, the last thing first.',
      mayRun: SOURCE,
      onContinue: 'Makes what is missing.',
      onAbort: 'Undo.',
    },
  },
  {
    name: 'rounds',
    procedures: ['warm', 'cold'],
    act: rounds,
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: 'Copies the disks while the guest runs, until the forecast downtime is short enough or does not get shorter.',
      undo: 'Nothing.',
      mayRun: SOURCE,
      onContinue: 'Begins the rounds again; what is equal is not sent again.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'before-save',
    procedures: ALL,
    act: async (work) => ({ ran: await runHook(work, 'before-save', { runsOn: 'source', error: null }) }),
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: 'Runs the hook before-save; one that fails stops the migration.',
      undo: 'Nothing; on-failure runs.',
      mayRun: SOURCE,
      onContinue: 'Runs it where it did not end well.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'save',
    procedures: ['warm'],
    act: save,
    undo: { at: 'source', act: undoSave },
    there: 'required',
    again: 'no',
    says: {
      does: "Saves the guest's memory to a file at the source; it runs no longer. Stamps of its disks are written down.",
      undo: 'Restores it from that file where its disks are as they were then, and lets it go on.',
      mayRun: NEITHER,
      onContinue: 'Waits for a save that is under way; a guest that still runs is saved again.',
      onAbort: 'Undo: it goes on at the source.',
    },
  },
  {
    name: 'shutdown',
    procedures: ['cold'],
    act: shutdown,
    undo: { at: 'source', act: undoShutdown },
    there: 'required',
    again: 'no',
    says: {
      does: 'Asks the guest to shut down and waits; with --force-off its plug is pulled in the end.',
      undo: 'Starts it.',
      mayRun: NEITHER,
      onContinue: 'Asks it again where it still runs.',
      onAbort: 'Undo: it starts at the source.',
    },
  },
  {
    name: 'live',
    procedures: ['live'],
    act: live,
    undo: { at: 'source', act: undoLive },
    there: 'required',
    again: 'no',
    says: {
      does: 'Autostart goes off at the source; the hypervisor moves it running, and sees to it that only one side runs.',
      undo: 'Ends the job; it runs on at the source, with autostart as it was.',
      mayRun: 'where the hypervisor has it',
      onContinue: 'Looks at both hosts: where it runs at the destination on with the fence, else undo.',
      onAbort: 'Undo where it runs at the source; refused where it has moved.',
    },
  },
  {
    name: 'final',
    procedures: ['warm', 'cold', 'off'],
    act: finalPass,
    undo: { at: 'destination', act: undoFinal },
    there: 'required',
    again: 'yes',
    says: {
      does: 'The last pass over all disks; beside it the saved state and the files of the guest.',
      undo: 'Removes the copy of the saved state.',
      mayRun: NEITHER,
      onContinue: 'Once more, when the disks are as they were when the guest stopped.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'restore',
    procedures: ['warm'],
    act: restore,
    undo: { at: 'destination', act: undoRestore },
    there: 'required',
    again: 'yes',
    says: {
      does: 'Restores it at the destination, paused.',
      undo: 'Ends the paused guest there.',
      mayRun: NEITHER,
      onContinue: 'Ends what is paused there and restores it once more.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'check',
    procedures: ['warm'],
    act: check,
    undo: null,
    there: 'required',
    again: 'yes',
    says: {
      does: 'Looks whether it is paused there with the planned disks, and the source is as it was; takes stamps there.',
      undo: 'Nothing.',
      mayRun: NEITHER,
      onContinue: 'Once more.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'fence',
    procedures: ALL,
    act: fence,
    undo: { at: 'source', act: undoFence },
    there: 'required',
    again: 'no',
    says: {
      does: "Keeps the source from starting it, and its disks there from being written. Its 'done' line is FENCED.",
      undo: 'Lifts the protection and gives the definition back.',
      mayRun: NEITHER,
      onContinue: 'What was begun of it is lifted for the last pass; then once more.',
      onAbort: 'Undo of the steps before.',
    },
  },
  {
    name: 'go',
    procedures: ALL,
    act: go,
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: "Writes 'go' to the destination's journal: it may run there.",
      undo: "Instead of it: 'aborted' in the same place, after which it cannot be written.",
      mayRun: 'destination with go, else neither',
      onContinue: "Reads the destination's journal; writes it where neither is there.",
      onAbort: "Writes 'aborted', ends the paused guest, and undo. With 'go' there: refused.",
    },
  },
  {
    name: 'define',
    procedures: ALL,
    act: define,
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: 'Makes the definition persistent at the destination, with autostart as it was.',
      undo: 'None any more.',
      mayRun: DESTINATION,
      onContinue: 'Once more.',
      onAbort: 'Refused.',
    },
  },
  {
    name: 'resume',
    procedures: ['warm'],
    act: resume,
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: 'Lets it go on at the destination.',
      undo: 'None any more.',
      mayRun: DESTINATION,
      onContinue: 'Once more; a guest that is gone is restored where it never ran, else started.',
      onAbort: 'Refused.',
    },
  },
  {
    name: 'start',
    procedures: ['cold', 'off', 'live'],
    act: start,
    undo: null,
    there: 'required',
    again: 'no',
    says: {
      does: 'Starts it at the destination where it is off; one that was off before only with --start.',
      undo: 'None any more.',
      mayRun: DESTINATION,
      onContinue: 'Starts it where it is off.',
      onAbort: 'Refused.',
    },
  },
  {
    name: 'after-restore',
    procedures: ALL,
    act: async (work) => ({
      ran: await tryHook(work, 'after-restore', { runsOn: 'destination', error: null }),
    }),
    undo: null,
    there: 'wanted',
    again: 'no',
    says: {
      does: 'Runs the hook after-restore; one that fails is warned of.',
      undo: 'None any more.',
      mayRun: DESTINATION,
      onContinue: 'Runs it where it had not ended.',
      onAbort: 'Refused.',
    },
  },
  {
    name: 'finish',
    procedures: ALL,
    act: finish,
    undo: null,
    there: 'wanted',
    again: 'no',
    says: {
      does: "Removes saved states; with --undefine-source the source's definition.",
      undo: 'None any more.',
      mayRun: DESTINATION,
      onContinue: 'Once more.',
      onAbort: 'Refused.',
    },
  },
]

/** The steps of one migration, in order. */
export function stepsOf(
  procedure: Procedure,
  { start: wanted }: Pick<MigrateOptions, 'start'>,
): readonly Step[] {
  return STEPS.filter(
    ({ name, procedures }) =>
      procedures.includes(procedure) && !(name === 'start' && procedure === 'off' && wanted === 'no'),
  )
}
