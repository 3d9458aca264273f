// One file of an undo journal while it is written: records come in, one at a time, and each is on stable storage when the
// call resolves. Refuses nothing and takes nothing back: after a failure the file is only closed.

import { randomBytes } from 'node:crypto'

import type { Digester, DigestParameters } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import type { JournalFile, JournalFiles } from './files.js'
import { encodeHeader, encodeRecordHead, JOURNAL_ALGORITHM, UNIT_BYTES } from './format.js'
import type { Entry } from './format.js'

/** Makes the digester of one file (digest/open.ts). */
export type DigesterOf = (parameters: DigestParameters) => Promise<Digester>

/** Digests are of leaves only; a block is what the digester needs besides. */
const BLOCK_BYTES = 1 << 20

/** Old content that goes into a record together: `leaves` are digests, made with this file's digester, `chunks` the data. */
export type Kept = Readonly<{ entries: readonly Entry[]; leaves: Uint8Array; chunks: readonly Uint8Array[] }>

/** The digester of a journal file. */
export async function journalDigester(
  digesterOf: DigesterOf,
  seed: Uint8Array,
  leafBytes: number,
): Promise<Digester> {
  const geometry = { blockBytes: BLOCK_BYTES, leafBytes }
  return await digesterOf({ algorithm: JOURNAL_ALGORITHM, seed, geometry })
}

export class JournalWriter {
  readonly name: string
  readonly digester: Digester
  readonly #file: JournalFile
  #position = UNIT_BYTES
  #sequence = 0

  private constructor(name: string, file: JournalFile, digester: Digester) {
    this.name = name
    this.#file = file
    this.digester = digester
  }

  /** Makes the file of run `run` of `group` in `directory`; its name and header are on stable storage when it resolves. */
  static async create(
    files: JournalFiles,
    directory: string,
    { group, run, leafBytes }: { group: string; run: number; leafBytes: number },
    digesterOf: DigesterOf,
  ): Promise<JournalWriter> {
    const seed = randomBytes(SEED_BYTES)
    const digester = await journalDigester(digesterOf, seed, leafBytes)
    const name = `${String(run).padStart(6, '0')}-${randomBytes(4).toString('hex')}.undo`
    const file = await files.create(`${directory}/${name}`)
    try {
      const digest = digester.digestItems.bind(digester)
      await file.write([encodeHeader({ group, run, leafBytes, seed }, digest)], 0)
      await file.sync()
      await files.syncDirectory(directory)
      return new JournalWriter(name, file, digester)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** How long the file is. */
  get bytes(): number {
    return this.#position
  }

  /** Appends one record. What it holds is on stable storage when it resolves. */
  async append(kept: readonly Kept[]): Promise<void> {
    const entries = kept.flatMap((each) => each.entries)
    const leaves = kept.map((each) => each.leaves)
    const digest = this.digester.digestItems.bind(this.digester)
    const { head, payloadBytes, paddingBytes } = encodeRecordHead(
      this.#position,
      this.#sequence,
      entries,
      leaves,
      digest,
    )
    const chunks = kept.flatMap((each) => each.chunks)
    await this.#file.write([head, ...chunks, Buffer.alloc(paddingBytes)], this.#position)
    await this.#file.sync()
    this.#sequence += 1
    this.#position += head.length + payloadBytes + paddingBytes
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
