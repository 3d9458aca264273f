// How a far end ended (exit status, signal, last words) goes in, the error a person should see comes out.
// It knows the texts of OpenSSH, of login shells and of sudo; what it does not know is quoted, not guessed.

import { constants } from 'node:os'

import { SyncError, type ErrorCode } from '../errors.js'
import type { FarExit } from './transport.js'

export type ExitContext = Readonly<{
  kind: 'local' | 'openssh' | 'ssh2'
  /** The host as typed, or 'local'. */
  peerName: string
  /** What was asked to run there, for hints. */
  remoteCommand: string
  sudo: 'never' | 'always'
}>

type SshFailure = Readonly<{
  text: RegExp
  code: ErrorCode
  what: string
  hint: (context: ExitContext) => string
  /** What may pass by itself, where not all of it does. */
  passing?: RegExp
}>

/** The status of ssh itself where ssh failed, and not the program it ran (ssh(1), EXIT STATUS). */
const SSH_FAILED = 255
/** A shell could not find, or could not execute, the program (POSIX.1-2024, 2.9.1.6). */
const NOT_FOUND = 127
const NOT_EXECUTABLE = 126
/** A shell reports a program that died of signal N as this plus N. */
const SHELL_SIGNAL_BASE = 128
/** So many last lines are quoted in a message. */
const QUOTED_LINES = 4

/** Texts of OpenSSH's client on stderr, most telling first: a changed key also says that verification failed. */
const SSH_FAILURES: readonly SshFailure[] = [
  {
    text: /REMOTE HOST IDENTIFICATION HAS CHANGED|Offending .* key in |DNS SPOOFING|REVOKED HOST KEY/,
    code: 'connect/host-key',
    what: 'the host key is not the one that is known for it',
    hint: ({ peerName }) =>
      `If you know why the key changed, remove the old one with ssh-keygen -R (the message above names file and line), then run ssh ${peerName} once and compare the new fingerprint.`,
  },
  {
    text: /Host key verification failed|No .* host key is known for|host key is not known/,
    code: 'connect/host-key',
    what: 'the host key is not known here',
    hint: ({ peerName }) => `Run ssh ${peerName} once, compare the fingerprint that it shows, and accept it.`,
  },
  {
    text: /Could not resolve hostname|Name or service not known|No route to host|Network is unreachable/i,
    code: 'connect/host',
    what: 'the host could not be found or reached',
    hint: ({ peerName }) =>
      `Check the name; ssh ${peerName} must work by itself.${isBareWord(peerName) ? ` For a file here write ./${peerName}.` : ''}`,
    // a host that starts again, a network that comes back; a name that does not exist does not
    passing: /Temporary failure in name resolution|No route to host|Network is unreachable/i,
  },
  {
    text: /Connection refused|timed out|Connection (?:closed|reset) by .* port|kex_exchange_identification|ssh_exchange_identification/i,
    code: 'connect/refused',
    what: 'nothing answered as an ssh server there, or it turned us away',
    hint: () => 'Check that sshd runs there, the port (-p) and firewalls, then run this again.',
  },
  {
    text: /Permission denied|Too many authentication failures|no more authentication methods/i,
    code: 'connect/auth',
    what: 'authentication was refused',
    hint: ({ peerName }) =>
      `Run ssh ${peerName} to see which keys are offered; -i names another key, user@ another user, ssh-add loads a key into the agent.`,
  },
]

/** Texts of sudo -n where it would have to ask. Its exit status (1) says nothing. */
const SUDO_ASKS =
  /^sudo: .*(?:password is required|terminal is required|not in the sudoers|not allowed to execute|must have a tty)|is not in the sudoers file/m
/** What ssh says when it lost the connection; without it, status 255 may also be a far program that died of a signal. */
const SSH_LOST =
  /closed by remote host|Connection to .* closed|Broken pipe|connection reset|timed out|Timeout, server|not responding|packet|corrupted/i
const SUDO_MISSING = /\bsudo: (?:command )?not found/
const SHELL_NOT_FOUND = /(?:^|: )(?:command )?not found|No such file or directory/m

/**
 * The error for a far end that ended when it should not have. See Connection.explain for `phase`.
 * The text of the far end comes already cleaned of control characters.
 */
export function explainExit(
  context: ExitContext,
  exit: FarExit,
  phase: 'before-banner' | 'banner-seen',
): SyncError {
  switch (phase) {
    case 'before-banner':
      return context.kind === 'local' ? explainLocalStart(exit) : explainRemoteStart(context, exit)
    case 'banner-seen':
      return explainLost(context, exit)
    default:
      return phase satisfies never
  }
}

function explainLocalStart(exit: FarExit): SyncError {
  return new SyncError(
    'connect/failed',
    `the local half of blocksync ${endedHow(exit)} before it answered; nothing was written${quoted(exit)}`,
    {
      operand: 'local',
      hint: 'Run blocksync doctor; if the installation is damaged, install blocksync again.',
    },
  )
}

function explainRemoteStart(context: ExitContext, exit: FarExit): SyncError {
  const { kind, peerName } = context
  const failure = (code: ErrorCode, what: string, hint: string, passing?: RegExp): SyncError =>
    new SyncError(code, `${peerName}: ${what}; nothing was written${quoted(exit)}`, {
      operand: peerName,
      hint,
      ...(passing?.test(exit.stderrTail) === true ? { passing: true } : {}),
    })

  if (context.sudo === 'always' && SUDO_ASKS.test(exit.stderrTail)) {
    return failure(
      'connect/auth',
      'sudo there wants a password or does not allow it',
      `Allow it in sudoers there without a password (NOPASSWD: for ${context.remoteCommand}), or connect as root.`,
    )
  }
  if (kind === 'openssh' && exit.exitStatus === SSH_FAILED) {
    for (const known of SSH_FAILURES) {
      if (known.text.test(exit.stderrTail))
        return failure(known.code, known.what, known.hint(context), known.passing)
    }
    return failure('connect/failed', 'ssh failed', `ssh ${peerName} must work by itself; try it.`)
  }
  if (context.sudo === 'always' && exit.exitStatus === NOT_FOUND && SUDO_MISSING.test(exit.stderrTail)) {
    return failure('connect/no-program', 'sudo is not installed there', 'Connect as root, without --sudo.')
  }
  if (isMissingProgram(context, exit)) {
    return failure(
      'connect/no-program',
      `'${context.remoteCommand}' could not be run there (status ${exit.exitStatus})`,
      'Install blocksync there (npm install -g ./blocksync-VERSION.tgz, the package that npm pack makes), or say where it is with --remote-command. A shell that is not a login shell may have a shorter PATH.',
    )
  }
  return failure(
    'connect/failed',
    `what was started there ${endedHow(exit)} before it answered as blocksync`,
    `Run ssh ${peerName} ${context.remoteCommand} serve: it must print one line that begins with BLOCKSYNC server.`,
  )
}

/** What was typed could have been meant as a file name: a host alone, without user or path. */
function isBareWord(typed: string): boolean {
  return !/[/:@]/u.test(typed)
}

function isMissingProgram(context: ExitContext, exit: FarExit): boolean {
  if (exit.exitStatus === NOT_FOUND || exit.exitStatus === NOT_EXECUTABLE) return true
  // sudo has one status for all its failures.
  return (
    context.sudo === 'always' &&
    exit.exitStatus === 1 &&
    /^sudo: /m.test(exit.stderrTail) &&
    SHELL_NOT_FOUND.test(exit.stderrTail)
  )
}

function explainLost(context: ExitContext, exit: FarExit): SyncError {
  const { kind, peerName } = context
  const hint =
    'What was acknowledged is on the destination: run the same command again, it continues from there.'
  const details = { operand: peerName, hint }
  if (kind === 'local') {
    return new SyncError(
      'session/lost',
      `the local half of blocksync ${endedHow(exit)} before the work was done${quoted(exit)}`,
      details,
    )
  }
  const sshItselfEnded =
    exit.signal === null &&
    (exit.exitStatus === null || (kind === 'openssh' && exit.exitStatus === SSH_FAILED))
  if (sshItselfEnded) {
    const what =
      kind === 'ssh2' || SSH_LOST.test(exit.stderrTail) ? 'broke' : 'broke, or blocksync there was killed,'
    return new SyncError(
      'session/lost',
      `the connection to ${peerName} ${what} before the work was done${quoted(exit)}`,
      details,
    )
  }
  if (kind === 'openssh' && exit.signal !== null) {
    return new SyncError(
      'session/lost',
      `the ssh process to ${peerName} ${endedHow(exit)} before the work was done${quoted(exit)}`,
      details,
    )
  }
  return new SyncError(
    'session/lost',
    `blocksync on ${peerName} ${endedHow(exit)} before the work was done${quoted(exit)}`,
    details,
  )
}

function endedHow(exit: FarExit): string {
  if (exit.signal !== null) return `was killed by ${exit.signal}`
  if (exit.exitStatus === null) return 'ended'
  const signal = signalOfShellStatus(exit.exitStatus)
  return signal === null
    ? `ended with status ${exit.exitStatus}`
    : `was killed by ${signal} (status ${exit.exitStatus})`
}

function signalOfShellStatus(exitStatus: number): string | null {
  const number = exitStatus - SHELL_SIGNAL_BASE
  for (const [name, value] of Object.entries(constants.signals)) if (value === number) return name
  return null
}

/** The last lines that are not decoration, for the end of a message. */
function quoted(exit: FarExit): string {
  const lines = exit.stderrTail.split('\n').filter((line) => line.trim() !== '' && !/^@+$/.test(line.trim()))
  // The line that names the offending entry stands before the last ones and is the most useful of all.
  const offending = lines.filter((line) => /^Offending .* key /.test(line))
  const last = lines.slice(-QUOTED_LINES)
  const shown = [...offending.filter((line) => !last.includes(line)), ...last]
  return shown.length === 0 ? '' : `: ${shown.join(' | ')}`
}
