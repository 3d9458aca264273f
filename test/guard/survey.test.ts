// Open files of other processes, as the native core and its twin find them: the same ones, with what open was asked for.

import { once } from 'node:events'
import { stat } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { Survey } from '../../src/guard/survey.js'
import { loadNative } from '../../src/native.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const scratch = useScratch()

describe('descriptors of other processes', needs('native'), () => {
  const core = loadNative('auto')

  it('are the same by the core and by its twin, more than fit at first too', async () => {
    const path = await scratch().file('many.img', randomBytes(512))
    const script =
      "const { openSync } = require('node:fs'); for (let i = 0; i < 5000; i++) openSync(process.argv[1], 'r+');" +
      "console.log('ready'); process.stdin.resume()"
    const child = scratch().start(process.execPath, '-e', script, path)
    if (child.stdout === null) throw new Error('it has no stdout')
    await once(child.stdout, 'data')
    const { dev, ino } = await stat(path)
    for (const survey of [new Survey(core), new Survey(null)]) {
      const found = (await survey.descriptors()).filter(({ pid }) => pid === child.pid)
      const ours = found.filter((each) => each.ino === ino)
      expect(ours).toHaveLength(5000)
      expect(new Set(ours.map(({ fd }) => fd)).size).toBe(5000)
      for (const each of ours) expect(each).toMatchObject({ isBlock: false, dev, ino })
    }
  })

  it("our own are nobody else's", async () => {
    for (const survey of [new Survey(core), new Survey(null)]) {
      expect((await survey.descriptors()).some(({ pid }) => pid === process.pid)).toBe(false)
      // asked once for the disks of a run
      expect(survey.descriptors()).toBe(survey.descriptors())
    }
  })

  it('the core refuses a slice that is none', () => {
    const out = new Float64Array(5)
    expect(() => core?.openDescriptors(1, 1, out)).toThrow(RangeError)
    expect(() => core?.openDescriptors(-1, 1, out)).toThrow(/slice/)
  })
})
