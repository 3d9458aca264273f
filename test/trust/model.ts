// What a few disks, their records and their undo journals are after a sequence of commands, by the plainest rules: the
// model that the real program is held to. What a killed run leaves open, it leaves open too, and takes over what it finds.

import { createHash } from 'node:crypto'

export type Name = 'a' | 'b' | 'c'

/** `anything`: a run was killed where one cannot know, or somebody else wrote to the disk. */
type Journal = { is: 'none' } | { is: 'kept'; old: Buffer; open: boolean } | { is: 'anything' }

type Pair = { towards: Name; generation: number | null } | 'unknown'

export type SizePolicy = 'strict' | 'grow' | 'min'

export type Expected = Readonly<{ statuses: readonly number[]; contents: readonly Buffer[] | 'any' }>

export class Model {
  readonly disks = new Map<Name, Buffer>()
  readonly #journals = new Map<Name, Journal>()
  readonly #pairs = new Map<string, Pair>()

  content(name: Name): Buffer {
    const content = this.disks.get(name)
    if (content === undefined) throw new Error(`no disk ${name}`)
    return content
  }

  journal(name: Name): Journal {
    return this.#journals.get(name) ?? { is: 'none' }
  }

  pair(one: Name, other: Name): Pair | null {
    return this.#pairs.get([one, other].toSorted().join()) ?? null
  }

  /** Pairs whose record is known in full. */
  knownPairs(): { names: string; pair: Exclude<Pair, 'unknown'> }[] {
    return [...this.#pairs].flatMap(([names, pair]) => (pair === 'unknown' ? [] : [{ names, pair }]))
  }

  get hasUnknownPairs(): boolean {
    return [...this.#pairs.values()].includes('unknown')
  }

  /** Somebody else writes to a disk, or makes it longer or shorter. */
  change(name: Name, content: Buffer): void {
    this.disks.set(name, content)
    if (this.journal(name).is !== 'none') this.#journals.set(name, { is: 'anything' })
  }

  compare(from: Name, to: Name): Expected {
    const [ours, theirs] = [this.content(from), this.content(to)]
    const statuses = ours.length !== theirs.length ? [3] : [ours.equals(theirs) ? 0 : 1]
    return { statuses, contents: [theirs] }
  }

  /** What a run makes of the destination, or null where it is refused for the sizes. */
  target(from: Name, to: Name, size: SizePolicy): Buffer | null {
    const [ours, theirs] = [this.content(from), this.content(to)]
    if (ours.length === theirs.length || (size === 'grow' && theirs.length < ours.length)) return ours
    if (size === 'strict') return null
    const common = Math.min(ours.length, theirs.length)
    return Buffer.concat([ours.subarray(0, common), theirs.subarray(common)])
  }

  sync(from: Name, to: Name, { force, size }: { force: boolean; size: SizePolicy }): Expected {
    const theirs = this.content(to)
    const after = this.target(from, to, size)
    if (after === null) return { statuses: [3], contents: [theirs] }
    const pair = this.pair(from, to)
    if (pair === null || force || (pair !== 'unknown' && pair.towards === to))
      return { statuses: [0], contents: [after] }
    if (pair === 'unknown') return { statuses: [0, 3], contents: [after, theirs] }
    return { statuses: [3], contents: [theirs] }
  }

  /** A run came to its end with status 0. */
  synced(from: Name, to: Name, undo: boolean, after: Buffer): void {
    const before = this.content(to)
    const journal = this.journal(to)
    const isChanged = !before.equals(after)
    if (undo && journal.is === 'kept' && journal.open) this.#journals.set(to, { ...journal, open: false })
    else if (undo && journal.is === 'anything') this.#journals.set(to, { is: 'anything' })
    else if (undo && isChanged) this.#journals.set(to, { is: 'kept', old: before, open: false })
    else if (!undo && journal.is !== 'none')
      this.#journals.set(to, isChanged ? { is: 'none' } : { is: 'anything' })
    this.disks.set(to, Buffer.from(after))
    const pair = this.pair(from, to)
    const generation =
      pair === null ? 1 : pair === 'unknown' || pair.generation === null ? null : pair.generation + 1
    this.#setPair(from, to, { towards: to, generation })
  }

  /** A run was killed, and this is what is there now. */
  killed(from: Name, to: Name, undo: boolean, { found, after }: { found: Buffer; after: Buffer }): void {
    const before = this.content(to)
    const journal = this.journal(to)
    const isChanged = !found.equals(before)
    // it may have come to its end: then the next one begins anew
    const mayBeDone = found.equals(after)
    if (undo && isChanged && !mayBeDone && journal.is !== 'anything') {
      const old = journal.is === 'kept' && journal.open ? journal.old : before
      this.#journals.set(to, { is: 'kept', old, open: true })
    } else if (undo || journal.is !== 'none') {
      this.#journals.set(to, !undo && isChanged ? { is: 'none' } : { is: 'anything' })
    }
    this.disks.set(to, found)
    const pair = this.pair(from, to)
    const isSameWay = pair !== null && pair !== 'unknown' && pair.towards === to
    this.#setPair(from, to, isSameWay ? { towards: to, generation: null } : 'unknown')
  }

  undo(name: Name): Expected {
    const journal = this.journal(name)
    if (journal.is === 'none') return { statuses: [3], contents: [this.content(name)] }
    if (journal.is === 'anything') return { statuses: [0, 3], contents: 'any' }
    return { statuses: [0], contents: [journal.old] }
  }

  /** An undo ended with 0. */
  undone(name: Name, found: Buffer): void {
    this.disks.set(name, found)
    this.#journals.set(name, { is: 'none' })
    // the record of the run that was taken back is not the last word any more
    for (const names of this.#pairs.keys())
      if (names.split(',').includes(name)) this.#pairs.set(names, 'unknown')
  }

  #setPair(one: Name, other: Name, pair: Pair): void {
    this.#pairs.set([one, other].toSorted().join(), pair)
  }
}

export function hashOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}
