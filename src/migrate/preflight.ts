// What would keep a guest from moving, all of it at once: facts of both hosts in, problems and warnings out. Looks only, and
// decides by rules that stand here; what a disk or a hypervisor finds about itself comes from classify.ts and the driver.

import { posix } from 'node:path'

import type { Host, HostFacts } from '../host/host.js'
import type { Driver, Guest, HostProblem } from '../hypervisor/driver.js'
import type { Classified } from './fates.js'
import { HOOK_NAMES } from './hooks.js'
import { extentsBytes, groupFacts } from './lvm.js'
import type { MigrateOptions, PlannedFile, PlanProblem } from './plan.js'

/** A migration that was begun and is neither finished nor taken back. */
export type OpenMigration = Readonly<{
  id: string
  role: 'source' | 'destination'
  uuid: string
  phase: string
}>

type Listed = Awaited<ReturnType<Driver['list']>>

export type Findings = Readonly<{ problems: readonly PlanProblem[]; warnings: readonly string[] }>

/** All that is asked of the two hosts once. */
export type Ends = Readonly<{
  source: Host
  destination: Host
  facts: Readonly<{ source: HostFacts; destination: HostFacts }>
  /** How far the clock of the destination is ahead, and how exactly that is known. */
  skew: Readonly<{ aheadMs: number; withinMs: number }>
  guests: Readonly<{ source: Listed; destination: Listed }>
}>

export type Checked = Readonly<{
  guest: Guest
  options: MigrateOptions
  hasLive: 'yes' | 'no'
  ends: Ends
  disks: readonly Classified[]
  files: readonly PlannedFile[]
  hostProblems: readonly HostProblem[]
  open: readonly OpenMigration[]
  /** Those of them that were put back here, and that the destination has not heard of. */
  leftovers: readonly string[]
  /** Fences of this guest on the source: it is not the guest any more but what was left of it. */
  leftHere: string | null
  statePaths: Readonly<{ source: string; destination: string }>
}>

/** Programs put time stamps next to each other; beyond this people are misled. */
const SKEW_WARNING_MS = 2000
/** Certificates, tickets and clusters fail by then, and the guest's clock would jump. */
const SKEW_PROBLEM_MS = 5 * 60_000
/** A saved state holds devices and their buffers beside the memory. */
const STATE_OVERHEAD = 1.1
/** Journals and definitions of one migration. */
const JOURNAL_BYTES = 32 << 20
const EXECUTABLE = 0o111

/** Everything but the disks themselves. Rejects only where a host cannot be asked. */
export async function preflight(checked: Checked): Promise<Findings> {
  const { guest, options, ends, hostProblems } = checked
  const problems: PlanProblem[] = [
    ...guestProblems(checked),
    ...hostProblems
      .filter(({ weight }) => weight === undefined)
      .map((problem) => ({ ...problem, operand: ends.destination.name })),
    ...openProblems(checked),
    ...rightsProblems(ends),
    ...pathProblems(checked),
    ...(await hookProblems(options, ends.source)),
    ...(await spaceProblems(checked)),
  ]
  const warnings = hostProblems
    .filter(({ weight }) => weight === 'warning')
    .map(({ text, hint }) => `${text}; ${hint}`)
  const skew = skewOf(ends)
  if (skew?.kind === 'problem') problems.push(skew.problem)
  if (skew?.kind === 'warning') warnings.push(skew.text)
  const { source, destination } = ends.facts
  if (source.blocksyncVersion !== destination.blocksyncVersion)
    warnings.push(
      `blocksync is ${source.blocksyncVersion} here and ${destination.blocksyncVersion} on ${ends.destination.name}`,
    )
  if (options.start === 'yes' && guest.state !== 'off')
    warnings.push(`--start is for a guest that is off; ${guest.name} will run there in any case`)
  if (options.forceOff === 'yes' && (options.mode !== 'cold' || guest.state === 'off'))
    warnings.push('--force-off has no effect: nothing is shut down')
  return { problems, warnings }
}

/** The guest as it is now, and the mode. */
function guestProblems({ guest, options, hasLive, disks, leftHere }: Checked): PlanProblem[] {
  const { name, state } = guest
  const { mode } = options
  const problems: PlanProblem[] = guest.problems
    .filter(({ modes }) => modes.includes(mode))
    .map(({ code, text, hint }) => ({ code, text, hint, operand: name }))
  const add = (code: string, text: string, hint: string): void => {
    problems.push({ code, operand: name, text, hint })
  }
  if (leftHere !== null)
    add(
      'moved-away',
      `${name} is what the migration ${leftHere} left here; the guest runs on the other host`,
      `If that one is lost for good: blocksync migrate --unfence ${leftHere}`,
    )
  if (mode !== 'cold' && state === 'off')
    add(
      'state',
      `${name} is off, and --mode ${mode} moves a guest that runs`,
      'Leave --mode away, or start it.',
    )
  // what is paused can be saved, and stays paused there
  else if (state !== 'running' && state !== 'off' && !(state === 'paused' && mode === 'warm'))
    add('state', `${name} is ${state}`, 'Bring it to run, or end it, and type this again.')
  if (mode === 'live' && hasLive === 'no')
    add('live', 'this hypervisor has no live migration here yet', 'Write --mode warm.')
  if (!disks.some(({ disk }) => disk.fate !== 'left-empty'))
    add(
      'no-disks',
      `${name} has no disk that could move`,
      'See its definition: virsh dumpxml, or xl list -l.',
    )
  return problems
}

function openProblems({ open, leftovers, guest, ends }: Checked): PlanProblem[] {
  return open
    .filter(({ uuid }) => uuid === guest.uuid)
    .map(({ id, role, phase }) => ({
      code: 'open-migration',
      operand: guest.name,
      text: leftovers.includes(id)
        ? `the migration ${id} of ${guest.name} was put back here, and ${ends.destination.name} has not heard of it yet`
        : `the migration ${id} of ${guest.name} is not finished (${phase})`,
      hint: leftovers.includes(id)
        ? `A move there cleans that up first; by itself: blocksync migrate --abort ${id}`
        : role === 'source'
          ? `Finish it with blocksync migrate --continue ${id}, or take it back with blocksync migrate --abort ${id}.`
          : `It was begun on another host, as what goes to ${ends.destination.name}: finish it there.`,
    }))
}

function rightsProblems({ source, destination, facts }: Ends): PlanProblem[] {
  return (['source', 'destination'] as const)
    .filter((end) => !facts[end].isRoot)
    .map((end) => {
      const { name } = end === 'source' ? source : destination
      return {
        code: 'rights',
        operand: name,
        text: `on ${name} we are not root, so disks cannot be opened and protected`,
        hint: end === 'source' ? 'Type it with sudo.' : `Log in as root@..., or write --sudo.`,
      }
    })
}

/** Disks at the destination that belong to somebody else, or to two of ours. */
function pathProblems({ guest, disks, files, ends }: Checked): PlanProblem[] {
  const problems: PlanProblem[] = []
  const taken = new Map<string, string>()
  const places = [
    ...disks.flatMap(({ disk: { target, destinationPath, fate } }) =>
      destinationPath === null || fate === 'left-empty' ? [] : [{ what: target, path: destinationPath }],
    ),
    ...files.map(({ kind, destinationPath }) => ({ what: kind, path: destinationPath })),
  ]
  for (const { what, path } of places) {
    const other = taken.get(path)
    if (other !== undefined)
      problems.push({
        code: 'one-path',
        operand: path,
        text: `${other} and ${what} would both be ${path} on ${ends.destination.name}`,
        hint: `Give one of them another path: --map ${what}=/path.`,
      })
    taken.set(path, what)
  }
  for (const { disk } of disks) {
    const { target, destinationPath, sourcePath, fate } = disk
    if (destinationPath === null || fate === 'shared' || fate === 'read-only') continue
    const user = ends.guests.destination.find(
      ({ uuid, disks: theirs }) => uuid !== guest.uuid && theirs.includes(destinationPath),
    )
    if (user !== undefined)
      problems.push({
        code: 'belongs-to-guest',
        operand: destinationPath,
        text: `${destinationPath} on ${ends.destination.name} is a disk of the guest ${user.name} (${user.state})`,
        hint: `Give another path: --map ${target}=/path.`,
      })
    const partner = ends.guests.source.find(
      ({ uuid, state, disks: theirs }) =>
        uuid !== guest.uuid && state === 'running' && theirs.includes(sourcePath ?? ''),
    )
    if (partner !== undefined)
      problems.push({
        code: 'used-by-guest',
        operand: sourcePath ?? target,
        text: `${sourcePath ?? target} is also a disk of the guest ${partner.name}, which runs here and would write to the copy that stays`,
        hint: `Move that disk to storage that both hosts see and name it with --shared ${target}, or end ${partner.name}.`,
      })
  }
  return problems
}

async function hookProblems({ hooksDirectory }: MigrateOptions, source: Host): Promise<PlanProblem[]> {
  if (hooksDirectory === null) return []
  const refuse = (text: string, hint: string): PlanProblem[] => [
    { code: 'hooks', operand: `--hook ${hooksDirectory}`, text, hint },
  ]
  const directory = await source.look(hooksDirectory)
  if (directory?.kind !== 'directory')
    return refuse(`${hooksDirectory} is no directory`, 'Give the directory that the hooks are in.')
  const hooks = await Promise.all(
    HOOK_NAMES.map(async (name) => ({ name, facts: await source.look(posix.join(hooksDirectory, name)) })),
  )
  const present = hooks.filter(({ facts }) => facts !== null)
  if (present.length === 0)
    return refuse(
      `${hooksDirectory} has none of ${HOOK_NAMES.join(', ')}`,
      'Put one of them there, or leave --hook away.',
    )
  return present
    .filter(({ facts }) => facts?.kind !== 'file' || (facts.mode & EXECUTABLE) === 0)
    .flatMap(({ name }) =>
      refuse(`${name} is not executable`, `chmod +x ${posix.join(hooksDirectory, name)}`),
    )
}

type Need = Readonly<{ host: Host; path: string; bytes: number; what: string }>

/** What each file system and volume group has to take, summed up. */
async function spaceProblems(checked: Checked): Promise<PlanProblem[]> {
  const { ends, disks, files, statePaths, guest, options } = checked
  const { source, destination } = ends
  const stateBytes = options.mode === 'warm' ? Math.ceil(guest.memoryBytes * STATE_OVERHEAD) : 0
  const stateName = stateBytes === 0 ? 'the journal' : 'the saved state'
  const needs: Need[] = [
    { host: source, path: statePaths.source, bytes: JOURNAL_BYTES + stateBytes, what: stateName },
    { host: destination, path: statePaths.destination, bytes: JOURNAL_BYTES + stateBytes, what: stateName },
    ...disks.flatMap(({ disk }): Need[] =>
      disk.creation?.kind === 'file' && disk.destinationPath !== null
        ? [
            {
              host: destination,
              path: disk.destinationPath,
              bytes: Math.min(disk.sizeBytes, disk.allocatedBytes),
              what: disk.target,
            },
          ]
        : [],
    ),
    ...files.map(({ kind, destinationPath: path, sizeBytes: bytes }) => ({
      host: destination,
      path,
      bytes,
      what: kind,
    })),
  ]
  return [...(await fileSystemProblems(needs)), ...(await groupProblems(checked))]
}

async function fileSystemProblems(needs: readonly Need[]): Promise<PlanProblem[]> {
  const sums = new Map<
    string,
    { host: Host; directory: string; freeBytes: number; bytes: number; what: string[] }
  >()
  for (const { host, path, bytes, what } of needs) {
    const { fileSystemId, directory, freeBytes } = await host.space(path)
    const key = `${host.kind} ${fileSystemId}`
    const sum = sums.get(key) ?? { host, directory, freeBytes, bytes: 0, what: [] }
    sums.set(key, { ...sum, bytes: sum.bytes + bytes, what: [...sum.what, what] })
  }
  return [...sums.values()]
    .filter(({ bytes, freeBytes }) => bytes > freeBytes)
    .map(({ host, directory, freeBytes, bytes, what }) => ({
      code: 'space',
      operand: host.name,
      text: `the file system of ${directory} on ${host.name} has ${freeBytes} bytes free, and ${what.join(', ')} would take ${bytes}`,
      hint: 'Make room there, or map a disk to another file system; --state-dir says where states are saved.',
    }))
}

async function groupProblems({ disks, ends: { destination } }: Checked): Promise<PlanProblem[]> {
  const groups = new Map<string, number[]>()
  for (const { disk } of disks) {
    if (disk.creation?.kind !== 'lvm') continue
    groups.set(disk.creation.group, [...(groups.get(disk.creation.group) ?? []), disk.sizeBytes])
  }
  const problems: PlanProblem[] = []
  for (const [group, sizes] of groups) {
    const facts = await groupFacts(group, destination)
    if (facts.kind === 'refused') continue
    const bytes = sizes.reduce((sum, size) => sum + extentsBytes(size, facts), 0)
    if (bytes > facts.freeBytes)
      problems.push({
        code: 'space',
        operand: destination.name,
        text: `the volume group ${group} on ${destination.name} has ${facts.freeBytes} bytes free, and the volumes would take ${bytes}`,
        hint: `Make room there (vgextend, lvremove), or write --create file.`,
      })
  }
  return problems
}

type Skew =
  | Readonly<{ kind: 'problem'; problem: PlanProblem }>
  | Readonly<{ kind: 'warning'; text: string }>
  | null

/** Only what is sure: half of the time of the question is not. */
function skewOf({ skew: { aheadMs, withinMs }, destination }: Ends): Skew {
  const sureMs = Math.max(0, Math.abs(aheadMs) - withinMs)
  if (sureMs <= SKEW_WARNING_MS) return null
  const text = `the clock of ${destination.name} is ${(sureMs / 1000).toFixed(1)} s ${aheadMs > 0 ? 'ahead of' : 'behind'} the one here`
  if (sureMs <= SKEW_PROBLEM_MS) return { kind: 'warning', text }
  return {
    kind: 'problem',
    problem: {
      code: 'clock',
      operand: destination.name,
      text,
      hint: 'Set it right there: timedatectl, chronyc makestep.',
    },
  }
}
