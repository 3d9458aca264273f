// One suite for every way to have a host: programs, files, facts, journals, protection. What the in-process host does, the
// agent does too, and errors come across with code, operand and hint.

import { chmod, lstat, mkdir, open, readFile, readdir, stat, symlink, writeFile } from 'node:fs/promises'
import { hostname, cpus } from 'node:os'
import { join } from 'node:path'

import { beforeEach, describe, expect, it } from 'vitest'

import { errnoOf } from '../../src/errors.js'
import { MAX_INPUT_BYTES, MAX_JOURNAL_LINE_BYTES, MAX_OUTPUT_BYTES, type Host } from '../../src/host/host.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { farEnough, isRunning, until } from '../support/processes.js'
import { refusal } from '../support/refusal.js'
import { selected } from '../support/selection.js'
import { HOST_WAYS, useHosts } from './ways.js'

const NODE = process.execPath
const scratch = useScratch()
const hosts = useHosts()
let number = 0

/** Both kinds of ssh carry the same bytes to the same agent. */
const WAYS = selected(HOST_WAYS, (way) => way !== 'ssh2')

describe.each(WAYS)('a host (%s)', (way) => {
  // the core is for locks alone: without it nothing else is another way
  const describeWhole = way.endsWith('no core') ? (): void => undefined : describe
  let host: Host
  let place: string
  let stateDir: string
  beforeEach(async () => {
    number += 1
    place = scratch().path(`place-${number}`)
    stateDir = scratch().path(`state-${number}`)
    await mkdir(place)
    host = await hosts.open(way, stateDir)
  })
  const at = (name: string): string => join(place, name)

  describeWhole('facts', () => {
    it('are those of this machine, and stay', async () => {
      const facts = await host.facts()
      expect(facts).toMatchObject({
        hostName: hostname(),
        bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
        processors: cpus().length,
        isRoot: process.geteuid?.() === 0,
        stateDirectory: stateDir,
      })
      expect(facts.machineId).toMatch(/^[0-9a-f]{32}$/)
      expect(facts.availableMemoryBytes).toBeLessThanOrEqual(facts.memoryBytes)
      expect(Math.abs(facts.nowMs - Date.now())).toBeLessThan(60_000)
      expect((await host.facts()).machineId).toBe(facts.machineId)
    })
  })

  describeWhole('programs', () => {
    const node = (script: string, more: object = {}): Parameters<Host['run']>[0] => ({
      argv: [NODE, '-e', script],
      timeoutMs: 20_000,
      ...more,
    })

    it('give their status, output and last words, and get words and input as they are', async () => {
      const script =
        'process.stdin.pipe(process.stdout); process.stderr.write("a\\u001b[31mb\\n"); process.exitCode = 7'
      const words = ['$HOME', "it's", '', 'a b', 'ü\n']
      const asked = { ...node(script), argv: [NODE, '-e', script, ...words] as const, input: 'in\0put ü\n' }
      expect(await host.run(asked)).toEqual({ exitStatus: 7, stdout: 'in\0put ü\n', stderrTail: 'a?[31mb' })
      const echoed = await host.run({
        argv: [NODE, '-p', 'JSON.stringify(process.argv.slice(1))', ...words],
        timeoutMs: 20_000,
      })
      expect(JSON.parse(echoed.stdout)).toEqual(words)
    })

    it('have an environment of their own: one language, sbin, and what was asked for', async () => {
      const { stdout } = await host.run(
        node('const e = process.env; console.log(e.LC_ALL, e.LANGUAGE, e.PATH.includes("/usr/sbin"), e.A)', {
          environment: { A: 'x y' },
        }),
      )
      expect(stdout).toBe('C.UTF-8 undefined true x y\n')
    })

    it('that are not there are 127, that may not be run 126', async () => {
      await writeFile(at('plain'), 'no program')
      const ask = (program: string): ReturnType<Host['run']> => host.run({ argv: [program], timeoutMs: 5000 })
      expect(await ask('no-such-program-here')).toMatchObject({ exitStatus: 127 })
      expect(await ask(at('plain'))).toMatchObject({ exitStatus: 126 })
    })

    it('are killed with what they started when their time is over', async () => {
      const script = `const c = require('node:child_process').spawn('sleep', ['1000']); require('node:fs').writeFileSync(${JSON.stringify(at('pid'))}, String(c.pid)); setInterval(() => {}, 1000)`
      const pid = await farEnough(at('pid'), async (timeoutMs) => {
        const error = await refusal(host.run(node(script, { timeoutMs })))
        const words = expect.stringContaining(`within ${timeoutMs / 1000} s`) as string
        expect([error.code, error.message]).toEqual(['host/program', words])
      })
      await until(() => !isRunning(pid), 'it is gone')
    })

    it('are a failure when they die of a signal, or print or are given too much', async () => {
      const killed = await refusal(
        host.run(node('process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000)')),
      )
      expect([killed.code, killed.message]).toEqual(['host/program', expect.stringContaining('SIGKILL')])
      const tooMuch = await refusal(
        host.run(node('process.stdout.write("x".repeat(5000))', { maxOutputBytes: 1000 })),
      )
      expect([tooMuch.code, tooMuch.message]).toEqual(['host/program', expect.stringContaining('1000 bytes')])
      const input = 'x'.repeat(MAX_INPUT_BYTES + 1)
      expect((await refusal(host.run(node('0', { input })))).code).toBe('host/program')
    })

    it('may print all that is allowed, of the worst kind', async () => {
      const { stdout } = await host.run(node(`process.stdout.write("\\u0001".repeat(${MAX_OUTPUT_BYTES}))`))
      expect(stdout.length).toBe(MAX_OUTPUT_BYTES)
    })

    it('may leave something running that holds their pipes', async () => {
      const script = `const c = require('node:child_process').spawn('sleep', ['30'], { stdio: 'inherit', detached: true }); console.log(c.pid); c.unref()`
      const { exitStatus, stdout } = await host.run(node(script))
      const pid = Number(stdout)
      expect([exitStatus, isRunning(pid)]).toEqual([0, true])
      process.kill(pid, 'SIGKILL')
    })

    it('run beside each other', async () => {
      const first = host.run({ argv: ['sleep', '30'], timeoutMs: 1500 })
      const second = await host.run({ argv: ['echo', 'second'], timeoutMs: 5000 })
      expect(second.stdout).toBe('second\n')
      expect((await refusal(first)).code).toBe('host/program')
    })
  })

  describeWhole('files', () => {
    it('are looked at, through links, and are null where nothing is', async () => {
      await writeFile(at('a'), Buffer.alloc(70_000), { mode: 0o640 })
      await symlink('a', at('link'))
      await symlink('nowhere', at('dangling'))
      const facts = await stat(at('a'), { bigint: true })
      expect(await host.look(at('link'))).toEqual({
        kind: 'file',
        realPath: at('a'),
        sizeBytes: 70_000,
        allocatedBytes: Number(facts.blocks) * 512,
        identity: expect.stringMatching(new RegExp(`^\\d+:\\d+:${facts.ino}$`)) as string,
        mode: 0o640,
        modifiedNs: String(facts.mtimeNs),
        changedNs: String(facts.ctimeNs),
        written: null,
        isProtected: false,
      })
      expect((await host.look(place))?.kind).toBe('directory')
      expect((await host.look('/dev/null'))?.kind).toBe('other')
      for (const name of ['missing', 'dangling', 'a/b']) expect(await host.look(at(name))).toBeNull()
      expect((await refusal(host.look('relative'))).code).toBe('host/file')
    })

    it('space is that of the nearest directory that is there', async () => {
      const space = await host.space(at('not/there/yet.img'))
      expect(space).toMatchObject({ directory: place, isWritable: true })
      expect(space.freeBytes).toBeGreaterThan(0)
      const { stdout } = await host.run({ argv: ['findmnt', '-no', 'FSTYPE', '-T', place], timeoutMs: 5000 })
      expect(space.fileSystem).toBe(stdout.trim())
      expect((await host.space('/proc/x')).fileSystem).toBe('proc')
      expect((await host.space('/proc/x')).fileSystemId).not.toBe(space.fileSystemId)
    })

    it('are written as a whole, with their mode, and read', async () => {
      await host.writeText(at('t'), 'ä\n', { mode: 0o664, existing: 'refuse' })
      expect([await host.readText(at('t'), 100), (await stat(at('t'))).mode & 0o777]).toEqual(['ä\n', 0o664])
      const refused = await refusal(host.writeText(at('t'), 'b', { mode: 0o600, existing: 'refuse' }))
      expect([refused.code, refused.operand]).toEqual(['host/file', at('t')])
      expect(await host.readText(at('t'), 100)).toBe('ä\n')
      await host.writeText(at('t'), 'b', { mode: 0o600, existing: 'replace' })
      expect([await host.readText(at('t'), 1), await readdir(place)]).toEqual(['b', ['t']])
      const none = await refusal(host.writeText(at('no/t'), 'b', { mode: 0o600, existing: 'replace' }))
      expect([none.code, none.hint]).toEqual(['host/file', expect.any(String)])
      const tooLong = host.writeText(at('u'), 'x'.repeat(MAX_INPUT_BYTES + 1), {
        mode: 0o600,
        existing: 'refuse',
      })
      expect((await refusal(tooLong)).code).toBe('host/file')
      await host.writeText(at('u'), '\u0001'.repeat(MAX_INPUT_BYTES), { mode: 0o600, existing: 'refuse' })
      expect((await stat(at('u'))).size).toBe(MAX_INPUT_BYTES)
    })

    it('are not read where they are missing, too large, no text, no file', async () => {
      await writeFile(at('large'), 'x'.repeat(101))
      await writeFile(at('binary'), Buffer.from([0xff, 0xfe]))
      await writeFile(at('nul'), 'a\0b')
      await run('mkfifo', at('fifo'))
      expect(await host.readText(at('missing'), 100)).toBeNull()
      expect(await host.readText('/proc/version', 1000)).toContain('Linux')
      for (const name of ['large', 'binary', 'nul', 'fifo', '.']) {
        expect([name, (await refusal(host.readText(at(name), 100))).code]).toEqual([name, 'host/file'])
      }
    })

    it('and directories are made, renamed and removed', async () => {
      expect(await host.makeDirectories(at('a/b/c'))).toEqual([at('a'), at('a/b'), at('a/b/c')])
      expect(await host.makeDirectories(at('a/b'))).toEqual([])
      await host.makeFile(at('a/b/disk'), 1 << 30, 0o600)
      const facts = await host.look(at('a/b/disk'))
      expect([facts?.sizeBytes, facts?.allocatedBytes, facts?.mode]).toEqual([1 << 30, 0, 0o600])
      expect((await refusal(host.makeFile(at('a/b/disk'), 1, 0o600))).code).toBe('host/file')
      expect((await stat(at('a/b/disk'))).size).toBe(1 << 30)
      expect((await refusal(host.makeDirectories(at('a/b/disk/x')))).code).toBe('host/file')
      expect((await refusal(host.makeDirectories(at('a/b/disk')))).code).toBe('host/file')
      await host.rename(at('a/b/disk'), at('moved'))
      await writeFile(at('other'), 'kept')
      expect((await refusal(host.rename(at('moved'), at('other')))).code).toBe('host/file')
      expect((await refusal(host.rename(at('missing'), at('new')))).code).toBe('host/file')
      expect(await readFile(at('other'), 'utf8')).toBe('kept')
      expect((await refusal(host.remove(at('a/b')))).code).toBe('host/file')
      for (const name of ['a/b/c', 'a/b', 'a', 'moved', 'moved', 'a/gone/x']) await host.remove(at(name))
      await symlink('other', at('link'))
      await host.remove(at('link'))
      expect(await readdir(place)).toEqual(['other'])
    })
  })

  describe('journals', () => {
    const name = { id: '20260102-a', role: 'source' } as const
    const other = { ...name, role: 'destination' } as const

    it('keep lines in order, over sessions', async () => {
      expect(await host.listJournals()).toEqual([])
      expect(await host.readJournal(name)).toBeNull()
      expect((await refusal(host.openJournal(name, 'continue', 0))).code).toBe('migrate/unknown')
      expect(await host.openJournal(name, 'create', 0)).toEqual([])
      const lines = Array.from({ length: 40 }, (_, index) => ({ index, text: 'ü\n\0' }))
      await Promise.all(lines.map((line) => host.appendJournal(name, line)))
      expect(await host.readJournal(name)).toEqual(lines)
      expect(await host.openJournal(name, 'create', 0)).toEqual(lines)
      await host.openJournal(other, 'create', 0)
      expect(await host.listJournals()).toEqual([name, other])
      await host.close()
      const next = await hosts.open(way, stateDir)
      expect(await next.openJournal(name, 'continue', 5000)).toEqual(lines)
      await next.appendJournal(name, { last: true })
      expect((await next.readJournal(name))?.at(-1)).toEqual({ last: true })
      expect((await stat(join(stateDir, 'migrate', name.id, 'source.jsonl'))).mode & 0o777).toBe(0o600)
    })

    it('are for one session at a time, and say who has it', async () => {
      const second = await hosts.open(way, stateDir)
      await host.openJournal(name, 'create', 0)
      const busy = await refusal(second.openJournal(name, 'continue', 0))
      expect([busy.code, busy.operand, busy.message]).toEqual([
        'migrate/busy',
        name.id,
        // of a lock that the program flock took for us only other processes can be told
        way === 'in process, no core' ? expect.any(String) : expect.stringMatching(/pid \d+/),
      ])
      expect((await refusal(second.removeJournal(name))).code).toBe('migrate/busy')
      expect((await refusal(second.appendJournal(name, {}))).code).toBe('internal')
      expect(await second.readJournal(name)).toEqual([])
      const waiting = second.openJournal(name, 'continue', 20_000)
      await host.close()
      expect(await waiting).toEqual([])
    })

    it('are removed with their work directories', async () => {
      await host.openJournal(name, 'create', 0)
      const work = await host.workDirectory(name)
      expect([work, (await stat(work)).mode & 0o777]).toEqual([
        join(stateDir, 'migrate', name.id, 'source.d'),
        0o700,
      ])
      expect(await host.workDirectory(name)).toBe(work)
      await writeFile(join(work, 'state'), 'saved')
      const there = await host.workDirectory(other)
      await host.removeJournal(name)
      expect(await readdir(join(stateDir, 'migrate', name.id))).toEqual(['destination.d'])
      expect((await refusal(host.appendJournal(name, {}))).code).toBe('internal')
      expect((await lstat(there)).isDirectory()).toBe(true)
      await host.removeJournal(other)
      expect(await readdir(join(stateDir, 'migrate'))).toEqual([])
      await host.removeJournal(other)
      expect(await host.openJournal(name, 'create', 0)).toEqual([])
    })

    it('have plain names, bounded lines, and a state directory that is safe', async () => {
      for (const id of ['', '.', '..', '../x', 'a/b', 'x'.repeat(65), '.x']) {
        expect((await refusal(host.openJournal({ ...name, id }, 'create', 0))).code).toBe('migrate/unknown')
        expect(await host.readJournal({ ...name, id })).toBeNull()
      }
      await host.openJournal(name, 'create', 0)
      const long = { text: 'x'.repeat(MAX_JOURNAL_LINE_BYTES) }
      expect((await refusal(host.appendJournal(name, long))).code).toBe('host/file')
      await host.appendJournal(name, { fits: true })
      expect(await host.readJournal(name)).toEqual([{ fits: true }])
      await chmod(stateDir, 0o777)
      expect((await refusal(host.readJournal(name))).code).toBe('state/unusable')
      await chmod(stateDir, 0o700)
    })

    it('cut off a last line that was cut, and refuse damage', async () => {
      await host.openJournal(name, 'create', 0)
      await host.appendJournal(name, { one: 1 })
      await host.close()
      const path = join(stateDir, 'migrate', name.id, 'source.jsonl')
      await writeFile(path, '{"two":', { flag: 'a' })
      const next = await hosts.open(way, stateDir)
      expect(await next.readJournal(name)).toEqual([{ one: 1 }])
      expect(await next.openJournal(name, 'continue', 5000)).toEqual([{ one: 1 }])
      expect(await readFile(path, 'utf8')).toBe('{"one":1}\n')
      await next.close()
      await writeFile(path, '{"one":1}\nnonsense\n{"two":2}\n')
      const third = await hosts.open(way, stateDir)
      const damaged = await refusal(third.openJournal(name, 'continue', 5000))
      expect([damaged.code, damaged.message]).toEqual(['host/file', expect.stringContaining('line 2')])
    })
  })

  describeWhole('protection', () => {
    it('of a file: nobody opens it for writing until it is taken back', needs('root', 'chattr'), async () => {
      await writeFile(at('disk'), 'content')
      await symlink('disk', at('link'))
      const protection = await host.protect(at('link'), 'tag-1')
      try {
        expect(protection).toEqual({
          by: 'immutable',
          path: at('disk'),
          why: null,
          before: 'writable',
          tag: 'tag-1',
        })
        expect(await openForWriting(at('disk'))).toBe('EPERM')
        expect((await host.look(at('disk')))?.isProtected).toBe(true)
        expect(await host.protect(at('link'), 'tag-1')).toEqual(protection)
        const second = await host.protect(at('disk'), 'tag-2')
        expect(second.before).toBe('protected')
        await host.unprotect(second)
        expect(await openForWriting(at('disk'))).toBe('EPERM')
      } finally {
        await host.unprotect(protection)
      }
      await host.unprotect(protection)
      expect(await openForWriting(at('disk'))).toBeNull()
      expect(await readdir(join(stateDir, 'protected'))).toEqual([])
    })

    it('of a device: nobody writes to it until it is taken back', needs('loop', 'blockdev'), async () => {
      const image = await scratch().file(`image-${number}`, Buffer.alloc(1 << 20))
      const device = await scratch().loopDevice(image)
      const facts = await host.look(device)
      expect(facts).toMatchObject({ kind: 'block', sizeBytes: 1 << 20, isProtected: false })
      expect(await writeTo(device)).toBeNull()
      const written = await host.look(device)
      expect(BigInt(written?.written?.sectors ?? -1) > BigInt(facts?.written?.sectors ?? -1)).toBe(true)
      const protection = await host.protect(device, 'tag-1')
      expect(protection).toEqual({ by: 'device', path: device, why: null, before: 'writable', tag: 'tag-1' })
      try {
        expect(await writeTo(device)).toBe('EPERM')
        expect((await host.look(device))?.isProtected).toBe(true)
        expect(await host.protect(device, 'tag-1')).toEqual(protection)
      } finally {
        await host.unprotect(protection)
      }
      await host.unprotect(protection)
      expect(await writeTo(device)).toBeNull()
      await run('blockdev', '--setro', device)
      try {
        const already = await host.protect(device, 'tag-3')
        await host.unprotect(already)
        expect([already.before, await writeTo(device)]).toEqual(['protected', 'EPERM'])
      } finally {
        // a loop device keeps it over its detaching, for whoever gets it next
        await run('blockdev', '--setrw', device)
      }
    })

    it('of a file that cannot be immutable: it is renamed', needs('root'), async () => {
      const ramfs = await scratch().mount(`ramfs-${number}`, 'blocksync-test', '-t', 'ramfs')
      const path = join(ramfs, 'disk')
      await writeFile(path, 'content')
      const protection = await host.protect(path, 'tag-1')
      expect(protection).toMatchObject({
        by: 'rename',
        path,
        before: 'writable',
        why: expect.any(String) as string,
      })
      expect(await readdir(ramfs)).toEqual(['disk.moved-tag-1'])
      expect(await host.protect(path, 'tag-1')).toMatchObject({ by: 'rename', path, before: 'writable' })
      await host.unprotect(protection)
      await host.unprotect(protection)
      expect(await readFile(path, 'utf8')).toBe('content')
      await host.protect(path, 'tag-1')
      await writeFile(path, 'another')
      expect((await refusal(host.unprotect(protection))).code).toBe('host/file')
      expect(await readFile(path, 'utf8')).toBe('another')
    })

    it('is not for what is no disk, or not there', async () => {
      for (const path of [place, '/dev/null', at('missing')])
        expect((await refusal(host.protect(path, 'tag-1'))).code).toBe('host/file')
      expect((await refusal(host.protect(place, '../tag'))).code).toBe('host/file')
    })
  })
})

/** The errno of a real open(O_RDWR), or null. */
async function openForWriting(path: string): Promise<string | null> {
  try {
    await (await open(path, 'r+')).close()
    return null
  } catch (error) {
    return errnoOf(error)
  }
}

/** The same of a write: the kernel lets a read-only device be opened, and no byte be written. */
async function writeTo(path: string): Promise<string | null> {
  try {
    await using file = await open(path, 'r+')
    await file.write(Buffer.alloc(4096), 0, 4096, 0)
    await file.sync()
    return null
  } catch (error) {
    return errnoOf(error)
  }
}
