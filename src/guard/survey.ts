// What was looked up about this host to protect its disks: processes, mount tables, loop devices, open files. Read once
// and shared by the disks that a run opens one after the other. Refuses nothing; what may not be looked into is not there.

import { readdirSync, readlinkSync, statSync, type Stats } from 'node:fs'
import { setImmediate } from 'node:timers/promises'

import { nodeKey, readNames, readText, statOrNull } from '../endpoint/sysfs.js'
import type { NativeCore } from '../native.js'

/** Where to look: tests have trees of their own. */
export type Roots = Readonly<{ proc: string; sys: string; run: string }>

const HOST_ROOTS: Roots = { proc: '/proc', sys: '/sys', run: '/run' }

/** An answer is good for the disks of one run, which are opened within this time of each other; older ones are asked again. */
const SHARED_FOR_MS = 1000

/** How long the scan of descriptors keeps other work of this process from running. */
const SLICE_MS = 5

/** Parts of /proc that are read at once: threads that the pool has. */
const CORE_SLICES = 4
/** NativeCore.openDescriptors: numbers of a row; rows that there is room for at first, 160 KiB a slice. */
const ROW_NUMBERS = 5
const FIRST_ROWS = 4096

/** A loop device, and which file or device (nodeKey) is behind it. */
export type LoopDevice = Readonly<{ name: string; backingKey: string }>

/** The mounts of one mount namespace; `pid` is a process in it, null for our own. */
export type MountTable = Readonly<{ pid: number | null; text: string }>

/** A descriptor of a regular file or block device. Numbers may be rounded: a match is looked at again, exactly. */
export type Descriptor = Readonly<{ pid: number; fd: string; isBlock: boolean; dev: number; ino: number }>

export class Survey {
  readonly roots: Roots
  readonly #native: NativeCore | null
  readonly #answers = new Map<string, { askedMs: number; answer: Promise<unknown> }>()

  /** The native core reads /proc several times as fast, and beside other work. */
  constructor(native: NativeCore | null = null, roots: Roots = HOST_ROOTS) {
    this.#native = native
    this.roots = roots
  }

  /** Looks up what takes time before a disk is named. What fails here fails for whoever asks, within SHARED_FOR_MS. */
  begin(): void {
    for (const answer of [this.descriptors(), this.mountTables(), this.loopDevices()]) answer.catch(() => {})
  }

  /** Ids of the processes that can be seen, our own left out. */
  pids(): Promise<readonly number[]> {
    return this.#once('pids', async () => {
      const names = await readNames(this.roots.proc)
      return names.filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).map(Number)
    })
  }

  /** One table for each mount namespace that this process may look into, its own first. */
  mountTables(): Promise<readonly MountTable[]> {
    return this.#once('mounts', () => this.#mountTables())
  }

  loopDevices(): Promise<readonly LoopDevice[]> {
    return this.#once('loops', () => this.#loopDevices())
  }

  /** Files and block devices that other processes have open, for whatever. */
  descriptors(): Promise<readonly Descriptor[]> {
    const native = this.roots === HOST_ROOTS ? this.#native : null
    return this.#once('descriptors', () => (native === null ? this.#descriptors() : coreDescriptors(native)))
  }

  #once<T>(name: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#answers.get(name)
    const nowMs = performance.now()
    if (known !== undefined && nowMs - known.askedMs < SHARED_FOR_MS) return known.answer as Promise<T>
    const answer = ask()
    this.#answers.set(name, { askedMs: nowMs, answer })
    return answer
  }

  async #mountTables(): Promise<MountTable[]> {
    const { proc } = this.roots
    const tables: MountTable[] = [{ pid: null, text: (await readText(`${proc}/self/mountinfo`)) ?? '' }]
    const seen = new Set([linkOrNull(`${proc}/self/ns/mnt`)])
    for (const pid of await this.pids()) {
      const namespace = linkOrNull(`${proc}/${pid}/ns/mnt`)
      if (namespace === null || seen.has(namespace)) continue
      const text = await readText(`${proc}/${pid}/mountinfo`)
      if (text === null) continue
      seen.add(namespace)
      tables.push({ pid, text })
    }
    return tables
  }

  async #loopDevices(): Promise<LoopDevice[]> {
    const names = (await readNames(`${this.roots.sys}/block`)).filter((name) => name.startsWith('loop'))
    const found = await Promise.all(
      names.map(async (name) => {
        const path = await readText(`${this.roots.sys}/block/${name}/loop/backing_file`)
        const facts = path === null ? null : await statOrNull(path)
        return facts === null ? [] : [{ name, backingKey: nodeKey(facts) }]
      }),
    )
    return found.flat()
  }

  /** By synchronous calls: thousands of asynchronous ones take several times as long. */
  async #descriptors(): Promise<Descriptor[]> {
    const found: Descriptor[] = []
    let sliceEndMs = performance.now() + SLICE_MS
    for (const pid of await this.pids()) {
      const directory = `${this.roots.proc}/${pid}/fd`
      for (const fd of namesOrNone(directory)) {
        const facts = statNowOrNull(`${directory}/${fd}`)
        if (facts === null) continue
        if (facts.isBlockDevice()) found.push({ pid, fd, isBlock: true, dev: facts.rdev, ino: 0 })
        else if (facts.isFile()) found.push({ pid, fd, isBlock: false, dev: facts.dev, ino: facts.ino })
      }
      if (performance.now() < sliceEndMs) continue
      await setImmediate()
      sliceEndMs = performance.now() + SLICE_MS
    }
    return found
  }
}

async function coreDescriptors(native: NativeCore): Promise<Descriptor[]> {
  const slices = Array.from({ length: CORE_SLICES }, (_, slice) => coreSlice(native, slice, FIRST_ROWS))
  return (await Promise.all(slices)).flat()
}

async function coreSlice(native: NativeCore, slice: number, rowCount: number): Promise<Descriptor[]> {
  const rows = new Float64Array(rowCount * ROW_NUMBERS)
  const count = await native.openDescriptors(slice, CORE_SLICES, rows)
  if (count > rowCount) return await coreSlice(native, slice, count * 2)
  return Array.from({ length: count }, (_, row) => {
    const [pid = 0, fd = 0, isBlock = 0, dev = 0, ino = 0] = rows.subarray(row * ROW_NUMBERS)
    return { pid, fd: String(fd), isBlock: isBlock === 1, dev, ino }
  })
}

/** Processes end, and others' are not ours to look into: what cannot be read is not there. */
function linkOrNull(path: string): string | null {
  try {
    return readlinkSync(path)
  } catch {
    return null
  }
}

function namesOrNone(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function statNowOrNull(path: string): Stats | null {
  try {
    return statSync(path)
  } catch {
    return null
  }
}
