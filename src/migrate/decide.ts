// Never two, never none: the one place that says what may be done with a migration, from both journals and from where the
// guest is on both hosts. Allows nothing that is not certain; what it allows need not succeed.

import type { GuestState } from '../hypervisor/driver.js'
import { isStanding, type JournalState, type Procedure } from './journal.js'

/** A guest's state on a host; `unknown` where the hypervisor, or the host, cannot be asked. */
export type Whereabouts = GuestState | 'unknown'

export type Evidence = Readonly<{
  procedure: Procedure
  source: JournalState
  /** `unreachable`: it cannot be asked. `forgotten`: it can, and has no journal of this migration. */
  destination: JournalState | 'unreachable' | 'forgotten'
  here: Whereabouts
  there: Whereabouts
  /** This host has been up since it began to save the guest. */
  sameBoot: 'yes' | 'no'
}>

/**
 * `before-handover`: the steps from the first one that is not done, those behind the guest's stop once more.
 * `handover`: FENCED is on disk and the destination may be told to go. `finish`: it was told, only forward is left.
 */
export type Forward = 'no' | 'before-handover' | 'handover' | 'finish'

/** `freely`: the destination cannot have been told to go. `after-aborted`: once it has 'aborted' and no guest any more. */
export type Back = 'no' | 'freely' | 'after-aborted'

export type Verdict = Readonly<{
  forward: Forward
  back: Back
  /** Why neither is allowed, a phrase; else empty. */
  why: string
}>

/** What may be done. Both `no`: nothing is started anywhere, and a person has to know more (exit status 10). */
export function decide(evidence: Evidence): Verdict {
  const { source, destination, here, procedure } = evidence
  if (source.ended !== null) return neither('it is over')
  if (source.done.has('go') || (typeof destination !== 'string' && destination.hasGo)) {
    if (source.rollback !== null)
      return neither('it was given back here, and the destination was told to run it')
    if (!source.isFenced)
      return neither('the destination was told to run it, and the journal here does not know of that')
    if (isActive(here)) return neither('it runs here, and the destination was told to run it')
    if (typeof destination === 'string' && !isUpThere(procedure, source))
      return neither('the destination was told to run it, and cannot be asked now whether it does')
    return { forward: 'finish', back: 'no', why: '' }
  }
  // behind FENCED this was written only when the destination had 'aborted', or by hand
  if (source.rollback !== null) return back('freely')
  if (source.isFenced) return afterFence(evidence)
  if (procedure === 'live' && isStanding(source, 'live')) return duringLive(evidence)
  return beforeFence(evidence)
}

/** The destination cannot have 'go': it is sent by nobody before FENCED is on the disk here. */
function beforeFence({ procedure, source, destination, here, there, sameBoot }: Evidence): Verdict {
  const saved = source.done.has('save') || source.done.has('shutdown')
  const touched = isStanding(source, 'save') || isStanding(source, 'shutdown') || isStanding(source, 'fence')
  if (there === 'running') return neither('it runs there, without leave')
  if (here === 'unknown') return touched ? neither('the hypervisor here cannot be asked') : back('freely')
  // a save that the host did not survive is no saved state
  const isStopped = saved || (touched && (sameBoot === 'yes' || procedure === 'cold'))
  const isReady =
    procedure === 'off' ? isGone(here) : (isStopped && isGone(here)) || (!saved && isActive(here))
  const canGoOn = typeof destination !== 'string' && !destination.isAborted && isReady
  return { forward: canGoOn ? 'before-handover' : 'no', back: 'freely', why: '' }
}

/** FENCED is on the disk here: the destination may have 'go' unless it says that it has not. */
function afterFence({ procedure, destination, here, there }: Evidence): Verdict {
  if (destination === 'unreachable')
    return neither('the destination cannot be asked whether it was told to run it')
  if (destination === 'forgotten') return neither('the destination knows nothing of this migration any more')
  if (procedure === 'live') {
    if (isActive(here)) return neither('it had moved, and runs here again')
    return { forward: 'handover', back: 'no', why: '' }
  }
  if (destination.isAborted) return back('after-aborted')
  if (there === 'running') {
    // somebody let it run by hand: this host is fenced, so it is the only one
    if (isActive(here)) return neither('it runs on both hosts')
    return { forward: 'handover', back: 'no', why: '' }
  }
  if (isActive(here)) return back('after-aborted')
  return { forward: 'handover', back: 'after-aborted', why: '' }
}

/** The hypervisor itself moves it: where it runs is what counts. */
function duringLive({ source, destination, here, there }: Evidence): Verdict {
  const isThere = there === 'running'
  // it is certain that it moved: nothing is in the way of the fence here, whatever can be asked there
  if (source.done.has('live') && isGone(here)) return { forward: 'before-handover', back: 'no', why: '' }
  if (here === 'running') {
    if (isThere) return neither('it runs on both hosts')
    return source.done.has('live') ? neither('it had moved, and runs here again') : back('freely')
  }
  if (here === 'paused') {
    // it waits for the other side's word, unless there is nothing there
    const isNowhereElse = typeof destination !== 'string' && (there === 'absent' || there === 'off')
    return isNowhereElse && !source.done.has('live')
      ? back('freely')
      : neither('it is paused here, on its way there')
  }
  const canGoOn = typeof destination !== 'string' && !destination.isAborted
  if ((here === 'off' || here === 'absent') && isThere && canGoOn)
    return { forward: 'before-handover', back: 'no', why: '' }
  return neither('it is not known whether it had moved, and it runs nowhere')
}

function back(how: Exclude<Back, 'no'>): Verdict {
  return { forward: 'no', back: how, why: '' }
}

function neither(why: string): Verdict {
  return { forward: 'no', back: 'no', why }
}

/** The last step that needs the destination is done: what is left is to clean up. */
function isUpThere(procedure: Procedure, { done, plan }: JournalState): boolean {
  switch (procedure) {
    case 'warm':
      return done.has('resume')
    case 'cold':
    case 'live':
      return done.has('start')
    case 'off':
      return done.has(plan?.options.start === 'yes' ? 'start' : 'define')
    default:
      return procedure satisfies never
  }
}

/** In memory: it runs, or could go on at once. */
export function isActive(where: Whereabouts): boolean {
  return where === 'running' || where === 'paused' || where === 'saving' || where === 'stopping'
}

/** Certainly not in memory. */
export function isGone(where: Whereabouts): boolean {
  return where === 'off' || where === 'absent' || where === 'crashed'
}
