// What tests need to know about processes that they started: whether one is still there, and what it left behind.
import { readdirSync, readFileSync } from 'node:fs'

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

/** Resolves when a process has used no processor time for a fifth of a second: it waits for something. */
export async function untilIdle(pid: number): Promise<void> {
  let last = -1
  let quiet = 0
  await until(
    () => {
      const ticks = processorTicks(pid)
      quiet = ticks === last ? quiet + 1 : 0
      last = ticks
      return quiet === 10
    },
    `process ${pid} waits`,
    10_000,
  )
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

/** Resolves when `condition` holds; rejects with `what` after `timeoutMs`. For things that raise no event, such as /proc. */
export async function until(condition: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
