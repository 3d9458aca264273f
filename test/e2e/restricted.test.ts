// A key with a forced command, over a real sshd: what it may open goes through, everything else is refused in words that
// do not tell whether it is there.

import { mkdir, readFile } from 'node:fs/promises'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { MAIN_PATH, resultOf, runCli } from '../support/cli.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { type Sshd, sshdSkipReason, startSshd } from '../support/sshd.js'

const scratch = useScratch()
const why = sshdSkipReason()

describe.skipIf(why !== null)('a forced command with --restrict-to', needs('ssh'), () => {
  let sshd: Sshd
  let allowed: string

  beforeAll(async () => {
    allowed = scratch().path('allowed')
    await mkdir(allowed)
    sshd = await startSshd({
      forceCommand: `${process.execPath} ${MAIN_PATH} serve --restrict-to ${allowed} --write-only`,
    })
  })
  afterAll(() => sshd.stop())

  const words = (): string[] => ['-F', sshd.clientConfigPath, '--ssh', 'openssh', '--json']

  it('lets what is allowed through, over several connections too, and takes --native from the client', async () => {
    const content = randomBytes(3 << 20)
    const source = await scratch().file('source', content)
    const target = `${allowed}/copy.img`
    const first = await runCli(scratch(), [
      source,
      `far:${target}`,
      '--create',
      '--native=off',
      '--streams',
      '2',
      ...words(),
    ])
    expect([first.status, first.stderr]).toMatchObject([0, expect.not.stringContaining('not for this key')])
    expect(resultOf(first).native.destination).toBe(false)
    expect((await readFile(target)).equals(content)).toBe(true)
  })

  it('refuses other paths alike, there or not, and the other direction', async () => {
    const source = await scratch().file('source2', randomBytes(1 << 20))
    const there = await scratch().file('there', randomBytes(1 << 20))
    const errors = await Promise.all(
      [there, scratch().path('missing'), `${allowed}/../there`].map(async (path) => {
        const run = await runCli(scratch(), [source, `far:${path}`, '--create', ...words()])
        expect(run.status).toBe(3)
        const { error } = resultOf(run)
        expect(error?.code).toBe('guard/restricted')
        return error?.message.replace(`far:${path}`, 'PATH')
      }),
    )
    expect(new Set(errors).size).toBe(1)
    const pull = await runCli(scratch(), [
      `far:${allowed}/copy.img`,
      scratch().path('back'),
      '--create',
      ...words(),
    ])
    expect([pull.status, resultOf(pull).error?.message]).toMatchObject([
      3,
      expect.stringContaining('only write'),
    ])
  })

  it('leaves out what the client may not choose, and says so', async () => {
    const source = await scratch().file('source3', randomBytes(1 << 20))
    const elsewhere = scratch().path('elsewhere')
    const target = `${allowed}/undone.img`
    await runCli(scratch(), [source, `far:${target}`, '--create', ...words()])
    const run = await runCli(scratch(), [
      source,
      `far:${target}`,
      '--undo',
      '--undo-dir',
      elsewhere,
      ...words(),
    ])
    expect(run.stderr).toContain(`--undo-dir=${elsewhere}: not for this key to choose`)
    await expect(readFile(elsewhere)).rejects.toThrow('ENOENT')
  })
})
