// The real process: signals, closed pipes, exit statuses, and what is not loaded.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { build } from './built.js'
import type { Built } from './built.js'
import { jsonLines } from './fixtures.js'

let built: Built

beforeAll(() => {
  built = build()
})

afterAll(() => {
  built[Symbol.dispose]()
})

describe('blocksync as a process', () => {
  it('runs and ends with 0 also where something still holds the event loop', async () => {
    const { status, stdout } = await built.start(['/a', 'h'], { fake: 'leak' }).ended
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'same: 2, diff: 0, 2/2\n' })
  })

  it('ends with 1 where verify finds a difference', async () => {
    expect((await built.start(['verify', '/a', 'h']).ended).status).toBe(1)
  })

  it('ends with 2 for usage, and still prints the one JSON result', async () => {
    const { status, stdout, stderr } = await built.start(['--jsn', '--json', '/a', 'h']).ended
    expect(status).toBe(2)
    expect(stderr).toBe("blocksync: unknown option '--jsn'; nothing was opened\nDid you mean --json?\n")
    expect(jsonLines(stdout)).toMatchObject([{ ok: false, error: { code: 'usage', operand: '--jsn' } }])
  })

  it('never ends with 1 by accident: a lost error is 70', async () => {
    const { status, stderr } = await built.start(['/a', 'h'], { fake: 'uncaught' }).ended
    expect(status).toBe(70)
    expect(stderr).toMatch(/internal error: .*lost in the loop/)
  })

  it.each<[NodeJS.Signals, number]>([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])('%s ends the run in order with %d', async (name, status) => {
    const run = built.start(['/a', 'h', '--json'], { fake: 'wait' })
    await run.said('started')
    run.child.kill(name)
    const ended = await run.ended
    expect(ended).toMatchObject({ status, signal: null })
    expect(ended.stderr).toMatch(
      /stopping; press again to stop at once\n[^]*1 of 2 blocks done; run the same command again/,
    )
    const code = `interrupt/${name.toLowerCase()}`
    expect(jsonLines(ended.stdout)).toMatchObject([
      { event: 'result', ok: false, state: 'partial', error: { code } },
    ])
  })

  it.each<[NodeJS.Signals, NodeJS.Signals, number]>([
    ['SIGINT', 'SIGINT', 130],
    ['SIGINT', 'SIGTERM', 143],
  ])('%s and then %s ends at once with %d', async (first, second, status) => {
    const run = built.start(['/a', 'h'], { fake: 'stubborn' })
    await run.said('started')
    run.child.kill(first)
    await run.said('aborted')
    run.child.kill(second)
    expect(await run.ended).toMatchObject({ status, signal: null, stdout: '' })
  })

  it('goes on when nobody reads stdout, and ends with the status of the run', async () => {
    const run = built.start(['--json', '--stats', '/a', 'h'], { fake: 'wait-for-reader' })
    await run.said('started')
    run.child.stdout?.destroy()
    run.child.stdin?.end()
    expect(await run.ended).toMatchObject({ status: 0, signal: null, stderr: 'remote: started\n' })
  })

  it('goes on when nobody reads stderr', async () => {
    const run = built.start(['/a', 'h'], { fake: 'wait-for-reader' })
    await run.said('started')
    run.child.stderr?.destroy()
    run.child.stdin?.end()
    expect(await run.ended).toMatchObject({ status: 0, stdout: 'same: 2, diff: 0, 2/2\n' })
  })
})

describe('serve as a process', () => {
  it('needs no package, keeps stdout for the wire and ends with its input', async () => {
    const run = built.start(['serve', '--native=off'], { without: 'packages' })
    run.child.stdin?.end()
    expect(await run.ended).toEqual({ status: 0, signal: null, stdout: 'native off\n', stderr: '' })
  })

  it('ignores SIGINT and SIGHUP and ends with 143 on SIGTERM', async () => {
    const run = built.start(['serve'], { without: 'packages' })
    await new Promise((resolve) => run.child.stdout?.once('data', resolve))
    run.child.kill('SIGINT')
    run.child.kill('SIGHUP')
    run.child.kill('SIGTERM')
    expect(await run.ended).toMatchObject({ status: 143, signal: null, stderr: '' })
  })

  it('refuses unknown words with 2', async () => {
    const { status, stdout, stderr } = await built.start(['serve', '--nativ=off'], { without: 'packages' })
      .ended
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/--nativ=off/)
  })
})
