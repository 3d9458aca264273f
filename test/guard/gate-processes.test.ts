// A gate between real processes: each of them ends in each way, and the others notice, or are not held up by it.

import { readFileSync } from 'node:fs'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { decodeToken } from '../../src/guard/admission.js'
import { openGate } from '../../src/guard/gate.js'
import { joinRun } from '../../src/guard/membership.js'
import { until } from '../support/processes.js'
import { farProcesses } from './far.js'
import type { FarProcesses } from './far.js'

const FACTS = { machine: 'here', aliases: ['block:7:0'] }
/** What a lane may need to hear of a first process that was killed, on a machine that is busy. */
const PROMPT_MS = 10_000

let far: FarProcesses

beforeAll(() => {
  far = farProcesses()
})

afterAll(() => {
  far[Symbol.dispose]()
})

function isListening(token: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8').includes(decodeToken(token).name)
}

describe('the first far process', () => {
  it('admits lanes that are other processes, and ends them when it is done', async () => {
    const first = far.start('first')
    const token = await first.line()
    const lanes = [far.start('lane'), far.start('lane'), far.start('lane')]
    for (const lane of lanes) {
      lane.tell(token)
      expect(JSON.parse(await lane.line())).toEqual(FACTS)
    }
    first.tell('lanes')
    expect(await first.line()).toBe('3')
    first.tell('close')
    for (const lane of lanes) {
      expect(await lane.line()).toBe('session/lost')
      expect(await lane.ended).toEqual({ status: 0, stderr: '' })
    }
    expect(await first.line()).toBe('closed')
    first.child.stdin?.end()
    expect(await first.ended).toEqual({ status: 0, stderr: '' })
  })

  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
    'may die by %s: lanes hear of it, nothing stays',
    async (signal) => {
      const first = far.start('first')
      const token = await first.line()
      const lane = far.start('lane')
      lane.tell(token)
      await lane.line()
      await using here = await joinRun(token)
      expect(isListening(token)).toBe(true)
      const killedAt = performance.now()
      first.child.kill(signal)
      expect(await here.lost).toMatchObject({ code: 'session/lost' })
      expect(performance.now() - killedAt).toBeLessThan(PROMPT_MS)
      expect(await lane.line()).toBe('session/lost')
      expect(await first.ended).toMatchObject({ status: signal })
      expect(isListening(token)).toBe(false)
      await expect(here.disk('/dev/example')).rejects.toMatchObject({ code: 'session/lost' })
      await expect(joinRun(token)).rejects.toMatchObject({ code: 'guard/held' })
    },
  )

  it('is not kept alive by its gate, nor by a lane', async () => {
    const first = far.start('idle-first')
    const token = await first.line()
    await using lane = await joinRun(token)
    first.child.stdin?.end()
    expect(await lane.lost).toMatchObject({ code: 'session/lost' })
    expect(await first.ended).toEqual({ status: 0, stderr: '' })
    expect(isListening(token)).toBe(false)
  })
})

describe('a lane', () => {
  it('may be killed: the gate goes on without it', async () => {
    await using gate = await openGate()
    gate.admit('/dev/example', FACTS)
    const lane = far.start('lane')
    lane.tell(gate.token)
    await lane.line()
    expect(gate.lanes).toBe(1)
    lane.child.kill('SIGKILL')
    await until(() => gate.lanes === 0, 'the gate notices')
    await using other = await joinRun(gate.token)
    expect(await other.disk('/dev/example')).toEqual(FACTS)
  })

  it('is not kept alive by its membership', async () => {
    await using gate = await openGate()
    gate.admit('/dev/example', FACTS)
    const lane = far.start('idle-lane')
    lane.tell(gate.token)
    expect(JSON.parse(await lane.line())).toEqual(FACTS)
    expect(await lane.ended).toEqual({ status: 0, stderr: '' })
    await until(() => gate.lanes === 0, 'the gate notices')
  })
})
