// What tests need to know about processes that they started: whether one is still there, and what it left behind.
import { existsSync, readdirSync, readFileSync } from 'node:fs'

/** What a machine with other work may need for something that takes milliseconds. No measure of speed; less than a test may take. */
const BUSY_MACHINE_MS = 30_000
/** Enough for a program to start and to do one thing, on a machine without other work. */
const FIRST_DEADLINE_MS = 500

/** True while a process with this id exists and is not a zombie. */
export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z'
  } catch {
    return false
  }
}

/** Bytes that a process has written so far, to whatever. */
export function bytesWrittenBy(pid: number): number {
  return Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1])
}

/** Processor time that a process has used so far, in ticks of a hundredth of a second. */
export function processorTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // utime and stime of proc_pid_stat(5), which counts from 1 and has two fields before the state.
  return Number(fields[11]) + Number(fields[12])
}

/** Resolves when all threads of a process have slept, and used no processor time, for a fifth of a second: it waits for something. */
export async function untilIdle(pid: number): Promise<void> {
  let last = -1
  let quiet = 0
  await until(() => {
    const ticks = processorTicks(pid)
    // one that wants a processor and does not get it is not idle; who asks runs, also where it asks about itself
    quiet = ticks === last && (pid === process.pid || isAsleep(pid)) ? quiet + 1 : 0
    last = ticks
    return quiet === 10
  }, `process ${pid} waits`)
}

/** True while no thread of a process runs or wants to (R), or waits for a disk (D). */
function isAsleep(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) => {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
      return !/^[RD]/.test(stat.slice(stat.lastIndexOf(')') + 2))
    } catch {
      return true // it ended between the listing and the read
    }
  })
}

/** Ids of the direct children of a process. */
export function childrenOf(pid: number): number[] {
  const children: number[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (Number(fields[1]) === pid && fields[0] !== 'Z') children.push(Number(name))
    } catch {
      // It ended between the listing and the read.
    }
  }
  return children
}

/** All descendants, children before grandchildren. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)])
}

/**
 * What a program that runs against a deadline got done: the pid that it writes to `path`. `run` runs it until it is killed at its
 * deadline; where it did not come to write in that time, as on a busy machine, it gets four times as much.
 */
export async function farEnough(path: string, run: (timeoutMs: number) => Promise<void>): Promise<number> {
  for (let timeoutMs = FIRST_DEADLINE_MS; timeoutMs <= BUSY_MACHINE_MS; timeoutMs *= 4) {
    await run(timeoutMs)
    const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
    if (text !== '') return Number(text)
  }
  throw new Error(`nothing was written to ${path}`)
}

/** Resolves when `condition` holds; rejects with `what` after `timeoutMs`. For things that raise no event, such as /proc. */
export async function until(
  condition: () => boolean,
  what: string,
  timeoutMs = BUSY_MACHINE_MS,
): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
