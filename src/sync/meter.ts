// Counts of one disk while its pass runs, as progress events and as its report. Data only; the rate of events is bounded.

import type { Digester, Range } from '../digest/digester.js'
import type { SyncOptions } from '../options.js'
import type { Channel } from '../wire/channel.js'
import type { FinishMessage } from '../wire/control.js'
import type { KeptJournal } from '../wire/kept-journal.js'
import type { DestinationProgress } from './destination.js'
import type { BlockCounts, DiskEvidence, DiskPair, DiskReport, RunHooks } from './report.js'
import type { Session } from './session.js'
import type { SourceProgress } from './sender.js'
import { joined } from './written-ranges.js'

/** Least time between two progress events. */
export const PROGRESS_INTERVAL_MS = 100

/** What one pass of the disk has come to so far. */
type Part = BlockCounts & {
  doneBytes: number
  sentBytes: number
  zeroedBytes: number
  readBytes: DiskReport['readBytes']
}

const NOTHING: Readonly<Part> = {
  doneBytes: 0,
  sameBlocks: 0,
  differentBlocks: 0,
  zeroBlocks: 0,
  skippedBlocks: 0,
  sentBytes: 0,
  zeroedBytes: 0,
  readBytes: { source: 0, destination: 0 },
}

/** How a pass tells how far it is: by the half that runs in this process. */
export type PartMeter = Readonly<{
  sourceProgress: (progress: SourceProgress) => void
  destinationProgress: (progress: DestinationProgress) => void
  /** All of its range is done. */
  finished: (said: FinishMessage, destinationReadBytes: number, rangeBytes: number) => void
  doneBytes: () => number
}>

export class DiskMeter {
  readonly #report: DiskReport
  readonly #index: number
  readonly #count: number
  readonly #hooks: RunHooks
  readonly #parts: Part[] = []
  /** Numbers of the lanes that had something to do. */
  readonly #lanes = new Set<number>()
  #startMs = 0
  #startedAt = new Date()
  #ends: Pick<DiskEvidence, 'source' | 'destination' | 'stable'> | null = null
  #far: DiskEvidence['far'] | null = null
  readonly #isWriting: boolean
  #lastMs = 0
  /** By how much the source was found to be longer than at the start. */
  #grownBytes = 0
  /** Channels of the run, and what had crossed them before this disk began. */
  #channels: readonly Channel[] = []
  #wireBefore = { sent: 0, received: 0 }
  #digest: Omit<NonNullable<DiskReport['digest']>, 'root'> | null = null

  constructor(pair: DiskPair, index: number, count: number, options: SyncOptions, hooks: RunHooks) {
    this.#index = index
    this.#count = count
    this.#hooks = hooks
    this.#isWriting = options.mode === 'write'
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
      resumedBytes: 0,
      verified: 'none',
      verifiedBytes: 0,
      undo: null,
      unreadable: options.rescue === null ? null : { bytes: 0, ranges: [], mapfile: options.rescue },
      native: { source: false, destination: false },
      transport: 'local',
      cipher: null,
      lanes: 0,
      compression: null,
      differing: [],
      evidence: null,
      pair: null,
    }
  }

  connected(
    session: Session,
    nearNative: boolean,
    push: boolean,
    compression: DiskReport['compression'],
  ): void {
    const { connection, far, protocol } = session
    this.#far = { version: far.program, node: far.node, protocol }
    this.#report.transport = connection.kind
    this.#report.cipher = connection.cipher
    this.#report.compression = compression
    this.#report.native = push
      ? { source: nearNative, destination: far.native }
      : { source: far.native, destination: nearNative }
  }

  /** `lengthened`: the destination is made longer (by a run that writes). Made or lengthened is different, whatever it holds. */
  opened(
    lengthBytes: number,
    created: boolean,
    lengthened: boolean,
    ends: Pick<DiskEvidence, 'source' | 'destination' | 'stable'>,
  ): void {
    this.#ends = ends
    this.#report.sizeBytes = lengthBytes
    this.#report.totalBlocks = Math.ceil(lengthBytes / this.#report.blockBytes)
    this.#report.created = created
    this.#report.different = created || lengthened
  }

  /** `channels`: of all lanes of the run; more may be added to it later. Again, with another digest: it goes on counting. */
  started(channels: readonly Channel[], digester: Digester): void {
    const { algorithm, seed, geometry } = digester.parameters
    this.#channels = channels
    if (this.#report.state === 'not-started') {
      this.#startMs = performance.now()
      this.#startedAt = new Date()
      // The first disk also answers for what the session cost before it.
      if (this.#index > 0) this.#wireBefore = this.#wireBytes()
    }
    this.#report.state = 'partial'
    this.#digest = { algorithm, seed: Buffer.from(seed).toString('hex'), ...geometry }
  }

  /** Of all parts together. */
  get doneBytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.doneBytes, 0)
  }

  /** For one more pass over a part of the disk, by the lane of that number. */
  part(lane: number): PartMeter {
    this.#lanes.add(lane)
    const part: Part = { ...NOTHING }
    this.#parts.push(part)
    return {
      sourceProgress: (progress) => {
        Object.assign(part, progress)
        this.#advance()
      },
      destinationProgress: ({ doneBytes, receivedBytes, unchangedBlocks, changedBlocks }) => {
        const counts = {
          sentBytes: receivedBytes,
          sameBlocks: unchangedBlocks,
          differentBlocks: changedBlocks,
        }
        Object.assign(part, counts, { doneBytes })
        this.#advance()
      },
      finished: (said, destinationReadBytes, rangeBytes) => {
        const { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, sentBytes, zeroedBytes } = said
        const counts = { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, sentBytes, zeroedBytes }
        const readBytes = { source: said.readBytes, destination: destinationReadBytes }
        this.#grownBytes = Math.max(this.#grownBytes, said.grownBytes)
        Object.assign(part, counts, { readBytes, doneBytes: rangeBytes })
        this.#advance()
      },
      doneBytes: () => part.doneBytes,
    }
  }

  /** All parts are done: `root` is the source's over the whole disk, `equal` whether the destination has the same. */
  finished(root: string, isEqual: boolean, made: Pick<DiskEvidence, 'sections' | 'written'>): void {
    if (this.#grownBytes > 0)
      this.#hooks.onWarning?.(
        `the source ${this.#report.source} has grown by ${this.#grownBytes} bytes while it was read; what came to it was not compared: run again`,
      )
    if (this.#ends !== null && this.#far !== null) {
      const flushedAt = this.#isWriting ? new Date() : null
      this.#report.evidence = {
        ...this.#ends,
        far: this.#far,
        startedAt: this.#startedAt,
        flushedAt,
        ...made,
      }
    }
    const report = this.#report
    this.#sum()
    report.state = 'done'
    report.different ||= report.differentBlocks + report.zeroBlocks > 0 || !isEqual
    report.digest = this.#digest === null ? null : { ...this.#digest, root }
    this.#emit()
  }

  /** What a look at a checkpoint read at both ends; `bytes` of the disk need not be compared, 0 where it was not as it says. */
  resumed(bytes: number, read: DiskReport['readBytes']): void {
    const skippedBlocks = Math.ceil(bytes / this.#report.blockBytes)
    this.#parts.push({ ...NOTHING, skippedBlocks, doneBytes: bytes, readBytes: read })
    this.#report.resumedBytes = bytes
    this.#emit()
  }

  /** Both ends have a record of it. */
  recorded(pair: NonNullable<DiskReport['pair']>): void {
    this.#report.pair = pair
  }

  /** What was read back and found equal; after `written`, `all` says it of the whole disk. */
  verified(what: 'written' | 'all', bytes: number): void {
    this.#report.verified = what
    this.#report.verifiedBytes += bytes
  }

  /** Its old content is kept there. */
  kept({ group, path }: Pick<KeptJournal, 'group' | 'path'>): void {
    this.#report.undo = { group, path, bytes: 0 }
  }

  /** Journal that a pass wrote. */
  keptBytes(bytes: number): void {
    const { undo } = this.#report
    if (undo !== null) this.#report.undo = { ...undo, bytes: undo.bytes + bytes }
  }

  /** What a pass could not read of the source. */
  unread(found: readonly Range[]): void {
    const { unreadable } = this.#report
    if (unreadable === null || found.length === 0) return
    const ranges = joined([...unreadable.ranges, ...found])
    const bytes = ranges.reduce((sum, { length }) => sum + length, 0)
    this.#report.unreadable = { ...unreadable, bytes, ranges }
  }

  /** Where a pass that only compares found differences. */
  compared(differing: readonly Range[]): void {
    this.#report.differing = [...this.#report.differing, ...differing]
  }

  report(): DiskReport {
    if (this.#report.state === 'partial') this.#measure()
    return this.#report
  }

  #advance(): void {
    if (performance.now() - this.#lastMs >= PROGRESS_INTERVAL_MS) this.#emit()
  }

  #sum(): void {
    const of = (value: (part: Part) => number): number =>
      this.#parts.reduce((sum, part) => sum + value(part), 0)
    Object.assign(this.#report, {
      sameBlocks: of((part) => part.sameBlocks),
      differentBlocks: of((part) => part.differentBlocks),
      zeroBlocks: of((part) => part.zeroBlocks),
      skippedBlocks: of((part) => part.skippedBlocks),
      sentBytes: of((part) => part.sentBytes),
      zeroedBytes: of((part) => part.zeroedBytes),
      readBytes: {
        source: of((part) => part.readBytes.source),
        destination: of((part) => part.readBytes.destination),
      },
    })
  }

  #wireBytes(): { sent: number; received: number } {
    return {
      sent: this.#channels.reduce((sum, channel) => sum + channel.wireBytesSent, 0),
      received: this.#channels.reduce((sum, channel) => sum + channel.wireBytesReceived, 0),
    }
  }

  #measure(): void {
    const { sent, received } = this.#wireBytes()
    this.#sum()
    this.#report.durationMs = Math.round(performance.now() - this.#startMs)
    this.#report.wireBytesSent = sent - this.#wireBefore.sent
    this.#report.wireBytesReceived = received - this.#wireBefore.received
    this.#report.lanes = this.#lanes.size
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
      doneBytes: this.doneBytes,
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
