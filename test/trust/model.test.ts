// Random sequences of commands over three small disks, against the model: syncs with options, killed ones, the direction
// turned round, undo, verify, dry runs, digests, status, disks that others change or resize. Seeded; what breaks is printed
// as the sequence that led there. BLOCKSYNC_MODEL_SEEDS=200 goes on for longer.

import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'

import { expect, it } from 'vitest'

import type { CommandContext } from '../../src/cli/context.js'
import { EARLY_PARTS, runEarly } from '../../src/cli/early.js'
import { Output } from '../../src/cli/output.js'
import { processContext } from '../../src/cli/process.js'
import { runProgram } from '../../src/cli/program.js'
import { MemoryStream } from '../cli/fixtures.js'
import { startCli } from '../support/cli.js'
import { openScratch, randomBytes, type Scratch } from '../support/disks.js'
import { childrenOf } from '../support/processes.js'
import { randomFrom } from '../undo/power.js'
import { strangeSector } from './kill-content.js'
import { type Expected, hashOf, Model, type Name, type SizePolicy } from './model.js'

const KIB = 1 << 10
const SIZES: readonly number[] = [4096 * KIB, 6144 * KIB + 512]
const STEPS = 14
const SEEDS = Number(process.env['BLOCKSYNC_MODEL_SEEDS'] ?? '3')
const FIRST_SEED = Number(process.env['BLOCKSYNC_MODEL_FIRST'] ?? '1')

/** Once: each one listens to the streams of the process. */
const OF_THE_PROCESS = processContext(() => undefined)

type Kill = Readonly<{ how: 'SIGINT' | 'far' | 'hard'; afterMs: number }>

type Ran = Readonly<{ status: number | null; stdout: string; stderr: string }>

/** What of a run's JSON is looked at. */
type RunResult = Readonly<{
  ok: boolean
  sentBytes: number
  differentBlocks: number
  zeroBlocks: number
  sameBlocks: number
  skippedBlocks: number
  totalBlocks: number
}>

async function runWords(words: readonly string[], kill: Kill | null, on: Scratch): Promise<Ran> {
  if (kill?.how === 'hard') {
    const running = startCli(on, words)
    setTimeout(() => running.child.kill('SIGKILL'), kill.afterMs)
    return await running.ended
  }
  const [stdout, stderr] = [new MemoryStream(), new MemoryStream()]
  const signals = new EventEmitter()
  const context: CommandContext = {
    ...OF_THE_PROCESS,
    output: new Output(stdout, stderr),
    signals,
    ask: null,
    loadSync: () => Promise.resolve(runEarly(EARLY_PARTS)),
  }
  const strike = (): void => {
    if (kill?.how === 'SIGINT') signals.emit('SIGINT')
    else for (const pid of childrenOf(process.pid)) if (isServe(pid)) process.kill(pid, 'SIGKILL')
  }
  const timer = kill === null ? null : setTimeout(strike, kill.afterMs)
  const status = await runProgram(words, context)
  if (timer !== null) clearTimeout(timer)
  return { status, stdout: stdout.text, stderr: stderr.text }
}

function isServe(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('serve')
  } catch {
    return false // it has ended
  }
}

/** One sequence: disks, their model, and what was done. */
class Story {
  readonly #random: () => number
  readonly #model = new Model()
  readonly #on: Scratch
  readonly #state: string
  readonly #roots = new Map<string, string>()
  readonly log: string[] = []
  /** How often each outcome was met, for figures and to see that the sequences are not idle. */
  readonly met: Record<string, number> = {}

  constructor(seed: number, on: Scratch) {
    this.#random = randomFrom(seed)
    this.#on = on
    this.#state = on.path('state')
  }

  async run(): Promise<void> {
    await mkdir(this.#state, { mode: 0o700 })
    for (const name of ['a', 'b', 'c'] as const) await this.#put(name, this.#someContent(SIZES[0] ?? 0))
    const steps = [
      () => this.#sync(null),
      () => this.#sync(null),
      () => this.#sync(null),
      () => this.#sync({ how: this.#pick('SIGINT', 'far', 'hard'), afterMs: 100 + this.#below(900) }),
      () => this.#undo(),
      () => this.#compare(),
      () => this.#digest(),
      () => this.#status(),
      () => this.#change(),
      () => this.#change(),
      () => this.#resize(),
    ]
    for (let step = 0; step < STEPS; step += 1) {
      await this.#pick(...steps)()
      for (const [name, content] of this.#model.disks)
        expect((await this.#read(name)).equals(content), `disk ${name} is what it should be`).toBe(true)
    }
  }

  async #sync(kill: Kill | null): Promise<void> {
    const [from, to] = this.#two()
    const undo = this.#random() < 0.5
    const force = this.#random() < 0.25
    const size = this.#pick<SizePolicy>('strict', 'strict', 'grow', 'min')
    const options = [
      ...(size === 'strict' ? [] : ['--size', size]),
      // slow enough that it can be killed before its end
      ...(kill === null ? [] : ['--bwlimit', '4M']),
      ...(undo ? ['--undo'] : []),
      ...(force ? ['--force-direction'] : []),
      ...this.#pick<readonly string[]>([], [], ['--verify'], ['--verify=all'], ['-z']),
      ...this.#geometry(),
    ]
    const expected = this.#model.sync(from, to, { force, size })
    const after = this.#model.target(from, to, size)
    const before = this.#model.content(to)
    const ran = await this.#do([...this.#operands(from, to), ...options], kill)
    const found = await this.#read(to)
    if (kill !== null && ran.status !== 0 && ran.status !== 3) {
      expect([null, 4, 8, 130], `a killed run: ${ran.stderr}`).toContain(ran.status)
      const isRefused = after === null || expected.statuses.every((status) => status === 3)
      const [one, other] = isRefused ? [before, before] : [before, after]
      expect([one.length, other.length], 'the length').toContain(found.length)
      const strange = strangeSector(found, padded(one, found.length), padded(other, found.length))
      expect(strange, 'a sector that is neither old nor new').toBe(null)
      // where it would have been refused it has left nothing, however early it was killed
      if (!isRefused) this.#model.killed(from, to, undo, { found, after })
      return
    }
    this.#hold(ran, expected, found)
    if (ran.status !== 0) return
    if (after === null || !found.equals(after)) throw new Error('status 0, and the two are not equal')
    const result = resultOf(ran) as unknown as RunResult
    expect(result.ok).toBe(true)
    const changes = result.differentBlocks + result.zeroBlocks
    // what a file becomes longer by is zeros already
    if (before.length === after.length) expect(changes > 0, 'blocks differed').toBe(!before.equals(after))
    expect(changes + result.sameBlocks + result.skippedBlocks).toBe(result.totalBlocks)
    if (changes === 0) expect(result.sentBytes).toBe(0)
    this.#model.synced(from, to, undo, Buffer.from(after))
  }

  async #undo(): Promise<void> {
    const kept = (['a', 'b', 'c'] as const).filter((name) => this.#model.journal(name).is !== 'none')
    const name = kept.length > 0 && this.#random() < 0.8 ? this.#pick(...kept) : this.#one()
    const expected = this.#model.undo(name)
    const isDry = this.#random() < 0.2
    const before = this.#model.content(name)
    const ran = await this.#do(['undo', this.#path(name), isDry ? '--dry-run' : '--yes'], null)
    const found = await this.#read(name)
    this.#hold(ran, isDry ? { ...expected, contents: [before] } : expected, found)
    if (ran.status === 0 && !isDry) this.#model.undone(name, found)
  }

  async #compare(): Promise<void> {
    const [from, to] = this.#two()
    const words = this.#pick(['verify'], ['-n'])
    const ran = await this.#do([...words, ...this.#operands(from, to), ...this.#geometry()], null)
    this.#hold(ran, this.#model.compare(from, to), await this.#read(to))
  }

  async #digest(): Promise<void> {
    const name = this.#one()
    const algorithm = this.#pick('sha256', 'xxh64x2')
    const words = ['digest', '--json', this.#path(name), '--digest', algorithm]
    this.log.push(words.join(' '))
    const ran = await runWords(words, null, this.#on)
    expect(ran.status, ran.stderr).toBe(0)
    const { digest } = resultOf(ran) as unknown as { digest: { root: string } }
    const key = `${algorithm} ${hashOf(this.#model.content(name))}`
    for (const [known, root] of this.#roots)
      expect(root === digest.root, `the root of ${key}`).toBe(known === key)
    this.#roots.set(key, digest.root)
  }

  async #status(): Promise<void> {
    const ran = await this.#do(['status'], null)
    expect(ran.status, ran.stderr).toBe(0)
    const { pairs } = resultOf(ran) as unknown as {
      pairs: { source: string; destination: string; generation: number; state: string }[]
    }
    for (const { names, pair } of this.#model.knownPairs()) {
      const from = names.split(',').find((name) => name !== pair.towards)
      const is = pairs.filter(
        ({ source, destination }) =>
          source === this.#path(from as Name) && destination === this.#path(pair.towards),
      )
      expect(is.length, `records of ${names}: ${ran.stdout}`).toBe(1)
      if (pair.generation !== null)
        expect(is[0]).toMatchObject({ generation: pair.generation, state: 'finished' })
    }
    if (!this.#model.hasUnknownPairs) expect(pairs.length).toBe(this.#model.knownPairs().length)
  }

  async #change(): Promise<void> {
    const name = this.#one()
    const content = Buffer.from(this.#model.content(name))
    for (let pieces = 1 + this.#below(8); pieces > 0; pieces -= 1) {
      const length = 1 + this.#below(200 * KIB)
      const at = this.#below(content.length - length)
      if (this.#random() < 0.3) content.fill(0, at, at + length)
      else randomBytes(length).copy(content, at)
    }
    content.fill(1, 0, 4096)
    await this.#put(name, content)
    this.log.push(`# ${name} is changed`)
  }

  async #resize(): Promise<void> {
    const name = this.#one()
    const content = Buffer.alloc(this.#pick(...SIZES))
    this.#model.content(name).copy(content)
    await this.#put(name, content)
    this.log.push(`# ${name} has ${content.length} bytes`)
  }

  /** Runs it with --json and the state directory of the story. */
  async #do(words: readonly string[], kill: Kill | null): Promise<Ran> {
    const all = [...words, '--json', '--state-dir', this.#state]
    const isCommand = ['undo', 'status', 'verify'].includes(words[0] ?? '')
    this.log.push(`${words.join(' ')}${kill === null ? '' : `   # ${kill.how} after ${kill.afterMs} ms`}`)
    const ran = await runWords(isCommand ? all : ['--no-progress', ...all], kill, this.#on)
    const what = `${kill === null ? '' : 'killed '}${isCommand ? words[0] : words[0] === '-n' ? 'dry run' : 'sync'} ${ran.status}`
    this.met[what] = (this.met[what] ?? 0) + 1
    this.log.push(`  ${ran.status}: ${ran.stderr.trim().split('\n')[0]}`)
    return ran
  }

  #hold(ran: Ran, { statuses, contents }: Expected, found: Buffer): void {
    expect(statuses, `status ${ran.status}: ${ran.stderr}`).toContain(ran.status)
    if (contents !== 'any')
      expect(
        contents.some((content) => content.equals(found)),
        'the content',
      ).toBe(true)
    if (ran.status === 0 || ran.status === 1) return
    expect(resultOf(ran)).toMatchObject({ ok: false, error: { code: expect.any(String) as string } })
  }

  async #put(name: Name, content: Buffer): Promise<void> {
    await writeFile(this.#path(name), content)
    if (this.#model.disks.has(name)) this.#model.change(name, content)
    else this.#model.disks.set(name, content)
  }

  async #read(name: Name): Promise<Buffer> {
    return await readFile(this.#path(name))
  }

  #path(name: Name): string {
    return this.#on.path(`${name}.img`)
  }

  #operands(from: Name, to: Name): [string, string] {
    return [this.#path(from), this.#path(to)]
  }

  #geometry(): readonly string[] {
    return this.#pick<readonly string[]>(
      [],
      ['--block-size', '64K'],
      ['--block-size', '256K', '--granularity', '512'],
      ['--digest', 'sha256'],
      ['--native', 'off'],
    )
  }

  #someContent(bytes: number): Buffer {
    const content = randomBytes(bytes)
    content.fill(0, bytes >> 2, bytes >> 1)
    content.fill(1, 0, 4096)
    return content
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #pick<T>(...from: readonly T[]): T {
    const picked = from[this.#below(from.length)]
    if (picked === undefined) throw new Error('nothing to pick from')
    return picked
  }

  #one(): Name {
    return this.#pick('a', 'b', 'b', 'c')
  }

  #two(): [Name, Name] {
    return this.#pick<[Name, Name]>(['a', 'b'], ['a', 'b'], ['a', 'b'], ['b', 'a'], ['b', 'c'], ['c', 'a'])
  }
}

/** Longer by zeros, or shorter. */
function padded(content: Buffer, bytes: number): Buffer {
  const sized = Buffer.alloc(bytes)
  content.copy(sized)
  return sized
}

function resultOf({ stdout, stderr }: Ran): object {
  const last: unknown = JSON.parse(stdout.trim().split('\n').at(-1) || 'null')
  if (typeof last !== 'object' || last === null) throw new Error(`no result: ${stdout}${stderr}`)
  return last
}

it(`${SEEDS} sequences of ${STEPS} commands`, { timeout: 30_000 + SEEDS * 30_000 }, async () => {
  const met: Record<string, number> = {}
  const failures: string[] = []
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
    await using on = await openScratch()
    const story = new Story(seed, on)
    try {
      await story.run()
    } catch (error) {
      failures.push(`seed ${seed}: ${String(error)}\n${story.log.join('\n')}`)
    }
    for (const [what, times] of Object.entries(story.met)) met[what] = (met[what] ?? 0) + times
  }
  if (process.env['BLOCKSYNC_MODEL_SEEDS'] !== undefined) console.log(met)
  expect(failures.join('\n\n')).toBe('')
  expect(met['sync 0'] ?? 0).toBeGreaterThan(0)
})
