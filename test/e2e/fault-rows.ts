// Rows of the fault tables: what is done wrong, the exit status, a piece of what is said, and what must be left as it was.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'

import { expect } from 'vitest'

import { WINDOW_BYTES } from '../../src/wire/channel.js'
import { relay, type RelayPlan, resultOf, type Running, startCli } from '../support/cli.js'
import { randomBytes, type Scratch } from '../support/disks.js'

const MIB = 1 << 20
/** A few blocks and a short one. */
export const SIZE = 2 * MIB + 100

let made = 0

/** What a row made: the words of the run, what must stay as it is, and what happens while it runs. */
export type Arranged = Readonly<{
  words: readonly string[]
  untouched?: readonly string[]
  during?: (running: Running) => Promise<void>
}>

export type Row = Readonly<{
  name: string
  arrange: (on: Scratch) => Promise<Arranged>
  status: number
  says: RegExp
  /** A failure in the middle says how far it got. */
  partial?: true
  here?: boolean
}>

export const source = (on: Scratch): Promise<string> => on.file(`source-${made++}.img`, randomBytes(SIZE))
export const target = (on: Scratch): Promise<string> => on.file(`target-${made++}.img`, randomBytes(SIZE))

/** Source and destination of the usual size and what else is in the words; the destination must stay as it is. */
export async function refused(on: Scratch, words: readonly string[], host: string | null): Promise<Arranged> {
  const destination = await target(on)
  return {
    words: [await source(on), host === null ? destination : `${host}:${destination}`, ...words],
    untouched: [destination],
  }
}

/** Twice what may be in flight: a run over it that is held or broken at its first frames cannot be at its end. */
const RELAYED_BYTES = 2 * WINDOW_BYTES

/** A run of RELAYED_BYTES through a relay that does something at a frame. `pull` turns it round. */
export async function relayed(
  on: Scratch,
  plan: RelayPlan,
  during?: (
    disks: { source: string; destination: string; farPid: number },
    running: Running,
  ) => Promise<void>,
  direction: 'push' | 'pull' = 'push',
): Promise<Arranged> {
  const from = await on.randomFile(`source-${made++}.img`, RELAYED_BYTES)
  const to = await on.sparseFile(`target-${made++}.img`, RELAYED_BYTES)
  const line = await relay(on, plan)
  return {
    words: [...(direction === 'push' ? [from, `far:${to}`] : [`far:${from}`, to]), ...line.words],
    during: async (running) => {
      await line.reached()
      await during?.({ source: from, destination: to, farPid: await line.farPid() }, running)
      line.letGo()
    },
  }
}

/** The state of what must not change: content, size, times. */
function stateOf(path: string): string {
  if (!existsSync(path)) return 'missing'
  const { size, mtimeMs, ino, mode } = statSync(path)
  const isFile = statSync(path).isFile()
  const digest = isFile ? createHash('sha256').update(readFileSync(path)).digest('hex') : ''
  return [size, mtimeMs, ino, mode, digest].join(' ')
}

export async function check(row: Row, on: Scratch): Promise<void> {
  const { words, untouched = [], during } = await row.arrange(on)
  const before = untouched.map(stateOf)
  const running = startCli(on, ['--json', ...words])
  await during?.(running)
  const ended = await running.ended
  expect({ status: ended.status, stderr: ended.stderr }).toEqual({
    status: row.status,
    stderr: expect.stringMatching(row.says) as string,
  })
  expect(untouched.map(stateOf)).toEqual(before)
  if (row.status <= 1) return
  const result = resultOf(ended)
  expect(result).toMatchObject({ ok: false, error: { message: expect.any(String) as string } })
  // Nobody is left alone with an error: it says what was not done or how far it got, and what to do next.
  expect(ended.stderr.trim().split('\n').length).toBeGreaterThan(1)
  if (row.partial === true) {
    expect(result.state).toBe('partial')
    expect(ended.stderr).toMatch(/stopped at .* of \d+ blocks done/)
  }
}
