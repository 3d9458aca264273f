// Where each kind of snapshot is tested on this machine: real file systems on loop devices, a program in a directory, and
// an LVM that is played.

import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { Host } from '../../src/host/host.js'
import { LocalHost } from '../../src/host/local.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import { SNAPSHOT_PREFIX } from '../../src/snapshot/snapshot.js'
import { run, type Scratch } from '../support/disks.js'
import type { SnapshotWorld } from './conformance.js'
import { FakeLvm } from './fake-lvm.js'

export const FILLED_BYTES = 1 << 20
/** mkfs.xfs makes none smaller. */
const FILE_SYSTEM_BYTES = 320 << 20

export function localHost(scratch: Scratch): LocalHost {
  const host = new LocalHost({ stateDir: scratch.path(`state-${randomUUID()}`), native: 'auto' })
  scratch.onClose(() => host.close())
  return host
}

/** A directory on a new file system of that kind. */
export async function fileSystem(
  scratch: Scratch,
  kind: string,
  ...words: readonly string[]
): Promise<string> {
  const name = `${kind}-${randomUUID()}`
  const image = await scratch.sparseFile(`${name}.img`, FILE_SYSTEM_BYTES)
  await run(`mkfs.${kind}`, '-q', ...words, image)
  return await scratch.mount(name, image, '-o', 'loop')
}

export async function fill(path: string, byte: number): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    await handle.write(Buffer.alloc(FILLED_BYTES, byte), 0, FILLED_BYTES, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export async function filledWith(path: string): Promise<number> {
  const handle = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(FILLED_BYTES), 0, FILLED_BYTES, 0)
    const [first = -1] = buffer
    if (bytesRead !== FILLED_BYTES || !buffer.equals(Buffer.alloc(FILLED_BYTES, first)))
      throw new Error(`${path} is mixed`)
    return first
  } finally {
    await handle.close()
  }
}

/** Two images in a new directory below `directory`. */
async function images(directory: string): Promise<readonly [string, string]> {
  const below = join(directory, randomUUID())
  await mkdir(below)
  const paths = [join(below, 'one.img'), join(below, 'two two.img')] as const
  for (const path of paths) await writeFile(path, Buffer.alloc(2 * FILLED_BYTES))
  return paths
}

async function fileWorld(
  host: Host,
  method: SnapshotWorld['method'],
  disks: readonly [string, string],
  left: () => Promise<readonly string[]>,
): Promise<SnapshotWorld> {
  const missing = `${disks[0]}.missing`
  const lose = (path: string): Promise<void> => (disks.includes(path) ? Promise.resolve() : rm(path))
  return await Promise.resolve({ host, method, disks, missing, write: fill, read: filledWith, left, lose })
}

export async function reflinkWorld(scratch: Scratch, directory: string): Promise<SnapshotWorld> {
  const disks = await images(directory)
  const left = async (): Promise<readonly string[]> =>
    (await readdir(join(disks[0], '..'))).filter((name) => name.includes(SNAPSHOT_PREFIX))
  return await fileWorld(localHost(scratch), openSnapshots({ kind: 'reflink' }), disks, left)
}

export async function noneWorld(scratch: Scratch): Promise<SnapshotWorld> {
  const disks = await images(scratch.directory)
  return await fileWorld(localHost(scratch), openSnapshots({ kind: 'none' }), disks, () =>
    Promise.resolve([]),
  )
}

/** Copies into DIR/JOB+OWNER/ATTEMPT/N; a job is a directory, so its orphans are what is below it. */
export const CREATE = `#!/bin/sh
set -e
place=$1/$BLOCKSYNC_JOB+$BLOCKSYNC_OWNER/$BLOCKSYNC_ATTEMPT
mkdir -p "$place"
number=0
printf '%s\\n' "$BLOCKSYNC_DISKS" | while IFS= read -r disk; do
  cp -- "$disk" "$place/$number"
  echo "$place/$number"
  number=$((number + 1))
done
`
export const REMOVE = `#!/bin/sh
set -e
if [ "$BLOCKSYNC_ORPHANS" = 1 ]; then
  [ -z "$BLOCKSYNC_SNAPSHOTS" ]
  [ -d "$1/$BLOCKSYNC_JOB+$BLOCKSYNC_OWNER" ] || exit 0
  find "$1/$BLOCKSYNC_JOB+$BLOCKSYNC_OWNER" -type f -print -delete
else
  printf '%s\\n' "$BLOCKSYNC_SNAPSHOTS" | while IFS= read -r path; do rm -f -- "$path"; done
fi
`

export async function commandWorld(scratch: Scratch): Promise<SnapshotWorld> {
  const disks = await images(scratch.directory)
  const place = join(disks[0], '..', 'snapshots')
  await mkdir(place)
  const script = async (name: string, text: string): Promise<string> => {
    const path = join(disks[0], '..', name)
    await writeFile(path, text, { mode: 0o755 })
    return path
  }
  const method = openSnapshots({
    kind: 'command',
    create: [await script('create', CREATE), place],
    remove: [await script('remove', REMOVE), place],
    timeoutMs: 20_000,
  })
  const left = async (): Promise<readonly string[]> => {
    const found = await readdir(place, { recursive: true, withFileTypes: true })
    return found.filter((entry) => entry.isFile()).map(({ name }) => name)
  }
  return await fileWorld(localHost(scratch), method, disks, left)
}

export function fakeWorld(kind: 'lvm' | 'lvm-thin', lvm = new FakeLvm()): SnapshotWorld & { lvm: FakeLvm } {
  const prefix = kind === 'lvm' ? '/dev/vg0/thick' : '/dev/vg0/thin'
  const answered = async <T>(act: () => T): Promise<T> => await Promise.resolve().then(act)
  return {
    lvm,
    host: lvm,
    method: openSnapshots(kind === 'lvm' ? { kind, size: { bytes: 16 << 20 } } : { kind }),
    disks: [`${prefix}-one`, `${prefix}-two`],
    missing: '/dev/vg0/missing',
    write: (disk, byte) => answered(() => void (lvm.volume(disk).byte = byte)),
    read: (path) => answered(() => lvm.volume(path).byte),
    left: () => answered(() => [...lvm.volumes.keys()].filter((name) => name.startsWith(SNAPSHOT_PREFIX))),
    lose: (path) => answered(() => lvm.lose(path)),
  }
}
