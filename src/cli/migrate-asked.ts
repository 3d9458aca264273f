// What the words of `blocksync migrate` mean together: operands and flags in, one request out. Refuses options that
// contradict each other, and those that could have no effect on what is asked for.

import { SyncError } from '../errors.js'
import type { RemoteSide } from '../transport/transport.js'
import { contradiction } from './flags.js'
import { parseId, type MigrateFlags } from './migrate-flags.js'
import { parseHost } from './operand.js'

/** What is asked for. `guest` and the rest are in the flags; those of a recovery are about the connection only. */
export type MigrateAsked =
  | Readonly<{ kind: 'status'; id: string | null }>
  | Readonly<{ kind: 'continue' | 'abort' | 'unfence'; id: string }>
  | Readonly<{ kind: 'plan' | 'migrate'; guest: string; far: RemoteSide; typedHost: string }>

/** What the words mean together. Rejects with `usage`. */
export function askedOf(operands: readonly string[], flags: MigrateFlags): MigrateAsked {
  const actions = (['status', 'continue', 'abort', 'unfence'] as const).filter(
    (name) => flags[name] !== undefined,
  )
  const [action, another] = actions
  if (another !== undefined)
    throw contradiction(
      `--${another}`,
      `and --${action ?? ''} are two different wishes`,
      'Leave one of the two away.',
    )
  if (action === undefined) return migrationOf(operands, flags)
  const [operand] = operands
  if (operand !== undefined)
    throw contradiction(
      `--${action}`,
      `is about a migration that was begun, and ${operand} would begin one`,
      `Write blocksync migrate --${action} ID.`,
    )
  refuseIdle(action, flags)
  const id = flags[action]
  if (action === 'status')
    return { kind: action, id: typeof id === 'string' ? parseId('--status')(id) : null }
  return { kind: action, id: typeof id === 'string' ? id : '' }
}

function migrationOf(operands: readonly string[], flags: MigrateFlags): MigrateAsked {
  const [guest, host, more] = operands
  if (guest === undefined || host === undefined)
    throw missing(
      guest === undefined ? 'GUEST' : 'HOST',
      'Write for example blocksync migrate web root@host2',
    )
  if (more !== undefined)
    throw new SyncError('usage', 'one guest and one host, and no more; nothing was opened', {
      operand: more,
      hint: 'Write for example blocksync migrate web root@host2',
    })
  if (guest.trim() === '') throw missing('GUEST', 'Was a shell variable empty?')
  const far = parseHost(host)
  const both = flags.disks?.find((target) => flags.shared?.includes(target))
  if (both !== undefined)
    throw contradiction('--shared', `and --disks both name ${both}`, 'A disk is copied, or it is shared.')
  if (flags.hypervisor === 'xen' && (flags.connect ?? flags.destConnect) !== undefined)
    throw contradiction(
      flags.connect === undefined ? '--dest-connect' : '--connect',
      'is about libvirt, and --hypervisor says xen',
      'Leave one of the two away.',
    )
  if (flags.hypervisor === 'xen' && flags.mode === 'live')
    throw contradiction('--mode', 'live is there for libvirt only', 'Write --mode warm.')
  refuseOfMode(flags)
  return { kind: flags.plan === true ? 'plan' : 'migrate', guest, far, typedHost: far.typed }
}

/** Options that a mode, where one is named, has no use for. */
function refuseOfMode({
  mode,
  maxRounds,
  downtimeTarget,
  shutdownTimeout,
  forceOff,
  start,
  plan,
  yes,
}: MigrateFlags): void {
  const idle: [string, unknown, boolean][] = [
    ['--max-rounds', maxRounds, mode === 'live'],
    ['--downtime-target', downtimeTarget, mode === 'live'],
    ['--shutdown-timeout', shutdownTimeout, mode === 'warm' || mode === 'live'],
    ['--force-off', forceOff, mode === 'warm' || mode === 'live'],
    ['--start', start, mode === 'warm' || mode === 'live'],
  ]
  for (const [option, value, isIdle] of idle) {
    if (value !== undefined && isIdle)
      throw contradiction(option, `has no effect with --mode ${mode ?? ''}`, `Leave one of the two away.`)
  }
  if (plan === true && yes === true)
    throw contradiction('--yes', 'answers what --plan does not ask', 'Leave one of the two away.')
}

/** What begins a migration has no effect on one that was begun: it goes on as it was planned. */
function refuseIdle(action: 'status' | 'continue' | 'abort' | 'unfence', flags: MigrateFlags): void {
  const planned = [
    'mode',
    'plan',
    'map',
    'network',
    'disks',
    'shared',
    'create',
    'xml',
    'maxRounds',
    'downtimeTarget',
    'shutdownTimeout',
    'forceOff',
    'start',
    'undefineSource',
    'hook',
  ] as const satisfies (keyof MigrateFlags)[]
  const connection = [
    'rsh',
    'ssh',
    'port',
    'identity',
    'sshConfig',
    'sudo',
    'remoteCommand',
    'bwlimit',
    'compress',
    'timeout',
    'hypervisor',
    'connect',
    'destConnect',
    'native',
    'yes',
  ] as const satisfies (keyof MigrateFlags)[]
  const idle = [...planned, ...(action === 'status' ? connection : [])].find(
    (name) => flags[name] !== undefined,
  )
  if (idle === undefined) return
  const option = `--${idle.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  throw contradiction(
    option,
    action === 'status' ? 'has no effect on --status' : `has no effect: --${action} goes by what was planned`,
    `Leave ${option} away.`,
  )
}

function missing(operand: 'GUEST' | 'HOST', hint: string): SyncError {
  return new SyncError('usage', `${operand} is missing; nothing was opened`, { operand, hint })
}
