// Copying for a migration, on top of the engine: passes over disks, single files, and digests of disks here. Refuses
// nothing itself: the guards of the engine stay on, and what they say ends the pass.

import { loadNative } from '../native.js'
import { syncOptions, type SyncOptions } from '../options.js'
import { diskRoot } from '../sync/disk-root.js'
import type { DiskPair, DiskReport, RunHooks, RunReport } from '../sync/report.js'
import { EarlyFar, startFar } from '../sync/start-far.js'
import { type RunProgress, Totals } from '../sync/totals.js'
import type { RemoteSide } from '../transport/transport.js'
import type { RootFacts } from './journal.js'

/** One disk of a pass: its path here, and there. */
export type CopyDisk = Readonly<{ target: string; sourcePath: string; destinationPath: string }>

export type CopyProgress = RunProgress

export type CopyHooks = Readonly<{ signal: AbortSignal; onProgress: (progress: CopyProgress) => void }>

export type PassResult = Readonly<{
  /** Payload before compression. */
  sentBytes: number
  /** What went over the wire for it, in both directions. */
  wireBytes: number
  durationMs: number
  /** Payload a second; null where too little was sent to know. */
  bytesPerSecond: number | null
  /** By target: what both ends agreed on, and the size that was compared. */
  roots: Readonly<Record<string, RootFacts>>
  sizes: Readonly<Record<string, number>>
}>

export type FileResult = Readonly<{ sentBytes: number; wireBytes: number; durationMs: number }>

export interface Copier {
  /** Makes each destination equal to its source, on stable storage. Rejects with the engine's error. */
  pass(disks: readonly CopyDisk[], hooks: CopyHooks): Promise<PassResult>
  /** Makes one file there, which may be there already, from one here. */
  copyFile(sourcePath: string, destinationPath: string, hooks: CopyHooks): Promise<FileResult>
  /** The guest is about to stop: connections for what comes then are made now. */
  prepare(): void
  /** Ends those that nobody took. */
  close(): Promise<void>
  /** The root of a disk here as `facts` says to make it, hex. */
  digest(path: string, facts: RootFacts, signal: AbortSignal): Promise<string>
}

const WRITE = { mode: 'write', verify: 'none' } as const
/** The last pass and the saved state go at the same time. */
const CONNECTIONS_AT_STOP = 2

/** Less says more about waiting than about the line. */
const MIN_RATE_BYTES = 4 << 20

/** The engine's entry: sync() of src/sync/sync.ts, or syncPersistently. */
export type RunSync = (
  pairs: readonly DiskPair[],
  options: SyncOptions,
  hooks: RunHooks,
) => Promise<RunReport>

export type CopierSetup = Readonly<{
  far: RemoteSide
  /** As the user gave them; mode, size, create and compress of state files are the copier's own. */
  options: SyncOptions
  /** For warnings, notes and stderr lines of the engine; progress and signal come with each pass. */
  hooks: RunHooks
  run: RunSync
  /** Absent is startFar; a test gives its own. */
  start?: typeof startFar
  nowMs: () => number
}>

/** The copier that a real migration has. */
export function engineCopier(setup: CopierSetup): Copier {
  const { far, options, run, start = startFar, nowMs } = setup
  const started: EarlyFar[] = []
  const pairOf = (sourcePath: string, destinationPath: string): DiskPair => ({
    source: { at: { kind: 'local' }, path: sourcePath, typed: sourcePath },
    destination: { at: far, path: destinationPath, typed: `${far.typed}:${destinationPath}` },
  })
  const runPairs = async (
    pairs: readonly DiskPair[],
    own: Partial<SyncOptions>,
    { signal, onProgress }: CopyHooks,
  ): Promise<{ disks: DiskReport[]; durationMs: number }> => {
    const startMs = nowMs()
    const totals = new Totals(pairs.length, onProgress)
    const early = started.shift()
    const hooks: RunHooks = {
      ...setup.hooks,
      signal,
      onProgress: (progress) => totals.update(progress),
      ...(early === undefined ? {} : { takeConnection: () => early.take() }),
    }
    try {
      const { disks, error } = await run(pairs, syncOptions({ ...options, ...WRITE, ...own }), hooks)
      if (error !== null) throw error
      return { disks, durationMs: nowMs() - startMs }
    } finally {
      await early?.endUntaken()
    }
  }
  return {
    pass: async (disks, hooks) => {
      const pairs = disks.map(({ sourcePath, destinationPath }) => pairOf(sourcePath, destinationPath))
      // a volume has a whole number of extents, and a file that grew is followed; planned sizes were checked before
      const { disks: reports, durationMs } = await runPairs(pairs, { size: 'grow', create: 'never' }, hooks)
      const roots: Record<string, RootFacts> = {}
      const sizes: Record<string, number> = {}
      reports.forEach((report, index) => {
        const target = disks[index]?.target ?? ''
        sizes[target] = report.sizeBytes
        if (report.digest !== null) roots[target] = { ...report.digest, lengthBytes: report.sizeBytes }
      })
      const { sentBytes, wireBytes } = sums(reports)
      const bytesPerSecond =
        sentBytes < MIN_RATE_BYTES || durationMs === 0 ? null : (sentBytes * 1000) / durationMs
      return { sentBytes, wireBytes, durationMs, bytesPerSecond, roots, sizes }
    },
    copyFile: async (sourcePath, destinationPath, hooks) => {
      const own = { size: 'grow', create: 'if-missing', compress: compressOf(options) } as const
      const { disks, durationMs } = await runPairs([pairOf(sourcePath, destinationPath)], own, hooks)
      return { ...sums(disks), durationMs }
    },
    prepare: () => {
      const native = loadNative(options.native)
      const onStderrLine = setup.hooks.onStderrLine ?? ((): void => undefined)
      while (started.length < CONNECTIONS_AT_STOP)
        started.push(new EarlyFar(start(far, syncOptions({ ...options, ...WRITE }), native, onStderrLine)))
    },
    close: async () => {
      await Promise.all(started.splice(0).map(async (each) => each.endUntaken()))
    },
    digest: async (path, facts, signal) => {
      const { algorithm, seed, blockBytes, leafBytes, lengthBytes } = facts
      const parameters = { algorithm, seed: Buffer.from(seed, 'hex'), geometry: { blockBytes, leafBytes } }
      const native = loadNative(options.native)
      const { root } = await diskRoot({ path, parameters, lengthBytes }, native, signal)
      return root
    },
  }
}

/** Memory compresses well, and the line is what a stopped guest waits for. */
function compressOf({ compress }: SyncOptions): SyncOptions['compress'] {
  return compress === 'none' ? 'auto' : compress
}

function sums(reports: readonly DiskReport[]): { sentBytes: number; wireBytes: number } {
  let sentBytes = 0
  let wireBytes = 0
  for (const report of reports) {
    sentBytes += report.sentBytes
    wireBytes += report.wireBytesSent + report.wireBytesReceived
  }
  return { sentBytes, wireBytes }
}
