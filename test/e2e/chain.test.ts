// Replication over a pipe, as a library user makes it: copies of a source that stand for it, and a destination whose runs stay
// steps back, one behind the other, whatever is killed in between.

import { copyFile, open, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { beforeEach, describe, expect, it } from 'vitest'

import type { SyncOptions } from '../../src/options.js'
import { openHost } from '../../src/host/open.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import type { RunReport } from '../../src/sync/report.js'
import { resultOf, runCli, startCli } from '../support/cli.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { libraryRun } from '../support/library.js'
import { isRunning } from '../support/processes.js'
import { contentOf } from '../host/runs.js'

const MIB = 1 << 20
const SIZE_BYTES = 12 * MIB
const CHAIN = { keep: 'chain', directory: null, maxBytes: null } as const

const scratch = useScratch()
let number = 0
let stateDir = ''
let original = ''
let target = ''

beforeEach(async () => {
  number += 1
  stateDir = scratch().path(`state-${number}`)
  original = await scratch().file(`original-${number}.img`, randomBytes(SIZE_BYTES))
  target = await scratch().file(`target-${number}.img`, Buffer.alloc(SIZE_BYTES))
})

/** Both ends keep their state in one directory, as two users of one host would not: records are told apart by their disks. */
function optionsWith(more: Partial<SyncOptions>): Partial<SyncOptions> {
  return { stateDir, resume: 'no', ...more }
}

async function change(path: string, seed: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    for (let at = 0; at < 5; at++)
      await file.write(randomBytes(MIB / 2), 0, MIB / 2, ((seed * 3 + at * 2) % 11) * MIB)
    await file.write(Buffer.alloc(MIB), 0, MIB, (seed % 11) * MIB)
  } finally {
    await file.close()
  }
}

async function snapshot(): Promise<string> {
  number += 1
  const path = scratch().path(`snapshot-${number}.img`)
  await copyFile(original, path)
  return path
}

function codeOf({ error }: RunReport): string | null {
  return error?.code ?? null
}

async function records(): Promise<Record<string, { path: string; stable: { names: string[] } }>[]> {
  const found: Record<string, { path: string; stable: { names: string[] } }>[] = []
  for (const entry of await readdir(join(stateDir, 'disks'), { recursive: true })) {
    if (!entry.endsWith('.json')) continue
    const text = await readFile(join(stateDir, 'disks', entry), 'utf8')
    found.push(JSON.parse(text) as (typeof found)[number])
  }
  return found
}

describe.each(['push', 'pull'] as const)('a copy that stands for its disk (%s)', (direction) => {
  const run = async (
    from: string,
    to: string,
    standsFor?: string,
    more: Partial<SyncOptions> = {},
  ): Promise<RunReport> => {
    const transport = { serveArguments: [`--state-dir=${stateDir}`] }
    return await libraryRun(scratch(), {
      from,
      to,
      direction,
      ...(standsFor === undefined ? {} : { standsFor }),
      options: optionsWith(more),
      transport,
    })
  }

  it('is one pair with it: a second run of another copy is its second generation', async () => {
    const first = await run(await snapshot(), target, original)
    expect(first.error).toBeNull()
    await change(original, 1)
    const second = await run(await snapshot(), target, original)
    expect(second.error).toBeNull()
    const pair = second.disks[0]?.pair
    expect(pair).toEqual({ pairId: first.disks[0]?.pair?.pairId, generation: 2 })
    expect(await contentOf(target)).toBe(await contentOf(original))
    const kept = await records()
    expect(kept.map(({ disk, peer }) => [disk?.path ?? '', peer?.path ?? ''].toSorted())).toEqual([
      [original, target].toSorted(),
      [original, target].toSorted(),
    ])
    expect(JSON.stringify(kept)).not.toContain('snapshot-')

    // the way back leads to the original
    const before = await contentOf(original)
    await change(target, 5)
    expect(codeOf(await run(target, original))).toBe('guard/direction')
    expect(codeOf(await run(await snapshot(), target))).toBeNull()
    expect(await contentOf(original)).toBe(before)
  })

  it('is never written itself, nor is the disk that it is of', async () => {
    const copy = await snapshot()
    const before = await contentOf(original)
    await change(copy, 2)
    expect(codeOf(await run(copy, original, original))).toBe('guard/same-disk')
    expect(codeOf(await run(copy, copy, original))).toBe('guard/same-disk')
    expect(codeOf(await run(copy, target, `${original}.no`))).toBe('source/missing')
    expect(await contentOf(original)).toBe(before)
    expect(await contentOf(target)).not.toBe(await contentOf(copy))
  })

  it('is not gone on with, and leaves no checkpoint', async () => {
    const copy = await snapshot()
    for (const resume of ['auto', 'yes'] as const)
      expect(codeOf(await run(copy, target, original, { resume }))).toBe('usage')
    const report = await run(copy, target, original, {
      checkpointEveryMs: 1,
      bwlimit: [{ minuteOfWeek: 0, bytesPerSecond: 1000 * MIB }],
    })
    expect(report.error).toBeNull()
    await expect(stat(join(stateDir, 'resume'))).rejects.toThrow('ENOENT')
  })
})

describe('a chain of runs', () => {
  it(
    'leads back to each of them, through a far end and an undoing that were killed',
    { timeout: 60_000 },
    async () => {
      const { transport, timeoutMs } = SYNC_DEFAULTS
      await using host = await openHost({ kind: 'local' }, { stateDir, native: 'auto', transport, timeoutMs })
      const run = async (more: Partial<SyncOptions> = {}, kill = false): Promise<RunReport> =>
        await libraryRun(scratch(), {
          from: original,
          to: target,
          direction: 'push',
          options: optionsWith({ undo: CHAIN, ...more }),
          transport: { serveArguments: [`--state-dir=${stateDir}`] },
          ...(kill
            ? {
                onFar: async (pid: number) => {
                  // the journal comes first, and then what it is about
                  while ((await contentOf(target)) === states[5])
                    if (!isRunning(pid)) throw new Error('the far end ended by itself')
                  process.kill(pid, 'SIGKILL')
                },
              }
            : {}),
        })
      const states: string[] = [await contentOf(target)]
      for (let step = 0; step < 5; step++) {
        await change(original, step)
        const report = await run()
        expect(report.error).toBeNull()
        states.push(await contentOf(target))
        expect(await host.undoSteps(target)).toHaveLength(step + 1)
      }
      const groups = (await host.undoSteps(target)).map(({ group }) => group)
      await writeFile(original, randomBytes(SIZE_BYTES))
      const cut = await run({ bwlimit: [{ minuteOfWeek: 0, bytesPerSecond: 2 * MIB }] }, true)
      expect(cut.error).toMatchObject({ code: 'session/lost' })
      expect((await host.undoSteps(target)).map(({ state }) => state).at(-1)).toBe('open')
      expect(await contentOf(target)).not.toBe(states[5])

      // the agent that takes it back is killed again and again, in the middle of it
      const words = ['undo', '--yes', '--state-dir', stateDir, target]
      for (let turn = 0; turn < 3; turn++) {
        const undoing = startCli(scratch(), words)
        await new Promise((resolve) => setTimeout(resolve, 120 + turn * 60))
        undoing.child.kill('SIGKILL')
        await undoing.ended
        if ((await host.undoSteps(target)).length < 6) break
      }
      await host.undoBack(target, groups[4] ?? '')
      expect(await contentOf(target)).toBe(states[5])

      for (const back of [3, 2]) {
        expect((await host.undoBack(target, groups[back] ?? '')).steps).toBe(1)
        expect(await contentOf(target)).toBe(states[back + 1])
      }
      await host.dropUndo(target, groups[0] ?? '')
      expect((await host.undoSteps(target)).map(({ group }) => group)).toEqual(groups.slice(1, 3))
      expect((await host.undoBack(target, null)).steps).toBe(2)
      expect(await contentOf(target)).toBe(states[1])

      // the pair is still known, and a run goes on from here
      const report = await run()
      expect(report.error).toBeNull()
      expect(await contentOf(target)).toBe(await contentOf(original))
    },
  )

  it('is given up by a run that keeps one step', async () => {
    for (const undo of [CHAIN, CHAIN, { ...CHAIN, keep: 'one' as const }]) {
      await change(original, Math.floor(Math.random() * 10))
      const report = await libraryRun(scratch(), {
        from: original,
        to: target,
        direction: 'push',
        options: optionsWith({ undo }),
        transport: { serveArguments: [`--state-dir=${stateDir}`] },
      })
      expect(report.error).toBeNull()
    }
    const ended = await runCli(scratch(), ['undo', '--yes', '--json', '--state-dir', stateDir, target])
    expect(resultOf(ended)).toMatchObject({ ok: true, runs: 1 })
    expect((await runCli(scratch(), ['undo', '--yes', '--state-dir', stateDir, target])).status).toBe(3)
  })
})
