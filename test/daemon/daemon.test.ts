// The daemon as a whole, with real files, processes and signals; only the attempts are faked.

import { EventEmitter } from 'node:events'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { configParsers } from '../../src/cli/config-parsers.js'
import { bwlimitText } from '../../src/cli/timetable.js'
import { loadConfig } from '../../src/config/load.js'
import { runDaemon } from '../../src/daemon/daemon.js'
import type { DaemonContext } from '../../src/daemon/daemon-context.js'
import type { DaemonView } from '../../src/daemon/view.js'
import type { MetricsConfig } from '../../src/config/config.js'
import { loadNative } from '../../src/native.js'
import { findDaemon } from '../../src/replicate/daemon-lock.js'
import { changeJobState } from '../../src/replicate/state-file.js'
import { needs } from '../support/needs.js'
import { isRunning, until } from '../support/processes.js'
import { receive } from './receiver.js'

const FAKE = join(import.meta.dirname, 'fixtures', 'attempt.js')
const parsers = configParsers()

type Started = Readonly<{
  command: string
  job: string
  words: string[]
  pid: number
  notify: string | null
  base: string | null
}>

let directory: string
let stateDir: string
let file: string
let lines: string[]
let fronts: MetricsConfig[]
let view: DaemonView | null
let signals: EventEmitter
const daemons: Promise<unknown>[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-daemon-'))
  stateDir = join(directory, 'state')
  file = join(directory, 'config.yaml')
  lines = []
  fronts = []
  view = null
  signals = new EventEmitter()
})

afterEach(async () => {
  // a second signal kills what is left; one that comes before a daemon listens is lost
  const ending = setInterval(() => signals.emit('SIGTERM'), 50)
  await Promise.allSettled(daemons.splice(0))
  clearInterval(ending)
  for (const { pid } of started()) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

/** `head` are lines before the jobs; each job is its name, and lines of its own. */
function configure(head: string, jobs: Readonly<Record<string, string>>): void {
  const texts = Object.entries(jobs).map(
    ([name, more]) => `  ${name}: { source: /srv/${name}, destination: root@kvm2:/srv/${name}, ${more} }`,
  )
  writeFileSync(file, `${head}\njobs:\n${texts.join('\n')}\n`, { mode: 0o600 })
}

function start(change: Partial<DaemonContext> = {}): Promise<number> {
  const running = runDaemon({
    configPaths: [file],
    loadConfig: async (paths) => await loadConfig({ paths }, parsers),
    stateDir,
    program: [process.execPath, FAKE],
    bwlimitText,
    environment: { PATH: process.env['PATH'] },
    logForm: 'journald',
    write: (line) => lines.push(line.trimEnd()),
    signals,
    native: loadNative('auto'),
    openFront: async (config, opened) => {
      if (config.textfile?.endsWith('refused.prom') === true) throw new Error('the address is not to be had')
      fronts.push(config)
      view = opened
      return { [Symbol.asyncDispose]: () => Promise.resolve() }
    },
    stopGraceMs: 2_000,
    ...change,
  })
  daemons.push(running)
  return running
}

function started(): Started[] {
  const path = join(stateDir, 'started')
  if (!existsSync(path)) return []
  // a line that is just being written has no end yet
  const whole = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return whole.map((line) => JSON.parse(line) as Started)
}

async function ended(count: number): Promise<void> {
  await until(
    () => started().filter(({ pid }) => !isRunning(pid)).length >= count,
    `${count} attempts ended; ${lines.join('\n')}`,
  )
}

async function logged(text: string | RegExp): Promise<void> {
  const has = (line: string): boolean => (typeof text === 'string' ? line.includes(text) : text.test(line))
  await until(() => lines.some(has), `the log has ${String(text)}; it has\n${lines.join('\n')}`)
}

/** The last word of an attempt is there before its process is gone, and only then the job is something else than running. */
async function statesAre(wanted: readonly (readonly [string, string])[]): Promise<void> {
  const states = async (): Promise<unknown> =>
    (await opened().statuses()).jobs.map(({ name, state }) => [name, state])
  await expect.poll(states, { timeout: 30_000 }).toEqual(wanted)
}

/** Files without a name that this process holds for the next attempts. */
function held(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      return path.startsWith(`${stateDir}/.`) ? [path] : []
    } catch {
      // the descriptor that the listing itself had
      return []
    }
  })
}

function opened(): DaemonView {
  if (view === null) throw new Error('nothing was opened')
  return view
}

describe('the daemon', () => {
  it('runs what is due, shows it, and ends with 0 when systemd ends it', async () => {
    configure('max_parallel: 2', { 'well-1': 'every: 1h', 'fails-1': 'every: 1h' })
    const daemon = start()
    await logged('fails-1: attempt failed')
    await logged('well-1: attempt done')
    expect(await findDaemon(stateDir)).toMatchObject({ pid: process.pid })
    await statesAre([
      ['well-1', 'idle'],
      ['fails-1', 'failed'],
    ])
    const document = await opened().statuses()
    expect(document.daemon?.pid).toBe(process.pid)
    expect(document.jobs.map(({ generation }) => generation)).toEqual([1, null])
    expect(document.jobs[1]?.lastError).toEqual({ code: 'guard/mounted', message: 'it is guard/mounted' })
    const [first] = started()
    expect(first?.words.slice(0, 4)).toEqual(['--json', '--from-daemon', '--state-dir', stateDir])
    expect(first?.words).not.toContain('--bwlimit')
    expect(opened().whyUnhealthy()).toBeNull()
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    expect(await findDaemon(stateDir)).toMatchObject({ pid: process.pid })
    expect(lines).toContain(
      '<3>fails-1: attempt failed after ' + (lines.join('\n').match(/failed after (.*)/)?.[1] ?? ''),
    )
    expect(lines).toContain('<4>well-1: one disk is read while it changes')
    expect(lines).not.toContain('<6>well-1: blocksync: warning: one disk is read while it changes')
    expect(lines).toContain('<6>well-1: remote: hello')
    expect(signals.eventNames()).toEqual([])
  })

  it('is one for a state directory, and begins with nothing that is wrong', async () => {
    configure('', { 'well-1': 'every: 1h' })
    const first = start()
    await logged('attempt done')
    const refused = start()
    await expect(refused).rejects.toMatchObject({ code: 'replicate/busy' })
    await expect(refused).rejects.toThrow(`pid ${process.pid}`)
    signals.emit('SIGTERM')
    expect(await first).toBe(0)
    writeFileSync(file, 'jobs: { web01: { sauce: /x } }')
    await expect(start()).rejects.toMatchObject({ code: 'config/invalid' })
    rmSync(file)
    await expect(start()).rejects.toMatchObject({ code: 'config/missing' })
    expect(started()).toHaveLength(1)
  })

  it('ends attempts in order, by a signal where they do not listen, and leaves nothing', async () => {
    configure('max_parallel: 2', { 'hangs-1': 'every: 1h', 'deaf-1': 'every: 1h' })
    // the signal comes when half of it has passed, and force is far away
    const daemon = start({ stopGraceMs: 4_000 })
    await until(() => view?.progress().size === 2, 'both tell how far they are')
    expect(
      (await opened().statuses()).jobs.map(({ state, progress }) => [state, progress?.doneBytes]),
    ).toEqual(Array.from({ length: 2 }, () => ['running', 5]))
    signals.emit('SIGTERM')
    await logged('SIGTERM: ending, and 2 that run in order')
    expect(await daemon).toBe(0)
    expect(lines.filter((line) => line.includes('was killed'))).toEqual([])
    expect(lines.filter((line) => line.includes('interrupt/sigterm'))).toHaveLength(2)
    expect(started().filter(({ pid }) => isRunning(pid))).toEqual([])
  })

  it('kills what does not end', async () => {
    configure('', { 'stubborn-1': 'every: 1h' })
    const daemon = start({ stopGraceMs: 300 })
    await until(() => view?.progress().size === 1, 'it tells how far it is')
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    expect(lines.filter((line) => line.includes('was killed'))).toEqual([
      expect.stringContaining('<4>stubborn-1: its process'),
      expect.stringContaining('<3>stubborn-1: attempt failed'),
    ])
    expect(started().filter(({ pid }) => isRunning(pid))).toEqual([])
  })

  it('does not wait any more for who sends a second signal, and says so by its status', async () => {
    configure('', { 'stubborn-1': 'every: 1h' })
    const daemon = start({ stopGraceMs: 60_000 })
    await until(() => started().length === 1, 'it runs')
    signals.emit('SIGINT')
    signals.emit('SIGINT')
    expect(await daemon).toBe(130)
    expect(started().filter(({ pid }) => isRunning(pid))).toEqual([])
  })

  it('takes a configuration over when it is read again, and keeps the one before where it is wrong', async () => {
    configure('bwlimit: 1M', { 'hangs-1': 'every: 1h', 'well-1': 'every: 1h' })
    const daemon = start()
    await logged('well-1: attempt done')
    writeFileSync(file, 'jobs: { web01: { sauce: /x } }')
    signals.emit('SIGHUP')
    await logged('was not taken over')
    expect((await opened().metrics()).daemon).toMatchObject({ isConfigReloadOk: false })
    expect((await opened().metrics()).daemon.configError).toContain('sauce')
    // attempts get what is in force, not what the file says now
    const [copy] = started().flatMap(({ words }) => words.slice(words.indexOf('--config') + 1))
    expect(readFileSync(copy ?? '', 'utf8')).toContain('hangs-1')
    configure('metrics: { textfile: /x/refused.prom }', { 'well-9': 'every: 1h' })
    signals.emit('SIGHUP')
    await logged('the address is not to be had')
    configure('metrics: { textfile: /x/y.prom }', { 'well-2': 'every: 1h', 'hangs-1': 'every: 2h' })
    signals.emit('SIGHUP')
    await logged('well-2: attempt done')
    expect((await opened().metrics()).daemon).toMatchObject({ isConfigReloadOk: true, configError: null })
    expect(fronts.at(-1)).toMatchObject({ textfile: '/x/y.prom' })
    await statesAre([
      ['well-2', 'idle'],
      ['hangs-1', 'running'],
    ])
    expect(
      started()
        .map(({ job }) => job)
        .toSorted(),
    ).toEqual(['hangs-1', 'well-1', 'well-2'])
    expect(readdirSync(join(stateDir, 'replicate', '.config')).length).toBeLessThanOrEqual(2)
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
  })

  it('gives each attempt its share of the bandwidth, and no variables of systemd', async () => {
    configure('bwlimit: 1000B\nmax_parallel: 2', {
      'hangs-1': 'every: 1h',
      'hangs-2': 'every: 1h, bwlimit: 300B',
    })
    const daemon = start({ environment: { PATH: process.env['PATH'], NOTIFY_SOCKET: '/nowhere/x' } })
    await until(() => started().length === 2, 'both run')
    const limits = started().map(({ words }) => words[words.indexOf('--bwlimit') + 1])
    expect(new Set(limits)).toEqual(new Set(['1000', '300']))
    expect(started().map(({ notify }) => notify)).toEqual([null, null])
    await logged('<4>systemd could not be told')
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
  })

  it('tells people once of what changed, and of what is well again', async () => {
    const told: string[] = []
    configure(`notify: [ { http: "http://127.0.0.1:1/x" } ]`, {
      'fails-1': 'every: 1s',
      'well-1': 'every: 1s',
    })
    const daemon = start({
      notifyBy: async (_, { job, condition }) => {
        told.push(`${job} ${condition}`)
      },
    })
    await ended(8)
    signals.emit('SIGTERM')
    await daemon
    // the fake writes `well` each time, as no attempt would
    expect(lines.filter((line) => line.includes('read while it changes'))).toHaveLength(1)
    expect(new Set(told)).toEqual(new Set(['fails-1 failing']))
  })

  it('gives an attempt what the one before left, until the job is another one, is gone or is paused', async () => {
    const every = 'every: 1s, snapshot: reflink'
    configure('', {
      'tracks-1': every,
      'tracks-2': every,
      'tracks-3': 'every: 1h, snapshot: reflink',
      'well-1': 'every: 1h',
    })
    const daemon = start({ environment: { PATH: process.env['PATH'], BLOCKSYNC_BASE: 'of somebody else' } })
    const basesOf = (name: string): (string | null)[] =>
      started().flatMap(({ job, base }) => (job === name ? [base] : []))
    const isGiven = (base: string | null): boolean => base !== null && /"clone":"\/proc\//.test(base)
    await until(() => basesOf('tracks-1').length >= 3 && basesOf('tracks-2').length >= 2, 'several ran')
    await logged('tracks-3: attempt done')
    // each job stands on another line then, in another file
    configure('# a line more', {
      'well-2': 'every: 1h',
      'tracks-1': every,
      'tracks-2': every,
      'tracks-3': 'every: 1h, snapshot: reflink',
    })
    signals.emit('SIGHUP')
    await logged('was read again')
    const many = basesOf('tracks-1').length
    await until(() => basesOf('tracks-1').length >= many + 2, 'it goes on')
    expect(basesOf('tracks-1').map(isGiven)).toEqual(basesOf('tracks-1').map((_, index) => index > 0))
    expect(basesOf('well-1')).toEqual([null])
    configure('', { 'tracks-1': `${every}, track: off`, 'tracks-3': 'every: 1h, snapshot: reflink' })
    signals.emit('SIGHUP')
    await until(() => basesOf('tracks-1').at(-1) === null, 'nothing is given')
    await until(() => held().length === 2, `only those of tracks-3 are held: ${held().join()}`)
    await changeJobState(stateDir, 'tracks-3', (state) => ({
      ...state,
      paused: { since: new Date().toISOString(), reason: null },
    }))
    await expect
      .poll(async () => (await opened().statuses()).jobs.map(({ state }) => state), { timeout: 30_000 })
      .toContain('paused')
    signals.emit('SIGHUP')
    await until(() => held().length === 0, 'nothing is held')
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    expect(lines.filter((line) => /^<[34]>tracks/.test(line))).toEqual([])
  })

  it('holds nothing any more when it has ended', async () => {
    configure('', { 'tracks-1': 'every: 1h, snapshot: reflink' })
    const daemon = start()
    await logged('tracks-1: attempt done')
    await until(() => held().length === 2, 'two are held')
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    expect(held()).toEqual([])
  })

  it('leaves no descriptor behind after many attempts, ended in every way', async () => {
    const jobs = {
      'well-1': 'every: 1s',
      'fails-1': 'every: 1s',
      'dies-1': 'every: 1s',
      'noisy-1': 'every: 1s',
    }
    configure('max_parallel: 4', jobs)
    const before = readdirSync('/proc/self/fd').length
    const daemon = start()
    await ended(24)
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    // a pipe is closed a turn behind the end of its process
    await until(() => readdirSync('/proc/self/fd').length === before, `${before} descriptors are open`)
    expect(started().filter(({ pid }) => isRunning(pid))).toEqual([])
  })

  it('is watched by systemd, and tells it when it reads and ends', needs('native', 'python3'), async () => {
    configure('', { 'well-1': 'every: 1h' })
    const address = join(directory, 'notify')
    await using receiver = await receive(address)
    const daemon = start({ environment: { ...process.env, NOTIFY_SOCKET: address, WATCHDOG_USEC: '200000' } })
    await until(() => receiver.texts.filter((text) => text === 'WATCHDOG=1').length >= 3, 'it is alive')
    signals.emit('SIGHUP')
    await logged('was read again')
    signals.emit('SIGTERM')
    expect(await daemon).toBe(0)
    await until(() => receiver.texts.includes('STOPPING=1'), 'it says that it ends')
    const kinds = receiver.texts
      .map((text) => text.split('=')[0])
      .filter((kind) => kind !== 'WATCHDOG' && kind !== 'STATUS')
    expect(kinds).toEqual(['READY', 'RELOADING', 'READY', 'STOPPING'])
  })
})
