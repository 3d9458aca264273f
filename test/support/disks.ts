// Temporary directories, image files, loop devices, mounts and programs for tests. Everything made through a Scratch is
// taken away again by its close(), newest first, also after a failed test; nothing else on the machine is touched.

import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { constants, existsSync, readFileSync } from 'node:fs'
import { type FileHandle, mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll } from 'vitest'

import { findProgram } from './needs.js'
import { until } from './processes.js'

const PROGRAM_TIMEOUT_MS = 30_000

/** Bytes written at once: what a big image takes of memory while it is made. */
const CHUNK_BYTES = 4 << 20

export type Piece = Readonly<{ offset: number; data: Uint8Array }>

/** Runs a program with arguments and a deadline; resolves with its stdout, rejects with its stderr in the message. */
export async function run(program: string, ...args: readonly string[]): Promise<string> {
  const path = findProgram(program)
  if (path === null) throw new Error(`no such program: ${program}`)
  const { stdout } = await promisify(execFile)(path, args, {
    timeout: PROGRAM_TIMEOUT_MS,
    maxBuffer: 16 << 20,
  })
  return stdout
}

export function randomBytes(lengthBytes: number): Buffer {
  return randomFillSync(Buffer.allocUnsafeSlow(lengthBytes))
}

/** Allocated bytes of an image file: what `du` counts. */
export async function allocatedBytes(path: string): Promise<number> {
  const handle = await open(path, 'r')
  try {
    return (await handle.stat()).blocks * 512
  } finally {
    await handle.close()
  }
}

/**
 * Rejects where two files are not equal, as cmp(1) does. The page cache is left out where the file system lets it be: the zeros of
 * holes would fill it, which takes far longer than all else.
 */
export async function compareFiles(one: string, other: string): Promise<void> {
  const memory = pages(2 * CHUNK_BYTES)
  const [ours, theirs] = [Buffer.from(memory, 0, CHUNK_BYTES), Buffer.from(memory, CHUNK_BYTES)]
  await using first = await openDirect(one)
  await using second = await openDirect(other)
  const [{ size }, { size: otherSize }] = [await first.stat(), await second.stat()]
  if (size !== otherSize) throw new Error(`${one} has ${size} bytes, ${other} ${otherSize}`)
  for (let offset = 0; offset < size; offset += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, size - offset)
    const reads = [
      [first, ours],
      [second, theirs],
    ] as const
    for (const [file, buffer] of reads) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, offset)
      if (bytesRead !== length) throw new Error(`${bytesRead} bytes at ${offset} instead of ${length}`)
    }
    if (ours.compare(theirs, 0, length, 0, length) !== 0)
      throw new Error(`${one} and ${other} differ in bytes ${offset} to ${offset + length}`)
  }
}

/** Memory that begins with a page, as direct I/O wants it: that of WebAssembly does. Its type is in the library of browsers only. */
function pages(lengthBytes: number): ArrayBuffer {
  type Memory = new (descriptor: { initial: number }) => { buffer: ArrayBuffer }
  const { WebAssembly } = globalThis as unknown as { WebAssembly: { Memory: Memory } }
  return new WebAssembly.Memory({ initial: lengthBytes >> 16 }).buffer
}

async function openDirect(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECT)
  } catch {
    // a file system without direct I/O, such as tmpfs
    return await open(path, 'r')
  }
}

/** A scratch for all tests of the enclosing `describe` (or file): `const scratch = useScratch()`, then `scratch()` in a test. */
export function useScratch(): () => Scratch {
  let scratch: Scratch | null = null
  beforeAll(async () => {
    scratch = await openScratch()
  })
  afterAll(async () => {
    await scratch?.close()
    scratch = null
  })
  return () => {
    if (scratch === null) throw new Error('the scratch is only there while tests run')
    return scratch
  }
}

/** A new temporary directory with nothing in it. Who opens it closes it. */
export async function openScratch(): Promise<Scratch> {
  return new Scratch(await mkdtemp(join(tmpdir(), 'blocksync-test-')))
}

/** `tempDir()` for who only wants the directory: the path and how to remove it. */
export async function tempDir(): Promise<{ path: string; remove: () => Promise<void> }> {
  const scratch = await openScratch()
  return { path: scratch.directory, remove: () => scratch.close() }
}

/** True while a loop device is one over that file, and not free or somebody else's again. */
function isLoopOver(device: string, file: string): boolean {
  const path = `/sys/block/${device.slice('/dev/'.length)}/loop/backing_file`
  try {
    return existsSync(path) && [file, `${file} (deleted)`].includes(readFileSync(path, 'utf8').trimEnd())
  } catch {
    return false // it was let go between the two
  }
}

export class Scratch implements AsyncDisposable {
  readonly directory: string
  readonly #undo: Array<() => Promise<unknown>> = []

  constructor(directory: string) {
    this.directory = directory
    this.#undo.push(() => rm(directory, { recursive: true, force: true }))
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  /** Called by close(), before everything that was registered earlier. */
  onClose(undo: () => Promise<unknown>): void {
    this.#undo.push(undo)
  }

  /** A file of exactly these bytes. */
  async file(name: string, data: Uint8Array): Promise<string> {
    return this.sparseFile(name, data.length, [{ offset: 0, data }])
  }

  /** A file of random bytes, written a chunk at a time. */
  async randomFile(name: string, sizeBytes: number): Promise<string> {
    const path = await this.sparseFile(name, sizeBytes, [])
    const handle = await open(path, 'r+')
    try {
      const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES)
      for (let offset = 0; offset < sizeBytes; offset += chunk.length) {
        const part = randomFillSync(chunk).subarray(0, Math.min(chunk.length, sizeBytes - offset))
        await handle.write(part, 0, part.length, offset)
      }
    } finally {
      await handle.close()
    }
    return path
  }

  /** A file of random bytes in which every other piece of `pieceBytes` is zeros (written, not holes). */
  async chequeredFile(name: string, sizeBytes: number, pieceBytes: number): Promise<string> {
    const path = await this.sparseFile(name, sizeBytes, [])
    const handle = await open(path, 'r+')
    try {
      const chunk = Buffer.alloc(CHUNK_BYTES)
      for (let offset = 0; offset < sizeBytes; offset += chunk.length) {
        for (let at = 0; at < chunk.length; at += 2 * pieceBytes) randomFillSync(chunk, at, pieceBytes)
        await handle.write(chunk, 0, Math.min(chunk.length, sizeBytes - offset), offset)
      }
    } finally {
      await handle.close()
    }
    return path
  }

  /** A file of `sizeBytes`, a hole but for the pieces. */
  async sparseFile(name: string, sizeBytes: number, pieces: readonly Piece[] = []): Promise<string> {
    const path = this.path(name)
    const handle = await open(path, 'w')
    try {
      await handle.truncate(sizeBytes)
      for (const piece of pieces) await handle.write(piece.data, 0, piece.data.length, piece.offset)
    } finally {
      await handle.close()
    }
    return path
  }

  /** Attaches `file` to a free loop device and resolves with its path (`/dev/loopN`). */
  async loopDevice(file: string, ...options: readonly string[]): Promise<string> {
    const device = (await run('losetup', '--find', '--show', ...options, file)).trim()
    this.#undo.push(async () => {
      await run('losetup', '--detach', device)
      // whoever looks at it just then, as udev does, has it a moment longer, and with it what the file is on
      await until(() => !isLoopOver(device, file), `${device} lets go of ${file}`)
    })
    return device
  }

  /** Mounts `what` on a new directory `name` and resolves with that. `mount('small', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')`. */
  async mount(name: string, what: string, ...options: readonly string[]): Promise<string> {
    const directory = this.path(name)
    await mkdir(directory)
    await run('mount', ...options, what, directory)
    this.#undo.push(() => run('umount', directory))
    return directory
  }

  /** Starts a program with pipes; close() ends it, if it still runs, by its pid. */
  start(program: string, ...args: readonly string[]): ChildProcess {
    const child = spawn(findProgram(program) ?? program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#undo.push(async () => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    })
    return child
  }

  /** Takes everything away, newest first. Goes on after a failure and then rejects with all of them. */
  async close(): Promise<void> {
    const failures: unknown[] = []
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      await undo().catch((error: unknown) => failures.push(error))
    }
    if (failures.length > 0)
      throw new AggregateError(
        failures,
        `not all of ${this.directory} could be taken away: ${String(failures[0])}`,
      )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
