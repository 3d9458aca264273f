// A run as a program that embeds the library makes it, in this process, with the built program at the far end of a pipe.

import type { Operand, RunReport } from '../../src/sync/report.js'
import { sync } from '../../src/sync/sync.js'
import { SYNC_DEFAULTS, syncOptions, type SyncOptions } from '../../src/options.js'
import { REMOTE_COMMAND, relay } from './cli.js'
import type { Scratch } from './disks.js'

export type LibraryRun = Readonly<{
  from: string
  to: string
  /** Of the source. */
  standsFor?: string
  direction: 'push' | 'pull'
  options?: Partial<SyncOptions>
  transport?: Partial<SyncOptions['transport']>
  /** With the pid of the far end, when that has started. */
  onFar?: (pid: number) => Promise<void>
}>

/** Resolves with the report, also of a run that failed. */
export async function libraryRun(on: Scratch, request: LibraryRun): Promise<RunReport> {
  const { from, to, standsFor, direction, options, transport: more, onFar } = request
  const { words, farPid } = await relay(on, null)
  const far = { kind: 'remote', typed: 'far', host: 'far', user: null, port: null } as const
  const operand = (path: string, isHere: boolean): Operand => ({
    at: isHere ? { kind: 'local' } : far,
    path,
    typed: isHere ? path : `far:${path}`,
  })
  const source = operand(from, direction === 'push')
  const pair = {
    source: standsFor === undefined ? source : { ...source, standsFor },
    destination: operand(to, direction === 'pull'),
  }
  const transport = {
    ...SYNC_DEFAULTS.transport,
    ssh: 'openssh',
    rsh: (words[1] ?? '').split(' '),
    remoteCommand: REMOTE_COMMAND,
    ...more,
  } as const
  const running = sync([pair], syncOptions({ transport, ...options }), {})
  const [report] = await Promise.all([running, onFar === undefined ? null : farPid().then(onFar)])
  return report
}
