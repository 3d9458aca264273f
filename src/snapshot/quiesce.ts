// A guest, or a program, is told to be quiet while the disks are cut, and told to go on whatever happens to us meanwhile.
// Refuses nothing: where it cannot be quiet the cut is taken without, and a warning says so.

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host, ProgramResult } from '../host/host.js'
import { printable } from '../printable.js'
import { lastWords } from './failures.js'
import type { Cut, CutRequest, SnapshotMethod } from './snapshot.js'
import { endThawWatch, startThawWatch, type ThawWatch } from './thaw-watch.js'

/** As the configuration has it (QuiesceChoice in config/config.ts). */
export type QuiesceSpec =
  | Readonly<{ kind: 'libvirt'; domain: string; uri: string | null }>
  | Readonly<{ kind: 'command'; freeze: Argv; thaw: Argv }>

/** Nobody is frozen for longer: programs inside wait for their disks all that time, and Windows thaws by itself after 10 s. */
export const QUIESCE_LIMIT_MS = 10_000
/** A guest flushes what it has cached before it is frozen. What takes longer leaves no time for the cut. */
const FREEZE_SHARE = 0.8
/** libvirt waits 30 s for another question to the same agent. */
const THAW_TIMEOUT_MS = 40_000

/** Of libvirt: nothing was asked of the guest, so nothing comes later. */
const IMPOSSIBLE = /agent is not configured|domain is not running|Domain not found|failed to get domain/

type Words = Readonly<{ what: string; freeze: Argv; thaw: Argv }>

/**
 * Cuts with `method` while the guest is frozen, for at most `limitMs` from before the freeze. `quiesced` of the cut is 'yes'
 * only where it was frozen during all of it. Rejects as the method's `cut` does, and then it is thawed too.
 */
export async function cutQuiesced(
  host: Host,
  quiesce: QuiesceSpec | null,
  method: SnapshotMethod,
  request: CutRequest,
  limitMs = QUIESCE_LIMIT_MS,
): Promise<Cut> {
  if (quiesce === null) return await method.cut(host, request)
  const words = wordsOf(quiesce)
  if (method.kind === 'none')
    // it would be thawed again before the first byte is read
    return loud(
      await method.cut(host, request),
      `${words.what} was not frozen: there is no snapshot to take meanwhile`,
    )
  const beganMs = performance.now()
  const watch = await tried(startThawWatch(host, words.thaw, limitMs))
  if ('failed' in watch)
    return loud(
      await method.cut(host, request),
      `${words.what} was not frozen, since nothing on ${host.name} would thaw it if this program ended: ${watch.failed}`,
    )
  const frozen = await freeze(host, words, limitMs * FREEZE_SHARE)
  if (frozen !== null) {
    const thawed = await thaw(host, words)
    // One that was stopped, or that the guest did not answer, may still come to pass: then the watch is what thaws.
    if (frozen.isOver && (thawed.failed === null || IMPOSSIBLE.test(frozen.failed)))
      await endWatch(host, watch)
    return loud(await method.cut(host, request), `${words.what} could not be frozen: ${frozen.failed}`)
  }
  let isCutInTime = false
  let thawed: Thawed = { failed: 'nobody tried', count: null }
  let cut: Cut
  try {
    cut = await method.cut(host, request)
    isCutInTime = performance.now() - beganMs < limitMs
  } finally {
    thawed = await thaw(host, words)
    if (thawed.failed === null) await endWatch(host, watch)
  }
  if (!isCutInTime)
    return loud(
      cut,
      `${words.what} was thawed before the snapshot was complete: it took more than ${limitMs / 1000} s`,
    )
  if (thawed.failed !== null)
    return loud(cut, `${words.what} may not have been frozen all the time: its thaw failed: ${thawed.failed}`)
  if (thawed.count === 0)
    return loud(cut, `${words.what} had been thawed by somebody else before the snapshot was complete`)
  return { ...cut, quiesced: 'yes' }
}

function wordsOf(quiesce: QuiesceSpec): Words {
  if (quiesce.kind === 'command')
    return { what: `what ${quiesce.freeze[0]} freezes`, freeze: quiesce.freeze, thaw: quiesce.thaw }
  const { domain, uri } = quiesce
  const virsh = (command: string): Argv => {
    // not -q: the number of file systems is printed, and counts
    return ['virsh', ...(uri === null ? [] : ['--connect', uri]), command, '--domain', domain]
  }
  return { what: `the guest ${domain}`, freeze: virsh('domfsfreeze'), thaw: virsh('domfsthaw') }
}

function loud(cut: Cut, warning: string): Cut {
  return { ...cut, quiesced: 'no', warnings: [...cut.warnings, printable(warning)] }
}

/** A watch that could not be started in time is none; a host that is gone is another matter. */
async function tried(starting: Promise<ThawWatch>): Promise<ThawWatch> {
  try {
    return await starting
  } catch (error) {
    return { failed: programFailure(error).message }
  }
}

/** Null when it is frozen. `isOver`: the program has ended by itself, so nothing freezes later. */
async function freeze(
  host: Host,
  { freeze: argv }: Words,
  timeoutMs: number,
): Promise<Readonly<{ failed: string; isOver: boolean }> | null> {
  try {
    const result = await host.run({ argv, timeoutMs })
    if (result.exitStatus !== 0) return { failed: reason(result, argv), isOver: true }
    return countIn(result) === 0 ? { failed: 'it has no file system that can be', isOver: true } : null
  } catch (error) {
    return { failed: programFailure(error).message, isOver: false }
  }
}

type Thawed = Readonly<{ failed: string | null; count: number | null }>

/** A failure is no rejection: the watch is still there. */
async function thaw(host: Host, { thaw: argv }: Words): Promise<Thawed> {
  try {
    const result = await host.run({ argv, timeoutMs: THAW_TIMEOUT_MS })
    return { failed: result.exitStatus === 0 ? null : reason(result, argv), count: countIn(result) }
  } catch (error) {
    // Also a host that is gone: its own watch thaws there, and the next operation on it says that it is lost.
    return { failed: error instanceof Error ? error.message : String(error), count: null }
  }
}

/** Behind a thaw. Where it does not succeed the watch thaws once more, which does no harm to what is not frozen. */
async function endWatch(host: Host, watch: Readonly<{ directory: string }>): Promise<void> {
  try {
    await endThawWatch(host, watch)
  } catch (error) {
    programFailure(error)
  }
}

/** "Froze 2 filesystem(s)", "Thawed 0 filesystem(s)" of virsh; null of other programs. */
function countIn({ stdout }: ProgramResult): number | null {
  const [, count] = /^(?:Froze|Thawed) (\d+) filesystem/m.exec(stdout) ?? []
  return count === undefined ? null : Number(count)
}

/** virsh says the reason behind what it was asked to do: "error: Unable to freeze filesystems\nerror: Guest agent is not ...". */
function reason(result: ProgramResult, argv: Argv): string {
  return lastWords(result, argv[0]).replace(/^error: /, '')
}

function programFailure(error: unknown): SyncError {
  if (error instanceof SyncError && error.code === 'host/program') return error
  throw error
}
