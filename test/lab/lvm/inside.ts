// Runs in the emulated machine as its only program: makes volumes of both kinds and prints how each check went.

import { execFileSync } from 'node:child_process'
import { open } from 'node:fs/promises'

import { LocalHost } from '../../../src/host/local.js'
import { openSnapshots } from '../../../src/snapshot/open.js'
import { SNAPSHOT_PREFIX } from '../../../src/snapshot/snapshot.js'
import { ALL_CHECKS, type SnapshotWorld } from '../../snapshot/conformance.js'
import { VOLUME_CHECKS } from './checks.js'

const MIB = 1 << 20

function lvm(...words: readonly string[]): string {
  const [program = '', ...rest] = words
  return execFileSync(program, rest, { encoding: 'utf8', timeout: 60_000, stdio: ['ignore', 'pipe', 'pipe'] })
}

async function write(disk: string, byte: number): Promise<void> {
  const handle = await open(disk, 'r+')
  try {
    await handle.write(Buffer.alloc(MIB, byte), 0, MIB, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function read(path: string): Promise<number> {
  const handle = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MIB), 0, MIB, 0)
    const [first = -1] = buffer
    if (bytesRead !== MIB || !buffer.equals(Buffer.alloc(MIB, first))) throw new Error(`${path} is mixed`)
    return first
  } finally {
    await handle.close()
  }
}

function worldOf(kind: 'lvm' | 'lvm-thin', host: LocalHost): SnapshotWorld {
  const prefix = kind === 'lvm' ? 'thick' : 'thin'
  return {
    host,
    method: openSnapshots(kind === 'lvm' ? { kind, size: { bytes: 32 * MIB } } : { kind }),
    disks: [`/dev/vg0/${prefix}-one`, `/dev/vg0/${prefix}-two`],
    missing: '/dev/vg0/missing',
    write,
    read,
    left: async () => {
      const names = lvm('lvs', '--noheadings', '-o', 'lv_name').split(/\s+/)
      return await Promise.resolve(names.filter((name) => name.startsWith(SNAPSHOT_PREFIX)))
    },
    lose: async (path) => {
      lvm('lvremove', '--yes', path)
      await Promise.resolve()
    },
  }
}

lvm('vgcreate', '--yes', 'vg0', '/dev/vda')
for (const name of ['thick-one', 'thick-two'])
  lvm('lvcreate', '--yes', '-Zn', '-Wn', '--size', '64m', '--name', name, 'vg0')
lvm('lvcreate', '--yes', '-Zn', '--type', 'thin-pool', '--size', '256m', '--name', 'pool', 'vg0')
for (const name of ['thin-one', 'thin-two'])
  lvm(
    'lvcreate',
    '--yes',
    '--type',
    'thin',
    '--virtualsize',
    '64m',
    '--thinpool',
    'pool',
    '--name',
    name,
    'vg0',
  )

const host = new LocalHost({ stateDir: '/tmp/state', native: 'off' })
for (const kind of ['lvm', 'lvm-thin'] as const) {
  const world = worldOf(kind, host)
  for (const { name, kinds, run } of [...ALL_CHECKS, ...VOLUME_CHECKS]) {
    if (!kinds.includes(kind)) continue
    const result = await run(world).then(
      () => 'ok',
      (error: unknown) => (error instanceof Error ? (error.stack ?? error.message) : String(error)),
    )
    console.log(`LAB-CHECK ${JSON.stringify(`${kind}: ${name}`)} ${JSON.stringify(result)}`)
  }
}
await host.close()
