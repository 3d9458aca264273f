// `blocksync doctor [HOST]`: what works here, what works there, and what a sync between the two would use.
// Writes nothing anywhere. A host that cannot be reached is an answer: its reason is printed, the exit status is 4.

import { statSync } from 'node:fs'
import os from 'node:os'

import type { AlgorithmName } from '../digest/digester.js'
import { EXIT, errnoOf, SyncError, toSyncError } from '../errors.js'
import type { RunRequest, RunResult } from '../exec.js'
import type { NativeStatus } from '../native.js'
import { syncOptions } from '../options.js'
import type { SyncOptions } from '../options.js'
import type { RunHooks } from '../sync/report.js'
import type { FarSide, RemoteSide } from '../transport/transport.js'
import type { CommandContext } from './context.js'
import type { ConnectionFlags } from './flags.js'
import { parseHost } from './operand.js'
import { errorOf } from './result.js'
import { connectionOf } from './settings.js'
import { runSignal } from './signals.js'
import { formatBytes } from './units.js'
import type { ProbeResult } from '../sync/probe.js'
import { packageVersion } from '../version.js'
import { nativeText } from './version.js'

/** What doctor asks of the rest of the program. */
export type DoctorEngine = Readonly<{
  probe: (far: FarSide, options: SyncOptions, hooks: RunHooks) => Promise<ProbeResult>
  nativeStatus: () => NativeStatus
  algorithms: (native: 'loaded' | 'absent') => AlgorithmName[]
  protocol: Readonly<{ least: number; most: number }>
  run: (request: RunRequest) => Promise<RunResult>
  /** Guests that a migration took away from this host, and that cannot start here since. */
  movedAway: () => Promise<readonly MovedAway[]>
}>

export type MovedAway = Readonly<{ id: string; guest: string; to: string }>

export type DoctorFlags = ConnectionFlags & { json?: true }

/** What is here. */
export type Here = Readonly<{
  version: string
  node: string
  platform: string
  cpus: number
  memoryBytes: number
  protocol: Readonly<{ least: number; most: number }>
  native: Readonly<{ loaded: boolean; simd: string | null; reason: string | null }>
  algorithms: readonly AlgorithmName[]
  /** What `ssh -V` printed, or null where there is no ssh client. */
  ssh: string | null
  agent: 'present' | 'gone' | 'none'
  movedAway: readonly MovedAway[]
}>

/** `ssh -V` answers at once, or something is wrong with it. */
const SSH_VERSION_TIMEOUT_MS = 5000

/** Best first: what `--digest auto` takes where both ends have it. */
const PREFERENCE: readonly AlgorithmName[] = ['xxh3-128', 'xxh64x2', 'sha256']

/** Looks, prints, and resolves with 0 where a sync could work, else 4 (2 for usage). Rejects with `usage`. */
export async function doctorCommand(
  host: string | null,
  flags: DoctorFlags,
  context: CommandContext,
): Promise<number> {
  const far = host === null ? null : parseHost(host)
  const options = syncOptions(connectionOf(flags, far))
  const engine = await context.loadDoctor()
  const here = await lookHere(engine, options, context.environment)
  using interruption = runSignal(context.signals, (text) => context.output.note(text), context.exit)
  const there = far === null ? null : await lookThere(far, options, engine, context, interruption.signal)
  const error =
    !here.native.loaded && options.native === 'require' ? nativeRequired(here) : (there?.error ?? null)

  if (flags.json === true) {
    context.output.json({
      event: 'result',
      ok: error === null,
      command: 'doctor',
      host: host ?? null,
      here,
      there: there?.probe ?? null,
      digest: there?.probe ? commonDigest(here, there.probe) : null,
      ...(error === null ? {} : { error: errorOf(error) }),
    })
  } else {
    for (const line of doctorLines(here, far?.typed ?? null, there?.probe ?? null)) context.output.line(line)
    for (const { guest, to, id } of here.movedAway)
      context.output.line(`moved away: ${guest}, to ${to} (blocksync migrate --status ${id})`)
  }
  if (error === null) return EXIT.ok
  context.output.error(error)
  if (
    error.code === 'native/required' ||
    error.code === 'interrupt/sigint' ||
    error.code === 'interrupt/sigterm'
  )
    return error.exitStatus
  return EXIT.unreachable
}

/** The table for people: one column for here, one for there where a host was given. */
export function doctorLines(here: Here, hostTyped: string | null, there: ProbeResult | null): string[] {
  const rows: [string, string, string][] = [
    ['', 'here', hostTyped ?? ''],
    ['blocksync', here.version, there?.version ?? ''],
    [
      'protocol',
      `${here.protocol.least} to ${here.protocol.most}`,
      there === null ? '' : `${there.protocol} agreed`,
    ],
    ['Node', here.node, there?.node ?? ''],
    ['platform', here.platform, ''],
    ['processors', String(here.cpus), ''],
    ['memory', formatBytes(here.memoryBytes), ''],
    ['native core', nativeText(here.native), there === null ? '' : there.native ? 'yes' : 'no'],
    ['digests', here.algorithms.join(' '), there?.algorithms.join(' ') ?? ''],
    ['ssh client', here.ssh ?? 'none: the built-in client is used', ''],
    ['ssh agent', AGENT_TEXT[here.agent], ''],
  ]
  if (there !== null) {
    rows.push(['round trip', '', `${there.roundTripMs.toFixed(1)} ms`])
    rows.push(['a sync uses', commonDigest(here, there) ?? 'nothing: no digest in common', ''])
  }
  const columns = [0, 1].map((index) => Math.max(...rows.map((row) => (row[index] ?? '').length)) + 2)
  return rows.map(([name, left, right]) =>
    `${name.padEnd(columns[0] ?? 0)}${left.padEnd(columns[1] ?? 0)}${right}`.trimEnd(),
  )
}

const AGENT_TEXT = {
  present: 'present',
  gone: 'SSH_AUTH_SOCK is set, but there is no socket',
  none: 'none',
} as const

async function lookHere(
  engine: DoctorEngine,
  options: SyncOptions,
  environment: NodeJS.ProcessEnv,
): Promise<Here> {
  const found = engine.nativeStatus()
  const native =
    options.native === 'off'
      ? { loaded: false, simd: null, reason: 'switched off by --native off' }
      : { loaded: found.loaded, simd: found.simd, reason: found.reason }
  return {
    version: packageVersion(),
    node: process.version,
    platform: `${process.platform} ${process.arch} ${os.release()}`,
    cpus: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    protocol: engine.protocol,
    native,
    algorithms: engine.algorithms(native.loaded ? 'loaded' : 'absent'),
    ssh: await sshVersion(engine),
    agent: agentState(environment),
    movedAway: await engine.movedAway(),
  }
}

async function lookThere(
  far: RemoteSide,
  options: SyncOptions,
  engine: DoctorEngine,
  { output }: CommandContext,
  signal: AbortSignal,
): Promise<{ probe: ProbeResult | null; error: SyncError | null }> {
  try {
    const hooks: RunHooks = {
      onStderrLine: (line) => output.note(`remote: ${line}`),
      onWarning: (text) => output.note(text),
      signal,
    }
    return { probe: await engine.probe(far, options, hooks), error: null }
  } catch (thrown) {
    const error = signal.aborted && signal.reason instanceof SyncError ? signal.reason : toSyncError(thrown)
    return { probe: null, error }
  }
}

/** ssh prints its version on stderr. No ssh is an answer here, and so is one that does not run. */
async function sshVersion(engine: DoctorEngine): Promise<string | null> {
  try {
    const { exitStatus, stderrTail } = await engine.run({
      argv: ['ssh', '-V'],
      timeoutMs: SSH_VERSION_TIMEOUT_MS,
      errorCode: 'connect/no-program',
      operand: 'ssh',
    })
    return exitStatus === 0 && stderrTail !== '' ? (stderrTail.split('\n')[0] ?? null) : null
  } catch (thrown) {
    if (thrown instanceof SyncError && thrown.code === 'connect/no-program') return null
    throw thrown
  }
}

function agentState(environment: NodeJS.ProcessEnv): Here['agent'] {
  const socket = environment['SSH_AUTH_SOCK'] ?? ''
  if (socket === '') return 'none'
  try {
    return statSync(socket).isSocket() ? 'present' : 'gone'
  } catch (thrown) {
    // whatever keeps us from it also keeps ssh from it
    if (errnoOf(thrown) !== null) return 'gone'
    throw thrown
  }
}

function commonDigest(here: Here, there: ProbeResult): AlgorithmName | null {
  return PREFERENCE.find((name) => here.algorithms.includes(name) && there.algorithms.includes(name)) ?? null
}

function nativeRequired({ native }: Here): SyncError {
  return new SyncError(
    'native/required',
    `the native core is required and not usable here: ${native.reason ?? 'not built'}`,
    {
      operand: '--native',
      hint: 'Build it with npm run build, or leave --native require away.',
    },
  )
}
