// Bad input on this machine gets a clear answer and loses nothing: one row for each thing that goes wrong, with its exit
// status, a piece of what is said, and the destination as it was before (or how far it got is said). Over a line: fault-line.

import { readFileSync } from 'node:fs'
import { link, mkdir, symlink, truncate } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { claimed, fifo, mounted } from '../endpoint/obstacles.js'
import { relay, startCli } from '../support/cli.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { check, refused, type Row, SIZE, source, target } from './fault-rows.js'

const MIB = 1 << 20

const scratch = useScratch()
let made = 0

const LOCAL_ROWS: readonly Row[] = [
  {
    name: 'missing source',
    arrange: async (on) => {
      const destination = await target(on)
      return { words: [on.path('none'), destination], untouched: [destination] }
    },
    status: 5,
    says: /none.*no such|none.*not exist|missing/i,
  },
  {
    name: 'unreadable source: a directory',
    arrange: async (on) => {
      const destination = await target(on)
      await mkdir(on.path(`directory-${made}`))
      return { words: [on.path(`directory-${made++}`), destination], untouched: [destination] }
    },
    status: 5,
    says: /directory/,
  },
  {
    name: 'missing destination',
    arrange: async (on) => ({
      words: [await source(on), on.path('nowhere')],
      untouched: [on.path('nowhere')],
    }),
    status: 3,
    says: /nowhere[^]*--create/,
  },
  {
    name: 'native required and off at once',
    arrange: (on) => refused(on, ['--native', 'never'], null),
    status: 2,
    says: /--native/,
  },
  { name: 'an unknown option', arrange: (on) => refused(on, ['--jsn'], null), status: 2, says: /--jsn/ },
  {
    name: 'a rate that is none',
    arrange: (on) => refused(on, ['--bwlimit', 'fast'], null),
    status: 2,
    says: /bwlimit/,
  },
  {
    name: 'a block size that is none',
    arrange: (on) => refused(on, ['--block-size', '3000'], null),
    status: 2,
    says: /block-size/,
  },
  {
    name: 'leaves larger than blocks',
    arrange: (on) => refused(on, ['--block-size', '64K', '--granularity', '128K'], null),
    status: 2,
    says: /granularity/,
  },
  {
    name: 'both sides remote',
    arrange: async () => Promise.resolve({ words: ['h1:/a', 'h2:/b'] }),
    status: 2,
    says: /both sides are remote/,
  },
  {
    name: 'destination is a directory',
    arrange: async (on) => {
      await mkdir(on.path(`directory-${made}`))
      const path = on.path(`directory-${made++}`)
      return { words: [await source(on), path], untouched: [path] }
    },
    status: 3,
    says: /directory/,
  },
  {
    name: 'destination is a fifo',
    arrange: async (on) => {
      const path = await fifo(on)
      return { words: [await source(on), path], untouched: [path] }
    },
    status: 3,
    says: /fifo|pipe/i,
  },
  {
    name: 'the same file on both sides',
    arrange: async (on) => {
      const path = await source(on)
      return { words: [path, path], untouched: [path] }
    },
    status: 3,
    says: /same disk/,
  },
  {
    name: 'the same file through a symbolic link',
    arrange: async (on) => {
      const path = await source(on)
      await symlink(path, `${path}.link`)
      return { words: [path, `${path}.link`], untouched: [path] }
    },
    status: 3,
    says: /same disk/,
  },
  {
    name: 'the same file through a hard link',
    arrange: async (on) => {
      const path = await source(on)
      await link(path, `${path}.hard`)
      return { words: [path, `${path}.hard`], untouched: [path] }
    },
    status: 3,
    says: /same disk/,
  },
  {
    name: 'a larger destination',
    arrange: async (on) => {
      const path = await on.file(`large-${made++}.img`, randomBytes(SIZE + 512))
      return { words: [await source(on), path], untouched: [path] }
    },
    status: 3,
    says: /larger than the source[^]*--size grow/,
  },
  {
    name: 'a smaller destination',
    arrange: async (on) => {
      const path = await on.file(`small-${made++}.img`, randomBytes(SIZE - 512))
      return { words: [await source(on), path], untouched: [path] }
    },
    status: 3,
    says: /smaller than the source[^]*--size grow/,
  },
  {
    name: 'a dry run where they differ',
    arrange: async (on) => refused(on, ['-n'], null),
    status: 1,
    says: /^$/,
  },
]

const DEVICE_ROWS: readonly Row[] = [
  {
    name: 'a mounted destination',
    arrange: async (on) => ({ words: [await on.sparseFile(`s-${made++}.img`, 4 * MIB), await mounted(on)] }),
    status: 3,
    says: /mounted|in use/,
  },
  {
    name: 'a destination that another process has claimed',
    arrange: async (on) => ({ words: [await on.sparseFile(`s-${made++}.img`, MIB), await claimed(on)] }),
    status: 3,
    says: /in use|claimed/,
  },
  {
    name: 'the same file through a loop device',
    arrange: async (on) => {
      const path = await on.file(`looped-${made++}.img`, randomBytes(MIB))
      return { words: [path, await on.loopDevice(path)], untouched: [path] }
    },
    status: 3,
    says: /same disk|in use/,
  },
  {
    name: 'a device that is too small, and --size grow',
    arrange: async (on) => {
      const path = await on.file(`short-${made++}.img`, randomBytes(MIB))
      return {
        words: [await on.sparseFile(`s-${made++}.img`, 2 * MIB), await on.loopDevice(path), '--size', 'grow'],
        untouched: [path],
      }
    },
    status: 3,
    says: /smaller than the source/,
  },
  {
    name: 'no space left',
    arrange: async (on) => {
      const directory = await on.mount(`full-${made++}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=4M')
      return {
        words: [await on.randomFile(`s-${made++}.img`, 16 * MIB), join(directory, 'copy.img'), '--create'],
      }
    },
    status: 6,
    says: /no room[^]*no space left/,
    partial: true,
  },
  {
    name: 'a read error in the middle',
    arrange: async (on) => {
      // A loop device answers EIO for what its file does not have.
      const backing = await on.randomFile(`lost-${made++}.img`, 64 * MIB)
      const device = await on.loopDevice(backing)
      const line = await relay(on, { on: 'up:data:1', act: 'hold' })
      return {
        words: [device, `far:${await on.sparseFile(`t-${made++}.img`, 64 * MIB)}`, ...line.words],
        during: async () => {
          await line.reached()
          await truncate(backing, MIB)
          line.letGo()
        },
      }
    },
    status: 5,
    says: /cannot read the source .* at byte \d+: input\/output error/,
    partial: true,
  },
]

describe('bad input', () => {
  it.each(LOCAL_ROWS)('here: $name', async (row) => check(row, scratch()))
  describe('on devices', needs('loop', 'mount', 'mkfs.ext4'), () => {
    it.each(DEVICE_ROWS)('$name', async (row) => check(row, scratch()))
  })

  it('--size min and grow do what they say', async () => {
    const on = scratch()
    const from = await source(on)
    const large = await on.file(`large-${made++}.img`, randomBytes(SIZE + 5000))
    const rest = readFileSync(large).subarray(SIZE)
    expect((await startCli(on, [from, large, '--size', 'grow']).ended).status).toBe(0)
    expect(readFileSync(large).equals(Buffer.concat([readFileSync(from), rest]))).toBe(true)
    const small = await on.file(`small-${made++}.img`, randomBytes(5000))
    expect((await startCli(on, [from, small, '--size', 'min']).ended).status).toBe(0)
    expect(readFileSync(small).equals(readFileSync(from).subarray(0, 5000))).toBe(true)
    expect((await startCli(on, [from, small, '--size', 'grow']).ended).status).toBe(0)
    expect(readFileSync(small).equals(readFileSync(from))).toBe(true)
  })

  it('a dry run never opens its destination for writing, at either end', needs('strace'), async () => {
    const on = scratch()
    const from = await source(on)
    const to = await target(on)
    const log = on.path('strace.log')
    const strace = ['strace', '-f', '-qq', '-e', 'trace=open,openat,openat2', '-o', log]
    expect((await startCli(on, ['-n', from, to], { under: strace }).ended).status).toBe(1)
    const opened = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.includes(to))
    expect(opened.length).toBeGreaterThan(0)
    expect(opened.filter((line) => /O_WRONLY|O_RDWR|O_CREAT|O_TRUNC/.test(line))).toEqual([])
  })
})
