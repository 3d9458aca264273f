// `npm run demo`: makes a disk image and an older copy of it, brings the copy up to date over real ssh to a server on
// loopback, changes 1 %, does it again, and compares every byte. Refuses to go on when a step fails; leaves nothing behind.

import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { copyFile, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

import { startSshServer, type EmbeddedSshServer } from '../test/support/ssh-server.js'

/** The package's root, from dist-tools/bench/. */
const ROOT = join(import.meta.dirname, '..', '..')
const PROGRAM = join(ROOT, 'dist', 'cli', 'main.js')
const IMAGE_BYTES = 256 << 20
const BLOCK_BYTES = 4096
const RUN_BYTES = 16 * BLOCK_BYTES
const CHUNK_BYTES = 4 << 20
/** The whole demonstration is to take a minute and a half; one step that takes longer than this hangs. */
const STEP_TIMEOUT_MS = 60_000

function say(text: string): void {
  console.log(text)
}

function findProgram(name: string): string | null {
  for (const directory of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // not in this directory: the next one is asked
    }
  }
  return null
}

/** Runs a program that must end with status 0; what it prints goes to our terminal. It has ended when this settles. */
async function run(argv: readonly [string, ...string[]], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const [program, ...args] = argv
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'], timeout: STEP_TIMEOUT_MS })
  const stop = (): boolean => child.kill('SIGTERM')
  signal.addEventListener('abort', stop, { once: true })
  try {
    const [status, ended] = (await once(child, 'close')) as [number | null, string | null]
    signal.throwIfAborted()
    if (status !== 0) throw new Error(`${program} ended with ${status === null ? ended : `status ${status}`}`)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** A disk image like the ones people have: an ext4 file system with the files of this project's own libraries. */
async function makeImage(path: string, signal: AbortSignal): Promise<string> {
  const handle = await open(path, 'wx')
  try {
    await handle.truncate(IMAGE_BYTES)
    const mkfs = findProgram('mkfs.ext4')
    if (mkfs !== null) {
      await run([mkfs, '-q', '-F', '-d', join(ROOT, 'node_modules'), path], signal)
      return 'an ext4 file system with some thousand files'
    }
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
    for (let byteOffset = 0; byteOffset < IMAGE_BYTES; byteOffset += CHUNK_BYTES) {
      await handle.write(randomFillSync(chunk), 0, CHUNK_BYTES, byteOffset)
    }
  } finally {
    await handle.close()
  }
  return 'random data (mkfs.ext4 is not here)'
}

/** Overwrites a share of the 4 KiB blocks in short runs at random places, as a guest does; resolves with how many. */
async function changeBlocks(path: string, share: number): Promise<number> {
  const runCount = Math.round((IMAGE_BYTES / RUN_BYTES) * share)
  const picked = new Set<number>()
  while (picked.size < runCount) picked.add(Math.floor(Math.random() * (IMAGE_BYTES / RUN_BYTES)))
  const handle = await open(path, 'r+')
  try {
    const bytes = Buffer.allocUnsafe(RUN_BYTES)
    for (const index of picked) await handle.write(randomFillSync(bytes), 0, RUN_BYTES, index * RUN_BYTES)
  } finally {
    await handle.close()
  }
  return runCount * (RUN_BYTES / BLOCK_BYTES)
}

/** Compares every byte of the two files; rejects naming the first place where they differ. */
async function compareFiles(aPath: string, bPath: string): Promise<void> {
  const [a, b] = [await open(aPath), await open(bPath)]
  try {
    const [aChunk, bChunk] = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)]
    for (let byteOffset = 0; ; byteOffset += CHUNK_BYTES) {
      const aRead = await a.read(aChunk, 0, CHUNK_BYTES, byteOffset)
      const bRead = await b.read(bChunk, 0, CHUNK_BYTES, byteOffset)
      if (!aChunk.subarray(0, aRead.bytesRead).equals(bChunk.subarray(0, bRead.bytesRead))) {
        throw new Error(`${aPath} and ${bPath} differ in the ${CHUNK_BYTES} bytes from ${byteOffset}`)
      }
      if (aRead.bytesRead === 0) return
    }
  } finally {
    await a.close()
    await b.close()
  }
}

async function demonstrate(directory: string, server: EmbeddedSshServer, signal: AbortSignal): Promise<void> {
  const disk = join(directory, 'disk.img')
  const replica = join(directory, 'replica.img')
  const ssh = findProgram('ssh') === null ? 'ssh2' : 'openssh'
  const sync = async (): Promise<void> => {
    say(`\n$ blocksync ${disk} far:${replica} --stats`)
    const startedMs = performance.now()
    const words = [PROGRAM, disk, `far:${replica}`, '--stats', '--ssh', ssh, '-F', server.clientConfigPath]
    await run([process.execPath, ...words], signal)
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    await compareFiles(disk, replica)
    say(`-> ${seconds} s; compared afterwards: all ${IMAGE_BYTES} bytes are equal`)
  }

  say(`1. A disk image of ${IMAGE_BYTES >> 20} MiB: ${await makeImage(disk, signal)}.`)
  await copyFile(disk, replica)
  const older = await changeBlocks(replica, 0.05)
  say(`2. An older copy of it: ${older} of ${IMAGE_BYTES / BLOCK_BYTES} blocks of 4 KiB are different there.`)
  say(
    `3. An ssh server on 127.0.0.1:${server.port}, with a key that ssh checks; it is host "far". Client: ${ssh}.`,
  )
  say('   The copy is brought up to date over it. Both sides compare blocks of 1 MiB at the same time;')
  say('   of a block that differs, only the pieces of 4 KiB that differ are sent:')
  await sync()
  const changed = await changeBlocks(disk, 0.01)
  say(
    `\n4. The guest goes on writing: ${changed} blocks (1 %) are changed on the disk. The same command again:`,
  )
  await sync()
}

/** Runs the demonstration in a directory of its own, which is removed however it ends. Resolves with the exit status. */
async function main(): Promise<number> {
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => interrupt.abort(new Error(`${name} came`)))
  const startedMs = performance.now()
  const directory = await mkdtemp(join(tmpdir(), 'blocksync-demo-'))
  let server: EmbeddedSshServer | null = null
  try {
    // The far side of a real host has blocksync on its PATH; so has this one.
    const command = `#!/bin/sh\nexec '${process.execPath}' '${PROGRAM}' "$@"\n`
    await writeFile(join(directory, 'blocksync'), command, { mode: 0o755 })
    const environment = { PATH: `${directory}${delimiter}${process.env['PATH'] ?? ''}` }
    server = await startSshServer({ directory, environment })
    await demonstrate(directory, server, interrupt.signal)
    say(
      `\nDone in ${((performance.now() - startedMs) / 1000).toFixed(0)} s; the temporary files are removed.`,
    )
    return 0
  } catch (error) {
    console.error(`\nThe demonstration stopped: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  } finally {
    await server?.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

process.exitCode = await main()
