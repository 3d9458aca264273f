// A running far end: two byte streams to a `blocksync serve`, and how it ended. One file per way to get there
// (local.ts, openssh.ts, ssh2.ts); open.ts chooses. Nothing here looks at the bytes.

import type { Readable, Writable } from 'node:stream'

import type { SyncError } from '../errors.js'

/** How the far end ended. `stderrTail` is the last STDERR_TAIL_BYTES of text it (or ssh) printed. */
export type FarExit = Readonly<{ exitStatus: number | null; signal: string | null; stderrTail: string }>

/** A socket here that ssh forwards to bondSocketPath(name) there. Nobody needs to listen, and ssh may refuse to forward. */
export type Forward = Readonly<{ localPath: string; name: string }>

/**
 * Where the far end listens for further streams. It has to be known before ssh is started, and be a path: ssh forwards
 * to no abstract socket.
 */
export function bondSocketPath(name: string): string {
  return `/tmp/blocksync-bond-${name}`
}

export interface Connection extends AsyncDisposable {
  /** What to call the other side in messages: the host as typed, or 'local'. */
  readonly peerName: string
  readonly kind: 'local' | 'openssh' | 'ssh2'
  /** Name of the cipher in use where it is known (ssh2), or null. */
  readonly cipher: string | null
  /**
   * Bytes from the far end's stdout. Never emits 'error' unhandled: failures also settle `exit`. A chunk of 'data' may be
   * lent (streams.ts): what is kept of it after the event has to be copied, and the stream must not be piped.
   */
  readonly input: Readable
  /** Bytes to the far end's stdin. */
  readonly output: Writable
  /** Where further streams to the same far end can be had, or null: see docs/decisions/0019-bond.md. */
  readonly forward: Forward | null
  /** Resolves once, when the far end has ended and its output has been read; never rejects. */
  readonly exit: Promise<FarExit>
  /** Half-closes: the far end sees the end of its input, flushes and exits. */
  end(): void
  /** Ends it now. */
  kill(): void
  /**
   * Turns an ended connection into the error a user should see. `banner-seen` means the protocol had begun: then it is
   * session/lost; before, it is a connect/* error read from the exit status and the stderr tail.
   */
  explain(exit: FarExit, phase: 'before-banner' | 'banner-seen'): SyncError
}

export const STDERR_TAIL_BYTES = 8192

export type FarCommand = 'serve' | 'agent'

/** Receives lines of text that the far end or ssh printed on stderr while it runs. */
export type StderrLine = (line: string) => void

export type TransportOptions = Readonly<{
  /** `auto`: the system ssh where it is on PATH, else the ssh2 library. */
  ssh: 'openssh' | 'ssh2' | 'auto'
  /** `-e`: a remote shell command line already split into words; implies openssh. */
  rsh: readonly string[] | null
  port: number | null
  identities: readonly string[]
  configFile: string | null
  sudo: 'never' | 'always'
  /** A command line for the remote shell, as rsync's --rsync-path. */
  remoteCommand: string
  /** What is started there: the far end of a sync, or that of a migration (src/host/agent.ts). Absent is `serve`. */
  command?: FarCommand
  /** Words appended after the command (already checked, plain words). */
  serveArguments: readonly string[]
  /** A further lane of a run has a connection of its own and asks a person nothing: where that cannot be, it fails. */
  lane: 'first' | 'further'
  /** `wanted`: prepare for further streams to the same far end, where that is possible. Absent is `none`. */
  forwarding?: 'none' | 'wanted'
}>

/** Where the far end is. */
export type FarSide =
  | { kind: 'local' }
  | { kind: 'remote'; host: string; user: string | null; port: number | null; typed: string }

/** A far end on a host. */
export type RemoteSide = Extract<FarSide, { kind: 'remote' }>
