// What the command line is tested with: a context whose streams are memory and whose engine is the test's own, and
// reports and progress to show.

import { EventEmitter } from 'node:events'
import { Writable } from 'node:stream'

import type { CommandContext } from '../../src/cli/context.js'
import type { RunsEngine } from '../../src/cli/bwlimit.js'
import type { DigestEngine } from '../../src/cli/digest.js'
import type { DoctorEngine } from '../../src/cli/doctor.js'
import { Output } from '../../src/cli/output.js'
import type { MigrateEngine } from '../../src/cli/migrate.js'
import type { ReplicateEngine } from '../../src/cli/replicate.js'
import type { StatusEngine } from '../../src/cli/status.js'
import type { Receipts } from '../../src/cli/receipt-file.js'
import { runProgram } from '../../src/cli/program.js'
import type { RunSync } from '../../src/cli/sync.js'
import type { EndpointInfo } from '../../src/endpoint/endpoint.js'
import type { DiskPair, DiskReport, Progress, RunHooks, RunReport } from '../../src/sync/report.js'
import type { SyncOptions } from '../../src/options.js'

export class MemoryStream extends Writable {
  text = ''
  isTTY = false
  columns = 80
  rows = 24

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.text += chunk.toString()
    done()
  }
}

export const MIB = 1 << 20

function endInfo(path: string): EndpointInfo {
  return {
    path,
    kind: 'block-device',
    sizeBytes: 1024 * MIB,
    logicalSectorBytes: 512,
    created: false,
    direct: true,
    identity: { machine: 'a', aliases: ['block:253:0'] },
  }
}

export function diskReport(changes: Partial<DiskReport> = {}): DiskReport {
  return {
    source: '/dev/vg/web',
    destination: 'host2:/dev/vg/web',
    state: 'done',
    different: true,
    created: false,
    sizeBytes: 1024 * MIB,
    blockBytes: MIB,
    totalBlocks: 1024,
    sameBlocks: 900,
    differentBlocks: 80,
    zeroBlocks: 2,
    skippedBlocks: 42,
    sentBytes: 10 * MIB,
    zeroedBytes: 2 * MIB,
    readBytes: { source: 982 * MIB, destination: 1024 * MIB },
    wireBytesSent: 11 * MIB,
    wireBytesReceived: 20_000,
    durationMs: 2000,
    digest: { algorithm: 'xxh3-128', root: 'aa55', seed: '0102', blockBytes: MIB, leafBytes: 4096 },
    resumedBytes: 0,
    verified: 'none',
    verifiedBytes: 0,
    undo: null,
    native: { source: true, destination: false },
    transport: 'openssh',
    cipher: null,
    lanes: 1,
    compression: null,
    differing: [],
    unreadable: null,
    pair: null,
    evidence: {
      source: endInfo('/dev/vg/web'),
      destination: endInfo('/dev/vg/web'),
      stable: { source: null, destination: null },
      far: { version: '0.1.0', node: 'v20.19.0', protocol: 2 },
      startedAt: new Date('2026-01-02T03:04:05Z'),
      flushedAt: new Date('2026-01-02T03:05:05Z'),
      sections: Buffer.alloc(16 * 32, 5),
      written: { count: 1, bytes: 12 * MIB, ranges: [{ offset: 0, length: 12 * MIB }], sections: null },
    },
    ...changes,
  }
}

export function progress(changes: Partial<Progress> = {}): Progress {
  return {
    diskIndex: 0,
    diskCount: 1,
    source: '/dev/vg/vm-root',
    destination: 'host2:/dev/vg/vm-root',
    doneBytes: 0,
    totalBytes: 1024 * MIB,
    sentBytes: 0,
    sameBlocks: 0,
    differentBlocks: 0,
    zeroBlocks: 0,
    skippedBlocks: 0,
    totalBlocks: 1024,
    elapsedMs: 0,
    ...changes,
  }
}

export type Call = { pairs: readonly DiskPair[]; options: SyncOptions; hooks: RunHooks }

export type Ran = { status: number; stdout: string; stderr: string; calls: Call[] }

export type Setup = {
  engine?: (call: Call) => RunReport | Promise<RunReport>
  digest?: DigestEngine
  /** Names and texts; what is written comes here too. */
  receipts?: Map<string, string>
  doctor?: DoctorEngine
  runs?: RunsEngine
  status?: StatusEngine
  migrate?: MigrateEngine
  replicate?: ReplicateEngine
  ask?: CommandContext['ask']
  environment?: NodeJS.ProcessEnv
  /** Called with the emitter that stands for the process, before the run. */
  prepare?: (stage: {
    signals: EventEmitter
    exits: number[]
    stdout: MemoryStream
    stderr: MemoryStream
  }) => void
  nowMs?: () => number
}

function memoryReceipts(receipts: Map<string, string>): Receipts {
  return {
    open: (file) =>
      Promise.resolve({
        commit: (document) => Promise.resolve(void receipts.set(file, JSON.stringify(document))),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
    read: (file) => {
      const text = receipts.get(file)
      return text === undefined ? Promise.reject(new Error(`no receipt ${file}`)) : Promise.resolve(text)
    },
  }
}

/** Runs one command line in this process. */
export async function runWords(words: readonly string[], setup: Setup = {}): Promise<Ran> {
  const stdout = new MemoryStream()
  const stderr = new MemoryStream()
  const signals = new EventEmitter()
  const exits: number[] = []
  const calls: Call[] = []
  const engine = setup.engine ?? (() => ({ disks: [diskReport()], error: null }))
  const sync: RunSync = async (pairs, options, hooks) => {
    const call = { pairs, options, hooks }
    calls.push(call)
    return engine(call)
  }
  setup.prepare?.({ signals, exits, stdout, stderr })
  const context: CommandContext = {
    output: new Output(stdout, stderr),
    environment: setup.environment ?? {},
    names: { cwd: '/home/me', isFile: (path) => path === 'disk.img' },
    nowMs: setup.nowMs ?? (() => 0),
    signals,
    ask: setup.ask ?? null,
    onInputEnd: (ended) => {
      signals.on('input end', ended)
      return { [Symbol.dispose]: () => signals.removeListener('input end', ended) }
    },
    onKey: (pressed) => {
      signals.on('key', pressed)
      return { [Symbol.dispose]: () => signals.removeListener('key', pressed) }
    },
    exit: (status) => exits.push(status),
    loadSync: () => Promise.resolve(sync),
    loadNativeStatus: () => Promise.resolve(() => ({ loaded: true, path: '/n', reason: null, simd: 'avx2' })),
    loadReceipts: () => {
      const { receipts } = setup
      if (receipts === undefined) throw new Error('this test has no receipts')
      return Promise.resolve(memoryReceipts(receipts))
    },
    loadDigest: () => {
      if (setup.digest === undefined) throw new Error('this test has no digests')
      return Promise.resolve(setup.digest)
    },
    loadMigrate: () => {
      if (setup.migrate === undefined) throw new Error('this test has no migrations')
      return Promise.resolve(setup.migrate)
    },
    loadReplicate: () => {
      if (setup.replicate === undefined) throw new Error('no replication')
      return Promise.resolve(setup.replicate)
    },
    loadUndo: () => Promise.reject(new Error('no undo here')),
    loadStatus: () => {
      if (setup.status === undefined) throw new Error('this test has no records')
      return Promise.resolve(setup.status)
    },
    loadDoctor: () => {
      if (setup.doctor === undefined) throw new Error('this test has no doctor')
      return Promise.resolve(setup.doctor)
    },
    loadRuns: () => {
      if (setup.runs === undefined) throw new Error('this test has no runs')
      return Promise.resolve(setup.runs)
    },
  }
  const status = await runProgram(words, context)
  return { status, stdout: stdout.text, stderr: stderr.text, calls }
}

/** The lines of JSON on stdout. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}
