// How the destination of a migration is reached: the options that were typed for it, kept in its plan, and taken out again when it
// is taken up by its ID. Refuses what no version of this program would have put there.

import { resolve } from 'node:path'

import type { Plan, PlannedConnection } from '../migrate/plan.js'
import type { ConnectionFlags } from './flags.js'
import type { MigrateFlags } from './migrate-flags.js'

type Way = Pick<ConnectionFlags, 'rsh' | 'ssh' | 'port' | 'identity' | 'sshConfig' | 'sudo' | 'remoteCommand'>

/** Files are named from the root: who goes on may be somewhere else. */
export function connectionWords(flags: MigrateFlags, cwd: string): PlannedConnection {
  const { rsh, ssh, port, identity, sshConfig, sudo, remoteCommand } = flags
  return {
    ...(rsh === undefined ? {} : { rsh }),
    ...(ssh === undefined ? {} : { ssh }),
    ...(port === undefined ? {} : { port }),
    ...(identity === undefined ? {} : { identity: identity.map((path) => resolve(cwd, path)) }),
    ...(sshConfig === undefined ? {} : { sshConfig: resolve(cwd, sshConfig) }),
    ...(sudo === undefined ? {} : { sudo }),
    ...(remoteCommand === undefined ? {} : { remoteCommand }),
  }
}

/** What was typed when it was begun; what is typed now goes before it. */
export function wordsOfConnection({ connection = {} }: Pick<Plan, 'connection'>): Way {
  const { rsh, ssh, port, identity, sshConfig, sudo, remoteCommand } = connection
  return {
    ...(isWords(rsh) ? { rsh: [...rsh] } : {}),
    ...(ssh === 'auto' || ssh === 'openssh' || ssh === 'ssh2' ? { ssh } : {}),
    ...(typeof port === 'number' ? { port } : {}),
    ...(isWords(identity) ? { identity: [...identity] } : {}),
    ...(typeof sshConfig === 'string' ? { sshConfig } : {}),
    ...(sudo === true ? { sudo } : {}),
    ...(typeof remoteCommand === 'string' ? { remoteCommand } : {}),
  }
}

function isWords(value: PlannedConnection[string] | undefined): value is readonly string[] {
  return Array.isArray(value) && value.every((word) => typeof word === 'string')
}
