// What both ends remember of a pair, over the real program: the direction is held, content is not overwritten unasked, a run
// that was killed is known, and whatever becomes of the state directory, a run goes on and says so.

import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { MAIN_PATH, resultOf, runCli, startCli, synced } from '../support/cli.js'
import { randomBytes, run, type Scratch, useScratch } from '../support/disks.js'
import { directions, useFarSides, type Way, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'
import { IS_FULL } from '../support/selection.js'

const MIB = 1 << 20
/** Each look is a process of its own. */
const POLL = { timeout: 30_000, interval: 200 }

const scratch = useScratch()
const far = useFarSides()
let made = 0

type StatusPair = Readonly<{
  pairId: string
  source: string
  destination: string
  role: string
  state: string
  generation: number
  finished: { root: string } | null
  running: object | null
}>

/** A state directory, empty, and the words and environment that make both ends or the near one use it. */
async function stateDirectory(on: Scratch): Promise<string> {
  const path = on.path(`state-${made++}`)
  await mkdir(path, { mode: 0o700 })
  return path
}

async function image(on: Scratch, sizeBytes = 2 * MIB): Promise<string> {
  return await on.file(`disk-${made++}.img`, randomBytes(sizeBytes))
}

async function statusOf(on: Scratch, state: string, ...disks: readonly string[]): Promise<StatusPair[]> {
  const { stdout } = await runCli(on, ['status', '--json', '--state-dir', state, ...disks])
  return (JSON.parse(stdout) as { pairs: StatusPair[] }).pairs
}

/** Every file of the records. */
async function recordFiles(state: string): Promise<string[]> {
  const names = await readdir(join(state, 'disks'), { recursive: true })
  return names.filter((name) => name.endsWith('.json')).map((name) => join(state, 'disks', name))
}

describe.each(ways('local', 'openssh', 'ssh2'))('the record of a pair, over %s', (way: Way) => {
  const there = (path: string): string => far.path(way, path)

  // what differs between the two kinds of ssh ends before the first frame
  const all = IS_FULL || way !== 'ssh2'
  it.each(all ? directions(way) : ['push'])(
    '%s: is kept at both ends, and holds the direction',
    async (direction) => {
      const on = scratch()
      const state = await stateDirectory(on)
      const source = await image(on)
      const target = await image(on)
      const words = [...far.words(way), '--state-dir', state]
      const forth = direction === 'push' ? [source, there(target)] : [there(source), target]
      const back = direction === 'push' ? [there(target), source] : [target, there(source)]

      await synced(on, [...forth, ...words])
      const files = await recordFiles(state)
      expect(files).toHaveLength(2)
      const [a, b] = await Promise.all(
        files.map(async (path) => JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>),
      )
      expect(a?.['pairId']).toBe(b?.['pairId'])
      expect(new Set([a?.['role'], b?.['role']])).toEqual(new Set(['destination', 'source']))
      expect(a?.['finished']).toEqual(b?.['finished'])

      const second = await synced(on, [...forth, ...words])
      expect(second).toMatchObject({ disks: [{ pair: { pairId: a?.['pairId'], generation: 2 } }] })
      expect(await statusOf(on, state)).toMatchObject([
        {
          source,
          destination: target,
          state: 'finished',
          generation: 2,
          finished: { root: second.digest?.root },
        },
      ])

      // the other way round is refused, and the bytes are what they were; each end alone knows it too
      await writeFile(target, randomBytes(2 * MIB))
      const [before, kept] = [await readFile(source), await Promise.all(files.map((path) => readFile(path)))]
      for (const gone of [null, 0, 1]) {
        if (gone !== null) await rm(files[gone] ?? '')
        const refused = await runCli(on, [...back, ...words])
        expect(refused.status).toBe(3)
        expect(refused.stderr).toMatch(/was synced to .*nothing was written/)
        expect(refused.stderr).toContain('--force-direction')
        if (gone !== null) await writeFile(files[gone] ?? '', kept[gone] ?? '')
      }
      expect((await readFile(source)).equals(before)).toBe(true)
      const dry = await runCli(on, ['-n', ...back, ...words])
      expect(dry.status).toBe(1)
      expect(dry.stderr).toContain('a run that writes would be refused')
      const verified = await runCli(on, ['verify', ...back, ...words])
      expect([verified.status, verified.stderr]).toEqual([1, ''])

      // forced once, it is the new direction
      const forced = await synced(on, [...back, ...words, '--force-direction'])
      expect(forced).toMatchObject({ disks: [{ pair: { pairId: a?.['pairId'], generation: 3 } }] })
      expect((await readFile(source)).equals(await readFile(target))).toBe(true)
      expect((await runCli(on, [...forth, ...words])).status).toBe(3)
      expect((await runCli(on, [...back, ...words])).status).toBe(0)
      expect(await recordFiles(state)).toHaveLength(2)
    },
  )

  it.each(all ? ['near', 'far'] : ['far'])('knows a run whose %s end was killed', async (which) => {
    const on = scratch()
    const state = await stateDirectory(on)
    const source = await image(on, 8 * MIB)
    const target = await image(on, 8 * MIB)
    const words = [...far.words(way), '--state-dir', state]
    const slow = startCli(on, [source, there(target), ...words, '--bwlimit', '1M', '--streams', '1'], {
      ownGroup: 'own-group',
    })
    const mark = async (): Promise<StatusPair | undefined> => (await statusOf(on, state))[0]
    await expect.poll(mark, POLL).toMatchObject({ state: 'running', finished: null })
    const serves = way === 'local' ? await servesBelow(slow.pid) : far.servePids()
    expect(serves).toHaveLength(1)
    process.kill(which === 'near' ? slow.pid : (serves[0] ?? -1), 'SIGKILL')
    await slow.ended
    await expect.poll(mark, POLL).toMatchObject({ state: 'interrupted', generation: 0 })

    // the disk that is half new is no source of the other one
    const before = await readFile(source)
    const back = await runCli(on, [there(target), source, ...words])
    expect([back.status, back.stderr]).toEqual([3, expect.stringContaining('may be half old and half new')])
    expect((await readFile(source)).equals(before)).toBe(true)

    const again = await runCli(on, [source, there(target), ...words])
    expect([again.status, again.stderr]).toEqual([0, expect.stringMatching(/the last run .* did not finish/)])
    expect(await statusOf(on, state)).toMatchObject([{ state: 'finished', generation: 1, running: null }])
    expect((await runCli(on, [source, there(target), ...words])).stderr).toBe('')
  })

  it('is kept by each end in a directory of its own', async () => {
    const on = scratch()
    const near = await stateDirectory(on)
    const source = await image(on)
    const target = await image(on)
    const environment = { BLOCKSYNC_STATE_DIR: near }
    await synced(on, [source, there(target), ...far.words(way)], { environment })
    // a local far end gets the environment too
    expect(await recordFiles(near)).toHaveLength(way === 'local' ? 2 : 1)
    const { stdout } = await runCli(on, ['status', '--json', target], way === 'local' ? { environment } : {})
    expect(JSON.parse(stdout)).toMatchObject({ pairs: [{ role: 'destination', destination: target }] })
  })
})

/** Ids of the far processes that a run of ours started. */
async function servesBelow(pid: number): Promise<number[]> {
  const { servesOf } = await import('../support/far-sides.js')
  return servesOf(pid)
}

describe('a record that is of no use', () => {
  it('of a host with another machine id is explained, and replaced when the run is done', async () => {
    const on = scratch()
    const state = await stateDirectory(on)
    const [source, target] = [await image(on), await image(on)]
    await synced(on, [source, target, '--state-dir', state])
    for (const path of await recordFiles(state)) {
      const record = JSON.parse(await readFile(path, 'utf8')) as { peer: { stable: { machineId: string } } }
      record.peer.stable.machineId = 'f'.repeat(32)
      await writeFile(path, JSON.stringify(record))
    }
    const run1 = await runCli(on, [target, source, '--state-dir', state])
    expect([run1.status, run1.stderr]).toEqual([
      0,
      expect.stringMatching(/is of another disk and not used: .* has another machine id than then/),
    ])
    expect(await recordFiles(state)).toHaveLength(2)
    expect(await statusOf(on, state)).toMatchObject([{ source: target, destination: source, generation: 1 }])
  })

  it('that is broken is set aside and said', async () => {
    const on = scratch()
    const state = await stateDirectory(on)
    const [source, target] = [await image(on), await image(on)]
    await synced(on, [source, target, '--state-dir', state])
    const files = await recordFiles(state)
    for (const path of files) await writeFile(path, '{"version": 1')
    const after = await runCli(on, [source, target, '--state-dir', state])
    expect(after.status).toBe(0)
    for (const path of files) expect(after.stderr).toContain(`${path}.broken-1`)
    expect(await statusOf(on, state)).toMatchObject([{ generation: 1 }])
  })
})

describe('a state directory that cannot be used', () => {
  it.each(['is a file', 'is for others to write'])('and %s: a warning, and the run goes on', async (what) => {
    const on = scratch()
    const state = on.path(`state-${made++}`)
    if (what === 'is a file') await writeFile(state, '')
    else {
      await mkdir(state)
      await chmod(state, 0o777)
    }
    const [source, target] = [await image(on), await image(on)]
    const ended = await runCli(on, [source, target, '--json', '--state-dir', state])
    expect(ended.status).toBe(0)
    expect(ended.stderr).toMatch(/warning: .*the state directory .*no record of the pair is kept/)
    expect(resultOf(ended)).toMatchObject({ ok: true, disks: [{ pair: null }] })
    const status = await runCli(on, ['status', '--state-dir', state])
    expect([status.status, status.stderr]).toEqual([3, expect.stringContaining('nothing was read')])
  })

  it('since its file system is full: a warning, and the run goes on', needs('root'), async () => {
    const on = scratch()
    const small = await on.mount('small', 'tmpfs', '-t', 'tmpfs', '-o', 'size=64K,mode=0700')
    await writeFile(join(small, 'filler'), Buffer.alloc(1 << 20)).catch(() => undefined)
    const [source, target] = [await image(on), await image(on)]
    const ended = await runCli(on, [source, target, '--json', '--state-dir', small])
    expect([ended.status, ended.stderr]).toEqual([
      0,
      expect.stringMatching(/no pair record was written in .*ENOSPC/),
    ])
    expect(resultOf(ended)).toMatchObject({ ok: true, disks: [{ pair: null }] })
    expect((await readFile(source)).equals(await readFile(target))).toBe(true)
  })

  it('since it is read-only: a warning, and what is recorded still holds', needs('root'), async () => {
    const on = scratch()
    const directory = await on.mount('fixed', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M,mode=0700')
    const [source, target] = [await image(on), await image(on)]
    await synced(on, [source, target, '--state-dir', directory])
    await run('mount', '-o', 'remount,ro', directory)
    const ended = await runCli(on, [source, target, '--state-dir', directory])
    expect([ended.status, ended.stderr]).toEqual([0, expect.stringContaining('EROFS')])
    expect((await runCli(on, [target, source, '--state-dir', directory])).status).toBe(3)
    expect(await statusOf(on, directory)).toMatchObject([{ generation: 1 }])
  })
})

describe('content of the destination', () => {
  async function formatted(on: Scratch, label: string, sizeBytes = 4 * MIB): Promise<string> {
    const path = await on.sparseFile(`disk-${made++}.img`, sizeBytes)
    await run('mkfs.ext4', '-q', '-F', '-L', label, path)
    return path
  }

  it(
    'is not overwritten unasked on a first sync; each of the two options says that it may',
    needs('mkfs.ext4'),
    async () => {
      const on = scratch()
      for (const option of ['--yes', '--force-content']) {
        const words = ['--state-dir', await stateDirectory(on)]
        const source = await formatted(on, 'root')
        const target = await formatted(on, 'data')
        const before = await readFile(target)
        const refused = await runCli(on, [source, target, '--json', ...words])
        expect(refused.status).toBe(3)
        expect(resultOf(refused)).toMatchObject({
          ok: false,
          error: { code: 'guard/content', operand: target },
        })
        expect(refused.stderr).toMatch(
          /holds an ext4 file system "data" \(UUID [0-9a-f-]{36}\), which the source has not; nothing was written/,
        )
        expect(refused.stderr).toContain('type --yes, or --force-content')
        expect((await readFile(target)).equals(before)).toBe(true)
        // another guard's option does not override this one
        expect(
          (await runCli(on, [source, target, ...words, '--force-direction', '--force-mounted'])).status,
        ).toBe(3)
        const dry = await runCli(on, ['-n', source, target, ...words])
        expect([dry.status, dry.stderr]).toEqual([
          1,
          expect.stringContaining('a run that writes would be refused'),
        ])
        expect((await runCli(on, [source, target, ...words, option])).status).toBe(0)
        // a pair that is known is not asked about, whatever the destination holds by then
        await run('mkfs.ext4', '-q', '-F', '-L', 'other', target)
        const again = await runCli(on, [source, target, ...words])
        expect([again.status, again.stderr]).toEqual([0, ''])
      }
    },
  )

  it(
    'is told for all disks of a run in one message, and none of them is written',
    needs('mkfs.ext4'),
    async () => {
      const on = scratch()
      const blank = await on.sparseFile('blank.img', 4 * MIB)
      const sources = [await formatted(on, 'a'), await formatted(on, 'b'), await image(on, 4 * MIB)]
      const targets = [await formatted(on, 'one'), await formatted(on, 'two'), blank]
      const before = await Promise.all(targets.map((path) => readFile(path)))
      const disks = sources.flatMap((source, index) => ['--disk', `${source}=${targets[index]}`])
      const refused = await runCli(on, disks)
      expect(refused.status).toBe(3)
      expect(refused.stderr).toMatch(/holds an ext4 file system "one".*; .*holds an ext4 file system "two"/)
      expect(refused.stderr).not.toContain('blank.img')
      for (const [index, path] of targets.entries())
        expect((await readFile(path)).equals(before[index] ?? Buffer.of())).toBe(true)
    },
  )

  it(
    'is not asked about where the source has it too, or where there is none',
    needs('mkfs.ext4'),
    async () => {
      const on = scratch()
      const source = await formatted(on, 'root')
      const older = await on.file(`older-${made++}.img`, await readFile(source))
      await run('tune2fs', '-L', 'changed', source)
      const blank = await on.sparseFile(`blank-${made++}.img`, 4 * MIB)
      const created = on.path(`created-${made++}.img`)
      for (const words of [[older], [blank], [created, '--create']]) {
        const ended = await runCli(on, [source, ...words])
        expect([ended.status, ended.stderr]).toEqual([0, ''])
      }
    },
  )

  it.each([
    ['y', 0],
    ['n', 3],
    ['', 3],
  ])('is asked about on a terminal: %j', needs('mkfs.ext4', 'script'), async (answer, status) => {
    const on = scratch()
    const source = await formatted(on, 'root')
    const target = await formatted(on, 'data')
    const before = await readFile(target)
    const line = `${process.execPath} ${MAIN_PATH} ${source} ${target}`
    const child = on.start('script', '-qefc', line, '/dev/null')
    let said = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.includes('[y/N]') && child.stdin?.writable === true) child.stdin.end(`${answer}\n`)
    })
    const ended = await new Promise((resolve) => child.once('exit', resolve))
    expect([ended, said]).toEqual([status, expect.stringContaining(`Overwrite it with ${source}? [y/N]`)])
    expect((await readFile(target)).equals(status === 0 ? await readFile(source) : before)).toBe(true)
  })
})

describe('--state-dir', () => {
  it('has to be a plain word where it is also for the other host', async () => {
    const on = scratch()
    const odd = on.path('a b')
    const ended = await runCli(on, [await image(on), 'host2:/x', '--state-dir', odd])
    expect([ended.status, ended.stderr]).toEqual([2, expect.stringContaining('is no plain word there')])
    expect(existsSync(odd)).toBe(false)
    const here = await runCli(on, [await image(on), await image(on), '--state-dir', odd])
    expect([here.status, here.stderr]).toEqual([0, ''])
    expect(await statusOf(on, odd)).toHaveLength(1)
  })
})
