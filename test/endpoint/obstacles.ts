// Things that stand where a disk should be: each makes one on the scratch and resolves with its path.

import { once } from 'node:events'
import { open, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'

import type { Scratch } from '../support/disks.js'
import { run } from '../support/disks.js'

/** Makes it, registered for cleaning up, and resolves with the path to be opened. */
export type Obstacle = (on: Scratch) => Promise<string>

const MIB = 1 << 20

let made = 0

export function absent(name: string): Obstacle {
  return async (on) => on.path(name)
}

export async function directory(on: Scratch): Promise<string> {
  return on.path('here')
}

export async function belowFile(on: Scratch): Promise<string> {
  return `${await on.file('file', Buffer.alloc(1))}/disk.img`
}

export async function fifo(on: Scratch): Promise<string> {
  const path = on.path(`fifo-${made++}`)
  await run('mkfifo', path)
  return path
}

export async function socket(on: Scratch): Promise<string> {
  const path = on.path(`socket-${made++}`)
  const server = createServer().listen(path)
  await once(server, 'listening')
  on.onClose(async () => {
    const closed = once(server, 'close')
    server.close()
    await closed
  })
  return path
}

export async function danglingLink(on: Scratch): Promise<string> {
  const path = on.path(`dangling-${made++}`)
  await symlink(on.path('gone'), path)
  return path
}

export async function fileSystem(on: Scratch): Promise<string> {
  const image = await on.sparseFile(`ext4-${made++}.img`, 4 * MIB)
  await run('mkfs.ext4', '-q', '-F', image)
  return on.loopDevice(image)
}

export async function mounted(on: Scratch): Promise<string> {
  const device = await fileSystem(on)
  await on.mount(`mnt-${made++}`, device)
  return device
}

/** Another process that opens the device with O_EXCL and says when it has it. */
export async function claimed(on: Scratch): Promise<string> {
  const device = await on.loopDevice(await on.sparseFile(`claimed-${made++}.img`, MIB))
  const script =
    "const { openSync, constants } = require('node:fs'); openSync(process.argv[1], constants.O_RDONLY | constants.O_EXCL); process.stdout.write('open'); process.stdin.resume()"
  const child = on.start(process.execPath, '-e', script, device)
  if (child.stdout === null) throw new Error('the holder has no stdout')
  await once(child.stdout, 'data')
  return device
}

export async function swap(on: Scratch): Promise<string> {
  const device = await on.loopDevice(await on.file(`swap-${made++}.img`, Buffer.alloc(MIB)))
  await run('mkswap', device)
  await run('swapon', device)
  on.onClose(() => run('swapoff', device))
  return device
}

export async function readOnlyLoop(on: Scratch): Promise<string> {
  return on.loopDevice(await on.sparseFile(`ro-${made++}.img`, MIB), '--read-only')
}

/** An image file that a loop device stands on. */
export async function attached(on: Scratch): Promise<string> {
  const path = await on.file(`attached-${made++}.img`, Buffer.alloc(MIB))
  await on.loopDevice(path)
  return path
}

/**
 * A loop device that was detached: its node stays. Its number is far above what `losetup --find` gives out, so that no
 * test that runs at the same time takes it before it is opened.
 */
export async function emptyLoop(on: Scratch): Promise<string> {
  const file = await on.sparseFile(`detached-${made++}.img`, MIB)
  const device = `/dev/loop${900 + (process.pid % 90)}`
  await run('losetup', device, file)
  await run('losetup', '--detach', device)
  return device
}

export function onFileSystem(name: string): Obstacle {
  return async (on) => `${await on.mount(`fs-mnt-${made++}`, await fileSystem(on))}/${name}`
}

export function readOnlyMount(name: string): Obstacle {
  return async (on) => {
    const mountPoint = await on.mount(`ro-mnt-${made++}`, await fileSystem(on))
    await writeFile(`${mountPoint}/disk.img`, Buffer.alloc(512))
    await using handle = await open(`${mountPoint}/disk.img`, 'r')
    await handle.sync()
    await handle.close()
    await run('mount', '-o', 'remount,ro', mountPoint)
    return `${mountPoint}/${name}`
  }
}
