// Every failure that can leave this program: one class, one closed list of codes, one table from code to exit status.
// Where an error arises decides its code; nothing between there and the table changes it.

/** Exit statuses a script may rest on (docs/cli.md). */
export const EXIT = {
  ok: 0,
  different: 1,
  usage: 2,
  guard: 3,
  unreachable: 4,
  source: 5,
  destination: 6,
  verification: 7,
  lost: 8,
  stopped: 9,
  stuck: 10,
  unreadable: 11,
  internal: 70,
  sigint: 130,
  sigterm: 143,
} as const

const EXIT_STATUS_OF = {
  // nothing was opened
  usage: EXIT.usage,
  'native/required': EXIT.usage,
  // a guard refused: nothing was written
  'guard/mounted': EXIT.guard,
  'guard/swap': EXIT.guard,
  'guard/guest': EXIT.guard,
  'guard/open': EXIT.guard,
  'guard/attached': EXIT.guard,
  'guard/held': EXIT.guard,
  'guard/locked': EXIT.guard,
  'guard/same-id': EXIT.guard,
  'guard/content': EXIT.guard,
  'guard/direction': EXIT.guard,
  'guard/same-disk': EXIT.guard,
  'guard/size': EXIT.guard,
  'guard/kind': EXIT.guard,
  'guard/missing': EXIT.guard,
  'guard/restricted': EXIT.guard,
  'state/unusable': EXIT.guard,
  // the other side could not be reached, or refused us
  'connect/host': EXIT.unreachable,
  'connect/refused': EXIT.unreachable,
  'connect/host-key': EXIT.unreachable,
  'connect/auth': EXIT.unreachable,
  'connect/no-program': EXIT.unreachable,
  'connect/version': EXIT.unreachable,
  'connect/capability': EXIT.unreachable,
  'connect/garbage': EXIT.unreachable,
  'connect/failed': EXIT.unreachable,
  // the disk that is read
  'source/missing': EXIT.source,
  'source/open': EXIT.source,
  'source/read': EXIT.source,
  'source/shrank': EXIT.source,
  'source/track': EXIT.source,
  // --rescue: all else is done, but parts of the source could not be read
  'source/unreadable': EXIT.unreadable,
  // the disk that is written
  'destination/open': EXIT.destination,
  'destination/read': EXIT.destination,
  'destination/write': EXIT.destination,
  'destination/no-space': EXIT.destination,
  'destination/flush': EXIT.destination,
  'destination/track': EXIT.destination,
  'destination/undo': EXIT.destination,
  'destination/undo-space': EXIT.destination,
  // the disks are done, their receipt is not
  'receipt/write': EXIT.destination,
  'rescue/write': EXIT.destination,
  // the destination is not what was sent
  'verify/mismatch': EXIT.verification,
  // blocksync undo: there is no journal, it is of another disk, it is damaged
  'undo/missing': EXIT.guard,
  'undo/mismatch': EXIT.guard,
  'undo/broken': EXIT.verification,
  // the connection broke, or what came over it is not our protocol
  'session/lost': EXIT.lost,
  'session/protocol': EXIT.lost,
  // migrate: nothing was changed on either host
  'migrate/guest': EXIT.usage,
  'migrate/unknown': EXIT.usage,
  'migrate/refused': EXIT.guard,
  'migrate/busy': EXIT.guard,
  'migrate/ended': EXIT.guard,
  'migrate/daemon': EXIT.unreachable,
  // it stopped, and the guest is where it was; or nobody can tell, and nothing was started
  'migrate/hypervisor': EXIT.stopped,
  'migrate/shutdown': EXIT.stopped,
  'migrate/stopped': EXIT.stopped,
  'migrate/stuck': EXIT.stuck,
  // replicate: the configuration, or what was named, is not there or not right
  'config/invalid': EXIT.usage,
  'config/missing': EXIT.usage,
  'replicate/unknown': EXIT.usage,
  // it may not be done now: nothing was written
  'replicate/busy': EXIT.guard,
  'replicate/paused': EXIT.guard,
  'replicate/promoted': EXIT.guard,
  'replicate/refused': EXIT.guard,
  'replicate/record': EXIT.guard,
  // the source could not be cut at one instant
  'replicate/snapshot': EXIT.source,
  'replicate/quiesce': EXIT.source,
  'replicate/hook': EXIT.stopped,
  // a replica is not what its record says
  'replicate/drill': EXIT.verification,
  // what a migration or an attempt asks of a host
  'host/program': EXIT.stopped,
  'host/file': EXIT.stopped,
  'host/lost': EXIT.lost,
  'interrupt/sigint': EXIT.sigint,
  'interrupt/sigterm': EXIT.sigterm,
  internal: EXIT.internal,
} as const

export type ErrorCode = keyof typeof EXIT_STATUS_OF

/**
 * What `--retries` tries again: the connection, never an answer. `passing`: only where whoever throws it says that it may
 * pass by itself. A code that is not here is final.
 */
const RETRIABLE: Partial<Record<ErrorCode, 'always' | 'passing'>> = {
  'session/lost': 'always',
  'connect/refused': 'always',
  'connect/failed': 'always',
  // a name server that does not answer passes, a name that does not exist does not
  'connect/host': 'passing',
}

/** True for a string that is one of our codes: what the far end sends is checked with this. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(EXIT_STATUS_OF, value)
}

/** The documented exit status of an error code. */
export function exitStatusOf(code: ErrorCode): number {
  return EXIT_STATUS_OF[code]
}

export type SyncErrorDetails = {
  /** The operand as the user typed it, or the host: what the message is about. */
  operand?: string
  /** What to type or do next; a sentence. */
  hint?: string
  cause?: unknown
  /** It may pass by itself; see RETRIABLE. */
  passing?: true
}

/**
 * The one error class. `message` says what happened and what was not done; `hint` says what to do next.
 * `operand` names the disk or host that it is about.
 */
export class SyncError extends Error {
  override readonly name = 'SyncError'
  readonly code: ErrorCode
  readonly operand: string | null
  readonly hint: string | null
  readonly #passing: boolean

  constructor(code: ErrorCode, message: string, details: SyncErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.operand = details.operand ?? null
    this.hint = details.hint ?? null
    this.#passing = details.passing ?? false
  }

  get exitStatus(): number {
    return exitStatusOf(this.code)
  }

  /** Whether the same run may succeed when it is tried again in a while, without anybody doing anything. */
  get isRetriable(): boolean {
    const retriable = RETRIABLE[this.code]
    return retriable === 'always' || (retriable === 'passing' && this.#passing)
  }
}

/** Any thrown value as a SyncError; what is not one already is a bug here and keeps its cause. */
export function toSyncError(thrown: unknown): SyncError {
  if (thrown instanceof SyncError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new SyncError('internal', `internal error: ${message}`, {
    cause: thrown,
    hint: 'This is a defect in blocksync; please report it with the output of blocksync doctor.',
  })
}

/** What it resolves with; null where the system refuses, or there is nothing (any more). Rejects with other errors. */
export async function unlessDenied<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (thrown) {
    if (errnoOf(thrown) === null) throw thrown
    return null
  }
}

/** The errno name of a system error ('ENOSPC'), or null. */
export function errnoOf(thrown: unknown): string | null {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') return thrown.code
  return null
}
