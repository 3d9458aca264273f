// The compiled command line in a directory of its own, with an engine made by hand in the place of the real one: for
// tests that need a real process.

import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..', '..')
const COMPILE_TIMEOUT_MS = 60_000
const RUN_TIMEOUT_MS = 20_000

/** Does what the variable FAKE says. */
const FAKE_SYNC = `
const blocks = { sameBlocks: 1, differentBlocks: 0, zeroBlocks: 0, skippedBlocks: 0, totalBlocks: 2 }
const disk = { ...blocks, source: '/a', destination: 'h:/a', state: 'partial', different: true, created: false, sizeBytes: 2,
  blockBytes: 1, sentBytes: 0, zeroedBytes: 0, readBytes: { source: 1, destination: 1 }, wireBytesSent: 0, wireBytesReceived: 0,
  durationMs: 1, digest: null, verified: 'none', unreadable: null, native: { source: false, destination: false }, transport: 'local', cipher: null }
export async function sync(pairs, options, hooks) {
  hooks.onStderrLine('started')
  const done = { disks: [{ ...disk, state: 'done', sameBlocks: 2 }], error: null }
  if (process.env.FAKE === 'wait' || process.env.FAKE === 'stubborn') {
    const alive = setInterval(() => {}, 1000)
    return await new Promise((resolve) => {
      hooks.signal.addEventListener('abort', () => {
        hooks.onStderrLine('aborted')
        if (process.env.FAKE === 'stubborn') return
        clearInterval(alive)
        resolve({ disks: [disk], error: hooks.signal.reason })
      })
    })
  }
  if (process.env.FAKE === 'wait-for-reader') {
    await new Promise((resolve) => process.stdin.once('end', resolve).resume())
    return done
  }
  if (process.env.FAKE === 'leak') setInterval(() => {}, 1000)
  if (process.env.FAKE === 'uncaught') {
    setImmediate(() => { throw new Error('lost in the loop') })
    return await new Promise(() => setInterval(() => {}, 1000))
  }
  return done
}
export async function probe() { throw new Error('no probe here') }
`

const FAKE_SERVE = `
export async function serve(input, output, { native, signal }) {
  output.write('native ' + native + '\\n')
  return await new Promise((resolve) => {
    input.once('end', () => resolve(0)).resume()
    signal.addEventListener('abort', () => resolve(1))
  })
}
`

export type Ended = { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }

export type Running = {
  child: ChildProcess
  ended: Promise<Ended>
  /** Resolves when stderr holds the text; rejects when the process ends before. */
  said: (text: string) => Promise<void>
}

export type Built = Disposable & {
  start: (words: readonly string[], options?: { fake?: string; without?: 'packages' }) => Running
}

/** Compiles; disposing it kills what it started and removes what it wrote. */
export function build(): Built {
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-cli-'))
  const full = join(directory, 'full')
  const bare = join(directory, 'bare')
  mkdirSync(full)
  const compiled = spawnSync(
    join(ROOT, 'node_modules/.bin/tsc'),
    [
      '-p',
      join(ROOT, 'tsconfig.json'),
      '--outDir',
      join(full, 'dist'),
      '--declaration',
      'false',
      '--sourceMap',
      'false',
    ],
    { encoding: 'utf8', timeout: COMPILE_TIMEOUT_MS },
  )
  if (!existsSync(join(full, 'dist/cli/main.js'))) {
    rmSync(directory, { recursive: true, force: true })
    throw new Error(`tsc made nothing: ${compiled.stdout}${compiled.stderr}`)
  }
  cpSync(join(ROOT, 'package.json'), join(full, 'package.json'))
  writeFileSync(join(full, 'dist/sync/sync.js'), FAKE_SYNC)
  writeFileSync(join(full, 'dist/sync/serve.js'), FAKE_SERVE)
  cpSync(full, bare, { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(full, 'node_modules'))

  const children = new Set<ChildProcess>()
  return {
    start: (words, { fake = '', without } = {}) => {
      const main = join(without === 'packages' ? bare : full, 'dist/cli/main.js')
      const child = spawn(process.execPath, [main, ...words], {
        cwd: directory,
        env: { ...process.env, FAKE: fake, NODE_OPTIONS: '' },
        timeout: RUN_TIMEOUT_MS,
        killSignal: 'SIGKILL',
      })
      children.add(child)
      return watch(child)
    },
    [Symbol.dispose]: () => {
      for (const child of children) child.kill('SIGKILL')
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function watch(child: ReturnType<typeof spawn>): Running {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
  const said = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (stderr.includes(text)) resolve()
      }
      child.stderr?.on('data', look)
      child.once('close', () => reject(new Error(`it ended without saying ${text}: ${stderr}`)))
      look()
    })
  return { child, ended, said }
}
