// Page-aligned memory for reads, and reads of any alignment through it: descriptors opened with O_DIRECT accept nothing else.
// Refuses nothing but what the kernel refuses; end of file makes a read short.

import { read as readCallback } from 'node:fs'
import { promisify } from 'node:util'

/** The little of WebAssembly that is used here; the type library that declares it is the browser's. */
declare const WebAssembly: {
  Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
}

const read = promisify(readCallback)

/** O_DIRECT wants memory, offset and length in units of the logical sector; no disk has a larger one than this. */
const ALIGN_BYTES = 4096
/** The smallest sector of a device. */
const SECTOR_BYTES = 512
const WASM_PAGE_BYTES = 65536
/** Large enough to keep a disk busy and a call's cost small, small enough that the event loop waits under a millisecond. */
const SCRATCH_DATA_BYTES = 1 << 20
/** Scratch kept for later calls; more calls at once make theirs and leave them to the garbage collector. */
const KEPT_SCRATCHES = 4

const kept: Scratch[] = []

/** Runs `work` with a scratch that holds at least `dataBytes` of data at any alignment. */
export async function withScratch<T>(dataBytes: number, work: (scratch: Scratch) => Promise<T>): Promise<T> {
  const scratch = takeScratch(dataBytes)
  try {
    return await work(scratch)
  } finally {
    if (kept.length < KEPT_SCRATCHES) kept.push(scratch)
  }
}

function takeScratch(dataBytes: number): Scratch {
  const index = kept.findIndex(({ dataCapacity }) => dataCapacity >= dataBytes)
  // Where none is large enough the smaller one makes room for what is needed now.
  const [scratch] = kept.splice(Math.max(index, 0), 1)
  return index >= 0 && scratch !== undefined ? scratch : new Scratch(Math.max(dataBytes, SCRATCH_DATA_BYTES))
}

/** The part of `lengthBytes` to read at once: whole leaves, one at least. */
export function chunkBytes(leafBytes: number): number {
  return Math.max(leafBytes, Math.floor(SCRATCH_DATA_BYTES / leafBytes) * leafBytes)
}

/** The memory of a WebAssembly.Memory starts at a page; that of a Buffer does not. */
export class Scratch {
  readonly dataCapacity: number
  readonly #bytes: Uint8Array

  constructor(dataBytes: number) {
    const pages = Math.ceil((dataBytes + 2 * ALIGN_BYTES) / WASM_PAGE_BYTES)
    this.#bytes = new Uint8Array(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer)
    this.dataCapacity = this.#bytes.length - 2 * ALIGN_BYTES
  }

  /**
   * Reads `length` bytes (at most dataCapacity) at `offset`; the view is valid until the next read. Shorter only at the end of
   * the file. Rejects with the system error, with `offset` added.
   */
  async read(fd: number, offset: number, length: number): Promise<Uint8Array> {
    const base = offset - (offset % ALIGN_BYTES)
    const end = Math.ceil((offset + length) / ALIGN_BYTES) * ALIGN_BYTES
    let have = base
    while (have < offset + length) {
      // After a short read the unit it stopped in is read again; nothing new there is the end of the file.
      const from = have - (have % ALIGN_BYTES)
      const bytesRead = await this.#readUnits(fd, from - base, end - from, from).catch(
        async (error: unknown) => {
          // Of a unit with a bad sector the others can be read where the device has such sectors, and are if no more is asked for.
          const isWhole = offset === base && offset + length === end
          if (isWhole || from !== base || offset % SECTOR_BYTES !== 0) throw error
          const sectorsEnd = Math.ceil((offset + length) / SECTOR_BYTES) * SECTOR_BYTES
          const exact = await this.#readUnits(fd, offset - base, sectorsEnd - offset, offset).catch(
            () => null,
          )
          if (exact === null) throw error instanceof Error ? Object.assign(error, { offset }) : error
          return offset - base + exact
        },
      )
      if (from + bytesRead <= have) break
      have = from + bytesRead
    }
    const lengthRead = Math.max(0, Math.min(have - offset, length))
    return this.#bytes.subarray(offset - base, offset - base + lengthRead)
  }

  async #readUnits(fd: number, at: number, length: number, offset: number): Promise<number> {
    try {
      return (await read(fd, this.#bytes, at, length, offset)).bytesRead
    } catch (error) {
      throw error instanceof Error ? Object.assign(error, { offset }) : error
    }
  }
}
