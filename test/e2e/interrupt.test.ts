// A run that is interrupted, killed or cut, at each kind of frame: its exit status says so, nobody is left behind on the
// far side, and the same command again continues: what was acknowledged is not sent a second time.

import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

import { beforeAll, describe, expect, it } from 'vitest'

import { WINDOW_BYTES } from '../../src/wire/channel.js'
import {
  type Relay,
  relay,
  type RelayPlan,
  type Result,
  resultOf,
  type Running,
  startCli,
  synced,
} from '../support/cli.js'
import { randomBytes, type Scratch, useScratch } from '../support/disks.js'
import { directions, servesOf, useFarSides, type Way, ways } from '../support/far-sides.js'
import { isRunning, until } from '../support/processes.js'
import { selected } from '../support/selection.js'

const MIB = 1 << 20
/** Twice what may be in flight: of what was sent, half must have been kept. */
const SIZE = 2 * WINDOW_BYTES

const scratch = useScratch()
const far = useFarSides()
const content = randomBytes(SIZE)
/** No run writes to it, so one does for all. */
let from = ''
let made = 0

beforeAll(async () => {
  from = await scratch().file('from.img', content)
})

async function isCopied(to: string): Promise<boolean> {
  return (await readFile(to)).equals(content)
}

function emptyTarget(on: Scratch): Promise<string> {
  return on.sparseFile(`to-${made++}.img`, SIZE)
}

/** Waits for the end and checks it; then runs the same again, which must complete what is missing and only that. */
async function endsAndContinues(
  on: Scratch,
  run: { running: Running; farPid: number; to: string },
  expected: { status: number | null; leastKeptBytes: number },
): Promise<Result> {
  const { running, farPid, to } = run
  const ended = await running.ended
  expect({ status: ended.status, stderr: expected.status === ended.status ? '' : ended.stderr }).toEqual({
    status: expected.status,
    stderr: '',
  })
  await until(() => !isRunning(farPid), 'the far side is gone')
  if (expected.status !== null) {
    const { ok, state } = resultOf(ended)
    expect(ok).toBe(false)
    // Cut behind the last word of the pass, only the goodbye is missing.
    expect(state).toBe(
      expected.leastKeptBytes >= SIZE - WINDOW_BYTES && state === 'done' ? 'done' : 'partial',
    )
    expect(ended.stderr).toMatch(/run the same command again/)
  }
  const second = await synced(on, [from, to])
  expect(await isCopied(to)).toBe(true)
  expect(second.sentBytes).toBeLessThanOrEqual(SIZE - expected.leastKeptBytes)
  return second
}

describe('a cut wire', () => {
  type Cut = Readonly<{
    plan: RelayPlan
    direction: 'push' | 'pull'
    leastKeptBytes: number
    isTurn: boolean
  }>
  const kinds: readonly [RelayPlan['on'], number][] = [
    ['up:start:1', 0],
    ['down:digests:1', 0],
    ['up:mark:1', 0],
    ['up:data:1', 0],
    ['up:data:10', 4 * MIB],
    ['down:credit:1', 0],
    // What was sent and not acknowledged, a window at most, may be lost.
    ['up:finish:1', SIZE - WINDOW_BYTES],
    ['down:finished:1', SIZE],
  ]
  const turned = { up: 'down', down: 'up' } as const
  const all: Cut[] = kinds.flatMap(([on, leastKeptBytes], kind) =>
    (['cut', 'cut-inside'] as const).flatMap((act, index) => {
      const [way, frame, nth] = on.split(':') as ['up' | 'down', string, string]
      // The client starts the pass also where it is the destination.
      const pulled = frame === 'start' ? on : (`${turned[way]}:${frame}:${Number(nth)}` as const)
      return [
        { plan: { on, act }, direction: 'push', leastKeptBytes, isTurn: (kind + index) % 2 === 0 },
        { plan: { on: pulled, act }, direction: 'pull', leastKeptBytes, isTurn: (kind + index) % 2 === 1 },
      ] as Cut[]
    }),
  )
  // Each frame is cut behind and inside, and going each way, but not each with each: the frames take turns.
  const cuts = selected(all, ({ isTurn }) => isTurn)
  it.each(cuts)('$plan.act after $plan.on, $direction', async ({ plan, direction, leastKeptBytes }) => {
    const on = scratch()
    const to = await emptyTarget(on)
    const line = await relay(on, plan)
    const operands = direction === 'push' ? [from, `far:${to}`] : [`far:${from}`, to]
    const running = startCli(on, ['--json', ...operands, ...line.words])
    const farPid = await line.farPid()
    await line.reached()
    const second = await endsAndContinues(on, { running, farPid, to }, { status: 8, leastKeptBytes })
    expect(second).toMatchObject({ ok: true, state: 'done' })
  })
})

describe('in the middle of the data', () => {
  type Act = (running: Running, line: Relay, farPid: number) => Promise<void> | void
  const rows: readonly [string, number | null, Act][] = [
    ['SIGINT to the client', 130, ({ child }) => void child.kill('SIGINT')],
    ['SIGTERM to the client', 143, ({ child }) => void child.kill('SIGTERM')],
    [
      'SIGINT to the whole process group, as a terminal sends it',
      130,
      ({ pid }) => void process.kill(-pid, 'SIGINT'),
    ],
    ['kill -9 of the client', null, ({ child }) => void child.kill('SIGKILL')],
    ['kill -9 of the far side', 8, (_running, _line, farPid) => void process.kill(farPid, 'SIGKILL')],
    ['SIGTERM to the far side', 143, (_running, _line, farPid) => void process.kill(farPid, 'SIGTERM')],
  ]
  describe.each(['push', 'pull'])('%s', (direction) => {
    it.each(rows)('%s', async (_name, status, act) => {
      const on = scratch()
      const to = await emptyTarget(on)
      // Everything before the eighth data frame goes by, and is written.
      const line = await relay(on, { on: direction === 'push' ? 'up:data:8' : 'down:data:8', act: 'hold' })
      const operands = direction === 'push' ? [from, `far:${to}`] : [`far:${from}`, to]
      const running = startCli(on, ['--json', ...operands, ...line.words], { ownGroup: 'own-group' })
      await line.reached()
      const farPid = await line.farPid()
      // who is killed finishes nothing: what is to be kept must be in the file by then
      await until(() => statSync(to).blocks * 512 >= MIB, 'the destination has written')
      await act(running, line, farPid)
      line.letGo()
      const second = await endsAndContinues(on, { running, farPid, to }, { status, leastKeptBytes: MIB })
      expect(second).toMatchObject({ ok: true, state: 'done' })
    })
  })
})

describe.each(ways('local', 'openssh', 'ssh2'))('over %s', (way: Way) => {
  type OverRow = readonly [string, number | null, (running: Running, farPid: number) => void]
  const rows: readonly OverRow[] = [
    ['SIGINT', 130, ({ child }) => void child.kill('SIGINT')],
    ['SIGINT to the process group', 130, ({ pid }) => void process.kill(-pid, 'SIGINT')],
    ['kill -9 of the client', null, ({ child }) => void child.kill('SIGKILL')],
    ['kill -9 of the far side', 8, (_running, farPid) => void process.kill(farPid, 'SIGKILL')],
  ]
  describe.each(directions(way))('%s', (direction) => {
    // A pull differs from a push in who writes, which the relay's tests above go through row by row;
    // here two rows of each way are enough, together all four.
    const pulls =
      way === 'openssh'
        ? ['SIGINT', 'kill -9 of the far side']
        : ['SIGINT to the process group', 'kill -9 of the client']
    it.each(selected(rows, ([name]) => direction === 'push' || pulls.includes(name)))(
      '%s',
      async (_name, status, act) => {
        const on = scratch()
        const to = await emptyTarget(on)
        const operands = direction === 'push' ? [from, far.path(way, to)] : [far.path(way, from), to]
        // Slow enough that it does not end by itself; progress is printed when something is acknowledged.
        const limit = ['--bwlimit', '8M']
        const running = startCli(on, ['--json', '--progress', ...operands, ...far.words(way), ...limit], {
          ownGroup: 'own-group',
        })
        const serves = (): number[] => (way === 'local' ? servesOf(running.pid) : far.servePids())
        await running.said(/"event":"progress"[^\n]*"doneBytes":[1-9]/)
        const farPid = serves()[0] ?? -1
        expect(farPid).toBeGreaterThan(0)
        act(running, farPid)
        await endsAndContinues(on, { running, farPid, to }, { status, leastKeptBytes: MIB })
      },
    )
  })
})
