// Which ciphers the system's ssh is told to prefer, asked of a real `ssh -G`, and of programs that are none.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { Argv } from '../../src/exec.js'
import { cipherWords, fastFirst, namesAes, resolveSsh } from '../../src/transport/ciphers.js'
import { has } from '../support/needs.js'

const CHACHA = 'chacha20-poly1305@openssh.com'
const GCM128 = 'aes128-gcm@openssh.com'
const GCM256 = 'aes256-gcm@openssh.com'

describe('the order', () => {
  it.each([
    // OpenSSH up to 9.9, and from 10.0 on
    [
      [CHACHA, 'aes128-ctr', 'aes192-ctr', 'aes256-ctr', GCM128, GCM256],
      [GCM128, GCM256, CHACHA, 'aes128-ctr', 'aes192-ctr', 'aes256-ctr'],
    ],
    [
      [CHACHA, GCM128, GCM256, 'aes128-ctr'],
      [GCM128, GCM256, CHACHA, 'aes128-ctr'],
    ],
    [
      [CHACHA, GCM256, GCM128],
      [GCM128, GCM256, CHACHA],
    ],
    [[GCM256, GCM128, CHACHA], null],
    [['aes256-ctr', CHACHA, GCM128, GCM256], null],
    [[CHACHA, GCM256, 'aes256-ctr'], null],
    [[CHACHA, GCM128], null],
    [[CHACHA], null],
    [[''], null],
  ])('of %j is %j', (listed, ordered) => {
    expect(fastFirst(listed.join(','))).toBe(ordered?.join(',') ?? null)
  })

  it.each([
    ['processor\t: 0\nflags\t\t: fpu vme aes sse2\n', true],
    ['Features\t: fp asimd evtstrm aes pmull sha1\n', true],
    ['flags\t\t: fpu vme vaes sse2\n', false],
    ['model name\t: aes\nflags\t\t: fpu\n', false],
    ['', false],
  ])('instructions in %j: %j', (text, named) => {
    expect(namesAes(text)).toBe(named)
  })
})

const reason = has('ssh') ? null : 'ssh is not installed (openssh-client)'
if (reason !== null) console.warn(`skipped: ${reason}`)

describe.skipIf(reason !== null)(`the words${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  let directory = ''
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'blocksync-ciphers-'))
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  const sshTo = (config: string, ...words: string[]): Argv => {
    const path = join(directory, 'config')
    writeFileSync(path, config)
    return ['ssh', '-T', '-F', path, ...words, 'far', 'blocksync serve']
  }
  const script = (text: string): Argv => {
    const path = join(directory, 'ssh')
    writeFileSync(path, `#!/bin/sh\n${text}\n`)
    chmodSync(path, 0o755)
    return [path, 'far', 'blocksync serve']
  }
  const isFast = namesAes(readFileSync('/proc/cpuinfo', 'utf8'))

  it.each<[string, string, boolean]>([
    ['nothing is said', '', true],
    ['the list begins with its default', `Ciphers ${CHACHA},${GCM128},${GCM256}\n`, true],
    ['another order is wanted', `Ciphers ${GCM256},${GCM128},${CHACHA}\n`, false],
    ['one was taken out', `Ciphers -${GCM128}\n`, false],
    ['another host is meant', `Host near\n Ciphers aes256-ctr\n`, true],
    ['this host is meant', `Host far\n Ciphers aes256-ctr\n`, false],
    ['the file is wrong', 'NoSuchOption yes\n', false],
  ])('where %s', async (_what, config, wanted) => {
    const [option, value, ...more] = await cipherWords(await resolveSsh(sshTo(config)), [])
    expect(more).toEqual([])
    if (!wanted || !isFast) expect(option).toBeUndefined()
    else {
      expect(option).toBe('-o')
      expect(value).toMatch(new RegExp(`^Ciphers=${GCM128},${GCM256},${CHACHA}`))
    }
  })

  it.each([
    ['-c', CHACHA],
    [`-c${CHACHA}`],
    ['-4Cc', CHACHA],
    ['-o', `Ciphers=${CHACHA},${GCM128},${GCM256}`],
    [`-oCiphers=${CHACHA},${GCM128},${GCM256}`],
    ['-o', `ciphers ^${CHACHA}`],
  ])('not where -e names ciphers: %s %s', async (...words) => {
    const given = words.filter((word) => word !== undefined)
    expect(await cipherWords(await resolveSsh(sshTo('', ...given)), given)).toEqual([])
  })

  it.each([['-J', 'gate'], ['-oStrictHostKeyChecking=yes'], ['-i', 'c']])(
    'but with %s %s in -e',
    async (...words) => {
      const given = words.filter((word) => word !== undefined)
      expect(await cipherWords(await resolveSsh(sshTo('', ...given)), given)).toHaveLength(isFast ? 2 : 0)
    },
  )

  it.each([
    ['fails', 'exit 255'],
    ['says something else', 'echo hello'],
    ['says too much', 'yes'],
    ['does not end', 'exec sleep 30'],
    ['dies', 'kill -9 $$'],
  ])('not where -G %s; nothing is thrown', { timeout: 5000 }, async (_what, text) => {
    expect(await cipherWords(await resolveSsh(script(text)), [])).toEqual([])
  })

  it('not where there is no such program', async () => {
    expect(await cipherWords(await resolveSsh([join(directory, 'nothing'), 'far']), [])).toEqual([])
  })
})
