// Starts an attempt (or a drill) as a process of its own and reads what it tells: lines of JSON on stdout, text on stderr. Refuses
// lines that are too long; a process that hangs is not killed, only one that was asked to end and did not.

import { spawn, type ChildProcess } from 'node:child_process'
import { isAbsolute } from 'node:path'

import { isObject } from '../json.js'
import type { Argv } from '../exec.js'
import type { Phase, TrackedDisk } from '../replicate/events.js'
import type { RunningProgress } from './view.js'

/** An event has paths and sentences in it; a longer line is none of ours. */
export const MAX_LINE_BYTES = 256 << 10
/** What a program that was started by a hook may hold our pipes open for, behind the end of the process itself. */
const OUTPUT_GRACE_MS = 2_000
/** The last words of a process that told no result say why; this much of them is kept. */
const MAX_STDERR_TAIL_UNITS = 500
/** A job has no more disks. */
const MAX_TRACKED_DISKS = 256
/** PATH_MAX of Linux. */
const MAX_PATH_UNITS = 4096

const PHASES: readonly unknown[] = [
  'connect',
  'recover',
  'snapshot',
  'copy',
  'commit',
  'keep',
  'clean',
] satisfies Phase[]

/** How a process ended. `code` and `message` are of its result, or null where it was well. */
export type ChildEnd = Readonly<{
  /** Whether it told a result: one that did not died, or was never there. */
  told: 'result' | 'nothing'
  ok: boolean
  code: string | null
  message: string | null
  exitStatus: number | null
  signal: string | null
}>

export type ChildListener = Readonly<{
  onPhase: (phase: Phase, attempt: string) => void
  onProgress: (progress: RunningProgress) => void
  onWarning: (message: string) => void
  /** What it left to be taken over once it has ended well; `job` is as the process calls it. */
  onTracked: (job: string, disks: readonly TrackedDisk[]) => void
  /** A line of stderr, or what was wrong with its stdout. */
  onSaid: (line: string) => void
}>

export type RunningChild = Readonly<{
  /** Null where it could not be started: then `ended` says why. */
  pid: number | null
  /** Never rejects. Behind it nothing of the process is left here: no descriptor, no timer. */
  ended: Promise<ChildEnd>
  /** Its stdin ends: it does so too, in order. A signal besides would be its second one where its whole group was sent the first. */
  end: () => void
  /** SIGTERM, for one that did not. */
  terminate: () => void
  /** SIGKILL. */
  kill: () => void
}>

/** Starts `argv`. Its stdin stays open as long as this process lives, however that ends: a child ends when its stdin does. */
export function startChild(
  argv: Argv,
  environment: NodeJS.ProcessEnv,
  listener: ChildListener,
): RunningChild {
  const [program, ...words] = argv
  let child: ChildProcess
  try {
    // in a group of its own: an interruption from a terminal is for us, who end it in order
    child = spawn(program, words, {
      detached: true,
      env: environment,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
  } catch (error) {
    // no descriptor is left, or a word has a NUL in it
    return notStarted(error instanceof Error ? error.message : String(error))
  }
  const signalled = (name: 'SIGTERM' | 'SIGKILL') => (): void => {
    // false where it has ended, which is what was wanted
    if (child.exitCode === null && child.signalCode === null) child.kill(name)
  }
  return {
    pid: child.pid ?? null,
    ended: watch(child, listener),
    end: () => {
      child.stdin?.end()
    },
    terminate: signalled('SIGTERM'),
    kill: signalled('SIGKILL'),
  }
}

function notStarted(why: string): RunningChild {
  const nothing = (): void => undefined
  return {
    pid: null,
    ended: Promise.resolve(notStartedEnd(why)),
    end: nothing,
    terminate: nothing,
    kill: nothing,
  }
}

function notStartedEnd(why: string): ChildEnd {
  const message = `the process of an attempt could not be started: ${why}`
  return { told: 'nothing', ok: false, code: 'internal', message, exitStatus: null, signal: null }
}

async function watch(child: ChildProcess, listener: ChildListener): Promise<ChildEnd> {
  const { stdin, stdout, stderr } = child
  let result: Record<string, unknown> | null = null
  let tail = ''
  // it may end without reading it
  stdin?.on('error', () => undefined)
  stdout?.on('error', () => undefined)
  stderr?.on('error', () => undefined)
  const out = lines((line) => {
    if (line === null) return listener.onSaid('a line of its output was too long and was left out')
    result = event(line, listener) ?? result
  })
  const said = lines((line) => {
    if (line === null || line.trim() === '') return
    tail = `${tail}${tail === '' ? '' : '; '}${line}`.slice(-MAX_STDERR_TAIL_UNITS)
    listener.onSaid(line)
  })
  stdout?.on('data', out.take)
  stderr?.on('data', said.take)
  return await new Promise((resolve) => {
    let graceTimer: NodeJS.Timeout | null = null
    const letGo = (): void => {
      stdout?.destroy()
      stderr?.destroy()
    }
    child.once('exit', () => {
      graceTimer = setTimeout(letGo, OUTPUT_GRACE_MS)
    })
    child.once('error', (error) => {
      // also where a signal could not be sent; then it still runs
      if (child.pid !== undefined) return listener.onSaid(error.message)
      tail = error.message
    })
    // when it has ended and its pipes are closed; it comes too where it could not be started
    child.once('close', (exitStatus, signal) => {
      if (graceTimer !== null) clearTimeout(graceTimer)
      stdin?.destroy()
      out.finish()
      said.finish()
      if (child.pid !== undefined) resolve(ending(result, tail, exitStatus, signal))
      else resolve(notStartedEnd(tail))
    })
  })
}

function ending(
  result: Record<string, unknown> | null,
  tail: string,
  exitStatus: number | null,
  signal: string | null,
): ChildEnd {
  const how = { exitStatus, signal }
  if (result === null) {
    const what = signal === null ? `ended with ${exitStatus} and told no result` : `was killed by ${signal}`
    const words = tail === '' ? '' : `: ${tail}`
    return { told: 'nothing', ok: false, code: 'internal', message: `its process ${what}${words}`, ...how }
  }
  const ok = result['ok'] === true
  const error = isObject(result['error']) ? result['error'] : {}
  const code = typeof error['code'] === 'string' ? error['code'] : null
  const message = typeof error['message'] === 'string' ? error['message'] : null
  return { told: 'result', ok, code: ok ? null : code, message: ok ? null : message, ...how }
}

/** Passes an event on; gives the object back where it is the result. What we do not know is of a newer version, and left out. */
function event(line: string, listener: ChildListener): Record<string, unknown> | null {
  if (line.trim() === '') return null
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    listener.onSaid(line)
    return null
  }
  if (!isObject(value)) return null
  switch (value['event']) {
    case 'phase': {
      const { phase, attempt } = value
      if (PHASES.includes(phase) && typeof attempt === 'string') listener.onPhase(phase as Phase, attempt)
      return null
    }
    case 'progress': {
      const [doneBytes, totalBytes, sentBytes] = [value['doneBytes'], value['totalBytes'], value['sentBytes']]
      if (isCount(doneBytes) && isCount(totalBytes) && isCount(sentBytes))
        listener.onProgress({ doneBytes, totalBytes, sentBytes })
      return null
    }
    case 'warning':
      if (typeof value['message'] === 'string') listener.onWarning(value['message'])
      return null
    case 'tracked': {
      const { job, attempt } = value
      const disks = trackedDisks(value['disks'])
      if (typeof job === 'string' && typeof attempt === 'string' && disks !== null)
        listener.onTracked(job, disks)
      else listener.onSaid('what it says of a base for the next attempt is not understood and was left out')
      return null
    }
    case 'result':
      return value
    default:
      return null
  }
}

/** Null where any of it is not as it has to be. */
function trackedDisks(value: unknown): TrackedDisk[] | null {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_TRACKED_DISKS) return null
  const disks: TrackedDisk[] = []
  for (const disk of value as readonly unknown[]) {
    if (!isObject(disk)) return null
    const { clone, leaves } = disk
    if (!isPath(clone) || (leaves !== null && !isPath(leaves))) return null
    disks.push({ clone, leaves })
  }
  return disks
}

function isPath(value: unknown): value is string {
  return (
    typeof value === 'string' && value.length <= MAX_PATH_UNITS && isAbsolute(value) && !value.includes('\0')
  )
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

type Lines = Readonly<{ take: (chunk: Buffer) => void; finish: () => void }>

/** Calls back with each line, without its end; with null for one of more than MAX_LINE_BYTES, of which nothing is kept. */
function lines(onLine: (line: string | null) => void): Lines {
  let parts: Buffer[] = []
  let partBytes = 0
  let state: 'line' | 'too-long' = 'line'
  const end = (): void => {
    if (state === 'too-long') onLine(null)
    else if (partBytes > 0) onLine(Buffer.concat(parts).toString())
    parts = []
    partBytes = 0
    state = 'line'
  }
  const add = (part: Buffer): void => {
    if (state === 'too-long' || part.length === 0) return
    partBytes += part.length
    if (partBytes <= MAX_LINE_BYTES) {
      parts.push(part)
      return
    }
    parts = []
    state = 'too-long'
  }
  return {
    take: (chunk) => {
      let from = 0
      for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, from)) {
        add(chunk.subarray(from, at))
        end()
        from = at + 1
      }
      add(chunk.subarray(from))
    },
    finish: end,
  }
}
