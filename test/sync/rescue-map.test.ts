// The map of a rescue: what is written is a mapfile that covers the whole disk, what ddrescue wrote is understood, and a
// file that is no map, or the map of another disk, is not replaced.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, symlink, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { mapText, parseMap, RescueMap } from '../../src/sync/rescue-map.js'
import { useScratch } from '../support/disks.js'

const scratch = useScratch()

const RESCUED = {
  source: 'host:/dev/s\u001bda',
  sizeBytes: 0x300000,
  lengthBytes: 0x200000,
  unreadable: [
    { offset: 0, length: 0x1000 },
    { offset: 0x101000, length: 0x3000 },
    { offset: 0x1ff000, length: 0x1000 },
  ],
}

const DDRESCUE = `# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -d /dev/sdc image map
# Start time:   2024-07-21 09:37:44
# Current time: 2024-07-21 09:38:19
# Copying non-tried blocks... Pass 1 (forwards)
# current_pos  current_status  current_pass
0x00120000     ?               1
#      pos        size  status
0x00000000  0x00117000  +
0x00117000  0x00000200  -
0x00117200  0x00001000  /
0x00118200  0x00007E00  *
0x00120000  0x000E0000  ?
`

describe('the text', () => {
  it('covers the whole disk, in order', () => {
    const text = mapText(RESCUED, new Date(0))
    expect(parseMap(text)).toEqual([
      { offset: 0, length: 0x1000, status: '-' },
      { offset: 0x1000, length: 0x100000, status: '+' },
      { offset: 0x101000, length: 0x3000, status: '-' },
      { offset: 0x104000, length: 0xfb000, status: '+' },
      { offset: 0x1ff000, length: 0x1000, status: '-' },
      { offset: 0x200000, length: 0x100000, status: '?' },
    ])
    expect(text.split('\n').filter((line) => line.startsWith('#'))).toHaveLength(6)
    expect(text).not.toContain('\u001b')
    const whole = mapText({ ...RESCUED, lengthBytes: RESCUED.sizeBytes, unreadable: [] }, new Date(0))
    expect(parseMap(whole)).toEqual([{ offset: 0, length: 0x300000, status: '+' }])
  })

  it('ddrescue has its own words for what is not done', () => {
    expect(
      parseMap(DDRESCUE)
        .map(({ status }) => status)
        .join(''),
    ).toBe('+-/*?')
    // as its older versions wrote it: no pass
    expect(parseMap('0x10 +\n0 0x10 +\n16 512 -\n')).toHaveLength(2)
  })

  it.each([
    ['nothing', ''],
    ['a text', 'Dear Sir,\nthe disk is broken.\n'],
    ['a status alone', '0x0 + 1\n'],
    ['a gap', '0x0 + 1\n0x0 0x10 +\n0x20 0x10 +\n'],
    ['an overlap', '0x0 + 1\n0x0 0x10 +\n0x8 0x10 +\n'],
    ['an unknown letter', '0x0 + 1\n0x0 0x10 x\n'],
    ['an empty block', '0x0 + 1\n0x0 0x0 +\n'],
    ['too many words', '0x0 + 1\n0x0 0x10 + -\n'],
    ['what is on no disk', '0x0 + 1\n0x1FFFFFFFFFFFFF 0x1FFFFFFFFFFFFF +\n'],
  ])('%s is none', (_name, text) => expect(() => parseMap(text)).toThrow(RangeError))
})

describe('the file', () => {
  it('is replaced as a whole, and what was bad is told', async () => {
    const path = scratch().path('map')
    const first = await RescueMap.open(path)
    expect(first.earlier).toBeNull()
    await first.write(RESCUED)
    const second = await RescueMap.open(path)
    expect(second.earlier).toEqual({ endBytes: 0x300000, badBytes: 0x5000 })
    second.check('/dev/sda', 0x300000)
    expect(() => second.check('/dev/sda', 0x300001)).toThrow(
      /map of a disk of 3145728 bytes, and \/dev\/sda has 3145729/,
    )
    await second.write({ ...RESCUED, unreadable: [] })
    expect(
      parseMap(readFileSync(path, 'utf8'))
        .map(({ status }) => status)
        .join(''),
    ).toBe('+?')
  })

  it('one of ddrescue is taken', async () => {
    const path = await scratch().file('dd.map', Buffer.from(DDRESCUE))
    expect((await RescueMap.open(path)).earlier).toEqual({ endBytes: 0x200000, badBytes: 0x200 })
  })

  it('what is no map stays as it is', async () => {
    const on = scratch()
    const letter = await on.file('letter', Buffer.from('Dear Sir,\n'))
    const link = on.path('link')
    await symlink(on.path('map'), link)
    const directory = on.path('directory')
    await mkdir(directory)
    const fifo = on.path('fifo')
    execFileSync('mkfifo', [fifo], { timeout: 5000 })
    for (const path of [letter, link, directory, fifo, on.path('nowhere/map')])
      await expect(RescueMap.open(path)).rejects.toMatchObject({ code: 'usage', operand: '--rescue' })
    expect(readFileSync(letter, 'utf8')).toBe('Dear Sir,\n')
  })

  it('that cannot be written at the end is an error of its own', async () => {
    const on = scratch()
    const directory = on.path('gone')
    await mkdir(directory)
    const map = await RescueMap.open(`${directory}/map`)
    execFileSync('rmdir', [directory], { timeout: 5000 })
    await writeFile(directory, '')
    await expect(map.write(RESCUED)).rejects.toMatchObject({ code: 'rescue/write' })
  })
})
