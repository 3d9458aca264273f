// The options of `blocksync migrate` as commander parses them: words in, flags out (migrate-asked.ts is what they mean
// together). Refuses values out of their set. Loaded for this command only.

import { Option } from 'commander'
import type { Command } from 'commander'

import type { MigrateMode } from '../hypervisor/driver.js'
import { isVolumeName } from '../migrate/lvm.js'
import { parseMapping, type Mapping } from '../migrate/map.js'
import type { Create } from '../migrate/place.js'
import {
  addBwlimitFlag,
  addCompressFlag,
  addConnectionFlags,
  addNativeFlag,
  contradiction,
  plainText,
  type ConnectionFlags,
  type RateFlag,
} from './flags.js'
import type { CompressChoice } from '../options.js'
import { addStateFlag, type StateFlags } from './state-flags.js'
import { parseDuration } from './units.js'

export type MigrateFlags = ConnectionFlags &
  StateFlags & {
    mode?: MigrateMode
    hypervisor?: 'auto' | 'libvirt' | 'xen'
    plan?: true
    connect?: string
    destConnect?: string
    map?: Mapping[]
    network?: Mapping[]
    disks?: string[]
    shared?: string[]
    create?: Create
    xml?: string
    maxRounds?: number
    downtimeTarget?: number
    shutdownTimeout?: number
    forceOff?: true
    start?: true
    undefineSource?: true
    hook?: string
    bwlimit?: RateFlag
    compress?: CompressChoice
    timeout?: number
    json?: true
    quiet?: true
    progress?: boolean
    status?: string | true
    continue?: string
    abort?: string
    unfence?: string
  }

export const MIGRATE_DEFAULTS = {
  /** A guest that writes faster than the line carries is not caught up with by more. */
  maxRounds: 8,
  downtimeTargetMs: 5000,
  /** Some guests install updates when they shut down. */
  shutdownTimeoutMs: 180_000,
} as const

const MODES = ['warm', 'cold', 'live'] satisfies MigrateMode[]
const HYPERVISORS = ['auto', 'libvirt', 'xen'] satisfies NonNullable<MigrateFlags['hypervisor']>[]
/** Of rounds; more only hides that they do not help. */
const MAX_ROUNDS = 100
/** An ID as a journal may be called (src/host/journals.ts). */
const ID = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/

export function addMigrateFlags(command: Command): Command {
  command.optionsGroup('What to do:')
  command.addOption(
    new Option(
      '--mode <mode>',
      'warm: save and restore (default where it runs); cold: shut down, start there; live: libvirt moves it running',
    ).choices(MODES),
  )
  command.option('--plan', 'only look: disks, definition, commands, estimates, and what would be refused')
  command.addOption(
    new Option(
      '--map <src=dst>',
      "a disk's path there, by its path or target here; may be repeated",
    ).argParser(mappings('--map', 'path')),
  )
  command.addOption(
    new Option('--disks <targets>', 'copy these and no others: vda,vdc').argParser(targets('--disks')),
  )
  command.addOption(
    new Option('--shared <targets>', 'both hosts see these, so they are not copied: vdb').argParser(
      targets('--shared'),
    ),
  )
  command.addOption(
    new Option(
      '--create <how>',
      'make what is missing there: file (sparse), or lvm:GROUP (a volume)',
    ).argParser(parseCreate),
  )
  command.addOption(
    new Option(
      '--network <old=new>',
      'a network or bridge is called otherwise there; may be repeated',
    ).argParser(mappings('--network', 'name')),
  )
  command.addOption(
    new Option('--xml <file>', "a definition of yours instead of the guest's own").argParser(
      plainText('--xml'),
    ),
  )
  command.option('--start', 'start a guest there that is off here')
  command.option('--undefine-source', 'take the definition away here when it is done')
  command.option('-y, --yes', 'overwrite content of disks there unasked')
  command.optionsGroup('Downtime:')
  command.addOption(
    new Option(
      '--max-rounds <n>',
      `passes while it runs, at most (default ${MIGRATE_DEFAULTS.maxRounds})`,
    ).argParser(parseRounds),
  )
  command.addOption(
    new Option('--downtime-target <time>', 'stop it when the forecast is below this (default 5s)').argParser(
      (text: string) => parseDuration('--downtime-target', text),
    ),
  )
  command.addOption(
    new Option('--shutdown-timeout <time>', 'cold: wait so long for it to shut down (default 3m)').argParser(
      (text: string) => parseDuration('--shutdown-timeout', text),
    ),
  )
  command.option('--force-off', 'cold: pull the plug where it does not shut down in time')
  command.addOption(
    new Option(
      '--hook <dir>',
      'programs before-save, after-restore and on-failure in it are run here',
    ).argParser(plainText('--hook')),
  )
  command.optionsGroup('A migration that was begun:')
  command.addOption(new Option('--status [id]', 'show those of this host, or one of them'))
  command.addOption(new Option('--continue <id>', 'go on with it').argParser(parseId('--continue')))
  command.addOption(
    new Option('--abort <id>', 'take it back, where that is certain to be safe').argParser(
      parseId('--abort'),
    ),
  )
  command.addOption(
    new Option('--unfence <id>', 'give the guest back to this host, which it had left').argParser(
      parseId('--unfence'),
    ),
  )
  command.optionsGroup('Hypervisor:')
  command.addOption(
    new Option('--hypervisor <kind>', 'auto (default) takes what answers on both hosts').choices(HYPERVISORS),
  )
  command.addOption(
    new Option('--connect <uri>', 'libvirt here (default qemu:///system)').argParser(plainText('--connect')),
  )
  command.addOption(
    new Option('--dest-connect <uri>', 'libvirt there').argParser(plainText('--dest-connect')),
  )
  command.optionsGroup('Speed:')
  addBwlimitFlag(command)
  addCompressFlag(command)
  addNativeFlag(command)
  command.optionsGroup('What is printed:')
  command.option('-q, --quiet', 'nothing but errors')
  command.option('--progress', 'show progress (the default on a terminal)')
  command.option('--no-progress', 'show no progress')
  command.option('--json', 'JSON lines on stdout: events, then one result')
  addConnectionFlags(command)
  command.addOption(
    new Option(
      '--timeout <time>',
      'give up when nothing is heard of the other host for so long (default 60)',
    ).argParser((text: string) => parseDuration('--timeout', text)),
  )
  return addStateFlag(command)
}

function mappings(option: string, kind: 'path' | 'name'): (text: string, before?: Mapping[]) => Mapping[] {
  const check = plainText(option)
  return (text, before = []) => [...before, parseMapping(option, check(text), kind)]
}

function targets(option: string): (text: string, before?: string[]) => string[] {
  const check = plainText(option)
  return (text, before = []) => {
    const names = check(text).split(',')
    const wrong = names.find((name) => !/^[A-Za-z0-9_.:-]+$/.test(name))
    if (wrong !== undefined)
      throw contradiction(
        option,
        `takes names of disks with commas between them, not '${text}'`,
        `Write for example ${option} vda,vdb.`,
      )
    return [...new Set([...before, ...names])]
  }
}

function parseCreate(text: string): Create {
  if (text === 'file') return { kind: 'file' }
  const group = text.startsWith('lvm:') ? text.slice('lvm:'.length) : ''
  if (isVolumeName(group)) return { kind: 'lvm', group }
  throw contradiction(
    '--create',
    `is file or lvm:GROUP, not '${text}'`,
    'Write for example --create lvm:vg0.',
  )
}

function parseRounds(text: string): number {
  const rounds = /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (rounds >= 1 && rounds <= MAX_ROUNDS) return rounds
  throw contradiction(
    '--max-rounds',
    `is a number from 1 to ${MAX_ROUNDS}, not '${text}'`,
    'Write for example --max-rounds 4.',
  )
}

export function parseId(option: string): (text: string) => string {
  return (text) => {
    if (ID.test(text)) return text
    throw contradiction(
      option,
      `wants the ID of a migration, not '${text}'`,
      'blocksync migrate --status shows them.',
    )
  }
}
