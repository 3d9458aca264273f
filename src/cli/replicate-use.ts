// `blocksync replicate promote`, `reverse`, `restore` and `drill`: what is done with a replica; asks before, says what was done and what
// to type next. Refuses to go on where nobody agrees.

import { SyncError } from '../errors.js'
import type { NativeMode } from '../options.js'
import type { Drilled } from '../replicate/drill.js'
import type { Promoted } from '../replicate/promote.js'
import type { Agree } from '../replicate/replicas.js'
import type { Restored } from '../replicate/restore.js'
import type { Reversed } from '../replicate/reverse.js'
import type { TakeBackRequest, TakenBack } from '../replicate/take-back.js'
import type { CommandContext } from './context.js'
import { contradiction } from './flags.js'
import { childSignal, printed, settingOf, type ReplicateEngine, type Setting } from './replicate.js'
import type {
  DrillFlags,
  PromoteFlags,
  ReplicateFlags,
  RestoreFlags,
  ReverseFlags,
} from './replicate-flags.js'
import {
  drilledLines,
  promotedLines,
  restoredLines,
  reversedLines,
  takenBackLines,
} from './replicate-use-text.js'

/** Jobs that run every few seconds have their replica most of the time; an attempt is done within this, or is a long one. */
const REPLICA_WAIT_MS = 60_000

export type UseRequest = Setting &
  Readonly<{
    /** Of a job; on the host of a replica also its ID. */
    name: string
    native: NativeMode
    signal: AbortSignal
    /** How long an attempt that has the replica is waited for. */
    lockWaitMs: number
    /** Says what is about to be done, and resolves when it may be. Rejects with replicate/refused. */
    agree: Agree
    onWarning: (text: string) => void
    onNote: (text: string) => void
  }>

export type UseEngine = Readonly<{
  promote: (request: UseRequest & Readonly<{ sourceAlive: 'refuse' | 'force' }>) => Promise<Promoted>
  takeBack: (request: UseRequest & Pick<TakeBackRequest, 'written'>) => Promise<TakenBack>
  reverse: (request: UseRequest & Readonly<{ notPromoted: 'refuse' | 'force' }>) => Promise<Reversed>
  /** `generation` null is the newest; `to` null is in place. */
  restore: (
    request: UseRequest & Readonly<{ generation: number | null; to: string | null }>,
  ) => Promise<Restored>
  drill: (request: UseRequest & Readonly<{ boot: 'yes' | 'no' }>) => Promise<Drilled>
}>

export async function promoteCommand(
  name: string,
  flags: PromoteFlags,
  context: CommandContext,
): Promise<number> {
  if (flags.takeBack === true && flags.forceSourceAlive === true)
    throw contradiction('--take-back', 'promotes nothing', 'Leave --force-source-alive away.')
  if (flags.discard === true && flags.takeBack !== true)
    throw contradiction(
      '--discard',
      'gives up what was written since a promotion',
      'It goes with --take-back.',
    )
  return await use(name, flags, context, async (engine, request) => {
    if (flags.takeBack === true) {
      const taken = await engine.takeBack({
        ...request,
        written: flags.discard === true ? 'discard' : 'refuse',
      })
      return { lines: takenBackLines(taken), facts: taken }
    }
    const promoted = await engine.promote({
      ...request,
      sourceAlive: flags.forceSourceAlive === true ? 'force' : 'refuse',
    })
    return { lines: promotedLines(promoted), facts: promoted }
  })
}

export async function reverseCommand(
  name: string,
  flags: ReverseFlags,
  context: CommandContext,
): Promise<number> {
  return await use(name, flags, context, async (engine, request) => {
    const reversed = await engine.reverse({
      ...request,
      notPromoted: flags.forceNotPromoted === true ? 'force' : 'refuse',
    })
    return { lines: reversedLines(reversed), facts: reversed }
  })
}

export async function restoreCommand(
  name: string,
  flags: RestoreFlags,
  context: CommandContext,
): Promise<number> {
  const { to = null, inPlace, generation = null } = flags
  if (to === null && inPlace !== true)
    throw contradiction(
      '--to',
      'says where it is written to, and is missing',
      `Write for example --to /srv/restored/${name}.img, or --in-place.`,
    )
  if (to !== null && !to.startsWith('/'))
    throw contradiction(
      '--to',
      `is a path on the host of the replica, and has to be absolute, not '${to}'`,
      'Begin it with /.',
    )
  if (inPlace === true && generation === null)
    throw contradiction(
      '--in-place',
      'leads the replica back, and it has to be said where to',
      'Name the generation with --generation N.',
    )
  return await use(name, flags, context, async (engine, request) => {
    const restored = await engine.restore({ ...request, generation, to })
    return { lines: restoredLines(restored), facts: restored }
  })
}

export async function drillCommand(
  name: string,
  flags: DrillFlags,
  context: CommandContext,
): Promise<number> {
  return await use(name, flags, context, async (engine, request) => {
    const drilled = await engine.drill({ ...request, boot: flags.boot === true ? 'yes' : 'no' })
    return { lines: drilledLines(drilled), facts: drilled }
  })
}

/** The frame of all of them: setting, signals, questions, the one answer. */
async function use(
  name: string,
  flags: ReplicateFlags & { native?: NativeMode; fromDaemon?: true },
  context: CommandContext,
  act: (
    engine: ReplicateEngine,
    request: UseRequest,
  ) => Promise<Readonly<{ lines: readonly string[]; facts: object }>>,
): Promise<number> {
  const { output } = context
  return await printed(flags, context, { job: name }, async () => {
    const engine = await context.loadReplicate()
    const setting = await settingOf(flags, engine, 'perhaps')
    using interruption = childSignal(flags, context)
    const note = (text: string): void => {
      if (flags.quiet !== true) output.note(`blocksync: ${text}`)
    }
    const { lines, facts } = await act(engine, {
      ...setting,
      name,
      native: flags.native ?? 'auto',
      signal: interruption.signal,
      lockWaitMs: REPLICA_WAIT_MS,
      agree: (about, question) => agree(name, { about, question }, flags, interruption.signal, context),
      onWarning: (text) => note(`warning: ${text}`),
      onNote: note,
    })
    return { lines, json: { event: 'result', ok: true, ...facts } }
  })
}

async function agree(
  name: string,
  { about, question }: Readonly<{ about: readonly string[]; question: string }>,
  { yes, json, quiet }: ReplicateFlags,
  signal: AbortSignal,
  { output, ask }: CommandContext,
): Promise<void> {
  signal.throwIfAborted()
  if (yes === true) return
  if (quiet !== true) for (const line of about) output.note(line)
  if (ask !== null && json !== true && (await ask(`${question} [y/N] `, signal))) return
  signal.throwIfAborted()
  throw new SyncError('replicate/refused', `${name}: nobody agreed to it; nothing was done`, {
    operand: name,
    hint: 'Type --yes to do it unasked.',
  })
}
