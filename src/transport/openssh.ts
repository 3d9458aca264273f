// The far end through the system's ssh (or the remote shell of -e) as a child: whatever makes `ssh host` work makes this
// work. Adds only what was asked for, and never anything that weakens the host key check. ssh2 is not loaded for it.

import { basename } from 'node:path'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { NativeCore } from '../native.js'
import { privatePrefix, removeAbandoned } from './abandoned.js'
import { connectChild } from './child.js'
import { cipherWords, resolveSsh } from './ciphers.js'
import { isAboutForward, openForward } from './forward.js'
import { remoteCommandLine } from './remote-command.js'
import type { Connection, RemoteSide, StderrLine, TransportOptions } from './transport.js'

/** Starts ssh; resolves when it runs (not yet connected: ssh may still ask on the terminal). Rejects with connect/failed or usage. */
export async function connectOpenssh(
  far: RemoteSide,
  options: TransportOptions,
  onStderrLine: StderrLine,
  native: NativeCore | null,
): Promise<Connection> {
  const plain = sshArgv(far, options)
  const [program, ...words] = plain
  const [resolved, prefix] = await Promise.all([isSsh(program) ? resolveSsh(plain) : null, privatePrefix()])
  const ciphers = await cipherWords(resolved, options.rsh ?? [])
  const forward = options.forwarding === 'wanted' ? openForward(resolved, prefix) : null
  try {
    const connection = await connectChild({
      argv: [program, ...ciphers, ...(forward?.words ?? []), ...words],
      context: {
        kind: 'openssh',
        peerName: far.typed,
        remoteCommand: options.remoteCommand,
        sudo: options.sudo,
      },
      onStderrLine: forward === null ? onStderrLine : unlessAboutForward(onStderrLine),
      forward,
      native,
      missingProgramHint:
        options.rsh === null
          ? 'Install an ssh client (openssh-client), or use the built-in one with --ssh ssh2.'
          : 'Correct the command after -e; its first word must be a program.',
    })
    connection.exit.then(() => forward?.remove()).catch(() => undefined) // an empty private directory stays among the temporary files: nothing to fail a run for
    // while ssh connects; it rejects for a defect only, which is nothing to fail a run for
    if (forward !== null) removeAbandoned(Date.now()).catch(() => undefined)
    return connection
  } catch (error) {
    forward?.remove()
    throw error
  }
}

function unlessAboutForward(onLine: StderrLine): StderrLine {
  return (line) => {
    if (!isAboutForward(line)) onLine(line)
  }
}

/** What comes with OpenSSH and takes its options. */
function isSsh(program: string): boolean {
  return basename(program) === 'ssh'
}

/**
 * What a further lane adds. Nobody is asked twice; and over the connection of a control master (which a configuration may
 * start or join) it would share the one window and the one processor that it is there to get around.
 */
const FURTHER_LANE = ['-o', 'BatchMode=yes', '-o', 'ControlMaster=no', '-o', 'ControlPath=none'] as const

/**
 * The command line: `ssh [-p -i -F -l as given] host command`, or with -e its words, `-l user`, host and command, as
 * rsync calls a remote shell. The whole remote command is one argument. Rejects with `usage` what would have no effect.
 */
export function sshArgv(far: RemoteSide, options: TransportOptions): Argv {
  const [program, ...words] = options.rsh ?? ['ssh']
  if (program === undefined) throw usage('-e', 'names no program')
  const port = far.port ?? options.port
  const user = far.user === null ? [] : ['-l', far.user]
  const command = remoteCommandLine(options)
  if (!isSsh(program)) {
    if (port !== null)
      throw usage('-p', `is for ssh; write the port for ${program} into the command after -e`)
    if (options.identities.length > 0) throw usage('-i', `is for ssh; write it into the command after -e`)
    if (options.configFile !== null) throw usage('-F', `is for ssh; write it into the command after -e`)
    return [program, ...words, ...user, far.host, command]
  }
  // ssh takes the first value it sees: ours stand before the words of -e, but user and host behind them, since with
  // -e 'ssh bastion ssh' they belong to the inner one. (open.ts refused names with a leading '-'.) No terminal at the far end (-T), and no escape
  // character, since the stream is binary.
  return [
    program,
    '-T',
    '-o',
    'EscapeChar=none',
    ...(options.lane === 'further' ? FURTHER_LANE : []),
    ...(options.configFile === null ? [] : ['-F', options.configFile]),
    ...(port === null ? [] : ['-p', String(port)]),
    ...options.identities.flatMap((file) => ['-i', file]),
    ...words,
    ...user,
    far.host,
    command,
  ]
}

function usage(option: string, message: string): SyncError {
  return new SyncError('usage', `${option} ${message}; nothing was opened`, { operand: option })
}
