// Several disks in one run, push and pull: all of them are checked before a byte is written to the first, one disk cannot
// be there twice, and what was made for a run that is refused is taken back.

import { existsSync, readFileSync, statSync } from 'node:fs'
import { link, symlink, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { relay, type Result, resultOf, runCli } from '../support/cli.js'
import { randomBytes, type Scratch, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const SIZE = (1 << 20) + 512

type Direction = 'push' | 'pull'
type Disk = Readonly<{ from: string; to: string }>

const scratch = useScratch()
let made = 0

const image = (on: Scratch): Promise<string> => on.file(`disk-${made++}.img`, randomBytes(SIZE))

/** Runs pairs of disks to or from a far side. */
async function runDisks(
  on: Scratch,
  direction: Direction,
  disks: readonly Disk[],
  ...options: readonly string[]
): Promise<{ status: number | null; stderr: string; result: Result }> {
  const line = await relay(on, null)
  const words = disks.flatMap(({ from, to }) => [
    '--disk',
    direction === 'push' ? `${from}=far:${to}` : `far:${from}=${to}`,
  ])
  const ended = await runCli(on, ['--json', ...words, ...options, ...line.words])
  return { status: ended.status, stderr: ended.stderr, result: resultOf(ended) }
}

describe.each(['push', 'pull'] as const)('%s', (direction) => {
  it('copies each disk to its own', async () => {
    const on = scratch()
    const disks = [
      { from: await image(on), to: await image(on) },
      { from: await image(on), to: on.path(`new-${made++}.img`) },
    ]
    expect(await runDisks(on, direction, disks, '--create')).toMatchObject({ status: 0 })
    for (const { from, to } of disks) expect(readFileSync(to).equals(readFileSync(from))).toBe(true)
  })

  describe.each([
    ['symbolic link', symlink],
    ['hard link', link],
  ] as const)('through a %s', (_name, alias) => {
    it('two destinations that are one file are refused, and nothing is written', async () => {
      const on = scratch()
      const to = await image(on)
      const other = `${to}.other`
      await alias(to, other)
      const before = readFileSync(to)
      const ended = await runDisks(on, direction, [
        { from: await image(on), to },
        { from: await image(on), to: other },
      ])
      expect(ended).toMatchObject({ status: 3, result: { ok: false, error: { code: 'guard/same-disk' } } })
      expect(ended.stderr).toContain('nothing was written')
      expect(ended.stderr).toContain(other)
      expect(readFileSync(to).equals(before)).toBe(true)
    })

    it('a destination that another pair reads is refused, and nothing is written', async () => {
      const on = scratch()
      const read = await image(on)
      const written = `${read}.other`
      await alias(read, written)
      const [before, first] = [readFileSync(read), await image(on)]
      const firstBefore = readFileSync(first)
      const ended = await runDisks(on, direction, [
        { from: read, to: first },
        { from: await image(on), to: written },
      ])
      expect(ended).toMatchObject({ status: 3, result: { ok: false, error: { code: 'guard/same-disk' } } })
      expect(readFileSync(read).equals(before)).toBe(true)
      expect(readFileSync(first).equals(firstBefore)).toBe(true)
    })
  })

  it('what --create made is taken back when a later disk is refused', async () => {
    const on = scratch()
    const missing = on.path(`new-${made++}.img`)
    const empty = await on.file(`empty-${made++}.img`, Buffer.alloc(0))
    const disks = [
      { from: await image(on), to: missing },
      { from: await image(on), to: empty },
      { from: await image(on), to: await on.file(`small-${made++}.img`, randomBytes(512)) },
    ]
    const ended = await runDisks(on, direction, disks, '--create')
    expect(ended).toMatchObject({ status: 3, result: { error: { code: 'guard/size' } } })
    expect(existsSync(missing)).toBe(false)
    expect(statSync(empty).size).toBe(0)
    // Nothing stands in the way of the same run with that one put right.
    await writeFile(disks[2]?.to ?? '', randomBytes(SIZE))
    expect(await runDisks(on, direction, disks, '--create')).toMatchObject({ status: 0 })
    for (const { from, to } of disks) expect(readFileSync(to).equals(readFileSync(from))).toBe(true)
  })

  it(
    'a file behind a loop device is refused as a destination, and a dry run says so',
    needs('loop'),
    async () => {
      const on = scratch()
      const to = await image(on)
      const device = await on.loopDevice(to)
      const before = readFileSync(to)
      const disks = [{ from: await image(on), to }]
      const ended = await runDisks(on, direction, disks)
      expect(ended).toMatchObject({ status: 3, result: { error: { code: 'guard/attached' } } })
      expect(ended.stderr).toContain(device)
      const dry = await runDisks(on, direction, disks, '-n')
      expect(dry).toMatchObject({ status: 1 })
      expect(dry.stderr).toContain(device)
      expect(readFileSync(to).equals(before)).toBe(true)
      expect(await runDisks(on, direction, [{ from: to, to: await image(on) }])).toMatchObject({ status: 0 })
    },
  )
})
