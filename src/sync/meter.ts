// Counts of one disk while its pass runs, as progress events and as its report. Data only; the rate of events is bounded.

import type { Digester } from '../digest/digester.js'
import type { SyncOptions } from '../options.js'
import type { FinishMessage } from '../wire/control.js'
import type { DestinationProgress } from './destination.js'
import type { DiskPair, DiskReport, RunHooks } from './report.js'
import type { Session } from './session.js'
import type { SourceProgress } from './source.js'

/** Least time between two progress events. */
export const PROGRESS_INTERVAL_MS = 100

export class DiskMeter {
  readonly #report: DiskReport
  readonly #index: number
  readonly #count: number
  readonly #hooks: RunHooks
  #doneBytes = 0
  #startMs = 0
  #lastMs = 0
  #wireBefore = { sent: 0, received: 0 }
  #session: Session | null = null
  #digest: Omit<NonNullable<DiskReport['digest']>, 'root'> | null = null

  constructor(pair: DiskPair, index: number, count: number, options: SyncOptions, hooks: RunHooks) {
    this.#index = index
    this.#count = count
    this.#hooks = hooks
    this.#report = {
      source: pair.source.typed,
      destination: pair.destination.typed,
      state: 'not-started',
      different: false,
      created: false,
      sizeBytes: 0,
      blockBytes: options.blockBytes,
      totalBlocks: 0,
      sameBlocks: 0,
      differentBlocks: 0,
      zeroBlocks: 0,
      skippedBlocks: 0,
      sentBytes: 0,
      zeroedBytes: 0,
      readBytes: { source: 0, destination: 0 },
      wireBytesSent: 0,
      wireBytesReceived: 0,
      durationMs: 0,
      digest: null,
      verified: 'none',
      native: { source: false, destination: false },
      transport: 'local',
      cipher: null,
    }
  }

  connected(session: Session, nearNative: boolean, push: boolean): void {
    const { connection, far } = session
    this.#report.transport = connection.kind
    this.#report.cipher = connection.cipher
    this.#report.native = push
      ? { source: nearNative, destination: far.native }
      : { source: far.native, destination: nearNative }
  }

  /** `lengthened`: the destination is made longer (by a run that writes). Made or lengthened is different, whatever it holds. */
  opened(lengthBytes: number, created: boolean, lengthened: boolean): void {
    this.#report.sizeBytes = lengthBytes
    this.#report.totalBlocks = Math.ceil(lengthBytes / this.#report.blockBytes)
    this.#report.created = created
    this.#report.different = created || lengthened
  }

  started(session: Session, digester: Digester): void {
    const { channel } = session
    const { algorithm, seed, geometry } = digester.parameters
    this.#session = session
    this.#startMs = performance.now()
    // The first disk also answers for what the session cost before it.
    this.#wireBefore =
      this.#index === 0
        ? { sent: 0, received: 0 }
        : { sent: channel.wireBytesSent, received: channel.wireBytesReceived }
    this.#report.state = 'partial'
    this.#digest = { algorithm, seed: Buffer.from(seed).toString('hex'), ...geometry }
  }

  readonly sourceProgress = (progress: SourceProgress): void => {
    const { doneBytes, ...counts } = progress
    Object.assign(this.#report, counts)
    this.#advance(doneBytes)
  }

  readonly destinationProgress = (progress: DestinationProgress): void => {
    this.#report.sentBytes = progress.receivedBytes
    this.#report.sameBlocks = progress.unchangedBlocks
    this.#report.differentBlocks = progress.changedBlocks
    this.#advance(progress.doneBytes)
  }

  finished(session: Session, said: FinishMessage, readBytes: DiskReport['readBytes'], root: string): void {
    const { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, sentBytes, zeroedBytes } = said
    const report = this.#report
    Object.assign(report, {
      sameBlocks,
      differentBlocks,
      zeroBlocks,
      skippedBlocks,
      sentBytes,
      zeroedBytes,
      readBytes,
    })
    report.state = 'done'
    report.different ||= differentBlocks + zeroBlocks > 0 || said.root !== root
    report.digest = this.#digest === null ? null : { ...this.#digest, root: said.root }
    this.#session = session
    this.#doneBytes = report.sizeBytes
    this.#emit()
  }

  report(): DiskReport {
    if (this.#report.state === 'partial') this.#measure()
    return this.#report
  }

  #advance(doneBytes: number): void {
    this.#doneBytes = doneBytes
    if (performance.now() - this.#lastMs >= PROGRESS_INTERVAL_MS) this.#emit()
  }

  #measure(): void {
    const channel = this.#session?.channel
    this.#report.durationMs = Math.round(performance.now() - this.#startMs)
    this.#report.wireBytesSent = (channel?.wireBytesSent ?? 0) - this.#wireBefore.sent
    this.#report.wireBytesReceived = (channel?.wireBytesReceived ?? 0) - this.#wireBefore.received
  }

  #emit(): void {
    this.#measure()
    this.#lastMs = performance.now()
    const {
      source,
      destination,
      sizeBytes,
      sentBytes,
      sameBlocks,
      differentBlocks,
      zeroBlocks,
      skippedBlocks,
      totalBlocks,
    } = this.#report
    this.#hooks.onProgress?.({
      diskIndex: this.#index,
      diskCount: this.#count,
      source,
      destination,
      doneBytes: this.#doneBytes,
      totalBytes: sizeBytes,
      sentBytes,
      sameBlocks,
      differentBlocks,
      zeroBlocks,
      skippedBlocks,
      totalBlocks,
      elapsedMs: this.#report.durationMs,
    })
  }
}
