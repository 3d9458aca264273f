// A short run of the fuzzer (see main.ts for a long one), what it found once, and that it would see what it looks for.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { useScratch } from '../support/disks.js'
import { RecordedDisk } from './disk.js'
import { fuzz } from './run.js'
import { type Half, replay } from './session.js'
import { knownDisks } from './shapes.js'

const CORPUS = join(import.meta.dirname, 'corpus')
/** What takes a few seconds on a slow machine. */
const FRAMES = 12_000
const SEED = 20_260_101

type Case = { name: string; half: Half; disk: number; ending: string; pieces: string[] }

const scratch = useScratch()

function cases(): Case[] {
  const files = readdirSync(CORPUS).filter((file) => file.endsWith('.json'))
  return files.map((file) => ({
    name: file,
    ...(JSON.parse(readFileSync(join(CORPUS, file), 'utf8')) as Omit<Case, 'name'>),
  }))
}

describe('both halves of the protocol', () => {
  it(`hold against ${FRAMES} frames of peers that break the rules`, async () => {
    const summary = await fuzz({
      seed: SEED,
      from: 0,
      sessions: Infinity,
      frames: FRAMES,
      directory: scratch().directory,
    })
    expect(summary.failures.map(({ session, half, violations }) => ({ session, half, violations }))).toEqual(
      [],
    )
    expect(summary.frames).toBeGreaterThanOrEqual(FRAMES)
    // it has been where it was to go: passes that end well, passes that are refused, writes
    expect(summary.writes).toBeGreaterThan(1000)
    const endings = Object.keys(summary.endings)
    for (const ending of ['done', 'session/protocol', 'verify/mismatch'])
      expect([ending, endings.some((each) => each.endsWith(` ${ending}`))]).toEqual([ending, true])
  })

  it.each(cases())('hold against $name', async ({ half, disk, ending, pieces }) => {
    const known = (await knownDisks())[disk]
    if (known === undefined) throw new Error(`there is no disk ${disk}`)
    const bytes = pieces.map((piece) => Buffer.from(piece.replaceAll(/\s/g, ''), 'hex'))
    const outcome = await replay(half, known, bytes, scratch().directory)
    expect(outcome.violations).toEqual([])
    expect(outcome.ending).toBe(ending)
  })
})

describe('the disk that watches', () => {
  it('notes what is written outside, before and after', async () => {
    const shape = { content: Buffer.alloc(8192, 1), sizeBytes: 8192, blockBytes: 4096, leafBytes: 512 }
    const disk = new RecordedDisk('destination', shape)
    await disk.write([{ offset: 0, length: 512 }], Buffer.alloc(512))
    expect(disk.violations).toHaveLength(1)
    disk.allowed = { offset: 4096, length: 4096 }
    await disk.write([{ offset: 4096, length: 512 }], Buffer.alloc(512))
    expect(disk.violations).toHaveLength(1)
    await disk.zero([{ offset: 4000, length: 512 }])
    await disk.grow(10_000)
    expect(disk.violations).toHaveLength(3)
    await disk.close()
    await disk.write([{ offset: 4096, length: 512 }], Buffer.alloc(512))
    expect(disk.violations).toHaveLength(4)
  })
})
