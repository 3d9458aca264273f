// What one run of the kill matrix is: who is hit, how, when, over what, and what is tried afterwards. Everything comes from
// a seed, so a run that went wrong can be made again.

import { randomFrom } from '../undo/power.js'

export const WAYS = ['relay', 'local', 'openssh'] as const
export type KillWay = (typeof WAYS)[number]
export type Victim = 'client' | 'far' | 'wire'
export type Blow = 'SIGKILL' | 'SIGSTOP' | 'SIGTERM' | 'SIGINT' | 'cut' | 'cut-inside'

/**
 * When the blow falls. `frame`: a frame is held on its way (`C`, `S`, `src`, `dst` sends it), and the blow falls `afterMs`
 * behind the moment at which it goes on, or before it goes on (null). `sent`: when progress says that something was sent.
 */
export type Instant =
  | Readonly<{
      kind: 'frame'
      sender: 'C' | 'S' | 'src' | 'dst'
      frame: string
      nth: number
      afterMs: number | null
    }>
  | Readonly<{ kind: 'born' }>
  | Readonly<{ kind: 'sent'; afterMs: number }>
  | Readonly<{ kind: 'moment'; afterMs: number }>

export type KillPlan = Readonly<{
  seed: number
  way: KillWay
  direction: 'push' | 'pull'
  disk: 'file' | 'loop'
  undo: boolean
  /** What reads back: the end of a run, or a second run that only compares. */
  verify: 'none' | 'written' | 'all'
  victim: Victim
  blow: Blow
  instant: Instant
  /** With undo: how often the undo is hit in its turn, and when. */
  undoHitsMs: readonly number[]
  contentSeed: number
}>

/** The phases of a run, each by the frame that is on its way in it. */
const PHASES: readonly Extract<Instant, { kind: 'frame' }>[] = [
  { sender: 'C', frame: 'open', nth: 1 },
  { sender: 'S', frame: 'opened', nth: 1 },
  { sender: 'C', frame: 'start', nth: 1 },
  { sender: 'dst', frame: 'digests', nth: 1 },
  { sender: 'src', frame: 'refine', nth: 1 },
  { sender: 'dst', frame: 'detail', nth: 1 },
  { sender: 'src', frame: 'data', nth: 1 },
  { sender: 'src', frame: 'data', nth: 2 },
  { sender: 'src', frame: 'data', nth: 4 },
  { sender: 'src', frame: 'mark', nth: 1 },
  { sender: 'src', frame: 'mark', nth: 3 },
  { sender: 'src', frame: 'finish', nth: 1 },
  { sender: 'dst', frame: 'finished', nth: 1 },
  { sender: 'C', frame: 'record', nth: 1 },
  { sender: 'S', frame: 'recorded', nth: 1 },
  { sender: 'C', frame: 'bye', nth: 1 },
].map((phase) => ({ kind: 'frame', afterMs: null, ...phase }) as Extract<Instant, { kind: 'frame' }>)

/** No run of the matrix takes longer than this from its start to its last byte, on an idle machine. */
const RUN_MS = 450
const UNDO_MS = 300

export function planOf(seed: number, ways: readonly KillWay[]): KillPlan {
  const random = randomFrom(seed)
  const below = (count: number): number => Math.floor(random() * count)
  const pick = <T>(...from: readonly T[]): T => {
    const picked = from[below(from.length)]
    if (picked === undefined) throw new Error('nothing to pick from')
    return picked
  }
  const wanted: KillWay = pick<KillWay>(
    'relay',
    'relay',
    'relay',
    'relay',
    'relay',
    'relay',
    'local',
    'openssh',
  )
  const way = ways.includes(wanted) ? wanted : 'relay'
  const undo = random() < 0.5
  const verify = pick<KillPlan['verify']>('none', 'none', 'written', 'all')
  const victim = way === 'local' ? pick<Victim>('client', 'far') : pick<Victim>('client', 'far', 'wire')
  const signals: readonly Blow[] = ['SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGINT', 'SIGSTOP']
  let blow: Blow = pick(...signals)
  let instant: Instant
  if (way === 'relay' && random() < 0.85) {
    const phase = pick(...PHASES)
    // at the second pass of --verify=all, which only reads
    const nth =
      verify === 'all' && ['start', 'finish', 'digests'].includes(phase.frame) && random() < 0.5
        ? 2
        : phase.nth
    instant = { ...phase, nth, afterMs: random() < 0.4 ? null : Math.floor(random() ** 2 * 30) }
    if (victim === 'wire') blow = pick<Blow>('cut', 'cut-inside', 'SIGKILL', 'SIGSTOP')
  } else {
    instant = pick<Instant>(
      { kind: 'moment', afterMs: below(RUN_MS) },
      { kind: 'moment', afterMs: below(RUN_MS) },
      { kind: 'sent', afterMs: below(120) },
      { kind: 'born' },
    )
    if (victim === 'wire') blow = pick<Blow>('SIGKILL', 'SIGSTOP', 'SIGTERM')
    // before the banners the other end is given two minutes, whatever --timeout says
    if (blow === 'SIGSTOP') instant = { kind: 'sent', afterMs: below(120) }
  }
  return {
    seed,
    way,
    direction: way === 'local' ? 'push' : pick<'push' | 'pull'>('push', 'pull'),
    disk: pick<'file' | 'loop'>('file', 'file', 'loop'),
    undo,
    verify,
    victim,
    blow,
    instant,
    undoHitsMs: undo ? Array.from({ length: below(3) }, () => 40 + below(UNDO_MS)) : [],
    contentSeed: below(2 ** 31),
  }
}

export function describePlan({
  seed,
  way,
  direction,
  disk,
  undo,
  verify,
  victim,
  blow,
  instant,
  undoHitsMs,
}: KillPlan): string {
  const when =
    instant.kind === 'frame'
      ? `at ${instant.frame} ${instant.nth} of ${instant.sender}${instant.afterMs === null ? '' : ` + ${instant.afterMs} ms`}`
      : `${instant.kind}${'afterMs' in instant ? ` + ${instant.afterMs} ms` : ''}`
  const words = [way, direction, disk, undo ? `undo(${undoHitsMs.join(',')})` : 'plain', `verify=${verify}`]
  return `seed ${seed}: ${blow} of ${victim} ${when}; ${words.join(' ')}`
}
