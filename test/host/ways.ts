// The ways to have a host: this one in process, and this one again through an agent (a child process, a real sshd by the
// system's ssh and by the ssh2 library). All have the state directory that they are given, and are closed with their test.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { afterEach } from 'vitest'

import type { Host } from '../../src/host/host.js'
import { openHost } from '../../src/host/open.js'
import { openRemoteHost } from '../../src/host/remote.js'
import { loadNative, type NativeCore } from '../../src/native.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import { connect } from '../../src/transport/open.js'
import type { Connection, FarSide, TransportOptions } from '../../src/transport/transport.js'
import { MAIN_PATH, REMOTE_COMMAND } from '../support/cli.js'
import { useFarSides, ways, type Way } from '../support/far-sides.js'
import { isRunning } from '../support/processes.js'

export type HostWay = 'in process' | 'in process, no core' | 'child' | 'child, no core' | 'openssh' | 'ssh2'

const FAR: FarSide = { kind: 'remote', host: 'far', user: null, port: null, typed: 'far' }
const TIMEOUT_MS = 20_000

/** Those that can be gone here. */
export const HOST_WAYS: readonly HostWay[] = [
  'in process',
  'in process, no core',
  'child',
  'child, no core',
  ...ways('openssh', 'ssh2').filter((way): way is Exclude<Way, 'local'> => way !== 'local'),
]

export type Hosts = Readonly<{
  open: (way: HostWay, stateDir: string) => Promise<Host>
  /** Through a child, with its connection. */
  child: (stateDir: string, timeoutMs?: number) => Promise<{ host: Host; connection: Connection }>
}>

/** For all tests of the file; what a test opened is closed behind it. */
export function useHosts(): Hosts {
  const farSides = useFarSides()
  const opened: Host[] = []
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((host) => host.close()))
  })
  const kept = (host: Host): Host => {
    opened.push(host)
    return host
  }
  const child = async (
    stateDir: string,
    timeoutMs = TIMEOUT_MS,
    core: NativeCore | null = loadNative('auto'),
    words: readonly string[] = [],
  ): Promise<{ host: Host; connection: Connection }> => {
    const serveArguments = [...words, `--state-dir=${stateDir}`]
    const options: TransportOptions = { ...SYNC_DEFAULTS.transport, command: 'agent', serveArguments }
    const connection = await connect({ kind: 'local' }, options, () => undefined, core)
    return { host: kept(await openRemoteHost(connection, 'a child', timeoutMs, null)), connection }
  }
  return {
    child,
    open: async (way, stateDir) => {
      switch (way) {
        case 'child':
          return (await child(stateDir)).host
        case 'child, no core':
          return (await child(stateDir, TIMEOUT_MS, null, ['--native=off'])).host
        case 'in process':
        case 'in process, no core': {
          const native = way === 'in process' ? 'auto' : 'off'
          const { transport, timeoutMs } = SYNC_DEFAULTS
          return kept(await openHost({ kind: 'local' }, { stateDir, native, transport, timeoutMs }))
        }
        case 'openssh':
        case 'ssh2':
          return kept(
            await openHost(FAR, {
              stateDir: null,
              native: 'auto',
              timeoutMs: TIMEOUT_MS,
              transport: {
                ...SYNC_DEFAULTS.transport,
                ssh: way,
                configFile: farSides.sshd().clientConfigPath,
                remoteCommand: REMOTE_COMMAND,
                serveArguments: [`--state-dir=${stateDir}`],
              },
            }),
          )
        default:
          return way satisfies never
      }
    },
  }
}

/** An agent as a bare process, for lines that no controller would write. */
export function useAgents(): (stateDir: string) => ChildProcessWithoutNullStreams {
  const started: ChildProcessWithoutNullStreams[] = []
  afterEach(() => {
    for (const child of started.splice(0)) {
      if (child.pid !== undefined && isRunning(child.pid)) child.kill('SIGKILL')
    }
  })
  return (stateDir) => {
    const child = spawn(process.execPath, [MAIN_PATH, 'agent', `--state-dir=${stateDir}`])
    // what is written to one that has ended already
    child.stdin.on('error', () => undefined)
    started.push(child)
    return child
  }
}
