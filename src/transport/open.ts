// The one place that chooses how to get to the other side. Each kind is loaded only when it is used, since loading the
// ssh2 library takes longer than starting ssh. Refuses host and user names that could be taken for an option.

import { SyncError } from '../errors.js'
import { findProgram } from '../exec.js'
import type { NativeCore } from '../native.js'
import { printable } from '../printable.js'
import type { Connection, FarSide, StderrLine, TransportOptions } from './transport.js'

/**
 * Starts a far end. Resolves with the connection: through ssh2 it is authenticated by then, through ssh it may still be on
 * its way (its failure then ends the connection, and `explain` names it). Rejects with connect/* or usage. `native` makes
 * receiving cheaper, where the far end is behind a child process.
 */
export async function connect(
  far: FarSide,
  options: TransportOptions,
  onStderrLine: StderrLine,
  native: NativeCore | null = null,
): Promise<Connection> {
  if (far.kind === 'local') {
    const { connectLocal } = await import('./local.js')
    return await connectLocal(options, onStderrLine, native)
  }
  checkName('host', far.host, far.typed)
  if (far.user !== null) checkName('user', far.user, far.typed)
  const kind = await chooseSsh(options)
  switch (kind) {
    case 'openssh': {
      const { connectOpenssh } = await import('./openssh.js')
      return await connectOpenssh(far, options, onStderrLine, native)
    }
    case 'ssh2': {
      const { connectSsh2 } = await import('./ssh2.js')
      return await connectSsh2(far, options, onStderrLine)
    }
    default:
      return kind satisfies never
  }
}

/** `auto` is the system's ssh where it is on PATH, else ssh2. -e is always the system's. */
export async function chooseSsh(options: TransportOptions): Promise<'openssh' | 'ssh2'> {
  if (options.rsh !== null) {
    if (options.ssh !== 'ssh2') return 'openssh'
    throw new SyncError('usage', '-e and --ssh ssh2 exclude each other; nothing was opened', {
      operand: '-e',
    })
  }
  if (options.ssh !== 'auto') return options.ssh
  return (await findProgram('ssh')) === null ? 'ssh2' : 'openssh'
}

/** ssh would read a leading '-' as an option (and -oProxyCommand runs a program); blanks and controls are in no name. */
function checkName(what: 'host' | 'user', name: string, typed: string): void {
  if (name !== '' && !name.startsWith('-') && !/[\s\0]/u.test(name) && printable(name) === name) return
  throw new SyncError('usage', `${JSON.stringify(name)} is not a ${what} name; nothing was opened`, {
    operand: typed,
    hint: 'Write [user@]host:/path.',
  })
}
