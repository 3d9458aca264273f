// One budget of bytes a second for all attempts that run: each gets an equal share, at its start in its words and by its control
// socket whenever their number changes. A run that has no socket yet is asked again when it tells something.

import { existsSync } from 'node:fs'

import { DAYS_PER_WEEK, MAX_RATE_SLOTS, MINUTES_PER_DAY } from '../rate/schedule.js'
import type { RateSchedule, RateSlot } from '../rate/schedule.js'
import { controlDirectories, socketPath, type Whereabouts } from '../rate/place.js'

/** Sets the limit of a run, by its pid; resolves with whether it has it now. Rejects where the run does not take it. */
export type SetLimit = (pid: number, schedule: RateSchedule | null) => Promise<boolean>

/** What an attempt has of a budget, as one of `count`; and never more than its own limit. Null is no limit. */
export function shareOf(
  total: RateSchedule | null,
  count: number,
  own: RateSchedule | null,
): RateSchedule | null {
  if (total === null) return own
  const [first, ...rest] = total.map((slot) => divided(slot, count))
  if (first === undefined) throw new TypeError('a schedule has a slot')
  return own === null ? [first, ...rest] : lesser([first, ...rest], own)
}

/** At each time the lower of two. Where that would be too many slots, each begins at a quarter of an hour. */
export function lesser(one: RateSchedule, other: RateSchedule): RateSchedule {
  const minutes = [...new Set([0, ...one.map(minuteOf), ...other.map(minuteOf)])].toSorted((a, b) => a - b)
  const chosen = minutes.length <= MAX_RATE_SLOTS ? minutes : quarters()
  const [first, ...rest] = chosen.map((minuteOfWeek) => ({
    minuteOfWeek,
    bytesPerSecond: lower(rateFrom(one, minuteOfWeek), rateFrom(other, minuteOfWeek)),
  }))
  if (first === undefined) throw new TypeError('a schedule has a slot')
  const slots: [RateSlot, ...RateSlot[]] = [first]
  for (const slot of rest) if (slot.bytesPerSecond !== slots.at(-1)?.bytesPerSecond) slots.push(slot)
  return slots
}

function divided({ minuteOfWeek, bytesPerSecond }: RateSlot, count: number): RateSlot {
  const share = bytesPerSecond === null ? null : Math.max(1, Math.floor(bytesPerSecond / Math.max(1, count)))
  return { minuteOfWeek, bytesPerSecond: share }
}

function minuteOf({ minuteOfWeek }: RateSlot): number {
  return minuteOfWeek
}

function quarters(): number[] {
  const step = (DAYS_PER_WEEK * MINUTES_PER_DAY) / MAX_RATE_SLOTS
  return Array.from({ length: MAX_RATE_SLOTS }, (_, index) => index * step)
}

/** As rateAt has it, for a minute of the week. */
function rateFrom(schedule: RateSchedule, minuteOfWeek: number): number | null {
  const slot = schedule.findLast((candidate) => candidate.minuteOfWeek <= minuteOfWeek) ?? schedule.at(-1)
  return (slot ?? schedule[0]).bytesPerSecond
}

function lower(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other
  return Math.min(one, other)
}

/** The real one: by the control socket of the run. */
export function limitBySocket(whereabouts: Whereabouts): SetLimit {
  return async (pid, schedule) => {
    const [path] = controlDirectories(whereabouts)
      .map((directory) => socketPath(directory, pid) ?? '')
      .filter((candidate) => candidate !== '' && existsSync(candidate))
    if (path === undefined) return false
    const { askRun } = await import('../rate/client.js')
    await askRun({ pid, path }, { command: 'bwlimit', schedule })
    return true
  }
}

/** `set` is what it has been given, or null before; `state` whether a request is under way, and whether it is out of date. */
type Member = {
  readonly own: RateSchedule | null
  given: string
  state: 'quiet' | 'asking' | 'again'
}

export class Budget {
  readonly #members = new Map<number, Member>()
  readonly #setLimit: SetLimit
  readonly #onFailure: (pid: number, message: string) => void
  #total: RateSchedule | null

  /** `onFailure`: a run did not take its share; it keeps the one it has until the number changes again. */
  constructor(
    total: RateSchedule | null,
    setLimit: SetLimit,
    onFailure: (pid: number, message: string) => void,
  ) {
    this.#total = total
    this.#setLimit = setLimit
    this.#onFailure = onFailure
  }

  /** What an attempt that is about to start gets, being one more. */
  shareForNext(own: RateSchedule | null): RateSchedule | null {
    return shareOf(this.#total, this.#members.size + 1, own)
  }

  /** An attempt has started with `shareForNext(own)`. */
  add(pid: number, own: RateSchedule | null): void {
    const given = JSON.stringify(this.shareForNext(own))
    this.#members.set(pid, { own, given, state: 'quiet' })
    this.#shareOut()
  }

  remove(pid: number): void {
    if (this.#members.delete(pid)) this.#shareOut()
  }

  /** Of a configuration that was read again. */
  setTotal(total: RateSchedule | null): void {
    this.#total = total
    this.#shareOut()
  }

  /** That attempt has told something: by now it may have its socket. */
  heard(pid: number): void {
    const member = this.#members.get(pid)
    if (member !== undefined) this.#give(pid, member)
  }

  #shareOut(): void {
    for (const [pid, member] of this.#members) this.#give(pid, member)
  }

  #give(pid: number, member: Member): void {
    const share = shareOf(this.#total, this.#members.size, member.own)
    const wanted = JSON.stringify(share)
    if (member.state !== 'quiet') {
      member.state = 'again'
      return
    }
    if (wanted === member.given) return
    member.state = 'asking'
    this.#setLimit(pid, share).then(
      (isSet) => {
        if (isSet) member.given = wanted
        // without a socket it is asked when it tells something
        this.#given(pid, member, isSet)
      },
      (error: unknown) => {
        member.given = wanted
        if (this.#members.has(pid))
          this.#onFailure(pid, error instanceof Error ? error.message : String(error))
        this.#given(pid, member, true)
      },
    )
  }

  #given(pid: number, member: Member, isSettled: boolean): void {
    const isOld = member.state === 'again'
    member.state = 'quiet'
    if (isOld && isSettled && this.#members.get(pid) === member) this.#give(pid, member)
  }
}
