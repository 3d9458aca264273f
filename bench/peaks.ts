// Peak memory of the two ends of a run, sampled from /proc: of the largest process, and of all that are not ssh together.
// A process that comes and goes between two samples is not seen.

import { readFileSync } from 'node:fs'

/** VmHWM in bytes: the most that a process ever had in memory, pages it shares with others included. */
export type EndPeaks = Readonly<{
  /** Of the largest process of that end, ssh and sshd among them. */
  largestBytes: number
  /** The most that the processes alive at one moment had together, without ssh and sshd; shared pages count in each. */
  summedBytes: number
}>

/** VmHWM only grows, so a process's last sample misses no more than its last few milliseconds. */
const SAMPLE_EVERY_MS = 25
/** OpenSSH's own processes; sshd-session and sshd-auth are parts of newer servers. */
const SSH_NAMES: ReadonlySet<string> = new Set(['ssh', 'sshd', 'sshd-session', 'sshd-auth'])

/** Watches the processes that `nearPids` names, those below sshd, and all that they start, until `stop`. */
export function watchPeaks(
  nearPids: () => readonly number[],
  sshdPid: number,
): { stop: () => { near: EndPeaks | null; far: EndPeaks | null } } {
  let near: EndPeaks | null = null
  let far: EndPeaks | null = null
  const look = (): void => {
    near = larger(near, peaksOf(nearPids()))
    far = larger(far, peaksOf(childrenOf(sshdPid)))
  }
  const timer = setInterval(look, SAMPLE_EVERY_MS)
  return {
    stop: () => {
      clearInterval(timer)
      return { near, far }
    },
  }
}

/** Ids of the processes that the main thread of `pid` started; empty where it has ended. */
export function childrenOf(pid: number): number[] {
  return readProc(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .filter((word) => word !== '')
    .map(Number)
}

function peaksOf(pids: readonly number[]): EndPeaks | null {
  let largestBytes = 0
  let summedBytes = 0
  for (const pid of pids.flatMap(withDescendants)) {
    const status = readProc(`/proc/${pid}/status`)
    const bytes = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
    largestBytes = Math.max(largestBytes, bytes)
    if (!SSH_NAMES.has(/^Name:\s+(.*)$/m.exec(status)?.[1] ?? '')) summedBytes += bytes
  }
  return largestBytes === 0 ? null : { largestBytes, summedBytes }
}

function larger(a: EndPeaks | null, b: EndPeaks | null): EndPeaks | null {
  if (a === null || b === null) return a ?? b
  return {
    largestBytes: Math.max(a.largestBytes, b.largestBytes),
    summedBytes: Math.max(a.summedBytes, b.summedBytes),
  }
}

function withDescendants(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(withDescendants)]
}

/** Empty where the process has ended in between. */
function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
