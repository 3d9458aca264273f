// By which both ends open the disks of a run, each those of its own host: what may refuse a disk is asked here, before a
// byte of it is written. Refuses a destination that somebody else uses, and lets go of everything when it rejects.

import type { BigIntStats } from 'node:fs'
import { resolve } from 'node:path'

import type { Endpoint, OpenRequest, StableIdentity } from '../endpoint/endpoint.js'
import { openEndpoint } from '../endpoint/open.js'
import { errnoOf, SyncError } from '../errors.js'
import type { GuardName } from '../guard/guard-name.js'
import { type DiskLock, lockDisk, NO_LOCK } from '../guard/lock.js'
import { dryRunWarnings, forcedWarnings, refuseUses, sourceWarnings } from '../guard/findings.js'
import type { Permit, Restriction } from '../guard/restrict.js'
import type { Survey } from '../guard/survey.js'
import { findUses } from '../guard/use.js'
import type { NativeCore } from '../native.js'
import { PairKeeper } from '../state/pair-keeper.js'
import type { KnownDisk } from '../state/record.js'
import type { HostState } from '../state/state.js'
import type { LeafTrack } from '../track/track.js'
import type { DiskUndo } from '../undo/journal.js'
import { probeContent } from './content-probe.js'
import { isFrozen, stampOf } from './disk-stamp.js'
import { NO_UNDO_LIMITS, openUndo, type UndoLimits, type UndoQuestion, type UndoWish } from './keep-undo.js'

/** What to open, and what to ask before. The claim is this file's own. */
export type DiskRequest = Omit<OpenRequest, 'claim'> &
  Readonly<{
    /**
     * `on`: a destination that will be written is refused where somebody uses it; one that is only read (a dry run), and a
     * source, is opened with warnings. `off` (verify, a further lane): nobody is asked.
     */
    guards: 'on' | 'off'
    /** Guards that the user overrides. */
    force: readonly GuardName[]
    /** `further`: of a run that holds the claim already, and was asked when it took that. */
    lane: 'first' | 'further'
    /** The other disk of the pair, or `later` where it is not open yet; null where nothing is to be known of the two. */
    peer: StableIdentity | 'later' | null
    /**
     * `keep`, `chain`: old content of this destination is kept before it is overwritten. `restore`: it is brought back, so a
     * journal that is there stays as it is; with `none` it becomes void.
     */
    undo: UndoWish | 'restore'
    /** For how long another run that has it locked is waited for; absent is not at all. */
    lockWaitMs?: number
    /** Of a source: what is known of it; null (absent) is nothing. */
    track?: LeafTrack | null
  }>

/** What the disks of a run that are open in one process share. */
export type DiskContext = Readonly<{
  native: NativeCore | null
  survey: Survey
  state: HostState
  /** Absent: journals go to the state directory, without a bound. */
  undo?: UndoLimits
  /** The process at the other end of the run (see LockContext); absent is not known. */
  peerProcess?: string | null
  /** Ends the wait for a lock. */
  signal?: AbortSignal
  /** What the key of the client is allowed; null (absent) is everything that this user may open. */
  restriction?: Restriction | null
}>

/** A disk that is open here. Who opened it closes it, with all that was taken for it. */
export interface OpenDisk extends AsyncDisposable {
  readonly endpoint: Endpoint
  /** Who it is, also after the next boot. */
  readonly stable: StableIdentity
  /** What is on it and what was recorded of it; null where no peer was named. */
  readonly known: KnownDisk | null
  /** Writes its record. */
  readonly keeper: PairKeeper
  /** Of a destination that may be written: its undo journal, kept or to be void; null where there is none. */
  readonly undo: DiskUndo | null
  /** Sentences about it that the user should see though the run goes on. */
  readonly warnings: readonly string[]
  /** Set when a pass over it is begun: until then what was made for it is taken back at the end. */
  isBegun: boolean
}

/**
 * Opens a disk of a run. Rejects as openEndpoint does, and with guard/mounted, guard/swap, guard/guest, guard/open,
 * guard/attached, guard/held, guard/locked or guard/restricted; nothing was written then.
 */
export async function openDisk(request: DiskRequest, context: DiskContext): Promise<OpenDisk> {
  const permit = await permitFor(request, context)
  // before anybody is asked: another run is named as what it is, not as a process that has the disk open
  const lock = await lockFor(request, context)
  try {
    return await openLocked(request, context, permit, lock)
  } catch (error) {
    await lock.release()
    throw error
  }
}

async function openLocked(
  request: DiskRequest,
  context: DiskContext,
  permit: Permit | null,
  lock: DiskLock,
): Promise<OpenDisk> {
  const { guards, force, lane, peer, undo: keep, lockWaitMs: _, track = null, ...open } = request
  const { native, survey } = context
  const warnings = [...lock.warnings]
  const claim = open.access === 'write' && lane === 'first' ? 'exclusive' : 'shared'
  const isAsked = guards === 'on' && lane === 'first'
  let found: BigIntStats | null = null
  const ask = async (facts: BigIntStats): Promise<OpenRequest['claim']> => {
    found = facts
    permit?.checkFound(facts)
    checkLocked(open, lock, facts)
    if (!isAsked) return claim
    const uses = await findUses(open.path, facts, survey)
    if (open.role === 'source') warnings.push(...sourceWarnings(open.path, uses))
    else if (open.access === 'read') warnings.push(...dryRunWarnings(open.path, uses, force))
    else {
      refuseUses(open.path, uses, force)
      warnings.push(...forcedWarnings(open.path, uses))
      // the kernel gives nobody a claim beside those that were found and overridden
      if (uses.some(({ claims }) => claims === 'disk')) return 'shared'
    }
    return claim
  }
  const opened = await openClaimed({ ...open, claim }, native, ask, force, warnings)
  const endpoint = track?.over(opened) ?? opened
  const made = found === null ? await lockMade(request, context, endpoint) : NO_LOCK
  warnings.push(...made.warnings)
  try {
    await permit?.checkOpened(endpoint.info)
    const { standsFor = null } = open
    const stable = await (standsFor === null
      ? context.state.identify(open.path, found)
      : context.state.identifyPath(standsFor))
    const was = { role: open.role, facts: found }
    const known = peer === null ? null : await knowDisk(endpoint, stable, was, peer, context, warnings)
    // said before anything is written, since the record of that would be missed
    const why = known !== null && open.access === 'write' ? await context.state.prepare() : null
    if (why !== null) warnings.push(`${open.path}: ${why}; no record of the pair is kept there`)
    const keeper = new PairKeeper(
      context.state,
      { stable, path: resolve(standsFor ?? open.path) },
      open.role,
      known?.pairs ?? [],
    )
    const undo =
      open.access === 'write'
        ? await journalOf({ keep, lane, info: endpoint.info, stable, existed: found !== null }, context)
        : null
    warnings.push(...(undo?.warnings ?? []))
    return new DiskHandle(endpoint, found === null ? made : lock, { stable, known, keeper, undo, warnings })
  } catch (error) {
    await endpoint.takeBack()
    await endpoint.close()
    await made.release()
    throw error
  }
}

/** Exclusive for what will be written, shared for all else. A further lane shares that of the first one. */
async function lockFor(
  { path, role, access, lane, lockWaitMs = 0 }: DiskRequest,
  { native, peerProcess = null, signal }: DiskContext,
): Promise<DiskLock> {
  if (lane === 'further') return NO_LOCK
  const mode = access === 'write' ? 'exclusive' : 'shared'
  return await lockDisk(
    { path, role, mode, waitMs: lockWaitMs },
    { native, peerProcess, signal: signal ?? null },
  )
}

/** A file that was made now, and that nobody could lock before. Whoever locked it since then has it: it is left to them. */
async function lockMade(request: DiskRequest, context: DiskContext, endpoint: Endpoint): Promise<DiskLock> {
  if (!endpoint.info.created) return NO_LOCK
  try {
    return await lockFor(request, context)
  } catch (error) {
    await endpoint.close()
    throw error
  }
}

/** The path may lead elsewhere by now: then what is locked is not what would be opened. */
function checkLocked(
  { path, role }: Pick<DiskRequest, 'path' | 'role'>,
  lock: DiskLock,
  now: BigIntStats,
): void {
  const { facts } = lock
  if (facts === null || (facts.dev === now.dev && facts.ino === now.ino && facts.rdev === now.rdev)) return
  throw new SyncError(
    `${role}/open`,
    `${path} became something else while it was locked; nothing was written`,
    {
      operand: path,
      hint: `See what replaces ${path}, then run the same command again.`,
    },
  )
}

/** Asked first of all: who may not have a disk is told nothing of it. */
async function permitFor(
  request: Omit<OpenRequest, 'claim'>,
  { restriction = null }: DiskContext,
): Promise<Permit | null> {
  if (restriction === null) return null
  const { permit } = await import('../guard/restrict.js')
  // whose records are written is as much as what is read
  const { standsFor = null } = request
  if (standsFor !== null) await permit(restriction, { ...request, path: standsFor })
  return await permit(restriction, request)
}

/** The undo journal of a destination that may be written. */
async function journalOf(
  question: UndoQuestion,
  { state, native, undo: limits = NO_UNDO_LIMITS }: DiskContext,
): Promise<DiskUndo | null> {
  return await openUndo(question, { state, limits, native })
}

/** What is on it, and what was recorded of it and `peer`. */
async function knowDisk(
  endpoint: Endpoint,
  stable: StableIdentity,
  { role, facts }: Readonly<{ role: OpenRequest['role']; facts: BigIntStats | null }>,
  peer: StableIdentity | 'later',
  { native, state }: DiskContext,
  warnings: string[],
): Promise<KnownDisk> {
  const [content, { records, problems }, frozen] = await Promise.all([
    probeContent(endpoint, native),
    peer === 'later' ? { records: [], problems: [] } : state.recordsOf(stable, peer),
    role === 'source' && facts !== null ? isFrozen(facts) : false,
  ])
  warnings.push(...problems)
  return { stable, content, pairs: records, stamp: stampOf(role, endpoint.info, facts), frozen }
}

/** The exclusive open is the last word: whoever claimed the disk unseen, or since it was asked, is refused by the kernel. */
async function openClaimed(
  request: OpenRequest,
  native: NativeCore | null,
  ask: (facts: BigIntStats) => Promise<OpenRequest['claim']>,
  force: readonly GuardName[],
  warnings: string[],
): Promise<Endpoint> {
  try {
    return await openEndpoint(request, native, ask)
  } catch (error) {
    const isClaimed = error instanceof SyncError && error.code === 'guard/held'
    if (!isClaimed || errnoOf(error.cause) !== 'EBUSY' || !force.includes('held')) throw error
    warnings.push(
      `${error.message.replace(/; nothing was written$/, '')}; --force-held: it is written all the same`,
    )
    return await openEndpoint({ ...request, claim: 'shared' }, native)
  }
}

/** Closes all of them. Rejects with the first failure, when all are closed. */
export async function closeDisks(disks: Iterable<OpenDisk>): Promise<void> {
  const closing = Array.from(disks, (disk) => disk[Symbol.asyncDispose]())
  const failed = (await Promise.allSettled(closing)).find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
}

class DiskHandle implements OpenDisk {
  readonly endpoint: Endpoint
  readonly stable: StableIdentity
  readonly known: KnownDisk | null
  readonly keeper: PairKeeper
  readonly undo: DiskUndo | null
  readonly warnings: readonly string[]
  isBegun = false
  readonly #lock: DiskLock

  constructor(
    endpoint: Endpoint,
    lock: DiskLock,
    what: Pick<OpenDisk, 'stable' | 'known' | 'keeper' | 'undo' | 'warnings'>,
  ) {
    this.endpoint = endpoint
    this.#lock = lock
    this.stable = what.stable
    this.known = what.known
    this.keeper = what.keeper
    this.undo = what.undo
    this.warnings = what.warnings
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.isBegun) await this.endpoint.takeBack()
      await this.undo?.[Symbol.asyncDispose]()
    } finally {
      try {
        await this.endpoint.close()
      } finally {
        // last: whoever waits for it finds the disk closed
        await this.#lock.release()
      }
    }
  }
}
