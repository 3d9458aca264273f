// The guards of a destination over the command line, on real loop devices, mounts, swap and processes: status 3, what was
// found, the option that overrides it, and not one byte changed. And what is said about a source in use.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { open, symlink, truncate } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { type Result, resultOf, runCli, startCli } from '../support/cli.js'
import { openScratch, randomBytes, run, type Scratch } from '../support/disks.js'
import { directions, useFarSides, type Way, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'
import { until } from '../support/processes.js'

const MIB = 1 << 20
/** Where disks with a partition have it. */
const PARTITION: Range = { offset: MIB, length: 6 * MIB }
/** Nothing of this is ever overwritten with what was in memory. */
const SWAP_HEADER_BYTES = 4096
const far = useFarSides()
let made = 0

/** A disk, how it looks, and what is there to be found out about it. */
type Case = {
  code: string
  says: RegExp
  force: string[]
  /** Resolves with the path of the destination. */
  make: (on: Scratch) => Promise<string>
}

/** A loop device with an ext4 on it. */
async function fileSystem(on: Scratch, ...options: string[]): Promise<string> {
  const image = await on.sparseFile(`ext4-${made++}.img`, 4 * MIB)
  await run('mkfs.ext4', ...QUIET, image)
  return on.loopDevice(image, ...options)
}

/** Prints 'ready' when it has done what `script` says, and stays until it is ended. */
async function holder(on: Scratch, script: string, ...args: string[]): Promise<ChildProcess> {
  return await ready(
    on.start(process.execPath, '-e', `${script}; console.log('ready'); process.stdin.resume()`, ...args),
  )
}

async function ready(child: ChildProcess): Promise<ChildProcess> {
  if (child.stdout === null) throw new Error('it has no stdout')
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the holder ended')))
  await Promise.race([once(child.stdout, 'data'), ended])
  return child
}

/** Without what the kernel would write by itself, some time after it is mounted. */
const QUIET = ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0']

/** Mounts it; what mounting changes is written when it resolves, and nothing more is. */
async function mounted(on: Scratch, device: string): Promise<void> {
  await run('sync', '-f', await on.mount(`mnt-${made++}`, device))
}

const OPEN_TO_WRITE = "require('node:fs').openSync(process.argv[1], 'r+')"

const CASES: Record<string, Case> = {
  'a mounted ext4': {
    code: 'guard/mounted',
    says: /mounted on \S+mnt/,
    force: ['--force-mounted'],
    make: async (on) => {
      const path = await fileSystem(on)
      await mounted(on, path)
      return path
    },
  },
  'an ext4 mounted in another mount namespace': {
    code: 'guard/mounted',
    says: /mounted on \S+ns-mnt in another mount namespace \(that of pid \d+\)/,
    force: ['--force-mounted'],
    make: async (on) => {
      const path = await fileSystem(on)
      const point = on.path(`${made++}-ns-mnt`)
      await run('mkdir', point)
      const script = 'mount "$0" "$1" && sync -f "$1" && echo ready && exec cat'
      await ready(on.start('unshare', '-m', 'sh', '-c', script, path, point))
      return path
    },
  },
  'a partition that is mounted': {
    code: 'guard/mounted',
    says: /in use: its partition loop\d+p1 is mounted on \S+mnt/,
    force: ['--force-mounted'],
    make: async (on) => {
      const image = await partedFile(on)
      const path = await withPartition(on, image)
      await run('mkfs.ext4', ...QUIET, `${path}p1`)
      await mounted(on, `${path}p1`)
      return path
    },
  },
  'the file behind a loop device with a mounted partition': {
    code: 'guard/mounted',
    says: /the file behind \/dev\/loop\d+, its partition loop\d+p1 is mounted on \S+mnt/,
    force: ['--force-mounted', '--force-attached'],
    make: async (on) => {
      const path = await partedFile(on)
      const device = await withPartition(on, path)
      await run('mkfs.ext4', ...QUIET, `${device}p1`)
      await mounted(on, `${device}p1`)
      return path
    },
  },
  'the file behind a loop device': {
    code: 'guard/attached',
    says: /the file behind \/dev\/loop\d+/,
    force: ['--force-attached'],
    make: async (on) => {
      const path = await on.randomFile(`attached-${made++}.img`, MIB)
      await on.loopDevice(path)
      return path
    },
  },
  'a file that a process has open for writing, through a link': {
    code: 'guard/open',
    says: /open for writing by node \(pid \d+, since \d{4}-\d\d-\d\d \d\d:\d\d\)/,
    force: ['--force-open'],
    make: async (on) => {
      const file = await on.randomFile(`open-${made++}.img`, MIB)
      const path = on.path(`link-${made++}.img`)
      await symlink(file, path)
      await holder(on, OPEN_TO_WRITE, file)
      return path
    },
  },
  'a device that a process has open for writing': {
    code: 'guard/open',
    says: /open for writing by node \(pid \d+/,
    force: ['--force-open'],
    make: async (on) => {
      const path = await on.loopDevice(await on.randomFile(`open-${made++}.img`, MIB))
      await holder(on, OPEN_TO_WRITE, path)
      return path
    },
  },
  'the disk of what looks like a guest': {
    code: 'guard/open',
    says: /open for writing by qemu-system-x86_64 \(pid \d+, guest web, /,
    force: ['--force-open'],
    make: async (on) => {
      const path = await on.randomFile(`guest-${made++}.img`, MIB)
      const script = `${OPEN_TO_WRITE}; console.log('ready'); process.stdin.resume()`
      const child = spawn(process.execPath, ['-e', script, path, '-name', 'guest=web,debug-threads=on'], {
        argv0: '/usr/bin/qemu-system-x86_64',
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      on.onClose(async () => {
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      })
      await ready(child)
      return path
    },
  },
  'a device that somebody claimed whom nobody sees': {
    code: 'guard/held',
    says: /claimed by another program/,
    force: ['--force-held'],
    make: async (on) => {
      const path = await on.loopDevice(await on.randomFile(`claimed-${made++}.img`, MIB))
      await holder(
        on,
        "const c = require('node:fs'); c.openSync(process.argv[1], c.constants.O_RDONLY | c.constants.O_EXCL)",
        path,
      )
      return path
    },
  },
  'a loop device beside another one over the same file': {
    code: 'guard/attached',
    says: /over \S+, which is the file behind \/dev\/loop\d+/,
    force: ['--force-attached'],
    make: async (on) => {
      const file = await on.randomFile(`twice-${made++}.img`, MIB)
      await on.loopDevice(file)
      return await on.loopDevice(file)
    },
  },
  'a disk with a partition that is swap': {
    code: 'guard/swap',
    says: /in use: its partition loop\d+p1 is in use as swap/,
    force: ['--force-swap'],
    make: async (on) => {
      const path = await withPartition(on, await partedFile(on))
      await run('mkswap', `${path}p1`)
      await run('swapon', `${path}p1`)
      on.onClose(() => run('swapoff', `${path}p1`))
      return path
    },
  },
}

/**
 * A loop device over the file, with one partition of 6 MiB. The kernel is told of it directly (as partx does it), since it
 * may be built without any format of partition tables.
 */
async function withPartition(on: Scratch, file: string): Promise<string> {
  const device = await on.loopDevice(file, '--partscan')
  const { offset, length } = PARTITION
  await run('addpart', device, '1', String(offset / 512), String(length / 512))
  on.onClose(() => run('delpart', device, '1'))
  return device
}

async function partedFile(on: Scratch): Promise<string> {
  return on.sparseFile(`parted-${made++}.img`, 8 * MIB)
}

async function source(on: Scratch, sizeBytes: number): Promise<string> {
  return on.randomFile(`source-${made++}.img`, sizeBytes)
}

/** Another state of the same disk: what is recognised on it is the same, so that no other guard asks. */
async function newerThan(on: Scratch, old: Buffer): Promise<string> {
  const tail = 64 << 10
  return on.file(`newer-${made++}.img`, Buffer.concat([old.subarray(0, -tail), randomBytes(tail)]))
}

/** The bytes as they are on the device, whatever is cached. */
async function content(path: string): Promise<Buffer> {
  await run('sync', path)
  const handle = await open(path, 'r')
  try {
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

/** The same without what the kernel itself may write to swap that is in use: all of `swap` behind its first page. */
async function contentBeside(path: string, swap: Range | null): Promise<Buffer> {
  const bytes = await content(path)
  if (swap !== null) bytes.fill(0, swap.offset + SWAP_HEADER_BYTES, swap.offset + swap.length)
  return bytes
}

type Told = Result & { error?: { code: string; message: string; operand: string; hint: string } }

describe(
  'a destination that somebody uses',
  needs('loop', 'mkfs.ext4', 'mount', 'unshare', 'mkswap', 'swapon', 'addpart'),
  () => {
    it.each(Object.entries(CASES))('%s', { timeout: 60_000 }, async (_name, { code, says, force, make }) => {
      await using on = await openScratch()
      const path = await make(on)
      const swap = code === 'guard/swap' ? PARTITION : null
      const before = await contentBeside(path, swap)
      const from = await newerThan(on, before)

      const ended = await runCli(on, ['--json', from, path])
      expect(ended.status).toBe(3)
      const { error } = resultOf(ended) as Told
      expect(error).toMatchObject({ code, operand: path })
      expect(error?.message).toMatch(says)
      expect(error?.message).toMatch(/; nothing was written$/)
      for (const option of force) expect(error?.hint).toContain(option)
      expect((await contentBeside(path, swap)).equals(before)).toBe(true)

      // each of them alone is not enough, and another one is not either
      for (const option of ['--force-guest', ...(force.length > 1 ? force : [])]) {
        const refused = await runCli(on, ['--json', option, from, path])
        expect(refused.status).toBe(3)
        expect((await contentBeside(path, swap)).equals(before)).toBe(true)
      }

      const dry = await runCli(on, ['--json', '-n', from, path])
      expect(dry.status).toBe(1)
      if (code !== 'guard/held') expect(dry.stderr).toMatch(says)
      const verify = await runCli(on, ['verify', '--json', from, path])
      expect(verify).toMatchObject({ status: 1, stderr: '' })
      expect((await contentBeside(path, swap)).equals(before)).toBe(true)

      const forced = await runCli(on, ['--json', ...force, from, path])
      expect(forced.stderr).toMatch(says)
      if (code === 'guard/swap') return // what is written to active swap is between the two of them
      expect(forced).toMatchObject({ status: 0 })
      expect((await content(path)).equals(readFileSync(from))).toBe(true)
    })

    it('swap itself: no option, since the kernel refuses the writes', async () => {
      await using on = await openScratch()
      const path = await on.loopDevice(await on.file(`swap-${made++}.img`, Buffer.alloc(MIB)))
      await run('mkswap', path)
      await run('swapon', path)
      on.onClose(() => run('swapoff', path))
      const before = await contentBeside(path, { offset: 0, length: MIB })
      for (const words of [[], ['--force-swap'], ['--force-swap', '--force-held']]) {
        const ended = await runCli(on, ['--json', ...words, await source(on, MIB), path])
        expect(ended.status).toBe(3)
        const { error } = resultOf(ended) as Told
        expect(error?.code).toBe('guard/swap')
        expect(error?.hint).toMatch(/swapoff \S+\.$/)
      }
      expect((await contentBeside(path, { offset: 0, length: MIB })).equals(before)).toBe(true)
    })

    it('nobody is in the way of a device that is only read by others, or of a run after the other one ended', async () => {
      await using on = await openScratch()
      const path = await on.loopDevice(await on.randomFile(`free-${made++}.img`, MIB))
      await holder(on, "require('node:fs').openSync(process.argv[1], 'r')", path)
      const writer = await holder(on, OPEN_TO_WRITE, path)
      const from = await source(on, MIB)
      expect(await runCli(on, [from, path])).toMatchObject({ status: 3 })
      const ended = once(writer, 'exit')
      writer.kill('SIGKILL')
      await ended
      expect(await runCli(on, [from, path])).toMatchObject({ status: 0, stderr: '' })
    })
  },
)

describe.each(ways('local', 'openssh'))('over %s', (way: Way) => {
  describe.each(directions(way))('%s', (direction) => {
    const words = (from: string, to: string): string[] => {
      const there = (path: string): string => far.path(way, path)
      return [...(direction === 'push' ? [from, there(to)] : [there(from), to]), ...far.words(way)]
    }

    it('a destination in use is refused where it is, by the name it was given', async () => {
      await using on = await openScratch()
      const to = await on.randomFile(`open-${made++}.img`, MIB)
      const from = await source(on, MIB)
      const before = readFileSync(to)
      await holder(on, OPEN_TO_WRITE, to)
      const [, operand = ''] = words(from, to)
      const ended = await runCli(on, ['--json', ...words(from, to)])
      expect(ended.status).toBe(3)
      expect((resultOf(ended) as Told).error).toMatchObject({ code: 'guard/open', operand })
      expect(readFileSync(to).equals(before)).toBe(true)
      const dry = await runCli(on, ['--json', '-n', ...words(from, to)])
      expect(dry.stderr).toContain(`the destination ${operand} is open for writing by node`)
      const forced = await runCli(on, ['--json', '--force-open', ...words(from, to)])
      expect(forced.status).toBe(0)
      expect(forced.stderr).toContain('written all the same')
      expect(readFileSync(to).equals(readFileSync(from))).toBe(true)
    })

    it('a source in use is copied with one warning, whichever end it is on', async () => {
      await using on = await openScratch()
      const from = await source(on, MIB)
      await holder(on, OPEN_TO_WRITE, from)
      const to = await on.file(`to-${made++}.img`, randomBytes(MIB))
      const [operand = ''] = words(from, to)
      const ended = await runCli(on, words(from, to))
      expect(ended.status).toBe(0)
      expect(ended.stderr.match(/the source/g)).toHaveLength(1)
      expect(ended.stderr).toContain(`the source ${operand} is open for writing by node (pid `)
      expect(ended.stderr).toContain('snapshot')
      expect(await runCli(on, ['verify', ...words(from, to)])).toMatchObject({ status: 0, stderr: '' })
    })
  })
})

describe.each(['push', 'pull'])('a source that grows while it is read, %s', (direction) => {
  it.skipIf(!ways('openssh').includes('openssh'))('is said at the end, once', async () => {
    await using on = await openScratch()
    const from = await source(on, 2 * MIB)
    const to = await on.sparseFile(`to-${made++}.img`, 2 * MIB)
    const there = (path: string): string => far.path('openssh', path)
    const operands = direction === 'push' ? [from, there(to)] : [there(from), to]
    const running = startCli(on, [
      '--progress',
      '--bwlimit',
      '1M',
      '-v',
      ...operands,
      ...far.words('openssh'),
    ])
    // half of it is there: the run is in its middle
    await until(() => statSync(to).blocks > 0, 'something was written')
    await truncate(from, 2 * MIB + 4096)
    const ended = await running.ended
    expect(ended.status).toBe(0)
    expect(ended.stderr.match(/has grown by 4096 bytes/g)).toHaveLength(1)
    expect(ended.stderr).toContain(`the source ${operands[0]} has grown`)
  })
})

describe('a source that is mounted', needs('loop', 'mkfs.ext4', 'mount'), () => {
  it('read-write is a warning, read-only is none', async () => {
    await using on = await openScratch()
    const device = await fileSystem(on)
    const mountPoint = await on.mount(`mnt-${made++}`, device)
    const to = await on.sparseFile(`to-${made++}.img`, 4 * MIB)
    const writable = await runCli(on, ['--json', device, to])
    expect(writable.status).toBe(0)
    expect(writable.stderr).toContain(`the source ${device} is mounted on ${mountPoint}: `)
    await run('mount', '-o', 'remount,ro', mountPoint)
    expect(await runCli(on, ['--json', device, to])).toMatchObject({ status: 0, stderr: '' })
  })
})
