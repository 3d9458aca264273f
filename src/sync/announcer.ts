// What a destination says of its disk: own runs as the scan has them ready, in `digests` frames, as many as go into one.
// Waits while more is announced and not decided than it has memory for.

import type { Channel } from '../wire/channel.js'
import { encodeDigests, type WireRun } from '../wire/bodies.js'
import { FRAME } from '../wire/frame.js'
import { Window } from '../wire/queue.js'
import { Retained } from './retained.js'
import type { Run, Scan } from './scan.js'

/** Leaf digests kept for blocks the source has not decided: 4 GiB of disk in 4 KiB leaves. */
const RETAINED_BYTES = 16 << 20
/** Runs put into one digests frame when many small ones are ready. */
const MAX_RUNS_PER_FRAME = 64
/** Digests of one frame: room for a whole span in the smallest blocks. */
const DIGESTS_FRAME_BYTES = 128 << 10

export class Announcer {
  readonly #channel: Channel
  readonly #disk: number
  readonly #scan: Scan
  readonly #retained: Retained
  readonly #retention = new Window(Number.MAX_SAFE_INTEGER, RETAINED_BYTES)
  /** The source ended before the end of the range: what was announced behind that is not wanted any more. */
  #isCut = false

  /** Announces what `scan` finds, and adds it to `retained`. */
  constructor(channel: Channel, disk: number, scan: Scan, retained: Retained) {
    this.#channel = channel
    this.#disk = disk
    this.#scan = scan
    this.#retained = retained
  }

  /** Resolves when the whole range is announced, or it was cut. */
  async run(): Promise<void> {
    try {
      await this.#announceAll()
    } catch (error) {
      if (!this.#isCut) throw error
    }
  }

  /** `weightBytes` of what was retained are free again. */
  decided(weightBytes: number): void {
    this.#retention.restore(0, weightBytes)
  }

  /** Announces nothing more. */
  async cut(): Promise<void> {
    this.#isCut = true
    this.#retention.fail(new Error('the pass was cut short'))
    await this.#scan.stop()
  }

  fail(error: unknown): void {
    this.#retention.fail(error)
  }

  async #announceAll(): Promise<void> {
    for await (const runs of this.#batches()) {
      const [first] = runs
      if (first === undefined) continue
      for (const run of runs) {
        await this.#retention.reserve(Retained.weightBytesOf(run))
        this.#retained.add(run)
      }
      const body = encodeDigests(first.firstBlock, runs.map(wireRun))
      await this.#channel.send(FRAME.digests, this.#disk, body)
    }
  }

  /** Runs that are ready together, as many as go into one frame. */
  async *#batches(): AsyncGenerator<Run[]> {
    let batch: Run[] = []
    let digestsBytes = 0
    let weightBytes = 0
    for (let run = await this.#scan.next(); run !== undefined; run = await this.#scan.next()) {
      const runBytes = run.kind === 'data' ? run.digests.blocks.length : 0
      const isFull = batch.length === MAX_RUNS_PER_FRAME || digestsBytes + runBytes > DIGESTS_FRAME_BYTES
      // A frame's runs are reserved before it is sent: more than the retention holds would wait for itself.
      if (isFull || weightBytes + Retained.weightBytesOf(run) > RETAINED_BYTES) {
        yield batch
        batch = []
        digestsBytes = 0
        weightBytes = 0
      }
      batch.push(run)
      digestsBytes += runBytes
      weightBytes += Retained.weightBytesOf(run)
      if (this.#scan.ready === 0) {
        yield batch
        batch = []
        digestsBytes = 0
        weightBytes = 0
      }
    }
    if (batch.length > 0) yield batch
  }
}

function wireRun(run: Run): WireRun {
  if (run.kind === 'data') return { kind: 'data', blockCount: run.blockCount, blocks: run.digests.blocks }
  return { kind: run.kind === 'hole' ? 'hole' : 'zero', blockCount: run.blockCount }
}
