// The controller is killed, the link cut, a libvirtd killed, at moments all over a warm move; after --abort or --continue
// exactly one host has the guest. A few strikes here; `npm run lab:kills -- 60` strikes at every line of the journal and
// at 60 random moments.

import { describe, expect, it } from 'vitest'

import { Random } from '../fuzz/random.js'
import { COUNTER_GUEST, type GuestSpec } from './guest.js'
import type { HostName } from './host-files.js'
import { strike, type Strike } from './kill-round.js'
import { useLab } from './lab.js'
import { expectRunsOnlyOn, journalLines, move, other } from './migrate.js'

const RANDOM_STRIKES = Number(process.env['BLOCKSYNC_LAB_KILLS'] ?? '0')
const SEED = Number(process.env['BLOCKSYNC_LAB_SEED'] ?? '1')
/** Of the short run: what is struck at the beginning, where the guest is saved, around the handover, and near the end. */
const SHORT_STRIKES = 3
/** One strike with all that follows. */
const STRIKE_TIMEOUT_MS = 60_000

/** Small: the states of a move are the same, and there are many moves. */
const GUEST: GuestSpec = {
  ...COUNTER_GUEST,
  kind: 'persistent',
  disks: [{ kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 64, dataMiB: 24 }],
  memoryMiB: 112,
}

describe('a warm move that is struck', () => {
  const lab = useLab()

  it(
    'ends with one guest that counts, whatever was struck and when',
    async () => {
      const hosts = lab.hosts()
      const guest = await lab.start(GUEST)
      const startedAt = performance.now()
      const whole = await move(hosts, guest, 'A')
      const wholeMs = performance.now() - startedAt
      await expectRunsOnlyOn(guest, 'B')
      const lineCount = journalLines(hosts, 'A', whole.journal ?? '').length
      expect(lineCount).toBeGreaterThan(10)

      let at: HostName = 'B'
      const failures: string[] = []
      let landed = 0
      const strikes = strikesFor(lineCount, wholeMs)
      for (const [index, plan] of strikes.entries()) {
        try {
          const { text, runsOn, landed: when } = await strike(hosts, guest, at, plan)
          if (when === 'in time') landed += 1
          console.log(`${index + 1} of ${strikes.length}: ${text}`)
          at = runsOn
        } catch (error) {
          console.log(`${index + 1} of ${strikes.length}: FAILED: ${JSON.stringify(plan)}: ${String(error)}`)
          failures.push(`${JSON.stringify(plan)}: ${String(error)}`)
          // What follows would only fail for the same reason, unless there is still one guest that counts.
          const runs = await guest.runsOn()
          if (runs.length !== 1 || guest.complaints().length > 0) break
          at = runs[0] ?? other(at)
        }
      }
      expect(failures).toEqual([])
      // Strikes that come when all is over prove nothing.
      expect(landed).toBeGreaterThan(strikes.length / 2)
    },
    (RANDOM_STRIKES * 2 + SHORT_STRIKES + 40) * STRIKE_TIMEOUT_MS,
  )
})

function strikesFor(lineCount: number, wholeMs: number): Strike[] {
  const remedy = (index: number): Strike['remedy'] => (index % 2 === 0 ? 'abort' : 'continue')
  if (RANDOM_STRIKES === 0) {
    const lines = Array.from({ length: SHORT_STRIKES }, (_, index) =>
      Math.round(((index + 0.8) * lineCount) / SHORT_STRIKES),
    )
    return [
      ...lines.map(
        (line, index) => ({ victim: 'controller', moment: { line }, remedy: remedy(index) }) as const,
      ),
      { victim: 'link', moment: { line: Math.round(lineCount * 0.7) }, remedy: 'continue' },
    ]
  }
  const random = new Random(SEED, 0)
  const everyLine = Array.from({ length: lineCount }, (_, index): Strike[] => [
    { victim: 'controller', moment: { line: index + 1 }, remedy: 'abort' },
    { victim: 'controller', moment: { line: index + 1 }, remedy: 'continue' },
  ]).flat()
  const moments = Array.from({ length: RANDOM_STRIKES }, (): Strike => {
    const victim = random.pick([
      'controller',
      'controller',
      'controller',
      'link',
      'libvirtd here',
      'libvirtd there',
    ] as const)
    return {
      victim,
      moment: { afterMs: random.int(Math.ceil(wholeMs)) },
      remedy: random.pick(['abort', 'continue']),
    }
  })
  return [...everyLine, ...moments]
}
