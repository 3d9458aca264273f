// Checkpoints of one disk of a run: what is done comes in from time to time, files of the state directory come out, one after
// the other, behind the back of the run. One that cannot be written is said, once, and stops nothing.

import { errnoOf, SyncError } from '../errors.js'
import type { Checkpoint, SectionRun } from '../state/resume-file.js'

/** Sections that are equal and flushed, as both ends agreed; `digests` of them, 32 bytes each, in their order. */
export type DoneBefore = Readonly<{ runs: readonly SectionRun[]; digests: Buffer }>

/** Where a run keeps its checkpoints. */
export type CheckpointSink = Readonly<{
  everyMs: number
  /** What is done by now. Returns at once; what was put last is kept in the end. Never throws. */
  put: (runs: readonly SectionRun[], sectionDigests: Buffer) => void
  /** What was put is kept, or it was told why not; after `error` of the run, or null. Never rejects. */
  settle: (error: unknown) => Promise<void>
}>

/** What a run knows of its checkpoints from the start. */
export type CheckpointFacts = Omit<Checkpoint, 'savedAt' | 'done' | 'digests'>

/** Told a sentence: of something wrong, or of something to know. */
export type CheckpointVoice = Readonly<{ warn: (text: string) => void; note: (text: string) => void }>

/** The sink of one disk; `state` is the state directory of this host. */
export class Checkpoints implements CheckpointSink {
  readonly everyMs: number
  readonly #facts: CheckpointFacts
  readonly #state: string
  readonly #voice: CheckpointVoice
  #next: Checkpoint | null = null
  #writing: Promise<void> = Promise.resolve()
  #isWriting = false
  /** Kept now, or by this run before. */
  #isKept: boolean
  /** One could not be written, or the run is over: none is written any more. */
  #isClosed = false

  /** `isKept`: there is one by now, which this run goes on with. */
  constructor(
    facts: CheckpointFacts,
    { state, everyMs, isKept }: Readonly<{ state: string; everyMs: number; isKept: boolean }>,
    voice: CheckpointVoice,
  ) {
    this.#facts = facts
    this.#state = state
    this.everyMs = everyMs
    this.#isKept = isKept
    this.#voice = voice
  }

  put(runs: readonly SectionRun[], sectionDigests: Buffer): void {
    if (this.#isClosed || runs.length === 0) return
    const digests = Buffer.concat(runs.map(([from, end]) => sectionDigests.subarray(from * 32, end * 32)))
    this.#next = { ...this.#facts, savedAt: new Date().toISOString(), done: runs, digests }
    if (this.#isWriting) return
    this.#isWriting = true
    this.#writing = this.#write().finally(() => (this.#isWriting = false))
    this.#writing.catch((error: unknown) => this.#voice.warn(`a checkpoint failed: ${String(error)}`))
  }

  async settle(error: unknown): Promise<void> {
    // what was sent is not what is there: nothing that this run did is to be trusted
    const isWrong = error instanceof SyncError && error.code === 'verify/mismatch'
    if (error === null || isWrong) this.#next = null
    // further lanes may still come to the end of a pass
    this.#isClosed = true
    await Promise.allSettled([this.#writing])
    if (!this.#isKept) return
    if (error !== null && !isWrong)
      return this.#voice.note(
        'a checkpoint is kept: where nothing writes to the source, --resume goes on from it',
      )
    const { removeCheckpoint } = await import('../state/resume-file.js')
    try {
      await removeCheckpoint(this.#state, this.#facts.pairId)
    } catch (thrown) {
      this.#voice.warn(
        `the checkpoint of the run stays in ${this.#state}: ${errnoOf(thrown) ?? String(thrown)}`,
      )
    }
  }

  async #write(): Promise<void> {
    const { MAX_DONE_RUNS, saveCheckpoint } = await import('../state/resume-file.js')
    for (let next = this.#next; next !== null; next = this.#next) {
      this.#next = null
      if (next.done.length > MAX_DONE_RUNS) continue
      try {
        await saveCheckpoint(this.#state, next)
        this.#isKept = true
      } catch (error) {
        const errno = errnoOf(error)
        if (errno === null) throw error
        this.#isClosed = true
        this.#voice.warn(
          `no checkpoint was written in ${this.#state} (${errno}): a later run compares everything`,
        )
        return
      }
    }
  }
}
