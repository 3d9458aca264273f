// One notice, sent one way: a program with words in its environment, a GET, or a letter for sendmail on stdin. Each has a deadline;
// what others said is never part of a header.

import { spawn } from 'node:child_process'

import type { NotifyTarget } from '../config/config.js'
import { errnoOf } from '../errors.js'
import type { Argv } from '../exec.js'
import { printable } from '../printable.js'
import type { JobState } from '../replicate/job-state.js'

export type Notice = Readonly<{
  job: string
  condition: JobState['told']
  before: JobState['told']
  message: string
  /** This host. */
  host: string
  lagSeconds: number | null
  generation: number | null
  errorCode: string | null
}>

/** The last words of a program say why it failed. */
const MAX_SAID_UNITS = 300
/** A program that had its deadline is given this long to go, then its group is killed. */
const KILL_GRACE_MS = 2_000
/** Behind its end its last words are waited for no longer than this. */
const OUTPUT_GRACE_MS = 500
/** RFC 5322 has lines of at most 998; a subject is read in a list of letters. */
const MAX_SUBJECT_UNITS = 150

/** Rejects with an Error that says why it was not sent; never with a secret. */
export async function notifyBy(target: NotifyTarget, notice: Notice): Promise<void> {
  switch (target.kind) {
    case 'command':
      return await runToEnd(target.command, noticeEnvironment(notice), '', target.timeoutMs)
    case 'http':
      return await ping(pingUrl(target.url, notice.condition), target.timeoutMs)
    case 'mail': {
      // recipients come from the letter: the address is no word that sendmail could take for an option
      const argv = [target.sendmail, '-t', '-i'] as const
      return await runToEnd(argv, {}, letter(target.to, notice), target.timeoutMs)
    }
    default:
      throw new TypeError(`unknown target ${String(target satisfies never)}`)
  }
}

/** What a command is told. BLOCKSYNC_STATE is well, failing or late; what is not known is empty. */
export function noticeEnvironment(notice: Notice): Record<string, string> {
  return {
    BLOCKSYNC_JOB: notice.job,
    BLOCKSYNC_STATE: notice.condition,
    BLOCKSYNC_STATE_BEFORE: notice.before,
    // an environment has no NUL, and a log that the command writes has one line for it
    BLOCKSYNC_MESSAGE: printable(notice.message),
    BLOCKSYNC_HOST: notice.host,
    BLOCKSYNC_LAG_SECONDS: notice.lagSeconds === null ? '' : String(notice.lagSeconds),
    BLOCKSYNC_GENERATION: notice.generation === null ? '' : String(notice.generation),
    BLOCKSYNC_ERROR_CODE: notice.errorCode ?? '',
  }
}

/** The URL itself for what is well, with /fail behind its path for what is not (as healthchecks.io and others have it). */
export function pingUrl(url: string, condition: JobState['told']): URL {
  const target = new URL(url)
  if (condition !== 'well') target.pathname = `${target.pathname.replace(/\/+$/, '')}/fail`
  return target
}

/** A letter as sendmail -t reads it. Headers have only ASCII in them, each in one line. */
export function letter(to: string, notice: Notice): string {
  const subject = `blocksync: ${notice.job} is ${notice.condition} (${notice.host})`
  const lines = [
    `To: ${oneLine(to)}`,
    `Subject: ${oneLine(subject).slice(0, MAX_SUBJECT_UNITS)}`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: 8bit',
    '',
    `job:        ${printable(notice.job)}`,
    `host:       ${printable(notice.host)}`,
    `state:      ${notice.condition} (was ${notice.before})`,
    `generation: ${notice.generation ?? 'none'}`,
    `lag:        ${notice.lagSeconds === null ? 'not known' : `${notice.lagSeconds} s`}`,
    '',
    ...folded(printable(notice.message)),
    '',
  ]
  return lines.join('\n')
}

function oneLine(text: string): string {
  return printable(text).replace(/[^\x20-\x7e]/g, '?')
}

/** Lines that every mailer passes on. */
function folded(text: string): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length > 76) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line].flatMap((each) => each.match(/.{1,900}/gu) ?? [''])
}

async function ping(url: URL, timeoutMs: number): Promise<void> {
  const isSecure = url.protocol === 'https:'
  const { request } = isSecure ? await import('node:https') : await import('node:http')
  await new Promise<void>((resolve, reject) => {
    // neither kept open nor sent on to where an answer points
    const asked = request(url, { method: 'GET', agent: false, headers: { 'user-agent': 'blocksync' } })
    const deadline = setTimeout(
      () => asked.destroy(new Error(`there was no answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    )
    const settle = (act: () => void): void => {
      clearTimeout(deadline)
      asked.destroy()
      act()
    }
    asked.on('error', (error) => {
      const errno = errnoOf(error)
      // the address in the system's message is the one that was configured, without its path
      settle(() => reject(new Error(errno === null ? error.message : `${error.message} (${errno})`)))
    })
    asked.once('response', (answer) => {
      const status = answer.statusCode ?? 0
      answer.on('error', () => undefined)
      settle(() =>
        status >= 200 && status < 300 ? resolve() : reject(new Error(`it was answered with ${status}`)),
      )
    })
    asked.end()
  })
}

/** Ends with 0 or rejects. In a group of its own, so that what it started goes with it. */
async function runToEnd(
  argv: Argv,
  environment: Readonly<Record<string, string>>,
  input: string,
  timeoutMs: number,
): Promise<void> {
  const [program, ...words] = argv
  await new Promise<void>((resolve, reject) => {
    const child = spawn(program, words, {
      cwd: '/',
      detached: true,
      env: { ...process.env, ...environment },
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    let said = ''
    let why: string | null = null
    let graceTimer: NodeJS.Timeout | null = null
    let outputTimer: NodeJS.Timeout | null = null
    const signal = (name: 'SIGTERM' | 'SIGKILL'): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, name)
      } catch (error) {
        if (errnoOf(error) !== 'ESRCH') throw error
      }
    }
    const deadline = setTimeout(() => {
      why = `it did not end within ${timeoutMs / 1000} s and was stopped`
      signal('SIGTERM')
      graceTimer = setTimeout(() => {
        signal('SIGKILL')
        child.stderr.destroy()
      }, KILL_GRACE_MS)
    }, timeoutMs)
    // it need not read what it is given
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-MAX_SAID_UNITS)
    })
    // what it left running may hold the pipe for as long as it likes
    child.once('exit', () => {
      outputTimer = setTimeout(() => child.stderr.destroy(), OUTPUT_GRACE_MS)
    })
    child.once('error', (error) => {
      why = error.message
    })
    child.once('close', (exitStatus, killedBy) => {
      clearTimeout(deadline)
      for (const timer of [graceTimer, outputTimer]) if (timer !== null) clearTimeout(timer)
      if (why === null && exitStatus === 0) return resolve()
      const words = said.trim() === '' ? '' : `: ${printable(said.trim().replaceAll('\n', '; '))}`
      reject(new Error(why ?? `it ended with ${killedBy ?? exitStatus}${words}`))
    })
  })
}
