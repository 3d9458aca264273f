// The scan of the first source that is begun before the far end is there, with the digest that will be agreed on unless
// the far end cannot compute it. Refuses to hand out a scan of another disk, with another digest or of another length.

import type { Digester } from '../digest/digester.js'
import { availableAlgorithms, createDigester } from '../digest/open.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import { Rescue } from './rescue.js'
import { Scan } from './scan.js'

export class EarlyScan {
  readonly #options: SyncOptions
  readonly #native: NativeCore | null
  #begun: { scan: Scan; digester: Digester } | null = null

  constructor(options: SyncOptions, native: NativeCore | null) {
    this.#options = options
    this.#native = native
  }

  /** Digests the first source of a push from now on, where its digest can be foreseen. */
  async begin(source: Endpoint, seed: Uint8Array): Promise<void> {
    const { digest, blockBytes, granularityBytes: leafBytes } = this.#options
    const available = availableAlgorithms(this.#native)
    const [algorithm] = digest === 'auto' ? available : [digest]
    if (algorithm === undefined || !available.includes(algorithm)) return
    const parameters = { algorithm, seed, geometry: { blockBytes, leafBytes } }
    const digester = await createDigester(parameters, this.#native)
    const rescue = this.#options.rescue === null ? null : new Rescue(source, digester)
    const scan = new Scan(source, digester, { offset: 0, length: source.info.sizeBytes }, rescue)
    this.#begun = { scan, digester }
  }

  /** The digester of the scan that was begun, or null. */
  get digester(): Digester | null {
    return this.#begun?.digester ?? null
  }

  /** The scan, where it is of this disk, with this digester and of this length. */
  take(disk: number, digester: Digester, lengthBytes: number): Scan | null {
    if (disk !== 0 || this.#begun === null || this.#begun.digester !== digester) return null
    return this.#begun.scan.range.length === lengthBytes ? this.#begun.scan : null
  }

  /** Ends it. Resolves when nothing is being read any more. */
  async stop(): Promise<void> {
    const begun = this.#begun
    this.#begun = null
    await begun?.scan.stop()
  }
}
