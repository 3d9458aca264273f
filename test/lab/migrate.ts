// Runs `blocksync migrate` on a host of the lab, as a person there would, and takes its JSON lines apart; looks at what it
// left on both hosts. Refuses a run whose last line is no result.

import { existsSync, readdirSync, readFileSync, watch, type FSWatcher } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import { expect } from 'vitest'

import { ADDRESSES, HOST_NAMES, type HostName } from './host-files.js'
import type { LabGuest } from './guest.js'
import type { LabHosts } from './hosts.js'
import type { Answer } from './programs.js'

/** The result line of docs/cli.md, as far as tests look at it. */
export type MigrateResult = Readonly<{
  event: 'result'
  ok: boolean
  guest: string
  hypervisor: string
  mode: string
  from: string
  to: string
  rounds: ReadonlyArray<
    Readonly<{ sentBytes: number; durationMs: number; forecastDowntimeMs: number | null }>
  >
  downtimeMs: number | null
  downtime: Readonly<Record<string, number>> | null
  runsOn: 'source' | 'destination' | 'nowhere'
  journal: string | null
  error?: Readonly<{ code: string; message: string }>
}>

/** 60 s of rounds, save and copy on a machine that does other things too. */
const MIGRATE_TIMEOUT_MS = 120_000

/** By hand the guest was stopped for 3 s; a machine under load takes its time, and a regression takes more. */
export const DOWNTIME_BAR_MS = 8000

/** Makes files that are missing there: a word for every move of the tests, but where a refusal is what is tested. */
export const CREATE = ['--create', 'file'] as const

export const other = (host: HostName): HostName => (host === 'A' ? 'B' : 'A')

export function migrateWords(guest: string, to: HostName): string[] {
  return ['blocksync', 'migrate', guest, ADDRESSES[to], '--json', ...CREATE]
}

/** `blocksync migrate WORDS --json` on a host, to its end. */
export function blocksync(hosts: LabHosts, host: HostName, ...words: readonly string[]): Promise<Answer> {
  return hosts.run(host, ['blocksync', 'migrate', ...words], { timeoutMs: MIGRATE_TIMEOUT_MS })
}

/** Moves a guest to the other host; expects the status and resolves with the result. */
export async function move(
  hosts: LabHosts,
  guest: LabGuest,
  from: HostName,
  words: readonly string[] = [],
  status = 0,
): Promise<MigrateResult> {
  const answer = await blocksync(
    hosts,
    from,
    guest.name,
    ADDRESSES[other(from)],
    '--json',
    ...CREATE,
    ...words,
  )
  const said = `${answer.stderr}${answer.stdout}`
  expect(answer.status, said).toBe(status)
  const result = resultOf(answer)
  if (status === 0) {
    expect(result, said).toMatchObject({ ok: true, guest: guest.name, hypervisor: 'libvirt' })
    console.log(
      `${guest.name} ${from} -> ${other(from)} (${result.mode}): downtime ${result.downtimeMs} ms ` +
        `${JSON.stringify(result.downtime)}, rounds ${JSON.stringify(result.rounds)}`,
    )
  }
  return result
}

export function resultOf({ stdout, stderr }: Answer): MigrateResult {
  const last = stdout.trim().split('\n').at(-1) ?? ''
  const parsed: unknown = last.startsWith('{') ? JSON.parse(last) : null
  if (typeof parsed !== 'object' || parsed === null || !('event' in parsed) || parsed.event !== 'result')
    throw new Error(`no result at the end of stdout: ${stdout}${stderr}`)
  return parsed as unknown as MigrateResult
}

/** The guest runs on `host` and nowhere else, counts on there, and has nothing to complain of. */
export async function expectRunsOnlyOn(guest: LabGuest, host: HostName, ticks = 3): Promise<void> {
  await guest.countsOn(host, ticks)
  expect(await guest.runsOn()).toEqual([host])
  expect(['absent', 'shut off']).toContain(await guest.state(other(host)))
  expect(guest.complaints()).toEqual([])
}

/** Neither the definition that is left there, under its old name, nor the XML that it came from starts on the old host. */
export async function expectStartRefused(hosts: LabHosts, guest: LabGuest, host: HostName): Promise<void> {
  const virsh = ['virsh', '--quiet', '--connect', 'qemu:///system']
  const path = `/srv/vm/${guest.name}.again.xml`
  await hosts.must(host, ['tee', path], { input: guest.definition })
  for (const words of [
    ['start', guest.name],
    ['create', path],
  ]) {
    const answer = await hosts.run(host, [...virsh, ...words])
    expect(answer.status, `virsh ${words.join(' ')} on ${host} was not refused`).not.toBe(0)
  }
  await hosts.must(host, ['rm', path])
  expect(await guest.runsOn()).not.toContain(host)
}

/** What is on a host that a plan or a refused migration must not have touched: names and sizes, definitions, guests. */
export async function traceOf(hosts: LabHosts, host: HostName): Promise<string> {
  const places = ['/srv', '/var/lib/blocksync', '/etc/libvirt', '/var/lib/libvirt/qemu', '/run/libvirt/qemu']
  const words = ['find', ...places, '-not', '-name', '*.console', '-type', 'f', '-printf', '%p %s %m\n']
  const [files, guests] = await Promise.all([hosts.must(host, words), hosts.virsh(host, 'list', '--all')])
  // libvirt writes the time into the status of a guest that runs; its presence is what is asked for.
  const names = files.split('\n').map((line) => (line.startsWith('/run') ? line.split(' ')[0] : line))
  return `${names
    .filter((name) => name !== undefined)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join('\n')}\n${guests}`
}

/** The journals of a role on a host: their ids, oldest first. */
export function journals(hosts: LabHosts, host: HostName, role: 'source' | 'destination'): string[] {
  const directory = hosts.outside(host, '/var/lib/blocksync/migrate')
  if (!existsSync(directory)) return []
  return readdirSync(directory).filter((id) => existsSync(join(directory, id, `${role}.jsonl`)))
}

/** The whole lines of a journal. */
export function journalLines(hosts: LabHosts, host: HostName, id: string): string[] {
  const path = hosts.outside(host, `/var/lib/blocksync/migrate/${id}/source.jsonl`)
  if (!existsSync(path)) return []
  return readFileSync(path, 'utf8').split('\n').slice(0, -1)
}

/** Tells of every line that a new journal of this host gets, as soon as it is there. Who opens it closes it. */
export class JournalWatch implements Disposable {
  readonly #hosts: LabHosts
  readonly #host: HostName
  readonly #before: ReadonlySet<string>
  readonly #watchers: FSWatcher[] = []
  readonly #waiting = new Set<() => void>()
  #id: string | null = null

  private constructor(hosts: LabHosts, host: HostName) {
    this.#hosts = hosts
    this.#host = host
    this.#before = new Set(readdirSync(hosts.outside(host, '/var/lib/blocksync/migrate')))
  }

  static async open(hosts: LabHosts, host: HostName): Promise<JournalWatch> {
    const directory = hosts.outside(host, '/var/lib/blocksync/migrate')
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const opened = new JournalWatch(hosts, host)
    opened.#watchers.push(watch(directory, () => opened.#look()))
    return opened
  }

  /** Of the journal that was made since; null before. */
  get id(): string | null {
    return this.#id
  }

  get lines(): string[] {
    return this.#id === null ? [] : journalLines(this.#hosts, this.#host, this.#id)
  }

  /** Resolves when the journal has so many lines; never when the run ends with fewer: race it with that. */
  reaches(count: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.lines.length < count) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      this.#look()
    })
  }

  [Symbol.dispose](): void {
    for (const watcher of this.#watchers) watcher.close()
  }

  #look(): void {
    if (this.#id === null) {
      const directory = this.#hosts.outside(this.#host, '/var/lib/blocksync/migrate')
      const id = readdirSync(directory).find((name) => !this.#before.has(name))
      if (id !== undefined) {
        this.#watchers.push(watch(join(directory, id), () => this.#look()))
        this.#id = id
      }
    }
    for (const look of this.#waiting) look()
  }
}

/** Whatever went wrong, both hosts are said how they are: for the message of a failed test. */
export async function conditionOf(hosts: LabHosts, guest: LabGuest): Promise<string> {
  const parts: string[] = []
  for (const host of HOST_NAMES) {
    const list = await hosts.run(host, ['virsh', '--quiet', '--connect', 'qemu:///system', 'list', '--all'])
    const last = guest.console(host).slice(-3).join(' | ')
    parts.push(
      `${host}: ${list.stdout.trim()} [${last}] journals: ${journals(hosts, host, 'source').join(' ')}`,
    )
  }
  return parts.join('\n')
}
