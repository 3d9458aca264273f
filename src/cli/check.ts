// `blocksync check`: one line about the lag of all jobs, or of those that are named, with the exit statuses of monitors (0 fine,
// 1 warning, 2 critical, 3 unknown). They are not those of the other commands: a usage error is 3 here.

import { toSyncError } from '../errors.js'
import { checkLine, checkUnknown } from '../replicate/check-line.js'
import type { CommandContext } from './context.js'
import { contradiction } from './flags.js'
import { configuredSetting, jobOf } from './replicate.js'
import type { PlaceFlags } from './replicate-flags.js'

/** Of monitors; not of EXIT. */
const UNKNOWN = 3

export type CheckFlags = PlaceFlags & { maxLag?: number; warnLag?: number }

/** Rejects where nothing can be said; unknownLine() is for that. */
export async function checkCommand(
  names: readonly string[],
  { maxLag, warnLag, ...place }: CheckFlags,
  context: CommandContext,
): Promise<number> {
  if (maxLag !== undefined && warnLag !== undefined && warnLag > maxLag)
    throw contradiction('--warn-lag', 'is more than --max-lag', 'Give a shorter time.')
  const engine = await context.loadReplicate()
  const { config, stateDir } = await configuredSetting(place, engine)
  const wanted = names.map((name) => jobOf(config, name).name)
  const { jobs, at } = await engine.status(config, stateDir)
  const { status, line } = checkLine(
    wanted.length === 0 ? jobs : jobs.filter(({ name }) => wanted.includes(name)),
    { maxLagMs: maxLag ?? null, warnLagMs: warnLag ?? null, nowMs: Date.parse(at) },
  )
  context.output.line(line)
  return status
}

/** Whatever was thrown on the way, a word that is not understood too: a line on stdout, where monitors read. */
export function unknownLine(thrown: unknown, { output }: CommandContext): number {
  output.line(checkUnknown(toSyncError(thrown).message).line)
  return UNKNOWN
}
