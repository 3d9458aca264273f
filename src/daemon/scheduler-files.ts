// The states of jobs as files of the state directory: read, known by a stamp, and the little that a daemon writes into them.

import { stat } from 'node:fs/promises'
import { join } from 'node:path'

import { errnoOf } from '../errors.js'
import type { JobState } from '../replicate/job-state.js'
import { changeJobState, jobDirectory, openJobState } from '../replicate/state-file.js'
import { stateUnusable } from '../state/directory.js'

/** Of a file that is not there: a job that was never run. */
const NO_FILE = 'none'

export type StateFiles = Readonly<{
  readState: (job: string) => Promise<JobState>
  /** Another text when the file was written: each writing makes a new file. */
  stampOf: (job: string) => Promise<string>
  countSkipped: (job: string) => Promise<void>
  saveTold: (job: string, told: JobState['told']) => Promise<void>
}>

/** All reject with replicate/record and state/unusable. */
export function schedulerParts(stateDir: string): StateFiles {
  return {
    readState: async (job) => openJobState(stateDir, job),
    stampOf: async (job) => {
      const path = join(jobDirectory(stateDir, job), 'state.json')
      try {
        const { ino, size, mtimeMs } = await stat(path)
        return `${ino} ${size} ${mtimeMs}`
      } catch (error) {
        const errno = errnoOf(error)
        if (errno === 'ENOENT') return NO_FILE
        if (errno === null) throw error
        throw stateUnusable(`${path} cannot be read (${errno})`, path, 'the job is not run')
      }
    },
    countSkipped: async (job) => {
      await changeJobState(stateDir, job, (state) => ({
        ...state,
        totals: { ...state.totals, skipped: state.totals.skipped + 1 },
      }))
    },
    saveTold: async (job, told) => {
      await changeJobState(stateDir, job, (state) => (state.told === told ? state : { ...state, told }))
    },
  }
}
