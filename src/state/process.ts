// Whether the process that wrote a mark still runs: boot, pid and start time name a process once and for ever. What is
// not ours to see, or not of that form, counts as gone.

import { readFile } from 'node:fs/promises'

import { errnoOf } from '../errors.js'

const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id'

/** Fields of /proc/PID/stat behind the name in parentheses; the start time is the 22nd of all (proc_pid_stat(5)). */
const START_FIELD_BEHIND_NAME = 19

const FORM = /^[0-9a-f-]{36} (\d{1,10}) \d{1,20}$/

/** `BOOT-ID PID START` of this process. */
export async function ownProcess(): Promise<string> {
  return (await processName(process.pid)) ?? `unknown ${process.pid} 0`
}

/** True where the process of that name runs on this host. */
export async function isRunning(name: string): Promise<boolean> {
  const pid = FORM.exec(name)?.[1]
  return pid !== undefined && (await processName(Number(pid))) === name
}

async function processName(pid: number): Promise<string | null> {
  try {
    const [boot, stat] = await Promise.all([
      readFile(BOOT_ID_PATH, 'utf8'),
      readFile(`/proc/${pid}/stat`, 'utf8'),
    ])
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_FIELD_BEHIND_NAME]
    return start === undefined ? null : `${boot.trim()} ${pid} ${start}`
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null
  }
}
