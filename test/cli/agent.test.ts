// The words of `blocksync agent`, and what it says to a person.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { agentCommand, parseAgentWords } from '../../src/cli/agent.js'

/** Runs it over streams; `isTTY` as a terminal's input has it. */
async function said(
  words: readonly string[],
  isTTY: boolean,
): Promise<{ status: number; text: string; out: string }> {
  const input = Object.assign(new PassThrough(), { isTTY })
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const status = await agentCommand(
    words,
    { openInput: () => input.end(), stdout, stderr, on: () => undefined, removeListener: () => undefined },
    () => undefined,
  )
  return { status, text: String(stderr.read() ?? ''), out: String(stdout.read() ?? '') }
}

describe('agent', () => {
  it('takes native and the state directory, and nothing else', () => {
    expect(parseAgentWords([])).toEqual({ native: 'auto', stateDir: null })
    expect(parseAgentWords(['--native=off', '--state-dir=/a b'])).toEqual({ native: 'off', stateDir: '/a b' })
    expect(parseAgentWords(['--native=off', '--help'])).toBe('help')
    for (const word of ['--restrict-to', '--native', '--native=no', '--state-dir=a', 'x', ''])
      expect(() => parseAgentWords([word])).toThrow(`agent does not know '${word}'`)
  })

  it('refuses a terminal, says what it is for, and ends with 8 where nobody speaks', async () => {
    expect(await said([], true)).toMatchObject({
      status: 2,
      out: '',
      text: expect.stringContaining('terminal') as string,
    })
    expect(await said(['--help'], false)).toMatchObject({
      status: 0,
      out: '',
      text: expect.stringContaining('Usage: blocksync agent') as string,
    })
    expect(await said([], false)).toMatchObject({
      status: 8,
      out: expect.stringMatching(/^BLOCKSYNC agent 1-1 program=\S+\n$/) as string,
    })
  })
})
