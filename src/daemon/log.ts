// What a daemon says about itself and its jobs: one line for each thing, for journald, for programs or for a terminal. Refuses to
// let a message have more than one line, or move a cursor; secrets do not come here.

import { printable } from '../printable.js'

/** As syslog has them, of which these four are used. */
export type LogLevel = 'error' | 'warning' | 'info' | 'debug'

/**
 * `journald`: the priority in front as sd-daemon(3) has it, and no time, since journald has its own; `json`: an object a line;
 * `text`: an ISO time in front.
 */
export type LogForm = 'journald' | 'json' | 'text'

export const LOG_FORMS: readonly LogForm[] = ['journald', 'json', 'text']

/** `job` is null where it is about the daemon itself. */
export type Log = (level: LogLevel, job: string | null, message: string) => void

const PRIORITY: Readonly<Record<LogLevel, number>> = { error: 3, warning: 4, info: 6, debug: 7 }

/** journald cuts a line at 48 KiB into two; what a far end wrote may be as long as it likes. */
const MAX_MESSAGE_UNITS = 4096

/** What fits where nobody said: journald gives its stream's device and inode in JOURNAL_STREAM. */
export function usualLogForm(environment: NodeJS.ProcessEnv): LogForm {
  return (environment['JOURNAL_STREAM'] ?? '') === '' ? 'text' : 'journald'
}

/** A line, without its end. Lines of a message that has several are joined by `; `. */
export function logLine(
  form: LogForm,
  atMs: number,
  level: LogLevel,
  job: string | null,
  message: string,
): string {
  const lines = message.split(/\r?\n/).filter((line) => line.trim() !== '')
  const text = printable(lines.join('; ')).slice(0, MAX_MESSAGE_UNITS)
  const named = job === null ? text : `${printable(job)}: ${text}`
  switch (form) {
    case 'journald':
      return `<${PRIORITY[level]}>${named}`
    case 'json':
      return JSON.stringify({ time: new Date(atMs).toISOString(), level, job, message: text })
    case 'text':
      return `${new Date(atMs).toISOString()} ${level.padEnd(7)} ${named}`
    default:
      throw new TypeError(`unknown form of log ${String(form satisfies never)}`)
  }
}

/** A log that writes lines of that form; `least` is the least important level that is written. */
export function createLog(
  form: LogForm,
  least: LogLevel,
  nowMs: () => number,
  write: (line: string) => void,
): Log {
  return (level, job, message) => {
    if (PRIORITY[level] <= PRIORITY[least]) write(`${logLine(form, nowMs(), level, job, message)}\n`)
  }
}
