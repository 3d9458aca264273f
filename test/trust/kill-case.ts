// One run of the kill matrix: real processes, one blow, and then everything that has to hold whatever happened: the status,
// the processes and files left behind, the record, and that the run can be repeated or taken back. Throws what does not hold.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { loadAllRecords } from '../../src/state/disk-records.js'
import {
  type Ended,
  relay,
  type Relay,
  REMOTE_COMMAND,
  runCli,
  type Running,
  startCli,
} from '../support/cli.js'
import { openScratch, type Scratch } from '../support/disks.js'
import { childrenOf, isRunning, until } from '../support/processes.js'
import { contentOf, strangeSector } from './kill-content.js'
import type { Instant, KillPlan } from './kill-plan.js'

/** With --timeout 2: the far end's last words, a hard kill of what does not go, and a machine that is busy. */
const GIVES_UP_MS = 15_000
const GONE_MS = 12_000
const END_MS = 40_000

export type KillStage = Readonly<{
  /** A loop device of the right size that nobody else uses, or null. */
  loop: string | null
  sshConfig: string | null
}>

export type KillOutcome = Readonly<{
  status: number | null
  /** The blow fell while the run went on. */
  hit: boolean
  /** What the destination was then. */
  found: 'old' | 'new' | 'mixed'
  undone: boolean
  /** Undo was hit while it went on. */
  undoHits: number
}>

class Broken extends Error {}

function hold(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Broken(what)
}

/** Everything of one case is below this directory, and every process of it has that path in its words or environment. */
type Place = Readonly<{
  on: Scratch
  state: string
  run: string
  tmp: string
  environment: NodeJS.ProcessEnv
}>

async function makePlace(on: Scratch): Promise<Place> {
  const [state, run, tmp] = [on.path('state'), on.path('run'), on.path('tmp')]
  for (const path of [state, run, tmp]) await mkdir(path, { mode: 0o700 })
  const environment = { BLOCKSYNC_STATE_DIR: state, XDG_RUNTIME_DIR: run, TMPDIR: tmp }
  return { on, state, run, tmp, environment }
}

/** Ids of processes that belong to the case, and their words. */
function processesOf({ on }: Place): { pid: number; words: string[] }[] {
  const found: { pid: number; words: string[] }[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!/^\d+$/.test(name) || pid === process.pid || !isRunning(pid)) continue
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      if (words.includes(on.directory) || readFileSync(`/proc/${pid}/environ`, 'utf8').includes(on.directory))
        found.push({ pid, words: words.split('\0') })
    } catch {
      // it ended between the listing and the read
    }
  }
  return found
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false // it has ended by itself
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function within<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Broken(`not within ${timeoutMs} ms: ${what}`)), timeoutMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

export async function runKillCase(plan: KillPlan, stage: KillStage): Promise<KillOutcome> {
  await using on = await openScratch()
  const place = await makePlace(on)
  try {
    return await new KillCase(plan, stage, place).run()
  } finally {
    for (const { pid } of processesOf(place)) {
      signal(pid, 'SIGKILL')
      signal(pid, 'SIGCONT')
    }
  }
}

class KillCase {
  readonly #plan: KillPlan
  readonly #stage: KillStage
  readonly #place: Place
  readonly #content: { fresh: Buffer; old: Buffer }
  #from = ''
  #to = ''

  constructor(plan: KillPlan, stage: KillStage, place: Place) {
    this.#plan = plan
    this.#stage = stage
    this.#place = place
    this.#content = contentOf(plan.contentSeed)
  }

  async run(): Promise<KillOutcome> {
    const { on } = this.#place
    const { undo } = this.#plan
    const { fresh, old } = this.#content
    this.#from = await on.file('source.img', fresh)
    this.#to = await this.#destination()

    const { ended, hit } = await this.#runAndHit()
    await this.#nobodyLeft('the run')
    const disk = await readFile(this.#to)
    const found = disk.equals(fresh) ? 'new' : disk.equals(old) ? 'old' : 'mixed'
    this.#checkEnd(ended, found)
    const strange = strangeSector(disk, old, fresh)
    hold(strange === null, `the sector at ${strange} is neither old nor new (${statusOf(ended)})`)
    await this.#checkRecords('after the blow')

    const undoHits = undo ? await this.#takeBack(found) : 0
    await this.#again()
    return { status: ended.status, hit, found, undone: undo, undoHits }
  }

  async #destination(): Promise<string> {
    const { loop } = this.#stage
    if (this.#plan.disk === 'file' || loop === null)
      return await this.#place.on.file('target.img', this.#content.old)
    await using handle = await open(loop, 'r+')
    await handle.write(this.#content.old, 0, this.#content.old.length, 0)
    await handle.sync()
    return loop
  }

  /** The words of the run, over the way of the plan. */
  #words(line: Relay | null, extra: readonly string[]): string[] {
    const { way, direction } = this.#plan
    const there = (path: string): string => (way === 'local' ? path : `far:${path}`)
    const operands = direction === 'push' ? [this.#from, there(this.#to)] : [there(this.#from), this.#to]
    const ssh = ['--ssh', 'openssh', '-F', this.#stage.sshConfig ?? '', '--remote-command', REMOTE_COMMAND]
    const over = way === 'openssh' ? ssh : (line?.words ?? [])
    return ['--json', ...operands, '--block-size', '64K', '--state-dir', this.#place.state, ...over, ...extra]
  }

  #start(line: Relay | null, extra: readonly string[]): Running {
    return startCli(this.#place.on, this.#words(line, extra), { environment: this.#place.environment })
  }

  async #runAndHit(): Promise<{ ended: Ended; hit: boolean }> {
    const { undo, verify, blow, instant, way, victim } = this.#plan
    const extra = [
      ...(undo ? ['--undo'] : []),
      ...(verify === 'none' ? [] : [`--verify=${verify}`]),
      ...(blow === 'SIGSTOP' ? ['--timeout', '2'] : []),
      ...(instant.kind === 'sent' ? ['--progress', '--bwlimit', '4M'] : []),
    ]
    const isCut = blow === 'cut' || blow === 'cut-inside'
    const line = way === 'relay' ? await relay(this.#place.on, this.#relayPlan()) : null
    const running = this.#start(line, extra)
    const over = running.ended.then(() => false)
    // a rejection would be one that nobody sees where the run ends first
    over.catch(() => undefined)
    const isTime = await Promise.race([this.#comes(instant, running, line), over])
    let pid: number | null = null
    let hit = isTime && isRunning(running.pid)
    if (hit && !isCut) {
      pid = await this.#victimPid(running)
      if (instant.kind === 'frame' && instant.afterMs !== null) {
        line?.letGo()
        await pause(instant.afterMs)
      }
      hit = pid !== null && isRunning(running.pid) && signal(pid, blow)
      if (instant.kind === 'frame' && instant.afterMs === null) line?.letGo()
    }
    if (blow === 'SIGSTOP' && hit && pid !== null) await this.#whileStopped(running, pid, victim)
    const ended = await within(running.ended, END_MS, `the client ends; ${this.#who()}`)
    return { ended, hit }
  }

  #relayPlan(): { on: `${'up' | 'down'}:${string}:${number}`; act: 'hold' | 'cut' | 'cut-inside' } | null {
    const { instant, blow, direction } = this.#plan
    if (instant.kind !== 'frame') return null
    const { sender, frame, nth } = instant
    const isUp = sender === 'C' || (direction === 'push' ? sender === 'src' : sender === 'dst')
    const act = blow === 'cut' || blow === 'cut-inside' ? blow : 'hold'
    return { on: `${isUp ? 'up' : 'down'}:${frame}:${nth}`, act }
  }

  /** Resolves with true when the instant has come. */
  async #comes(instant: Instant, running: Running, line: Relay | null): Promise<boolean> {
    if (instant.kind === 'frame') await line?.reached()
    else if (instant.kind === 'moment') await pause(instant.afterMs)
    else if (instant.kind === 'sent') {
      const began = await running.said(/"sentBytes":[1-9]/).then(
        () => true,
        () => false, // it was over before
      )
      if (!began) return false
      await pause(instant.afterMs)
    }
    return true
  }

  /** Waits for the victim where it is not born yet; null where the run is over before. */
  async #victimPid(running: Running): Promise<number | null> {
    const { victim } = this.#plan
    if (victim === 'client') return running.pid
    let pid: number | undefined
    const look = (): boolean => {
      if (!isRunning(running.pid)) return true
      if (victim === 'far') pid = processesOf(this.#place).find(({ words }) => isServe(words))?.pid
      else pid = childrenOf(running.pid)[0]
      return pid !== undefined
    }
    await until(look, `a process to hit as ${victim}`, GIVES_UP_MS)
    return pid ?? null
  }

  /** One is stopped: the others end by themselves, and it ends too when it goes on. */
  async #whileStopped(running: Running, pid: number, victim: KillPlan['victim']): Promise<void> {
    const isFar = ({ words }: { words: string[] }): boolean => isServe(words)
    try {
      if (victim !== 'client')
        await within(running.ended, GIVES_UP_MS, `the client ends while ${victim} is stopped; ${this.#who()}`)
      if (victim !== 'far')
        await until(
          () => !processesOf(this.#place).some(isFar),
          `the far end goes while ${victim} is stopped`,
          GIVES_UP_MS,
        )
    } finally {
      signal(pid, 'SIGCONT')
    }
  }

  #who(): string {
    return processesOf(this.#place)
      .map(({ pid, words }) => `${pid} ${words.slice(1, 4).join(' ')}`)
      .join('; ')
  }

  async #nobodyLeft(what: string): Promise<void> {
    try {
      await until(() => processesOf(this.#place).length === 0, `nobody is left`, GONE_MS)
    } catch {
      throw new Broken(`${what} left processes behind: ${this.#who()}`)
    }
  }

  #checkEnd(ended: Ended, found: KillOutcome['found']): void {
    const { victim, blow } = this.#plan
    const told = `${statusOf(ended)}: ${ended.stderr.trim()}`
    if (ended.signal !== null) {
      // before it listens for signals it has opened nothing, and behind that the run is over
      const isBeside = found !== 'mixed' && (blow === 'SIGINT' || blow === 'SIGTERM')
      const what = `${told}; the disk is ${found}, it said ${ended.stdout}`
      hold(victim === 'client' && ended.signal === blow && (blow === 'SIGKILL' || isBeside), what)
      return
    }
    const allowed = [0, 8, 4]
    if (victim === 'client' && blow === 'SIGINT') allowed.push(130)
    if (blow === 'SIGTERM') allowed.push(143)
    hold(ended.status !== null && allowed.includes(ended.status), `an undocumented end, ${told}`)
    if (ended.status === 0) hold(found === 'new', `success was reported of a disk that is ${found}`)
    if (ended.status === 4) hold(found === 'old', `it could not be reached and is ${found}: ${told}`)
    const last: unknown = JSON.parse(ended.stdout.trim().split('\n').at(-1) ?? 'null')
    hold(typeof last === 'object' && last !== null && 'ok' in last, `no result, ${told}`)
    hold(last.ok === (ended.status === 0), `ok is ${String(last.ok)}, ${told}`)
    if (ended.status !== 0) hold(ended.stderr.trim() !== '', `nothing was said, ${told}`)
  }

  async #checkRecords(when: string): Promise<number> {
    const { records, problems } = await loadAllRecords(this.#place.state)
    hold(problems.length === 0, `records ${when}: ${problems.join('; ')}`)
    return records.length
  }

  /** Undo, hit as often as the plan says; then the old content is there byte for byte. Resolves with the hits that met it. */
  async #takeBack(found: KillOutcome['found']): Promise<number> {
    const words = ['undo', '--yes', '--json', this.#to, '--state-dir', this.#place.state]
    const { environment, on } = this.#place
    let hits = 0
    for (const [index, afterMs] of this.#plan.undoHitsMs.entries()) {
      const undoing = startCli(on, words, { environment })
      await Promise.race([pause(afterMs), undoing.ended])
      const name = (['SIGKILL', 'SIGTERM', 'SIGINT'] as const)[(this.#plan.seed + index) % 3] ?? 'SIGKILL'
      if (signal(undoing.pid, name)) hits += 1
      const ended = await within(undoing.ended, END_MS, 'the undo ends')
      await this.#nobodyLeft('the undo')
      if (ended.status === 0 || ended.status === 3) break
      hold(
        ended.signal === name || ended.status === 130 || ended.status === 143,
        `undo: ${statusOf(ended)}: ${ended.stderr}`,
      )
      const strange = strangeSector(await readFile(this.#to), this.#content.old, this.#content.fresh)
      hold(strange === null, `the sector at ${strange} is neither old nor new after ${name} of the undo`)
    }
    const ended = await runCli(on, words, { environment })
    const isMissing = ended.status === 3 && ended.stdout.includes('undo/missing')
    hold(ended.status === 0 || isMissing, `undo: ${statusOf(ended)}: ${ended.stderr}`)
    const isOld = (await readFile(this.#to)).equals(this.#content.old)
    hold(
      isOld,
      `the old content is not there after ${isMissing ? 'a missing ' : ''}undo of a disk that was ${found}`,
    )
    return hits
  }

  /** Nobody is left who could remove the socket of a client that was killed. */
  #mayStay(name: string): boolean {
    const { victim, blow, way } = this.#plan
    return way === 'openssh' && victim === 'client' && blow === 'SIGKILL' && name.endsWith('/bond')
  }

  /** The same run once more, without undo: it is done, and leaves nothing behind. */
  async #again(): Promise<void> {
    const { state, run, tmp, on, environment } = this.#place
    const line = this.#plan.way === 'relay' ? await relay(on, null) : null
    const ended = await runCli(on, this.#words(line, []), { environment })
    hold(ended.status === 0, `the same again: ${statusOf(ended)}: ${ended.stderr}`)
    hold(
      (await readFile(this.#to)).equals(this.#content.fresh),
      'the same again reported success of a disk that is not equal',
    )
    await this.#nobodyLeft('the same again')
    hold((await this.#checkRecords('at the end')) === 2, 'there are not two records at the end')
    const { records } = await loadAllRecords(state)
    const marked = records.filter(({ running }) => running !== null)
    hold(marked.length === 0, `a record is still marked: ${JSON.stringify(records)}; ${ended.stderr}`)
    const all = [
      ...(await filesBelow(run)),
      ...(await filesBelow(tmp)),
      ...(await filesBelow(join(state, 'undo'))),
    ]
    const left = all.filter((name) => !this.#mayStay(name))
    hold(left.length === 0, `left behind: ${left.join(', ')}`)
    const isHard = this.#plan.blow === 'SIGKILL' || this.#plan.undoHitsMs.length > 0
    const temporary = (await filesBelow(state)).filter((name) => name.includes('.new-'))
    hold(isHard || temporary.length === 0, `left behind: ${temporary.join(', ')}`)
  }
}

function isServe(words: readonly string[]): boolean {
  return (
    (words[0] ?? '').endsWith('node') &&
    words.includes('serve') &&
    !words.some((word) => word.endsWith('relay.js'))
  )
}

async function filesBelow(directory: string): Promise<string[]> {
  if (!existsSync(directory)) return []
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
}

function statusOf({ status, signal: by }: Ended): string {
  return by === null ? `status ${status}` : `by ${by}`
}
