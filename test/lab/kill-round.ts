// One round of the kill tests: a migration is struck at one moment, then ended with --abort or --continue, and exactly one
// host has the guest, which counts on. Rejects where that is not so, with the condition of both hosts.

import { expect } from 'vitest'

import type { HostName } from './host-files.js'
import type { LabGuest } from './guest.js'
import type { LabHosts } from './hosts.js'
import {
  JournalWatch,
  blocksync,
  conditionOf,
  expectRunsOnlyOn,
  expectStartRefused,
  migrateWords,
  other,
} from './migrate.js'
import type { Answer } from './programs.js'

/** When: at the n-th line of the source's journal (from 1), or so many ms after its start. */
export type Moment = Readonly<{ line: number }> | Readonly<{ afterMs: number }>

/** What is struck: the command, the link between the hosts, or a libvirtd. */
export type Victim = 'controller' | 'link' | 'libvirtd here' | 'libvirtd there'

export type Strike = Readonly<{ victim: Victim; moment: Moment; remedy: 'abort' | 'continue' }>

/** What became of it, for a person. */
export type Outcome = Readonly<{ runsOn: HostName; text: string; landed: 'in time' | 'too late' }>

/** Exit statuses of docs/cli.md that leave the guest in one piece on the source. */
const STOPPED = 9
const REFUSED = 3

export async function strike(
  hosts: LabHosts,
  guest: LabGuest,
  from: HostName,
  plan: Strike,
): Promise<Outcome> {
  const to = other(from)
  const startedAt = performance.now()
  using journal = await JournalWatch.open(hosts, from)
  const running = await hosts.start(from, migrateWords(guest.name, to))
  await Promise.race([running.ended, reached(journal, plan.moment)])
  const atMs = Math.round(performance.now() - startedAt)
  const state = lastWords(journal.lines)
  await hit(hosts, running.pid, from, plan.victim)
  const answer = await running.ended
  await mend(hosts, from, plan.victim)
  const id = journal.id
  const facts = [
    `${from} -> ${to}`,
    `${plan.victim} at ${atMs} ms, line ${journal.lines.length} ${state}`,
    `ended ${answer.signal ?? answer.status}`,
  ]
  try {
    // A move that is refused proves nothing of what was to be struck.
    expect(answer.status, 'the move was refused').not.toBe(REFUSED)
    // It may have ended by itself: what it then says of itself has to be true already.
    if (id !== null && !(await isOver(guest, answer, from, to)))
      facts.push(await mendBy(hosts, from, id, plan.remedy))
    // It was put back while the other host could not be asked: a paused guest may be left there, which --abort takes away.
    else if (id !== null && answer.status === STOPPED) facts.push(await mendBy(hosts, from, id, 'abort'))
    const runs = await guest.runsOn()
    facts.push(`runs on ${runs.join() || 'nothing'}`)
    expect(runs).toHaveLength(1)
    const [runsOn = from] = runs
    await expectRunsOnlyOn(guest, runsOn, 2)
    if (runsOn === to) await expectStartRefused(hosts, guest, from)
    return { runsOn, text: facts.join('; '), landed: answer.status === 0 ? 'too late' : 'in time' }
  } catch (error) {
    const condition = await conditionOf(hosts, guest)
    throw new Error(`${facts.join('; ')}: ${String(error)}\n${answer.stderr}${answer.stdout}\n${condition}`, {
      cause: error,
    })
  }
}

async function reached(journal: JournalWatch, moment: Moment): Promise<void> {
  if ('line' in moment) return journal.reaches(moment.line)
  await new Promise((resolve) => setTimeout(resolve, moment.afterMs))
}

async function hit(hosts: LabHosts, pid: number, from: HostName, victim: Victim): Promise<void> {
  switch (victim) {
    case 'controller':
      return killOf(pid)
    case 'link':
      await hosts.must(from, ['ip', 'link', 'set', 'eth0', 'down'])
      return
    case 'libvirtd here':
      return hosts.stopDaemon(from, 'libvirtd')
    case 'libvirtd there':
      return hosts.stopDaemon(other(from), 'libvirtd')
    default:
      return victim satisfies never
  }
}

function killOf(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It was quicker.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

async function mend(hosts: LabHosts, from: HostName, victim: Victim): Promise<void> {
  switch (victim) {
    case 'controller':
      return
    case 'link':
      await hosts.must(from, ['ip', 'link', 'set', 'eth0', 'up'])
      return
    case 'libvirtd here':
      return hosts.startDaemon(from, 'libvirtd')
    case 'libvirtd there':
      return hosts.startDaemon(other(from), 'libvirtd')
    default:
      victim satisfies never
  }
}

/** A run that ended by itself with 0 or 9 left nothing open. */
async function isOver(guest: LabGuest, answer: Answer, from: HostName, to: HostName): Promise<boolean> {
  if (answer.status !== 0 && answer.status !== STOPPED) return false
  expect(await guest.runsOn(), answer.stdout).toEqual([answer.status === 0 ? to : from])
  return true
}

/** Ends an open migration by the command that was asked for; where that one is refused, by the other. */
async function mendBy(
  hosts: LabHosts,
  from: HostName,
  id: string,
  remedy: 'abort' | 'continue',
): Promise<string> {
  const said: string[] = []
  for (const action of remedy === 'abort' ? ['--abort', '--continue'] : ['--continue', '--abort']) {
    const answer = await blocksync(hosts, from, action, id, '--json')
    said.push(`${action} ${answer.status}`)
    if (answer.status === 0 || answer.status === STOPPED) return said.join(', ')
    // It was struck when all was done, and the last line of its journal written.
    if (answer.stdout.includes('"migrate/ended"')) return `${said.join(', ')} (it was over)`
    said.push(`(${answer.stderr.trim().split('\n').at(-1) ?? ''})`)
  }
  throw new Error(`neither --abort nor --continue ended it: ${said.join(' ')}`)
}

function lastWords(lines: readonly string[]): string {
  return (lines.at(-1) ?? '(no journal)').slice(0, 90)
}
