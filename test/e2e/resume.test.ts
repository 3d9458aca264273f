// Runs that are killed behind a checkpoint and gone on with: what is done is neither read nor sent again, and the disks are
// equal. And all that makes a checkpoint useless in between: each is noticed, said, and everything is compared.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { SECTION_BYTES } from '../../src/digest/root.js'
import { parseCheckpoint, sectionCount } from '../../src/state/resume-file.js'
import { type Ended, FIXTURES, REMOTE_COMMAND, resultOf, runCli } from '../support/cli.js'
import { compareFiles, randomBytes, run, useScratch } from '../support/disks.js'
import { type Direction, directions, servesOf, useFarSides, type Way, ways } from '../support/far-sides.js'
import { until } from '../support/processes.js'
import { selected } from '../support/selection.js'

const MIB = 1 << 20
const SECTIONS = 12
/** A little behind the last section: it ends in the middle of a leaf. */
const SIZE_BYTES = SECTIONS * SECTION_BYTES + 777
/** Of each section; the rest is a hole. */
const DATA_BYTES = 4 * MIB
/** A quarter of a second for each section: a run is far from its end when it has a checkpoint. */
const RATE = 16 * MIB
/** Sections that a look at a checkpoint may read. */
const MOST_LOOKED_AT = 8

type Result = ReturnType<typeof resultOf> & {
  digest: { algorithm: string; root: string; seed: string } | null
  resumedBytes: number
  verified: string
  disks: { readBytes: { source: number; destination: number } }[]
}
type Told = { event: 'note' | 'warning' | 'progress' | 'report'; value: unknown }

const scratch = useScratch()
const far = useFarSides()
let made = 0
let source = ''
let state = ''

beforeAll(async () => {
  const on = scratch()
  state = process.env['BLOCKSYNC_STATE_DIR'] ?? ''
  const pieces = Array.from({ length: SECTIONS }, (_, index) => ({
    offset: index * SECTION_BYTES,
    data: randomBytes(DATA_BYTES),
  }))
  source = await on.sparseFile('source.img', SIZE_BYTES, pieces)
})

beforeEach(() => {
  for (const path of checkpoints()) rmSync(path)
})

async function blank(): Promise<string> {
  return await scratch().sparseFile(`target-${made++}.img`, SIZE_BYTES)
}

/** The checkpoints that are kept now. */
function checkpoints(): string[] {
  const directory = join(state, 'resume')
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => name.endsWith('.checkpoint'))
    .map((name) => join(directory, name))
}

function sectionsDone(path: string): number {
  return sectionCount(parseCheckpoint(readFileSync(path)).done)
}

/** A run with checkpoints far closer to each other than usual, until one of them has `sections`; then `end` is called. */
async function interrupted(
  from: string,
  to: string,
  end: (pid: number) => void,
  { way = 'local', direction = 'push', sections = 2, known, ...options }: Partial<InterruptedOptions> = {},
): Promise<{ told: Told[]; checkpoint: string }> {
  const before = new Set(checkpoints())
  const knownBytes = known === undefined ? null : await readFile(known)
  const remote = { kind: 'remote', typed: 'far', host: 'far', user: null, port: null }
  const there = way === 'local' ? { kind: 'local' } : remote
  const here = { kind: 'local' }
  const pair = {
    source: { at: direction === 'push' ? here : there, path: from, typed: from },
    destination: { at: direction === 'push' ? there : here, path: to, typed: to },
  }
  const transport = {
    ssh: way === 'local' ? 'auto' : way,
    rsh: null,
    port: null,
    identities: [],
    configFile: way === 'local' ? null : far.sshd().clientConfigPath,
    sudo: 'never',
    remoteCommand: REMOTE_COMMAND,
    serveArguments: [],
    lane: 'first',
  }
  const request = {
    pairs: [pair],
    options: {
      checkpointEveryMs: 100,
      bwlimit: [{ minuteOfWeek: 0, bytesPerSecond: RATE }],
      transport,
      ...options,
    },
  }
  const child = spawn(process.execPath, [join(FIXTURES, 'library-run.js'), JSON.stringify(request)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 30_000,
    killSignal: 'SIGKILL',
  })
  const ended = once(child, 'close')
  scratch().onClose(async () => {
    child.kill('SIGKILL')
    await ended
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  let checkpoint = ''
  await until(
    () => {
      checkpoint = known ?? checkpoints().find((path) => !before.has(path)) ?? ''
      if (!existsSync(checkpoint) || knownBytes?.equals(readFileSync(checkpoint)) === true) return false
      return sectionsDone(checkpoint) >= sections
    },
    `a checkpoint of ${sections} sections`,
    20_000,
  )
  end(child.pid ?? -1)
  await ended
  const lines = text.split('\n').filter((line) => line.endsWith('}'))
  return { told: lines.map((line) => JSON.parse(line) as Told), checkpoint }
}

type InterruptedOptions = Readonly<{
  resume: 'yes'
  /** A checkpoint that is there already, and is to grow. */
  known: string
  way: Way
  direction: Direction
  sections: number
  streams: number
  undo: { keep: 'one'; directory: null; maxBytes: null }
  verify: 'written'
}>

const killed = (pid: number): void => void process.kill(pid, 'SIGKILL')

async function again(words: readonly string[], from: string, to: string): Promise<Ended> {
  // what is left of the run before may still hold the disk for a moment
  return await runCli(scratch(), ['--json', '--no-progress', '--lock-wait', '20', ...words, from, to])
}

function done(ended: Ended): Result {
  if (ended.status !== 0) throw new Error(`${ended.stdout}${ended.stderr}`)
  return resultOf(ended) as Result
}

/** Everything was compared, and the disks are equal. */
async function expectWhole(ended: Ended, to: string, words: RegExp, from = source): Promise<void> {
  const result = done(ended)
  expect(ended.stderr).toMatch(words)
  expect(result.resumedBytes).toBe(0)
  await compareFiles(from, to)
  expect(checkpoints()).toEqual([])
}

async function overwrite(path: string, offset: number, length: number): Promise<void> {
  await using file = await open(path, 'r+')
  await file.write(randomBytes(length), 0, length, offset)
}

/** The root that the whole of a disk has, with the parameters of a result. */
async function rootOf(path: string, { digest }: Result): Promise<string> {
  if (digest === null) throw new Error('no digest')
  const { algorithm, seed } = digest
  const ended = await runCli(scratch(), ['digest', '--json', '--digest', algorithm, '--seed', seed, path])
  return (JSON.parse(ended.stdout) as { digest: { root: string } }).digest.root
}

const ROWS = ways('local', 'openssh').flatMap((way: Way) =>
  directions(way).map((direction) => [way, direction] as const),
)

/** The longest way stands for all. */
const FARTHEST = selected(ROWS, (row) => row === ROWS.at(-1))

describe.each(ROWS)('a run %s, %s, that is killed', (way, direction) => {
  const [from, to] = [
    (path: string) => (direction === 'pull' ? far.path(way, path) : path),
    (path: string) => (direction === 'push' ? far.path(way, path) : path),
  ]

  it('at this end is gone on with: nothing of what was done is read or sent again', async () => {
    const target = await blank()
    const { checkpoint } = await interrupted(source, target, killed, { way, direction })
    const count = sectionsDone(checkpoint)
    const ended = await again([...far.words(way), '--resume'], from(source), to(target))
    const result = done(ended)
    await compareFiles(source, target)
    expect(ended.stderr).toContain(`goes on from the checkpoint of `)
    expect(result.resumedBytes).toBe(count * SECTION_BYTES)
    expect(result.skippedBlocks).toBeGreaterThanOrEqual(count * 64)
    expect(result.sentBytes).toBeLessThanOrEqual((SECTIONS - count) * DATA_BYTES)
    const most = (SECTIONS - count) * DATA_BYTES + Math.min(count, MOST_LOOKED_AT) * DATA_BYTES + MIB
    expect(result.disks[0]?.readBytes.source).toBeLessThanOrEqual(most)
    const { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, totalBlocks } = result
    expect(sameBlocks + differentBlocks + zeroBlocks + skippedBlocks).toBe(totalBlocks)
    expect(result.digest?.root).toBe(await rootOf(target, result))
    expect(checkpoints()).toEqual([])
  })

  it('with several connections is gone on with by several', async () => {
    const target = await blank()
    const lanes = { way, direction, streams: 3, sections: 3 }
    const { checkpoint } = await interrupted(source, target, killed, lanes)
    const count = sectionsDone(checkpoint)
    const ended = await again([...far.words(way), '--streams', '3', '--resume'], from(source), to(target))
    const result = done(ended)
    await compareFiles(source, target)
    expect(result.resumedBytes).toBeGreaterThanOrEqual((count - 1) * SECTION_BYTES)
    expect(result.digest?.root).toBe(await rootOf(target, result))
  })
})

describe('a run', () => {
  it('whose far end is killed keeps all that was done; killed once more, it goes on from there', async () => {
    const target = await blank()
    const farKilled = (pid: number): void => servesOf(pid).forEach(killed)
    const { told, checkpoint } = await interrupted(source, target, farKilled)
    expect(told.at(-1)).toMatchObject({ event: 'report', value: { error: { code: 'session/lost' } } })
    const first = sectionsDone(checkpoint)
    const { runId } = parseCheckpoint(readFileSync(checkpoint))
    const more = { resume: 'yes', known: checkpoint, sections: first + 1 } as const
    const second = await interrupted(source, target, killed, more)
    expect(told.find(({ event }) => event === 'note')?.value).toContain('a checkpoint is kept')
    expect(second.told.find(({ event }) => event === 'note')?.value).toContain('goes on from the checkpoint')
    // progress begins with what was done
    const progress = second.told.find(({ event }) => event === 'progress')?.value
    expect(progress).toBe(first * SECTION_BYTES)
    // the mark at the destination is that of the first run, and stays true
    expect(parseCheckpoint(readFileSync(checkpoint)).runId).toBe(runId)
    const count = sectionsDone(checkpoint)
    const result = done(await again(['--resume'], source, target))
    expect(result.resumedBytes).toBe(count * SECTION_BYTES)
    await compareFiles(source, target)
    expect(checkpoints()).toEqual([])
  })

  it('is gone on with where what it wrote had been read back, and all of it is verified in the end', async () => {
    const target = await blank()
    await interrupted(source, target, killed, { verify: 'written' })
    const result = done(await again(['--resume', '--verify=written'], source, target))
    expect([result.verified, result.resumedBytes > 0]).toEqual(['written', true])
    const other = await blank()
    await interrupted(source, other, killed)
    const all = done(await again(['--resume', '--verify=all'], source, other))
    expect([all.verified, all.resumedBytes > 0]).toEqual(['all', true])
    await compareFiles(source, other)
  })

  it('with an undo journal is gone on with, and both are taken back together', async () => {
    const target = await blank()
    const undo = { keep: 'one', directory: null, maxBytes: null } as const
    await interrupted(source, target, killed, { undo })
    const result = done(await again(['--resume', '--undo'], source, target))
    expect(result.resumedBytes).toBeGreaterThan(0)
    await compareFiles(source, target)
    expect(await runCli(scratch(), ['undo', '--yes', target])).toMatchObject({ status: 0 })
    await compareFiles(await blank(), target)
  })

  it('that is short makes no checkpoint', async () => {
    const target = await blank()
    const before = checkpoints()
    done(await again([], source, target))
    expect(checkpoints()).toEqual(before)
  })

  it('without an earlier one says so and compares everything', async () => {
    const target = await blank()
    await expectWhole(
      await again(['--resume'], source, target),
      target,
      /--resume: there is no checkpoint of a run/,
    )
  })

  it('is asked for in a run that writes, without bad sectors, with a state directory', async () => {
    const target = await blank()
    const map = scratch().path('map')
    for (const words of [['-n'], ['--rescue', map]])
      expect(await again(['--resume', ...words], source, target)).toMatchObject({ status: 2 })
    const unusable = await again(['--resume', '--state-dir', '/proc/no'], source, target)
    expect(resultOf(unusable)).toMatchObject({ error: { code: 'state/unusable' } })
  })
})

describe('a checkpoint is not used', () => {
  it('where nobody says that the source has not changed', async () => {
    const target = await blank()
    await interrupted(source, target, killed)
    await expectWhole(
      await again([], source, target),
      target,
      /is given up, and all of .* is compared; --resume/,
    )
    const other = await blank()
    await interrupted(source, other, killed)
    const ended = await again(['--no-resume'], source, other)
    expect(ended.stderr).not.toContain('checkpoint')
    await expectWhole(ended, other, /did not finish/)
  })

  it('where the source was written to since', async () => {
    const target = await blank()
    const copy = scratch().path('copy.img')
    await run('cp', '--sparse=auto', source, copy)
    await interrupted(copy, target, killed)
    await overwrite(copy, 20 * MIB, 5000)
    const words = /is not used: the source has changed since; all of .* is compared/
    await expectWhole(await again(['--resume'], copy, target), target, words, copy)
  })

  it('where the destination is not as it says', async () => {
    const target = await blank()
    await interrupted(source, target, killed)
    // where a file system has its superblock
    await overwrite(target, 1024, 8)
    const words = /is not used: what it says of byte 0 to \d+ is not so any more; all of/
    await expectWhole(await again(['--resume'], source, target), target, words)
  })

  it('where the destination is another file of that name', async () => {
    const target = await blank()
    await interrupted(source, target, killed)
    const copy = `${target}.copy`
    await run('cp', '--sparse=auto', target, copy)
    await run('mv', copy, target)
    const words = /is not used: the destination has changed since/
    await expectWhole(await again(['--resume'], source, target), target, words)
  })

  it('where a run of the pair, or of another one, wrote to the destination since', async () => {
    const target = await blank()
    const { checkpoint } = await interrupted(source, target, killed)
    const kept = await readFile(checkpoint)
    await interrupted(source, target, killed, { known: checkpoint, sections: 1 })
    // as if the state directory of this end were that of another host
    await writeFile(checkpoint, kept)
    const words = /is not used: another run wrote to the destination since/
    await expectWhole(await again(['--resume'], source, target), target, words)

    const other = await blank()
    await interrupted(source, other, killed)
    const small = await scratch().randomFile(`small-${made++}.img`, 3 * MIB)
    done(await again(['--size', 'grow', '--yes'], small, other))
    const overtaken = /is not used: somebody else wrote to the destination since/
    await expectWhole(await again(['--resume'], source, other), other, overtaken)
  })

  it('where the run was undone', async () => {
    const target = await blank()
    await interrupted(source, target, killed, { undo: { keep: 'one', directory: null, maxBytes: null } })
    expect(await runCli(scratch(), ['undo', '--yes', target])).toMatchObject({ status: 0 })
    const ended = await again(['--resume'], source, target)
    const result = done(ended)
    expect(result.resumedBytes).toBe(0)
    await compareFiles(source, target)
    // the record of that run is gone, and with it the id of the pair
    expect(ended.stderr).toContain('--resume: there is no checkpoint of a run')
  })

  it('where it is broken: it is set aside', async () => {
    const target = await blank()
    const { checkpoint } = await interrupted(source, target, killed)
    const bytes = await readFile(checkpoint)
    bytes[200] = (bytes[200] ?? 0) ^ 1
    await writeFile(checkpoint, bytes)
    const words =
      /the checkpoint .* is broken and not used \(its checksum does not fit\); it is .*broken-1 now/
    await expectWhole(await again(['--resume'], source, target), target, words)
  })

  it.each([
    [['--block-size', '2M'], /is not used: the run had another --block-size or --granularity/],
    [['--digest', 'sha256'], /is not used: the run had the digest xxh/],
    [['--verify=written'], /is not used: what the run wrote was not read back/],
  ])('in a run with %j', async (words, why) => {
    const target = await blank()
    await interrupted(source, target, killed)
    await expectWhole(await again(['--resume', ...words], source, target), target, why)
  })
})

describe('a run that is cut again and again', () => {
  it.each(FARTHEST)('%s, %s, is one run in all that it reports', async (way, direction) => {
    const target = await blank()
    const undo = { keep: 'one', directory: null, maxBytes: null } as const
    let isOver = false
    const over = (): void => void (isOver = true)
    // not ended by us
    const options = { way, direction, streams: 2, undo, verify: 'written', sections: 3 } as const
    const { told } = await interrupted(source, target, over, options)
    expect(isOver).toBe(true)
    type Disk = Result & { verifiedBytes: number; undo: { bytes: number } }
    const report = told.at(-1)?.value as { disks: [Disk]; error: unknown } | undefined
    if (report === undefined) throw new Error('no report')
    expect(report.error).toBeNull()
    const [disk] = report.disks
    await compareFiles(source, target)
    expect(disk.digest?.root).toBe(await rootOf(target, disk))
    expect(disk.sentBytes).toBe(SECTIONS * DATA_BYTES)
    expect(disk.verifiedBytes).toBeGreaterThanOrEqual(SECTIONS * DATA_BYTES)
    expect(disk.undo.bytes).toBeGreaterThan(0)
    expect(disk.differentBlocks).toBe((SECTIONS * DATA_BYTES) / MIB)
    expect(checkpoints()).toEqual([])
    expect(await runCli(scratch(), ['undo', '--yes', target])).toMatchObject({ status: 0 })
    await compareFiles(await blank(), target)
  })
})
