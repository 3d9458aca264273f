// Two waiting places for a pipeline: a queue bounded by weight, and a window of frames and bytes. Both can fail once,
// and then everybody who waits or comes later gets the error. One producer and one consumer each.

type Settle<T> = { resolve: (value: T) => void; reject: (error: unknown) => void }

/** Empty places at the front that are worth moving the rest for. */
const COMPACT_ITEMS = 1024

/** First in, first out; `push` waits while the weight inside is at the limit (one item always fits). */
export class BoundedQueue<T> {
  readonly #limit: number
  #items: ({ item: T; weight: number } | undefined)[] = []
  #head = 0
  #weight = 0
  #ended = false
  #closed = false
  #failure: { error: unknown } | null = null
  #puller: Settle<T | undefined> | null = null
  #pusher: Settle<void> | null = null

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Items that a `shift` would give without waiting. */
  get ready(): number {
    return this.#items.length - this.#head
  }

  /** Weight of what is inside. */
  get weight(): number {
    return this.#weight
  }

  async push(item: T, weight = 1): Promise<void> {
    while (this.#failure === null && !this.#closed && this.#weight >= this.#limit) {
      await new Promise<void>((resolve, reject) => {
        this.#pusher = { resolve, reject }
      })
    }
    if (this.#failure !== null) throw this.#failure.error
    this.put(item, weight)
  }

  /** Adds without waiting: for a producer that is bounded elsewhere. */
  put(item: T, weight = 1): void {
    if (this.#closed) return
    if (this.#puller !== null) {
      const puller = this.#puller
      this.#puller = null
      puller.resolve(item)
      return
    }
    this.#items.push({ item, weight })
    this.#weight += weight
  }

  /** The next item, or undefined when the queue has ended. */
  async shift(): Promise<T | undefined> {
    if (this.#failure !== null) throw this.#failure.error
    const entry = this.#items[this.#head]
    if (entry !== undefined) {
      this.#items[this.#head] = undefined // what was handed out must not be kept alive from here
      this.#head += 1
      if (this.#head === this.#items.length) {
        this.#items = []
        this.#head = 0
      } else if (this.#head > COMPACT_ITEMS && this.#head * 2 > this.#items.length) {
        this.#items.splice(0, this.#head)
        this.#head = 0
      }
      this.#weight -= entry.weight
      if (this.#pusher !== null && this.#weight < this.#limit) {
        const pusher = this.#pusher
        this.#pusher = null
        pusher.resolve()
      }
      return entry.item
    }
    if (this.#ended) return undefined
    return await new Promise<T | undefined>((resolve, reject) => {
      this.#puller = { resolve, reject }
    })
  }

  end(): void {
    this.#ended = true
    if (this.ready === 0) this.#takePuller()?.resolve(undefined)
  }

  /** Ends it from the consumer's side: gives back what is inside; what is pushed later is dropped. */
  close(): T[] {
    const left = this.#items.slice(this.#head).flatMap((entry) => (entry === undefined ? [] : [entry.item]))
    this.#items = []
    this.#head = 0
    this.#weight = 0
    this.#closed = true
    this.end()
    const pusher = this.#pusher
    this.#pusher = null
    pusher?.resolve()
    return left
  }

  fail(error: unknown): void {
    if (this.#failure !== null) return
    this.#failure = { error }
    this.#takePuller()?.reject(error)
    const pusher = this.#pusher
    this.#pusher = null
    pusher?.reject(error)
  }

  #takePuller(): Settle<T | undefined> | null {
    const puller = this.#puller
    this.#puller = null
    return puller
  }
}

/** What may be sent and is not given back yet, counted in frames and in bytes: either bound alone can be got around. */
export class Window {
  #frames: number
  #bytes: number
  #takenFrames = 0
  #takenBytes = 0
  #failure: { error: unknown } | null = null
  readonly #waiting: { bytes: number; settle: Settle<void> }[] = []

  constructor(frames: number, bytes: number) {
    this.#frames = frames
    this.#bytes = bytes
  }

  /** What was taken and is not given back: more than this cannot be given back. */
  get taken(): { frames: number; bytes: number } {
    return { frames: this.#takenFrames, bytes: this.#takenBytes }
  }

  /** Leaves `bytes` bytes of the room unused from now on. */
  narrow(bytes: number): void {
    this.#bytes -= bytes
  }

  /** Waits for room for one frame of `bytes` bytes and takes it. In order of calls. */
  async reserve(bytes: number): Promise<void> {
    if (this.#failure !== null) throw this.#failure.error
    if (this.#waiting.length === 0 && this.#fits(bytes)) return this.#take(bytes)
    await new Promise<void>((resolve, reject) => this.#waiting.push({ bytes, settle: { resolve, reject } }))
  }

  /** Room given back by the other side. */
  restore(frames: number, bytes: number): void {
    this.#frames += frames
    this.#bytes += bytes
    this.#takenFrames -= frames
    this.#takenBytes -= bytes
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#take(next.bytes)
      next.settle.resolve()
    }
  }

  fail(error: unknown): void {
    if (this.#failure !== null) return
    this.#failure = { error }
    for (const { settle } of this.#waiting.splice(0)) settle.reject(error)
  }

  #fits(bytes: number): boolean {
    return this.#frames >= 1 && this.#bytes >= bytes
  }

  #take(bytes: number): void {
    this.#frames -= 1
    this.#bytes -= bytes
    this.#takenFrames += 1
    this.#takenBytes += bytes
  }
}
