// Which other processes have a disk, or what it is made of, open for writing. Takes what /proc tells about descriptors and
// looks exactly at those that match; a mapping whose descriptor was closed is not seen (docs/decisions/0018).

import { basename } from 'node:path'

import { nodeKey, readText, statOrNull } from '../endpoint/sysfs.js'
import { guestName } from './guests.js'
import { printable } from '../printable.js'
import type { Place } from './stack.js'
import type { Descriptor, Survey } from './survey.js'
import type { Use } from './use.js'

/** Bits of the flags in fdinfo, as open(2) has them on all platforms of Linux. */
const O_ACCMODE = 0o3
const O_PATH = 0o10000000
/** Clock ticks a second in /proc/PID/stat: USER_HZ, a constant of the kernel's interface. */
const TICKS_A_SECOND = 100
/** A command is quoted up to here. */
const MAX_COMMAND_UNITS = 40

/** A use for each process that has one of the places open for writing. */
export async function openerUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  const byKey = new Map(places.map((place) => [place.key, place]))
  const isCandidate = candidates(places)
  const uses = new Map<number, Use>()
  for (const descriptor of await survey.descriptors()) {
    const { pid, fd } = descriptor
    if (uses.has(pid) || !isCandidate(descriptor)) continue
    const facts = await statOrNull(`${survey.roots.proc}/${pid}/fd/${fd}`)
    const place = facts === null ? undefined : byKey.get(nodeKey(facts))
    if (place === undefined || !(await isForWriting(survey, descriptor))) continue
    uses.set(pid, {
      guard: 'open',
      what: `${place.says}open for writing by ${await describeProcess(pid, survey)}`,
      hint: `See what it does, and end it first if it is the right disk: ps -fp ${pid}`,
      claims: 'nothing',
      access: 'writes',
      override: 'possible',
    })
  }
  return [...uses.values()]
}

/** By rounded numbers: what matches is looked at again. */
function candidates(places: readonly Place[]): (descriptor: Descriptor) => boolean {
  const devices = new Set<number>()
  const files = new Set<string>()
  for (const { key } of places) {
    const [kind, major, minor] = key.split(':')
    if (kind === 'file') files.add(`${Number(major)}:${Number(minor)}`)
    else devices.add(Number(makeDevice(BigInt(major ?? 0), BigInt(minor ?? 0))))
  }
  return ({ isBlock, dev, ino }) =>
    isBlock ? devices.has(dev) : files.size > 0 && files.has(`${dev}:${ino}`)
}

/** The inverse of deviceNumber. */
function makeDevice(major: bigint, minor: bigint): bigint {
  return (
    (minor & 0xffn) |
    ((major & 0xfffn) << 8n) |
    ((minor & 0xffffff00n) << 12n) |
    ((major & 0xfffff000n) << 32n)
  )
}

async function isForWriting(survey: Survey, { pid, fd }: Descriptor): Promise<boolean> {
  const info = await readText(`${survey.roots.proc}/${pid}/fdinfo/${fd}`)
  const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info ?? '')?.[1] ?? '0', 8)
  return (flags & O_PATH) === 0 && (flags & O_ACCMODE) !== 0
}

/** 'qemu-system-x86_64 (pid 4711, guest web, since 2026-11-21 14:02)'. */
async function describeProcess(pid: number, survey: Survey): Promise<string> {
  const directory = `${survey.roots.proc}/${pid}`
  const words = ((await readText(`${directory}/cmdline`)) ?? '').split('\0')
  // a process may have overwritten its words, or be a thread of the kernel: then there is its short name
  const [program = ''] = words
  const command = program === '' ? ((await readText(`${directory}/comm`)) ?? 'a process') : basename(program)
  const guest = guestName(words)
  const since = await startedAt(pid, survey)
  const details = [
    `pid ${pid}`,
    ...(guest === null ? [] : [`guest ${guest}`]),
    ...(since === null ? [] : [`since ${since}`]),
  ]
  return printable(`${command.slice(0, MAX_COMMAND_UNITS)} (${details.join(', ')})`)
}

/** When it was started, in local time to the minute (field 22 of proc_pid_stat(5)), or null. */
async function startedAt(pid: number, survey: Survey): Promise<string | null> {
  const stat = await readText(`${survey.roots.proc}/${pid}/stat`)
  const uptime = await readText(`${survey.roots.proc}/uptime`)
  // the name, in brackets, may hold blanks and brackets; counted from behind it, the field is the 20th
  const ticks = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  const upSeconds = Number(uptime?.split(' ')[0])
  const at = new Date(Date.now() - (upSeconds - ticks / TICKS_A_SECOND) * 1000)
  if (Number.isNaN(at.getTime())) return null
  const two = (value: number): string => String(value).padStart(2, '0')
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}`
}
