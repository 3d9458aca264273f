// Progress of a run as one: that of each disk comes in, the sum goes out. Refuses nothing; disks that told nothing count as none.

import type { Progress } from './report.js'

/** All disks of a run together, in bytes. */
export type RunProgress = Readonly<Pick<Progress, 'doneBytes' | 'totalBytes' | 'sentBytes'>>

export class Totals {
  readonly #disks: (RunProgress | null)[]
  readonly #onProgress: (progress: RunProgress) => void

  /** `onProgress` is told the sum after each update. */
  constructor(diskCount: number, onProgress: (progress: RunProgress) => void) {
    this.#disks = Array.from({ length: diskCount }, () => null)
    this.#onProgress = onProgress
  }

  update({ diskIndex, doneBytes, totalBytes, sentBytes }: Progress): void {
    this.#disks[diskIndex] = { doneBytes, totalBytes, sentBytes }
    const sum = { doneBytes: 0, totalBytes: 0, sentBytes: 0 }
    for (const disk of this.#disks) {
      sum.doneBytes += disk?.doneBytes ?? 0
      sum.totalBytes += disk?.totalBytes ?? 0
      sum.sentBytes += disk?.sentBytes ?? 0
    }
    this.#onProgress(sum)
  }
}
