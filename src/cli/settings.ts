// Flags into what a run is told: SyncOptions. Refuses options that contradict each other and options that could have no
// effect.

import { SYNC_DEFAULTS, syncOptions } from '../options.js'
import type { RunMode, SyncOptions } from '../options.js'
import type { RemoteSide } from '../transport/transport.js'
import { contradiction } from './flags.js'
import type { ConnectionFlags, SyncFlags } from './flags.js'
import { forcedGuards } from './force-flags.js'
import { resumeOf } from './resume-flags.js'
import { undoOf } from './undo-flags.js'
import { patienceOf } from './patience-flags.js'
import { stateArguments } from './state-flags.js'

/** The flags over the defaults, checked by the one validator. `remote` is null where both sides are here. Rejects with `usage`. */
export function optionsOf(flags: SyncFlags, kind: 'sync' | 'verify', remote: RemoteSide | null): SyncOptions {
  const mode: RunMode = kind === 'verify' ? 'verify' : flags.dryRun === true ? 'dry-run' : 'write'
  if (mode === 'dry-run') refuseIdleStreams(flags)
  const connection = connectionOf(flags, remote)
  return syncOptions({
    mode,
    create: flags.create === true ? 'if-missing' : 'never',
    force: forcedGuards(flags.yes === true ? { ...flags, forceContent: true } : flags),
    stateDir: flags.stateDir ?? null,
    undo: undoOf(flags),
    ...resumeOf(flags),
    rescue: flags.rescue ?? null,
    ...patienceOf(flags),
    bwlimit: flags.bwlimit?.schedule ?? null,
    ...(flags.compress === undefined ? {} : { compress: flags.compress }),
    ...(flags.streams === undefined ? {} : { streams: flags.streams }),
    ...(flags.verify === undefined ? {} : { verify: flags.verify }),
    ...(flags.size === undefined ? {} : { size: flags.size }),
    ...(flags.blockSize === undefined ? {} : { blockBytes: flags.blockSize }),
    ...(flags.granularity === undefined ? {} : { granularityBytes: flags.granularity }),
    ...(flags.digest === undefined ? {} : { digest: flags.digest }),
    ...connection,
    transport: {
      ...connection.transport,
      serveArguments: [...connection.transport.serveArguments, ...stateArguments(flags, remote)],
    },
  })
}

function refuseIdleStreams({ streams = 'auto' }: SyncFlags): void {
  if (streams !== 'auto' && streams > 1)
    throw contradiction(
      '--streams',
      `${streams} is for a run that writes, and a dry run has one connection`,
      'Leave --streams away, or -n.',
    )
}

/** The part of the options that is about the far side. */
export function connectionOf(
  flags: ConnectionFlags,
  remote: RemoteSide | null,
): Pick<SyncOptions, 'native' | 'transport'> {
  if (remote === null) refuseWithoutRemote(flags)
  if (flags.rsh !== undefined && flags.ssh === 'ssh2') {
    throw contradiction(
      '--rsh',
      'is for the system ssh, and --ssh ssh2 is the built-in client',
      'Leave one of the two away.',
    )
  }
  // a port in the URL and another one in -p: neither is obviously the one that was meant
  if (remote !== null && remote.port !== null && flags.port !== undefined && remote.port !== flags.port) {
    throw contradiction(
      '--port',
      `says ${flags.port}, and ${remote.typed} says ${remote.port}`,
      'Leave one of the two away.',
    )
  }
  const native = flags.native ?? SYNC_DEFAULTS.native
  return {
    native,
    transport: {
      ssh: flags.rsh !== undefined ? 'openssh' : (flags.ssh ?? SYNC_DEFAULTS.transport.ssh),
      rsh: flags.rsh ?? null,
      port: flags.port ?? null,
      identities: flags.identity ?? [],
      configFile: flags.sshConfig ?? null,
      sudo: flags.sudo === true ? 'always' : 'never',
      remoteCommand: flags.remoteCommand ?? SYNC_DEFAULTS.transport.remoteCommand,
      // the far side is told only what is not its default, so that plain runs look plain in its process list
      serveArguments: native === 'auto' ? [] : [`--native=${native}`],
      lane: 'first',
    },
  }
}

function refuseWithoutRemote(flags: ConnectionFlags): void {
  const given: [string, unknown][] = [
    ['--rsh', flags.rsh],
    ['--ssh', flags.ssh],
    ['--port', flags.port],
    ['--identity', flags.identity],
    ['--ssh-config', flags.sshConfig],
    ['--sudo', flags.sudo],
    ['--remote-command', flags.remoteCommand],
  ]
  for (const [option, value] of given) {
    if (value !== undefined)
      throw contradiction(
        option,
        'is about the far side, and both sides are here',
        'Write host:/path for a disk on another host.',
      )
  }
}
