// What every kind of snapshot has in common when it runs programs: their failures as replicate/snapshot, with their last
// words. Refuses nothing by itself; a host that is gone stays host/lost.

import { SyncError } from '../errors.js'
import type { Host, ProgramRequest, ProgramResult } from '../host/host.js'
import { printable } from '../printable.js'

/** What a shell says of a program that is not there. */
export const NOT_FOUND = 127

/** A failure to report. `operand` is the disk, `hint` what to type next. */
export function snapshotFailure(message: string, operand: string, hint: string, cause?: unknown): SyncError {
  return new SyncError('replicate/snapshot', printable(message), {
    operand: printable(operand),
    hint: printable(hint),
    cause,
  })
}

/** Host.run; what is killed, times out or prints too much is a failure of the snapshot of `operand`. */
export async function runFor(operand: string, host: Host, request: ProgramRequest): Promise<ProgramResult> {
  try {
    return await host.run(request)
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== 'host/program') throw error
    throw snapshotFailure(error.message, operand, error.hint ?? `Look on ${host.name}.`, error)
  }
}

/** The last line of what a program said is the one that says it. */
export function lastWords({ stderrTail, exitStatus }: ProgramResult, program: string): string {
  const lines = stderrTail.trim().split('\n')
  const last = (lines.at(-1) ?? '').trim()
  return last === '' ? `${program} ended with status ${exitStatus}` : printable(last)
}

/**
 * Runs all of `works` one after the other, also behind one that failed, and then rejects with the first failure: what is to
 * be taken away is taken away as far as that goes.
 */
export async function all(works: ReadonlyArray<() => Promise<void>>): Promise<void> {
  const failures: unknown[] = []
  for (const work of works) await work().catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** `failure`, with what could not be taken away behind it said too. A host that is gone is reason enough for both. */
export function alsoSaying(failure: unknown, left: unknown): unknown {
  if (!(failure instanceof SyncError) || failure.code !== 'replicate/snapshot') return failure
  const more = left instanceof Error ? left.message : String(left)
  return snapshotFailure(`${failure.message}; ${more}`, failure.operand ?? '', failure.hint ?? '', failure)
}
