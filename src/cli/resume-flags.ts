// The options about going on with a run that did not finish: --resume and --no-resume. Refuses nothing itself.

import type { Command } from 'commander'

import type { SyncOptions } from '../options.js'

export type ResumeFlags = { resume?: boolean }

export function addResumeFlags(command: Command): Command {
  return command
    .option(
      '--resume',
      'go on where an interrupted run stopped: the source has not changed since (unasked for a read-only LVM snapshot)',
    )
    .option('--no-resume', 'compare everything, whatever a run before has done')
}

/** The part of the options that they are. */
export function resumeOf({ resume }: ResumeFlags): Partial<Pick<SyncOptions, 'resume'>> {
  return resume === undefined ? {} : { resume: resume ? 'yes' : 'no' }
}
