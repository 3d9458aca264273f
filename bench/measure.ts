// Runs programs here that talk to a private sshd, and measures both ends: wall time, processor time (as the kernel
// books it to the parent when a child is reaped, so that nothing is lost between samples) and peak memory. One at a time.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

import type { Sshd } from '../test/support/sshd.js'

export type Argv = readonly [string, ...string[]]

/** What one run took. The near end is this side with its ssh, the far end is everything below sshd. */
export type Sample = Readonly<{
  wallSeconds: number
  nearCpuSeconds: number
  farCpuSeconds: number
  /** VmHWM of the largest process of that end, or null where none lived long enough to be seen. */
  nearPeakBytes: number | null
  farPeakBytes: number | null
  /** Bytes over the wire in both directions together, or null where nobody counts them. */
  wireBytes: number | null
  stdout: string
}>

/** The unit of times in /proc: Linux shows user space 100 ticks a second whatever its timer is (man 5 proc_pid_stat). */
const TICKS_PER_SECOND = 100
/** VmHWM only grows, so a process's last sample misses no more than its last few milliseconds. */
const SAMPLE_EVERY_MS = 25
/** The slowest run of all (rsync over 4 GiB) takes a minute or two; what takes longer hangs. */
const RUN_TIMEOUT_MS = 15 * 60_000
const SETTLE_TIMEOUT_MS = 30_000
const MAX_OUTPUT_BYTES = 1 << 20

/** Runs the programs at once and resolves when all have ended with status 0; rejects with what they printed otherwise. */
export async function measure(argvs: readonly Argv[], sshd: Sshd, signal: AbortSignal): Promise<Sample> {
  signal.throwIfAborted()
  await settled(sshd)
  const nearBefore = reapedCpuSeconds(process.pid)
  const farBefore = reapedCpuSeconds(sshd.pid())
  const startedMs = performance.now()
  const programs = argvs.map((argv) => start(argv, signal))
  const peaks = watchPeaks(
    programs.flatMap(({ child }) => child.pid ?? []),
    sshd.pid(),
  )
  try {
    const outputs = await Promise.all(programs.map(({ ended }) => ended))
    const wallSeconds = (performance.now() - startedMs) / 1000
    await settled(sshd)
    return {
      wallSeconds,
      nearCpuSeconds: reapedCpuSeconds(process.pid) - nearBefore,
      farCpuSeconds: reapedCpuSeconds(sshd.pid()) - farBefore,
      ...peaks.stop(),
      wireBytes: transferredBytes(outputs.map(({ stderr }) => stderr).join('')),
      stdout: outputs.map(({ stdout }) => stdout).join(''),
    }
  } finally {
    peaks.stop()
    for (const { child } of programs) child.kill('SIGTERM')
    await Promise.allSettled(programs.map(({ ended }) => ended))
  }
}

type Output = { stdout: string; stderr: string }

function start(argv: Argv, signal: AbortSignal): { child: ChildProcess; ended: Promise<Output> } {
  const [program, ...words] = argv
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], timeout: RUN_TIMEOUT_MS })
  const onAbort = (): boolean => child.kill('SIGTERM')
  signal.addEventListener('abort', onAbort, { once: true })
  const output: Output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on(
      'data',
      (chunk: Buffer) => (output[name] = (output[name] + chunk.toString()).slice(-MAX_OUTPUT_BYTES)),
    )
  }
  const ended = once(child, 'close').then(([status, ending]) => {
    signal.removeEventListener('abort', onAbort)
    signal.throwIfAborted()
    if (status !== 0)
      throw new Error(
        `${argv.join(' ')}\nended with ${String(status ?? ending)}: ${output.stderr}${output.stdout}`,
      )
    return output
  })
  ended.catch(() => undefined) // awaited in `measure` together with the others
  return { child, ended }
}

/** What ssh counted, where it was told to say so (LogLevel VERBOSE): everything on its TCP connection. */
function transferredBytes(stderr: string): number | null {
  const match = /^Transferred: sent (\d+), received (\d+) bytes/m.exec(stderr)
  return match === null ? null : Number(match[1]) + Number(match[2])
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
    await delay(SAMPLE_EVERY_MS)
  }
}

function watchPeaks(
  nearPids: readonly number[],
  sshdPid: number,
): { stop: () => Pick<Sample, 'nearPeakBytes' | 'farPeakBytes'> } {
  let nearPeakBytes: number | null = null
  let farPeakBytes: number | null = null
  const look = (): void => {
    for (const pid of nearPids.flatMap(withDescendants)) nearPeakBytes = larger(nearPeakBytes, peakBytes(pid))
    for (const pid of childrenOf(sshdPid).flatMap(withDescendants))
      farPeakBytes = larger(farPeakBytes, peakBytes(pid))
  }
  const timer = setInterval(look, SAMPLE_EVERY_MS)
  return {
    stop: () => {
      clearInterval(timer)
      return { nearPeakBytes, farPeakBytes }
    },
  }
}

function larger(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b
  return Math.max(a, b)
}

function peakBytes(pid: number): number | null {
  const match = /^VmHWM:\s+(\d+) kB/m.exec(readProc(`/proc/${pid}/status`))
  return match === null ? null : Number(match[1]) * 1024
}

function withDescendants(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(withDescendants)]
}

function childrenOf(pid: number): number[] {
  return readProc(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .filter((word) => word !== '')
    .map(Number)
}

/** Empty where the process has ended in between. */
function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
