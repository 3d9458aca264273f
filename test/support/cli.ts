// The built program as a process: started with words, watched, and ended with its test. What it prints is kept; the JSON
// result is taken apart. Also the relay that stands where ssh would and can be told to hold, cut or corrupt the line.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'

import type { Scratch } from './disks.js'

const ROOT = join(import.meta.dirname, '..', '..')
export const MAIN_PATH = join(ROOT, 'dist', 'cli', 'main.js')
export const FIXTURES = join(import.meta.dirname, 'fixtures')
/** A run of a test that takes longer than this hangs. */
const RUN_TIMEOUT_MS = 50_000

/** The far program as a line for a shell. */
export const REMOTE_COMMAND = `${process.execPath} ${MAIN_PATH}`

export type Ended = Readonly<{ status: number | null; signal: string | null; stdout: string; stderr: string }>

export type Result = Readonly<{
  ok: boolean
  sizeBytes: number
  sameBlocks: number
  differentBlocks: number
  zeroBlocks: number
  skippedBlocks: number
  totalBlocks: number
  sentBytes: number
  wireBytesSent: number
  wireBytesReceived: number
  digest: { algorithm: string; root: string | string[] } | null
  native: { source: boolean; destination: boolean }
  transport: string
  created: boolean
  state: string
  attempts: number
  lanes: number
  error?: { code: string; message: string; operand: string | null }
}>

export type Running = Readonly<{
  child: ChildProcess
  pid: number
  ended: Promise<Ended>
  /** Resolves when stdout or stderr matches; rejects when the process ends before. */
  said: (pattern: RegExp) => Promise<void>
}>

export type StartOptions = Readonly<{
  environment?: NodeJS.ProcessEnv
  ownGroup?: 'own-group'
  under?: readonly string[]
}>

/** Starts `blocksync words`; `on` ends it if the test does not. `under` are words in front of it (strace, sh). */
export function startCli(on: Scratch, words: readonly string[], options: StartOptions = {}): Running {
  if (!existsSync(MAIN_PATH)) throw new Error(`${MAIN_PATH} is missing: npm run build`)
  const [program = '', ...rest] = [...(options.under ?? []), process.execPath, MAIN_PATH, ...words]
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', ...options.environment },
    detached: options.ownGroup === 'own-group',
    timeout: RUN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
  on.onClose(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const said = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (pattern.test(stdout) || pattern.test(stderr)) resolve()
      }
      child.stdout.on('data', look)
      child.stderr.on('data', look)
      child.once('close', () =>
        reject(new Error(`it ended without saying ${String(pattern)}: ${stdout}${stderr}`)),
      )
      look()
    })
  return { child, pid: child.pid ?? -1, ended, said }
}

/** Runs `blocksync words` to its end. */
export async function runCli(
  on: Scratch,
  words: readonly string[],
  options: StartOptions = {},
): Promise<Ended> {
  return await startCli(on, words, options).ended
}

/** The result of a run with --json. */
export function resultOf({ stdout, stderr }: Ended): Result {
  const last = stdout.trim().split('\n').at(-1) ?? ''
  const parsed: unknown = last === '' ? null : JSON.parse(last)
  if (typeof parsed !== 'object' || parsed === null || !('event' in parsed) || parsed.event !== 'result') {
    throw new Error(`no result at the end of stdout: ${stdout}${stderr}`)
  }
  return parsed as unknown as Result
}

/** Runs `blocksync --json words`, which must end with 0; resolves with its result. */
export async function synced(
  on: Scratch,
  words: readonly string[],
  options: StartOptions = {},
): Promise<Result> {
  const ended = await runCli(on, ['--json', ...words], options)
  if (ended.status !== 0) throw new Error(`status ${ended.status}: ${ended.stderr}${ended.stdout}`)
  return resultOf(ended)
}

/** What the relay is to do, and when. */
export type RelayPlan = Readonly<{
  on: `${'up' | 'down'}:${string}:${number}`
  act: 'cut' | 'cut-inside' | 'corrupt' | 'oversize' | 'hold'
}>

export type Relay = Readonly<{
  /** Words of the command line that send a run through the relay; any host name will do then. */
  words: readonly string[]
  /** The pid of the far end. */
  farPid: () => Promise<number>
  /** Resolves when the frame of the plan has come by. */
  reached: () => Promise<void>
  /** Lets go what was held. */
  letGo: () => void
}>

let relays = 0

/** A relay for one run; `on` closes its socket. Without a plan it only tells the pid of the far end. */
export async function relay(on: Scratch, plan: RelayPlan | null): Promise<Relay> {
  const path = on.path(`relay-${relays++}`)
  const lines: string[] = []
  const waiting = new Set<() => void>()
  let socket: Socket | null = null
  const server = createServer((incoming) => {
    socket = incoming
    let text = ''
    incoming.on('error', () => undefined)
    incoming.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const whole = text.split('\n')
      text = whole.pop() ?? ''
      lines.push(...whole)
      for (const wake of waiting) wake()
    })
  }).listen(path)
  await once(server, 'listening')
  on.onClose(async () => {
    socket?.destroy()
    const closed = once(server, 'close')
    server.close()
    await closed
  })
  const line = (start: string): Promise<string> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = lines.find((candidate) => candidate.startsWith(start))
        if (found === undefined) return
        waiting.delete(look)
        resolve(found)
      }
      waiting.add(look)
      look()
    })
  const does = plan === null ? '' : ` --on=${plan.on} --do=${plan.act}`
  return {
    words: [
      '-e',
      `${process.execPath} ${join(FIXTURES, 'relay.js')} --control=${path}${does}`,
      '--remote-command',
      REMOTE_COMMAND,
    ],
    farPid: async () => Number((await line('pid ')).split(' ')[1]),
    reached: async () => {
      await line('reached ')
    },
    letGo: () => socket?.write('go\n'),
  }
}

/** Words that put a fixture where ssh would be: it is the far end, whatever was to be run there. */
export function farEnd(mode: string): readonly string[] {
  const far = `${process.execPath} ${join(FIXTURES, 'far-end.js')} ${mode}`
  const shell = `${process.execPath} ${join(FIXTURES, 'relay.js')}`
  const run = mode === 'noise' ? `${far} ${REMOTE_COMMAND}` : far
  return ['-e', shell, '--remote-command', run]
}
