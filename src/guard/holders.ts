// Who has a lock on a disk: /proc tells it of each descriptor, and of each lock. A file in, processes out, as far as they
// can be seen from here: those of other users and of other pid namespaces may not be.

import { readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { BigIntStats } from 'node:fs'

import { deviceNumber, readText, statOrNull } from '../endpoint/sysfs.js'
import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'
import { printable } from '../printable.js'
import { Survey } from './survey.js'

/** A process with a lock. `isBrief`: one that looks at every device for a moment (udev, when somebody closed it). */
export type Holder = Readonly<{ pid: number; says: string; isBrief: boolean }>

/** A command line is quoted up to here. */
const MAX_COMMAND_UNITS = 100
/** Clock ticks a second in /proc/PID/stat: USER_HZ, a constant of the kernel's interface. */
const TICKS_A_SECOND = 100
/** udev takes a shared lock while it probes (systemd.io, "Locking Block Device Access"). */
const UDEV = /^\(?(?:systemd-)?udev(?:d|-worker)?\)?$/

/** The processes that have a lock on what `facts` describes, as far as they can be seen. */
export async function findHolders(facts: BigIntStats, native: NativeCore | null): Promise<Holder[]> {
  const pids = new Set([...(await byDescriptors(facts, native)), ...(await byLocks(facts))])
  return await Promise.all(Array.from(pids, (pid) => describe(pid)))
}

/** Exact, also where a program took the lock on behalf of another one; only for processes that may be looked into. */
async function byDescriptors(facts: BigIntStats, native: NativeCore | null): Promise<number[]> {
  // not the survey of the run: what that saw may be over
  const survey = new Survey(native)
  const isBlock = facts.isBlockDevice()
  const dev = Number(isBlock ? facts.rdev : facts.dev)
  const pids: number[] = []
  for (const descriptor of await survey.descriptors()) {
    const { pid, fd } = descriptor
    if (descriptor.isBlock !== isBlock || descriptor.dev !== dev) continue
    const there = await statOrNull(`${survey.roots.proc}/${pid}/fd/${fd}`)
    if (there === null || there.ino !== facts.ino || there.dev !== facts.dev) continue
    const info = await readText(`${survey.roots.proc}/${pid}/fdinfo/${fd}`)
    if (/^lock:.*\bFLOCK\b/m.test(info ?? '')) pids.push(pid)
  }
  return pids
}

/** Of all processes of this pid namespace, by what /proc/locks says of the file (proc_locks(5)); those that still run. */
async function byLocks({ dev, ino }: BigIntStats): Promise<number[]> {
  const { major, minor } = deviceNumber(dev)
  const hex = (value: number): string => value.toString(16).padStart(2, '0')
  const file = `${hex(major)}:${hex(minor)}:${ino}`
  const found: number[] = []
  for (const line of ((await readText('/proc/locks')) ?? '').split('\n')) {
    // a line of who waits has an arrow before the kind
    const [, pid, where] = /^\d+: FLOCK +\w+ +\w+ +(-?\d+) (\S+) /.exec(line) ?? []
    if (where !== file) continue
    const number = Number(pid)
    if (number > 0 && (await readText(`/proc/${number}/comm`)) !== null) found.push(number)
  }
  return found
}

/** 'blocksync (pid 4711: blocksync /dev/vg/a host2) since 14:02:11 (3 min)'. */
async function describe(pid: number): Promise<Holder> {
  const words = ((await readText(`/proc/${pid}/cmdline`)) ?? '').split('\0').filter((word) => word !== '')
  const comm = ((await readText(`/proc/${pid}/comm`)) ?? '').trim()
  const own = words.findIndex((word) => /(?:^|\/)blocksync$|\/cli\/main\.js$/.test(word))
  const isOurs = own === 0 || own === 1
  const shown = isOurs ? ['blocksync', ...words.slice(own + 1)] : words
  const [program = comm === '' ? 'a process' : comm] = shown
  const line = shown.join(' ').slice(0, MAX_COMMAND_UNITS)
  const since = await startedAt(pid)
  const details = `pid ${pid}${line === '' || line === program ? '' : `: ${line}`}`
  return {
    pid,
    says: printable(`${basename(program)} (${details})${since === null ? '' : ` since ${since}`}`),
    isBrief: UDEV.test(comm),
  }
}

/** When it was started, and how long that is ago: '14:02:11 (3 min)' (field 22 of proc_pid_stat(5)), or null. */
async function startedAt(pid: number): Promise<string | null> {
  const stat = await readText(`/proc/${pid}/stat`)
  const uptime = await readText('/proc/uptime')
  // the name, in brackets, may hold blanks and brackets; counted from behind it, the field is the 20th
  const ticks = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  const seconds = Number(uptime?.split(' ')[0]) - ticks / TICKS_A_SECOND
  if (!Number.isFinite(seconds)) return null
  const at = new Date(Date.now() - seconds * 1000)
  const two = (value: number): string => String(value).padStart(2, '0')
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  const day = seconds < 20 * 3600 ? '' : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `
  return `${day}${clock} (${age(seconds)})`
}

function age(seconds: number): string {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`
}

/** New at every boot and the same for all on one kernel. */
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id'

/**
 * This process, in a name by which others on the same kernel and in the same pid namespace know it: boot id, namespace, pid.
 * Null where /proc does not tell. The two ends of a run tell each other, so that none takes the other one for a stranger.
 */
export function ownProcessName(): string | null {
  return processName(process.pid)
}

/** As ownProcessName, of a process that is seen from here. */
export function processName(pid: number): string | null {
  try {
    const boot = readFileSync(BOOT_ID_PATH, 'utf8').trim()
    const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0]
    return namespace === undefined ? null : `${boot}.${namespace}.${pid}`
  } catch (error) {
    if (errnoOf(error) !== null) return null
    throw error
  }
}
