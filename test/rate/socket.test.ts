// The control socket of a run for real, in directories of the test: asked, changed, crowded, lied to, left over, taken away.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, lstat, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { askRun, findRuns } from '../../src/rate/client.js'
import { MAX_LINE_BYTES, parseReply, parseRequest } from '../../src/rate/message.js'
import { controlDirectories, ownWhereabouts } from '../../src/rate/place.js'
import type { Whereabouts } from '../../src/rate/place.js'
import { openControl } from '../../src/rate/socket.js'
import type { RunControl } from '../../src/rate/socket.js'
import { RateControl } from '../../src/rate/control.js'
import { constantRate } from '../../src/rate/schedule.js'
import { Throttle } from '../../src/rate/throttle.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const scratch = useScratch()
const UID = process.getuid?.() ?? -1
const DISKS = [{ source: '/dev/a', destination: 'host2:/dev/a' }]
let places = 0

/** Directories of its own for each test. */
async function place(): Promise<Whereabouts & { directory: string; second: string }> {
  const at = (name: string): string => scratch().path(`${name}-${places}`)
  const [runtimeDirectory, systemDirectory, temporaryDirectory] = [
    at('runtime'),
    at('system'),
    at('temporary'),
  ]
  places += 1
  for (const directory of [runtimeDirectory, systemDirectory, temporaryDirectory])
    await mkdir(directory, { mode: 0o700 })
  const [directory, second] = [join(runtimeDirectory, 'blocksync'), join(systemDirectory, 'blocksync')]
  return { uid: UID, runtimeDirectory, systemDirectory, temporaryDirectory, directory, second }
}

function limited(bytesPerSecond: number | null = 1000): RateControl {
  const schedule = bytesPerSecond === null ? null : constantRate(bytesPerSecond)
  return new RateControl(schedule, new Throttle(null))
}

const opened = (where: Whereabouts, rate: RateControl, pid = process.pid): Promise<RunControl> =>
  openControl({ disks: DISKS, pid }, rate, where)

function pathOf({ path, why }: RunControl): string {
  if (path === null) throw new Error(why)
  return path
}

/** What comes back for bytes that a client would not send. */
async function raw(path: string, text: string | Buffer): Promise<string> {
  const socket = createConnection(path)
  let answer = ''
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString()))
  // it may be cut off while it still sends
  socket.on('error', () => undefined)
  socket.write(text)
  await once(socket, 'close')
  return answer
}

describe('a run that goes on', () => {
  it('is found, shown and changed; its socket is ours alone and gone afterwards', async () => {
    const where = await place()
    using rate = limited()
    const control = await opened(where, rate)
    const path = pathOf(control)
    expect(path).toBe(join(where.directory, `${process.pid}.sock`))
    expect((await lstat(where.directory)).mode & 0o777).toBe(0o700)
    expect((await lstat(path)).mode & 0o777).toBe(0o600)

    const [run, ...others] = await findRuns(where)
    expect(others).toEqual([])
    const status = {
      pid: process.pid,
      disks: DISKS,
      diskCount: 1,
      schedule: constantRate(1000),
      bytesPerSecond: 1000,
    }
    expect(run).toEqual({ pid: process.pid, path, status })
    if (run === undefined) throw new Error('no run')
    const changed = await askRun(run, { command: 'bwlimit', schedule: constantRate(5) })
    expect([changed.bytesPerSecond, rate.bytesPerSecond]).toEqual([5, 5])
    expect((await askRun(run, { command: 'bwlimit', schedule: null })).schedule).toBe(null)
    expect(rate.schedule).toBe(null)

    await control[Symbol.asyncDispose]()
    expect(await readdir(where.directory)).toEqual([])
    expect(await findRuns(where)).toEqual([])
    await expect(askRun(run, { command: 'show' })).rejects.toMatchObject({ code: 'connect/failed' })
  })

  it('shows the first of many disks, and answers several at once', async () => {
    const where = await place()
    using rate = limited(null)
    const disks = Array.from({ length: 200 }, (_, index) => ({
      source: `/${index}/${'\u0007'.repeat(4000)}`,
      destination: 'h:',
    }))
    await using control = await openControl({ disks, pid: process.pid }, rate, where)
    const found = { pid: process.pid, path: pathOf(control) }
    const answers = await Promise.all(Array.from({ length: 8 }, () => askRun(found, { command: 'show' })))
    for (const { disks: shown, diskCount } of answers) expect([shown.length, diskCount]).toEqual([4, 200])
  })

  it('refuses what is no request, and changes nothing for it', async () => {
    const where = await place()
    using rate = limited()
    await using control = await opened(where, rate)
    const lines = [
      '\n',
      'bwlimit 5\n',
      '[]\n',
      '{"command":"stop"}\n',
      '{"command":"bwlimit"}\n',
      '{"command":"bwlimit","schedule":[]}\n',
      '{"command":"bwlimit","schedule":[{"minuteOfWeek":0,"bytesPerSecond":0}]}\n',
      '{"command":"bwlimit","schedule":5}\n',
      Buffer.alloc(MAX_LINE_BYTES + 1, 0x20),
    ]
    for (const line of lines)
      expect(JSON.parse((await raw(pathOf(control), line)) || 'null')).toMatchObject({ ok: false })
    expect(rate.bytesPerSecond).toBe(1000)
  })

  it('ends though somebody is connected and says nothing', async () => {
    const where = await place()
    using rate = limited()
    const control = await opened(where, rate)
    const socket = createConnection(pathOf(control))
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    await control[Symbol.asyncDispose]()
    socket.destroy()
    expect(await readdir(where.directory)).toEqual([])
  })
})

describe('where the socket cannot be', () => {
  it.each<[string, (directory: string, elsewhere: string) => Promise<unknown>]>([
    ['a file', (directory) => writeFile(directory, '')],
    ['a symbolic link', (directory, elsewhere) => symlink(elsewhere, directory)],
  ])('%s in its place is refused, and the next directory taken', async (_name, obstruct) => {
    const where = await place()
    const elsewhere = scratch().path(`elsewhere-${places}`)
    await mkdir(elsewhere, { mode: 0o700 })
    await obstruct(where.directory, elsewhere)
    using rate = limited()
    await using control = await opened(where, rate)
    expect(pathOf(control).startsWith(where.second)).toBe(true)
    expect(await readdir(elsewhere)).toEqual([])
    expect(await findRuns({ ...where, systemDirectory: '/nowhere' })).toEqual([])
  })

  it('is said, each directory with its reason, and the run goes on', async () => {
    const where = await place()
    const nowhere = {
      ...where,
      uid: 4_000_000_000,
      systemDirectory: '/nowhere',
      temporaryDirectory: '/nowhere/tmp',
    }
    using rate = limited()
    await using control = await opened(nowhere, rate)
    expect(control.path).toBe(null)
    expect(control.why).toMatch(/runtime-.* belongs to somebody else; .*'\/nowhere'; .*\/nowhere\/tmp/)
    expect(await findRuns(nowhere)).toEqual([])
  })

  it('a directory of somebody else is refused', needs('root'), async () => {
    const where = await place()
    await mkdir(where.directory)
    await chown(where.directory, 12345, 12345)
    using rate = limited()
    await using control = await opened(where, rate)
    expect(pathOf(control).startsWith(where.second)).toBe(true)
    expect(await readdir(where.directory)).toEqual([])
  })

  it('a path that is too long for a socket is passed over', async () => {
    const where = await place()
    const runtimeDirectory = scratch().path('x'.repeat(100))
    await mkdir(runtimeDirectory)
    using rate = limited()
    await using control = await opened({ ...where, runtimeDirectory }, rate)
    expect(pathOf(control).startsWith(where.second)).toBe(true)
  })

  it('a directory of ours that is open to others is closed', async () => {
    const where = await place()
    await mkdir(where.directory)
    await chmod(where.directory, 0o777)
    using rate = limited()
    await using control = await opened(where, rate)
    expect(pathOf(control).startsWith(where.directory)).toBe(true)
    expect((await lstat(where.directory)).mode & 0o777).toBe(0o700)
  })
})

describe('what dead runs left', () => {
  /** The socket of a process that is gone, and its pid. */
  async function leftOver(directory: string): Promise<{ pid: number; path: string }> {
    const script = `const net = require('node:net'); const path = require('node:path')
      net.createServer().listen(path.join(process.argv[1], process.pid + '.sock'), () => process.kill(process.pid, 'SIGKILL'))`
    const child = spawn(process.execPath, ['-e', script, directory], { stdio: 'ignore', timeout: 10_000 })
    await once(child, 'exit')
    const pid = child.pid ?? -1
    return { pid, path: join(directory, `${pid}.sock`) }
  }

  it('is taken away by who looks for runs, and by the next run', async () => {
    const where = await place()
    await mkdir(where.directory, { mode: 0o700 })
    const first = await leftOver(where.directory)
    expect(await readdir(where.directory)).toEqual([`${first.pid}.sock`])
    expect(await findRuns(where)).toEqual([])
    expect(await readdir(where.directory)).toEqual([])

    await leftOver(where.directory)
    using rate = limited()
    await using control = await opened(where, rate)
    expect(await readdir(where.directory)).toEqual([`${process.pid}.sock`])
    expect(control.why).toBe(null)
  })

  it('is replaced where it has our pid, but not where somebody answers', async () => {
    const where = await place()
    await mkdir(where.directory, { mode: 0o700 })
    const { pid, path } = await leftOver(where.directory)
    using rate = limited()
    const control = await opened(where, rate, pid)
    expect(pathOf(control)).toBe(path)
    const second = await opened(where, rate, pid)
    expect(second.path).not.toBe(path)
    await second[Symbol.asyncDispose]()
    expect(await readdir(where.directory)).toEqual([`${pid}.sock`])
    await control[Symbol.asyncDispose]()
  })

  it('stays where it is of a process that lives, or no socket of a run', async () => {
    const where = await place()
    await mkdir(where.directory, { mode: 0o700 })
    await writeFile(join(where.directory, 'notes'), '')
    await writeFile(join(where.directory, `${process.pid}.sock`), '')
    const runs = await findRuns(where)
    expect(runs).toEqual([])
    expect(await readdir(where.directory)).toHaveLength(2)
  })

  it('a run that takes no notice is shown as that', async () => {
    const where = await place()
    await mkdir(where.directory, { mode: 0o700 })
    const path = join(where.directory, `${process.pid}.sock`)
    const server = createServer((socket) => socket.resume().end('hello\n')).listen(path)
    await once(server, 'listening')
    try {
      const [run] = await findRuns(where)
      expect(run).toMatchObject({
        pid: process.pid,
        status: null,
        why: expect.stringMatching(/does not answer as a run/) as unknown,
      })
    } finally {
      server.close()
      await once(server, 'close')
    }
  })
})

describe('a process with a control socket', () => {
  const MODULES = join(import.meta.dirname, '..', '..', 'dist', 'rate')

  it('is not kept alive by it, and takes it away also at process.exit', async () => {
    for (const end of ['', 'process.exit(0)']) {
      const where = await place()
      const script = `
        const { openControl } = await import('${MODULES}/socket.js')
        const { RateControl } = await import('${MODULES}/control.js')
        const { Throttle } = await import('${MODULES}/throttle.js')
        const rate = new RateControl([{ minuteOfWeek: 0, bytesPerSecond: 1 }, { minuteOfWeek: 9, bytesPerSecond: 2 }], new Throttle(null))
        const control = await openControl({ disks: [], pid: process.pid }, rate, ${JSON.stringify(where)})
        console.log(control.path)
        ${end}`
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
        timeout: 10_000,
      })
      let said = ''
      child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
      const [status] = (await once(child, 'close')) as [number | null]
      expect([status, said.trim()]).toEqual([0, join(where.directory, `${child.pid}.sock`)])
      expect(await readdir(where.directory)).toEqual([])
    }
  })
})

describe('lines', () => {
  it('that are no answer are none', () => {
    const run = { pid: 1, disks: DISKS, diskCount: 1, schedule: null, bytesPerSecond: null }
    expect(parseReply(JSON.stringify({ ok: true, run }))).toEqual({ ok: true, run })
    expect(parseReply('{"ok":false,"message":"no"}')).toEqual({ ok: false, message: 'no' })
    const bad: unknown[] = [
      null,
      {},
      { ok: true },
      { ok: false },
      { ok: true, run: { ...run, pid: 'x' } },
      { ok: true, run: { ...run, disks: [...DISKS, ...DISKS, ...DISKS, ...DISKS, ...DISKS] } },
      { ok: true, run: { ...run, disks: [{ source: 5, destination: '' }] } },
      { ok: true, run: { ...run, diskCount: 0.5 } },
      { ok: true, run: { ...run, schedule: {} } },
      { ok: true, run: { ...run, bytesPerSecond: -1 } },
    ]
    for (const value of bad) expect([value, parseReply(JSON.stringify(value))]).toEqual([value, null])
    expect([parseReply('x'), parseRequest('x')]).toEqual([null, null])
    expect(parseRequest('{"command":"show","more":1}')).toEqual({ command: 'show' })
  })

  it('say where they go: the environment, then what every login has', () => {
    const base = { uid: 7, systemDirectory: '/run/user/7', temporaryDirectory: '/tmp' }
    const always = ['/run/user/7/blocksync', '/tmp/blocksync-7']
    expect(controlDirectories({ ...base, runtimeDirectory: '/run/user/7' })).toEqual(always)
    expect(controlDirectories({ ...base, runtimeDirectory: 'relative' })).toEqual(always)
    expect(controlDirectories({ ...base, runtimeDirectory: '/x' })).toEqual(['/x/blocksync', ...always])
    const systemDirectory = UID === 0 ? '/run' : `/run/user/${UID}`
    const own = { uid: UID, runtimeDirectory: null, systemDirectory, temporaryDirectory: tmpdir() }
    expect(ownWhereabouts({ XDG_RUNTIME_DIR: '' })).toEqual(own)
  })
})
