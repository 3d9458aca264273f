// The commands that a plan comes to, in their order, for people who want to know before: a plan without them in, argument
// lists out. What our own agent does by itself (files, journals) is not a command and is not here. Refuses nothing.

import { posix } from 'node:path'

import type { Driver } from '../hypervisor/driver.js'
import { lvcreateArgv, volumeOf } from './lvm.js'
import type { Plan, PlannedCommand, PlannedDisk } from './plan.js'

type Body = Omit<Plan, 'commands'>
type On = PlannedCommand['on']

/** In the order in which a run that goes well has them. */
export function commandsOf(plan: Body, source: Driver, destination: Driver): PlannedCommand[] {
  const { guest, options } = plan
  const { mode } = options
  const isOff = guest.state === 'off'
  const drivers = { source, destination }
  const commands: PlannedCommand[] = []
  const add = (on: On, why: string, ...argvs: readonly (readonly string[])[]): void => {
    for (const argv of argvs) commands.push({ on, argv, why })
  }
  const act = (on: On, action: Parameters<Driver['words']>[0], why: string): void =>
    add(on, why, ...drivers[on].words(action, guest.name))
  const hook = (name: string): void => {
    if (options.hooksDirectory !== null)
      add('source', `your hook, if it is there`, [posix.join(options.hooksDirectory, name)])
  }

  add('destination', 'what is done there', ['blocksync', 'agent'])
  const copied = plan.disks.filter(({ fate }) => fate === 'copied')
  for (const { creation, sizeBytes, target } of copied) {
    if (creation?.kind === 'lvm') add('destination', `makes ${target}`, lvcreateArgv(creation, sizeBytes))
  }
  const sync = (why: string): void => {
    if (copied.length > 0)
      add('source', why, ['blocksync', 'sync', ...copied.flatMap(diskWords(plan.to.typed))])
  }
  if (mode !== 'live' && !isOff) sync('rounds, while it runs')
  hook('before-save')
  switch (mode) {
    case 'warm':
      act('source', 'save', 'the guest stops here')
      sync('the last pass')
      act('destination', 'restorePaused', 'paused, and looked at')
      break
    case 'cold':
      if (!isOff) act('source', 'shutdown', 'the guest stops here')
      sync('the last pass')
      break
    case 'live':
      add('source', 'the guest moves', ...source.words('live', guest.name).map(filledIn(plan, copied)))
      break
    default:
      mode satisfies never
  }
  // a transient guest leaves no definition behind
  if (guest.isPersistent || isOff) act('source', 'fence', 'from here on it cannot start here')
  for (const disk of copied) add('source', 'nobody writes to what stays', ...protectWords(disk))
  if (guest.isPersistent || isOff) act('destination', 'define', 'with the definition below')
  if (mode === 'warm' && guest.state !== 'paused') act('destination', 'resume', 'the guest goes on there')
  if (mode === 'cold' && (!isOff || options.start === 'yes'))
    act('destination', 'start', 'the guest starts there')
  hook('after-restore')
  if (options.undefineSource === 'yes') act('source', 'undefine', 'as --undefine-source says')
  return commands
}

/** A driver does not know the other host: it leaves blanks. */
function filledIn({ to }: Body, copied: readonly PlannedDisk[]): (argv: readonly string[]) => string[] {
  const values: Readonly<Record<string, string>> = {
    '<uri>': to.uriFromSource ?? '',
    '<disks>': copied.map(({ target }) => target).join(','),
  }
  return (argv) => argv.map((word) => values[word] ?? word)
}

function diskWords(typedHost: string): (disk: PlannedDisk) => string[] {
  const colon = typedHost.startsWith('ssh://') ? '' : ':'
  return ({ sourcePath, destinationPath }) => [
    '--disk',
    `${sourcePath ?? ''}=${typedHost}${colon}${destinationPath ?? ''}`,
  ]
}

/** As Host.protect does it; a file system without the attribute has the file renamed instead. */
function protectWords({ kind, sourcePath }: PlannedDisk): string[][] {
  const path = sourcePath ?? ''
  if (kind !== 'block') return [['chattr', '+i', path]]
  const volume = volumeOf(path)
  if (volume === null) return [['blockdev', '--setro', path]]
  const name = `${volume.group}/${volume.volume}`
  return [
    ['blockdev', '--setro', path],
    ['lvchange', '--activate', 'n', name],
    ['lvchange', '--setactivationskip', 'y', name],
  ]
}
