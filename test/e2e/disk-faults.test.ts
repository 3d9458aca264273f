// Disks that fail in the middle of a run, for real: each row says what goes wrong and when, the exit status and the code,
// and what is on the destination then: what was acknowledged, and of the rest old or new, leaf by leaf, nothing else. When
// the cause is gone the same command makes it equal. EDQUOT and errors that no loop device gives: test/endpoint, test/sync.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { copyFile, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { parseMap } from '../../src/sync/rescue-map.js'
import { relay, resultOf, runCli, startCli } from '../support/cli.js'
import { randomBytes, run, type Scratch, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const MIB = 1 << 20
const LEAF_BYTES = 4096
const SIZE = 12 * MIB
/** More than the window and what is read ahead of it: a run that is held at its first data has not read the end. */
const LONG = 48 * MIB

const scratch = useScratch()
let made = 0

/** What a row made. `destination` is what the run writes, `look` where its content can be read. */
type Faulty = Readonly<{
  source: string
  destination: string
  look: string
  /** Instead of no words. */
  words?: readonly string[]
  under?: readonly string[]
  /** While the run is held behind its third data frame; absent: it fails by itself. */
  strike?: () => Promise<unknown>
  /** Takes the cause away. */
  heal: () => Promise<unknown>
  /** The destination of the second run, where it has another name then. */
  again?: () => Promise<string>
  /** What cannot be looked at before that. */
  isHidden?: true
}>

type Row = Readonly<{
  name: string
  arrange: (on: Scratch) => Promise<Faulty>
  status: number
  code: string | null
  says: RegExp
}>

/** Random files of a run, or copies of them. */
async function images(on: Scratch, size = SIZE): Promise<{ source: string; destination: string }> {
  const number = made++
  return {
    source: await on.randomFile(`from-${number}.img`, size),
    destination: await on.randomFile(`to-${number}.img`, size),
  }
}

/**
 * A file of LONG bytes that becomes shorter, where the run has not read yet: between the file's end and that of a loop device on it
 * a read fails otherwise. And is whole again.
 */
async function shrinking(path: string): Promise<{ shrink: () => Promise<void>; heal: () => Promise<void> }> {
  await copyFile(path, `${path}.whole`)
  return {
    shrink: () => truncate(path, LONG - 4 * MIB),
    // in place: a loop device stands on it
    heal: async () => {
      await run('dd', `if=${path}.whole`, `of=${path}`, 'bs=1M', 'conv=notrunc', 'status=none')
    },
  }
}

const ROWS: readonly Row[] = [
  {
    name: 'a full file system under a sparse file (ENOSPC)',
    arrange: async (on) => {
      const { source } = await images(on)
      const image = await on.sparseFile(`fs-${made}.img`, SIZE)
      await run('mkfs.ext4', '-q', '-m', '0', image)
      const directory = await on.mount(`mounted-${made++}`, image, '-o', 'loop')
      const filler = join(directory, 'filler')
      const destination = join(directory, 'to.img')
      await run('truncate', '--size', String(SIZE), destination)
      await run('fallocate', '--length', String(6 * MIB), filler)
      // a file of this size never fits: what is made equal then is what does
      const heal = async (): Promise<void> => {
        await rm(filler)
        await truncate(source, 8 * MIB)
        await truncate(destination, 8 * MIB)
      }
      return { source, destination, look: destination, heal }
    },
    status: 6,
    code: 'destination/no-space',
    says: /no room for the destination .* at byte \d+: no space left \(ENOSPC\)/,
  },
  {
    name: 'a full file system under a thin device (ENOSPC)',
    arrange: async (on) => {
      const { source } = await images(on)
      const directory = await on.mount(`thin-${made}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=6M')
      const backing = join(directory, 'backing')
      await run('truncate', '--size', String(SIZE), backing)
      const device = await on.loopDevice(backing)
      const heal = (): Promise<unknown> => run('mount', '-o', 'remount,size=64M', directory)
      made += 1
      return { source, destination: device, look: device, heal }
    },
    status: 6,
    code: 'destination/no-space',
    says: /no room for the destination/,
  },
  {
    name: 'ulimit -f (EFBIG)',
    arrange: async (on) => ({
      ...(await images(on)),
      under: ['bash', '-c', `ulimit -f ${(8 * MIB) / 1024}; exec "$@"`, 'limited'],
      look: on.path(`to-${made - 1}.img`),
      heal: () => Promise.resolve(),
    }),
    status: 6,
    code: 'destination/no-space',
    says: /at byte \d+: longer than the file system \(or ulimit -f\) allows \(EFBIG\)/,
  },
  {
    name: 'a device that becomes read-only',
    arrange: async (on) => {
      const { source, destination: backing } = await images(on)
      const device = await on.loopDevice(backing)
      // it would stay so for whoever gets this loop device next
      on.onClose(() => run('blockdev', '--setrw', device))
      return {
        source,
        destination: device,
        look: backing,
        words: ['--yes'],
        strike: () => run('blockdev', '--setro', device),
        heal: () => run('blockdev', '--setrw', device),
      }
    },
    status: 6,
    code: 'destination/write',
    says: /cannot write the destination/,
  },
  {
    name: 'a file that is removed',
    arrange: async (on) => {
      const { source, destination } = await images(on)
      return {
        source,
        destination,
        look: destination,
        words: ['--create'],
        strike: () => rm(destination),
        heal: () => Promise.resolve(),
        isHidden: true,
      }
    },
    status: 6,
    code: 'destination/write',
    says: /was removed during the run; what was written is gone with it\n.*--create/,
  },
  {
    name: 'a loop device that is detached: the kernel keeps it until it is closed',
    arrange: async (on) => {
      const { source, destination: backing } = await images(on)
      // detached below, and from then on somebody else's
      const device = (await run('losetup', '--find', '--show', backing)).trim()
      return {
        source,
        destination: device,
        look: backing,
        strike: () => run('losetup', '--detach', device),
        heal: () => Promise.resolve(),
        again: () => on.loopDevice(backing),
      }
    },
    status: 0,
    code: null,
    says: /^$/,
  },
  {
    name: 'a source device that becomes shorter',
    arrange: async (on) => {
      const { source: backing, destination } = await images(on, LONG)
      const device = await on.loopDevice(backing)
      const { shrink, heal } = await shrinking(backing)
      return {
        source: device,
        destination,
        look: destination,
        strike: async () => {
          await shrink()
          await run('losetup', '--set-capacity', device)
        },
        heal: async () => {
          await heal()
          await run('losetup', '--set-capacity', device)
        },
      }
    },
    status: 5,
    code: 'source/shrank',
    says: /source shorter than announced/,
  },
  {
    name: 'a source file that is truncated',
    arrange: async (on) => {
      const { source, destination } = await images(on, LONG)
      const { shrink, heal } = await shrinking(source)
      return { source, destination, look: destination, strike: shrink, heal }
    },
    status: 5,
    code: 'source/shrank',
    says: /source shorter than announced/,
  },
]

/** Every leaf is of one of the two. Resolves with how many bytes from the start are the new ones. */
function checkMixture(now: Buffer, old: Buffer, wanted: Buffer): number {
  let newBytes = -1
  for (let at = 0; at < now.length; at += LEAF_BYTES) {
    const leaf = now.subarray(at, at + LEAF_BYTES)
    const isNew = leaf.equals(wanted.subarray(at, at + leaf.length))
    if (!isNew && newBytes === -1) newBytes = at
    if (!isNew && !leaf.equals(old.subarray(at, at + leaf.length)))
      throw new Error(`byte ${at} is neither what it was nor what it was to be`)
  }
  return newBytes === -1 ? now.length : newBytes
}

/** The last `doneBytes` that a progress event told: what the destination had acknowledged. */
function acknowledgedBytes(stdout: string): number {
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; doneBytes?: number })
  return events.findLast(({ event }) => event === 'progress')?.doneBytes ?? 0
}

async function check({ arrange, status, code, says }: Row, on: Scratch): Promise<void> {
  const faulty = await arrange(on)
  const { source, destination, look, words = [], under = [], strike, heal, again: renamed, isHidden } = faulty
  const wanted = readFileSync(source)
  const old = readFileSync(look)
  const line = strike === undefined ? null : await relay(on, { on: 'up:data:3', act: 'hold' })
  const to = line === null ? destination : `far:${destination}`
  const running = startCli(on, ['--json', source, to, ...words, ...(line?.words ?? [])], { under })
  if (line !== null) {
    await line.reached()
    await strike?.()
    line.letGo()
  }
  const ended = await running.ended
  expect({ status: ended.status, stderr: ended.stderr }).toEqual({
    status,
    stderr: expect.stringMatching(says) as string,
  })
  const result = resultOf(ended)
  expect(result.error?.code ?? null).toBe(code)
  expect(result.ok).toBe(code === null)
  if (code !== null) expect(result.state).toBe('partial')
  if (isHidden !== true) {
    const newBytes = checkMixture(readFileSync(look), old, wanted)
    expect(newBytes).toBeGreaterThanOrEqual(code === null ? SIZE : acknowledgedBytes(ended.stdout))
  }
  await heal()
  const second = (await renamed?.()) ?? destination
  const again = await runCli(on, ['--json', source, second, ...words])
  expect({
    status: again.status,
    stderr: again.stderr.replaceAll(/^blocksync: warning: .*\n/gm, ''),
  }).toEqual({
    status: 0,
    stderr: '',
  })
  expect(readFileSync(look).equals(readFileSync(source))).toBe(true)
}

describe('a disk that fails in the middle', needs('loop', 'mount', 'mkfs.ext4'), () => {
  it.each(ROWS)('$name: $status $code', async (row) => check(row, scratch()))
})

describe('--rescue', needs('loop'), () => {
  it.each([
    ['push', 'far:', ''],
    ['pull', '', 'far:'],
  ] as const)(
    '%s: the rest is copied, the map tells what is not, and the next run has it all',
    async (_name, to, from) => {
      const on = scratch()
      const { source: backing, destination } = await images(on)
      const device = await on.loopDevice(backing)
      const [wanted, old] = [readFileSync(backing), readFileSync(destination)]
      const { heal } = await shrinking(backing)
      const lostFrom = 7 * MIB + 5 * LEAF_BYTES
      // a part of the leaf is there still, and is lost with the rest of it
      const badFrom = lostFrom + 3 * 512
      await truncate(backing, badFrom)
      const map = on.path(`map-${made++}`)
      const { words } = await relay(on, null)
      const rescue = [`${from}${device}`, `${to}${destination}`, ...words, '--rescue', map]
      const lost = { offset: lostFrom, length: SIZE - lostFrom }

      const stopped = await runCli(on, ['--json', `${from}${device}`, `${to}${destination}`, ...words])
      expect([stopped.status, resultOf(stopped).error?.code]).toEqual([5, 'source/read'])
      expect(stopped.stderr).toContain(`at byte ${badFrom}: input/output error`)

      const compared = await runCli(on, ['--json', '-n', ...rescue])
      expect([compared.status, resultOf(compared)]).toMatchObject([
        11,
        { ok: false, state: 'done', unreadable: { bytes: lost.length, ranges: [lost], mapfile: map } },
      ])

      const rescued = await runCli(on, ['--json', ...rescue, '--receipt', on.path(`receipt-${made}`)])
      expect([rescued.status, resultOf(rescued)]).toMatchObject([
        11,
        {
          ok: false,
          state: 'done',
          error: { code: 'source/unreadable' },
          unreadable: { bytes: lost.length, ranges: [lost], mapfile: map },
        },
      ])
      expect(rescued.stderr).toContain(
        `${lost.length} bytes of the source ${from}${device} could not be read, in one place`,
      )
      expect(
        readFileSync(destination).equals(
          Buffer.concat([wanted.subarray(0, lostFrom), old.subarray(lostFrom)]),
        ),
      ).toBe(true)
      expect(parseMap(readFileSync(map, 'utf8'))).toEqual([
        { offset: 0, length: lostFrom, status: '+' },
        { ...lost, status: '-' },
      ])
      expect(() => readFileSync(on.path(`receipt-${made}`))).toThrow(/ENOENT/)

      await heal()
      const done = await runCli(on, ['--json', ...rescue])
      expect([done.status, resultOf(done)]).toMatchObject([
        0,
        { ok: true, unreadable: { bytes: 0, ranges: [] } },
      ])
      const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
      expect(digest(readFileSync(destination))).toBe(digest(wanted))
      expect(parseMap(readFileSync(map, 'utf8'))).toEqual([{ offset: 0, length: SIZE, status: '+' }])
    },
  )

  it('of several disks, with --verify=all, or over a file that is no map: nothing is opened', async () => {
    const on = scratch()
    const { source, destination } = await images(on, MIB)
    const letter = await on.file(`letter-${made++}`, randomBytes(100))
    const before = readFileSync(letter)
    const refused = [
      [
        '--disk',
        `${source}=${destination}`,
        '--disk',
        `${source}=${destination}.2`,
        '--rescue',
        on.path('m'),
      ],
      [source, destination, '--verify=all', '--rescue', on.path('m')],
      [source, destination, '--rescue', letter],
    ]
    for (const words of refused) {
      const { status, stderr } = await runCli(on, words)
      expect([status, stderr]).toEqual([2, expect.stringMatching(/--rescue.*nothing was opened/) as string])
    }
    expect(readFileSync(letter).equals(before)).toBe(true)
  })
})
