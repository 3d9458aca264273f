// Numbers that are the same for the same seed: a failure is found again by its seed and its session.

export class Random {
  #a: number
  #b: number
  #c: number
  #d = 1

  /** One of 2^64 sequences; sessions of one seed are as different as seeds are. */
  constructor(seed: number, session: number) {
    this.#a = seed | 0
    this.#b = session | 0
    this.#c = 0x9e3779b9 | 0
    for (let warm = 0; warm < 12; warm += 1) this.next()
  }

  /** 32 bits (sfc32 of PractRand, which is in the public domain). */
  next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum
    this.#c |= 0
    return sum >>> 0
  }

  /** From 0 to `below` - 1. */
  int(below: number): number {
    return this.next() % below
  }

  /** From `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.int(most - least + 1)
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.int(times) === 0
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.int(items.length)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let at = 0; at < length; at += 1) bytes[at] = this.next()
    return bytes
  }
}
