// Starts the built program and looks at what it loaded and how many threads it got: start-up is paid by every run, at
// both ends. Times are not measured here (`npm run bench` does), only what they come from.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { threadPoolSize } from '../../src/cli/thread-pool.js'
import { packageVersion } from '../../src/version.js'

const ROOT = join(import.meta.dirname, '..', '..')
const CLI = join(ROOT, 'dist', 'cli')
const MAIN = join(CLI, 'main.js')
const RUN_TIMEOUT_MS = 20_000
/** Each file costs about half a millisecond; `serve` is main, far, the native core and what main shares with near. */
const MAX_SERVE_FILES = 6
/** Of agent: what opens disks is twice as much again. */
const MAX_AGENT_BYTES = 110_000

/** Runs before the program and tells on stderr, as JSON, what was loaded when it ends and how many threads it had. */
const WATCHER = `
const { readdirSync, stat } = require('node:fs')
let threads = 0
// the program has set its variable when the first job comes
setImmediate(() => stat('/', () => (threads = readdirSync('/proc/self/task').length)))
process.on('exit', () => {
  const loaded = Object.keys(require.cache).filter((path) => path !== __filename)
  require('node:fs').writeSync(2, '\\n' + JSON.stringify({ loaded, threads, own: process.moduleLoadList }) + '\\n')
})
`

type Watched = { status: number | null; stdout: string; loaded: string[]; threads: number; own: string[] }

let directory = ''

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-start-'))
  writeFileSync(join(directory, 'watcher.cjs'), WATCHER)
})

afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** Runs the built program with an empty stdin until it ends. */
function watch(words: readonly string[], environment: NodeJS.ProcessEnv = {}): Watched {
  const { UV_THREADPOOL_SIZE: _, ...inherited } = process.env
  const run = spawnSync(process.execPath, ['--require', join(directory, 'watcher.cjs'), MAIN, ...words], {
    cwd: directory,
    env: { ...inherited, ...environment },
    input: '',
    encoding: 'utf8',
    timeout: RUN_TIMEOUT_MS,
  })
  const last = run.stderr.trimEnd().split('\n').at(-1) ?? ''
  const told = JSON.parse(last) as Omit<Watched, 'status' | 'stdout'>
  return { status: run.status, stdout: run.stdout, ...told }
}

/** Names of the program's pieces among the loaded files, without the part that changes with their content. */
function pieces({ loaded }: Watched): string[] {
  return loaded
    .filter((path) => path.startsWith(CLI))
    .map((path) => basename(path, '.js').replace(/-[0-9A-Z]{8}$/, ''))
}

/** How much of the program was read. */
function loadedBytes({ loaded }: Watched): number {
  return loaded.filter((path) => path.startsWith(CLI)).reduce((sum, path) => sum + statSync(path).size, 0)
}

describe('what the program loads', () => {
  it('serve is one piece, without a package', () => {
    const run = watch(['serve'])
    expect(run.stdout).toMatch(/^BLOCKSYNC server /)
    expect(pieces(run)).toEqual(expect.arrayContaining(['main', 'far']))
    expect(pieces(run)).not.toEqual(expect.arrayContaining(['near']))
    expect(run.loaded.filter((path) => path.includes('node_modules'))).toEqual([])
    expect(run.loaded.length).toBeLessThanOrEqual(MAX_SERVE_FILES)
    // of Node itself too, only what every run needs: compression is loaded when it is used
    expect(run.own).toContain('NativeModule crypto')
    expect(run.own).not.toContain('NativeModule zlib')
  })

  it('agent is one piece, without what opens disks before it is asked to', () => {
    const run = watch(['agent'])
    expect(run.stdout).toMatch(/^BLOCKSYNC agent /)
    expect(pieces(run)).toEqual(expect.arrayContaining(['main', 'agent']))
    expect(pieces(run).filter((name) => name === 'near' || name.startsWith('agent-'))).toEqual([])
    expect(run.loaded.length).toBeLessThanOrEqual(MAX_SERVE_FILES)
    expect(loadedBytes(run)).toBeLessThan(MAX_AGENT_BYTES)
  })

  it('what is refused is refused without the engine', () => {
    const run = watch(['--block-size', 'big', '/a', 'h:/b'])
    expect(run.status).toBe(2)
    expect(pieces(run)).toContain('near')
    expect(pieces(run)).not.toContain('engine')
    expect(pieces(run)).not.toContain('far')
  })

  it('--version needs neither the engine nor a package', () => {
    const run = watch(['--version'])
    expect(run.stdout.split('\n')[0]).toBe(`blocksync ${packageVersion()}`)
    expect(pieces(run)).not.toContain('engine')
    expect(run.loaded.filter((path) => path.includes('node_modules'))).toEqual([])
  })

  it('two local disks load the engine and no ssh', () => {
    for (const name of ['a.img', 'b.img']) writeFileSync(join(directory, name), Buffer.alloc(4096, 1))
    const run = watch(['./a.img', './b.img'])
    expect(run.stdout).toBe('same: 1, diff: 0, 1/1\n')
    expect(pieces(run)).toEqual(expect.arrayContaining(['engine', 'local']))
    expect(pieces(run)).not.toContain('ssh2')
    expect(run.loaded.filter((path) => path.includes('node_modules'))).toEqual([])
  })

  it('replicate is a piece of its own, without what reads YAML where there is nothing to read', () => {
    const run = watch(['replicate', 'status', '--state-dir', join(directory, 'state')])
    expect([run.status, run.stdout]).toEqual([0, 'no job is configured, and no replica is held here\n'])
    expect(pieces(run)).toEqual(expect.arrayContaining(['main', 'replicate-near', 'replicate-engine']))
    for (const name of ['near', 'engine', 'read', 'migrate-engine', 'replicate-daemon'])
      expect(pieces(run)).not.toContain(name)
    expect(run.loaded.filter((path) => path.includes('node_modules'))).toEqual([])
    expect(watch(['help', 'replicate']).stdout).toContain('blocksync replicate promote')
    expect(watch(['check', '--no']).status).toBe(3)
  })

  it('--ssh ssh2 loads the library from node_modules', () => {
    const run = watch(['--ssh', 'ssh2', '-p', '1', '-F', '/dev/null', './a.img', '127.0.0.1:/b.img'])
    expect(run.status).toBe(4)
    expect(run.loaded).toContain(join(ROOT, 'node_modules', 'ssh2', 'lib', 'index.js'))
  })
})

describe('the threads that read and digest', () => {
  it('are as many as the machine bears', () => {
    expect([1, 2, 8, 12, 64].map(threadPoolSize)).toEqual(['5', '6', '12', '16', '16'])
  })

  it.each([['serve'], ['--version']])('%s asks for them before the first job', (word) => {
    const one = watch([word], { UV_THREADPOOL_SIZE: '1' }).threads
    const asked = Number(threadPoolSize(availableParallelism()))
    expect(watch([word]).threads - one).toBe(asked - 1)
  })

  it('are as many as the user says where he says it', () => {
    const one = watch(['serve'], { UV_THREADPOOL_SIZE: '1' }).threads
    expect(watch(['serve'], { UV_THREADPOOL_SIZE: '3' }).threads - one).toBe(2)
  })
})
