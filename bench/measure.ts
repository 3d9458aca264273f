// Runs programs here that talk to a private sshd, and measures both ends: wall time, processor time (as the kernel
// books it to the parent when a child is reaped, so that nothing is lost between samples) and peak memory. One at a time.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, watch } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

import type { Sshd } from '../test/support/sshd.js'
import { type EndPeaks, watchPeaks, childrenOf } from './peaks.js'

export type Argv = readonly [string, ...string[]]

/** A server that the programs need: it is waited for before they start, and told to end after them. Its time counts. */
export type Server = Readonly<{
  argv: Argv
  /** Where the files appear that say that it is ready. */
  directory: string
  isReady: () => boolean
  /** Holds the id of the process to end with SIGTERM; then `argv` ends by itself, with status 0. */
  pidPath: string
}>

/** What is run: programs that are all started at once, after a server where they need one. */
export type Work = Readonly<{ argvs: readonly Argv[]; server?: Server }>

/**
 * What one run took. The near end is this side with its ssh, the far end is everything below sshd. Null is what nobody
 * could see: memory of a process too short-lived for the first sample, bytes that no program counts.
 */
export type Sample = Readonly<{
  wallSeconds: number
  nearCpuSeconds: number
  farCpuSeconds: number
  near: EndPeaks | null
  far: EndPeaks | null
  /** Over the wire, as seen from the near end. */
  sentBytes: number | null
  receivedBytes: number | null
  stdout: string
}>

/** The unit of times in /proc: Linux shows user space 100 ticks a second whatever its timer is (man 5 proc_pid_stat). */
const TICKS_PER_SECOND = 100
/** The slowest run of all (rsync over 4 GiB) takes a minute or two; what takes longer hangs. */
const RUN_TIMEOUT_MS = 15 * 60_000
const SETTLE_TIMEOUT_MS = 30_000
const SETTLE_EVERY_MS = 5
const READY_TIMEOUT_MS = 20_000
const MAX_OUTPUT_BYTES = 1 << 20

/** Runs `work` and resolves when all of it has ended with status 0; rejects with what it printed otherwise. */
export async function measure(work: Work, sshd: Sshd, signal: AbortSignal): Promise<Sample> {
  signal.throwIfAborted()
  await settled(sshd)
  const nearBefore = reapedCpuSeconds(process.pid)
  const farBefore = reapedCpuSeconds(sshd.pid())
  const programs: Program[] = []
  const peaks = watchPeaks(() => programs.map(({ pid }) => pid), sshd.pid())
  const startedMs = performance.now()
  try {
    const outputs = await runAll(work, programs, signal)
    const wallSeconds = (performance.now() - startedMs) / 1000
    await settled(sshd)
    return {
      wallSeconds,
      nearCpuSeconds: reapedCpuSeconds(process.pid) - nearBefore,
      farCpuSeconds: reapedCpuSeconds(sshd.pid()) - farBefore,
      ...peaks.stop(),
      ...transferred(outputs.map(({ stderr }) => stderr).join('\n')),
      stdout: outputs.map(({ stdout }) => stdout).join(''),
    }
  } finally {
    peaks.stop()
    for (const program of programs) program.kill()
    await Promise.allSettled(programs.map(({ ended }) => ended))
  }
}

type Output = { stdout: string; stderr: string }

/** `kill` ends it with all it started here, and does nothing where it has ended. */
type Program = Readonly<{ pid: number; ended: Promise<Output>; kill: () => void }>

async function runAll({ argvs, server }: Work, programs: Program[], signal: AbortSignal): Promise<Output[]> {
  try {
    if (server !== undefined) {
      const program = start(server.argv, signal)
      programs.push(program)
      await ready(server, program, signal)
    }
    const started = argvs.map((argv) => start(argv, signal))
    programs.push(...started)
    await Promise.all(started.map(({ ended }) => ended))
  } finally {
    // Also after a failure: at the far end nobody else would end it.
    if (server !== undefined) endServer(server)
  }
  return await Promise.all(programs.map(({ ended }) => ended))
}

function start(argv: Argv, signal: AbortSignal): Program {
  const [name, ...words] = argv
  // A group of its own: a shell that is killed would leave the programs of its pipeline running.
  const child = spawn(name, words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const kill = (): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    process.kill(-child.pid, 'SIGTERM')
  }
  const deadline = setTimeout(kill, RUN_TIMEOUT_MS)
  signal.addEventListener('abort', kill, { once: true })
  const output: Output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on(
      'data',
      (chunk: Buffer) => (output[stream] = (output[stream] + chunk.toString()).slice(-MAX_OUTPUT_BYTES)),
    )
  }
  const ended = once(child, 'close')
    .finally(() => {
      clearTimeout(deadline)
      signal.removeEventListener('abort', kill)
    })
    .then(([status, ending]) => {
      signal.throwIfAborted()
      if (status === 0) return output
      const how = String(status ?? ending)
      throw new Error(`${argv.join(' ')}\nended with ${how}: ${output.stderr}${output.stdout}`)
    })
  ended.catch(() => undefined) // awaited by `measure`, together with the others
  return { pid: child.pid ?? -1, ended, kill }
}

/** Resolves when the server's files are there; rejects where it ends first, or takes too long. */
async function ready(server: Server, program: Program, signal: AbortSignal): Promise<void> {
  const watcher = watch(server.directory)
  const tooLate = AbortSignal.timeout(READY_TIMEOUT_MS)
  const either = AbortSignal.any([tooLate, signal])
  const early = program.ended.then(() => {
    throw new Error(`${server.argv.join(' ')} ended before it was used`)
  })
  early.catch(() => undefined) // raced below; it may also come after the race
  try {
    while (!server.isReady()) await Promise.race([once(watcher, 'change', { signal: either }), early])
  } catch (error) {
    if (tooLate.aborted) throw new Error(`${server.argv.join(' ')} was not ready in time`, { cause: error })
    throw error
  } finally {
    watcher.close()
  }
}

/** Does nothing where it never was ready, or has ended and taken its file with it. */
function endServer({ pidPath }: Server): void {
  if (!existsSync(pidPath)) return
  const pid = Number(readFileSync(pidPath, 'utf8'))
  if (!Number.isInteger(pid) || pid <= 1) throw new Error(`${pidPath} holds no process id`)
  try {
    process.kill(pid, 'SIGTERM')
  } catch (error) {
    // It may have ended with its connection.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** What ssh counted, where it was told to say so (LogLevel VERBOSE): everything on its TCP connections. */
function transferred(stderr: string): Pick<Sample, 'sentBytes' | 'receivedBytes'> {
  const matches = [...stderr.matchAll(/^Transferred: sent (\d+), received (\d+) bytes/gm)]
  if (matches.length === 0) return { sentBytes: null, receivedBytes: null }
  const sum = (group: number): number => matches.reduce((total, match) => total + Number(match[group]), 0)
  return { sentBytes: sum(1), receivedBytes: sum(2) }
}

/** Processor time of all children that `pid` has reaped, and of theirs. */
function reapedCpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND
}

/** Resolves when sshd has reaped every session: only then its books are complete. */
async function settled(sshd: Sshd): Promise<void> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
  // The end of a grandchild raises no event here.
  while (childrenOf(sshd.pid()).length > 0) {
    if (performance.now() > deadlineMs) throw new Error('a session of sshd did not end')
    await delay(SETTLE_EVERY_MS)
  }
}
