// Which transport is chosen, with which words ssh is called, and what a configuration means without an ssh client.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { findProgram, run } from '../../src/exec.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import { sshArgv } from '../../src/transport/openssh.js'
import { chooseSsh, connect } from '../../src/transport/open.js'
import { resolveHostConfig, type HostQuery } from '../../src/transport/ssh-config.js'
import { planAuth } from '../../src/transport/ssh2-auth.js'
import type { TransportOptions } from '../../src/transport/transport.js'
import { makeKey, sshdSkipReason } from '../support/sshd.js'

const DEFAULTS = SYNC_DEFAULTS.transport
const FAR = { kind: 'remote', host: 'kvm2', user: null, port: null, typed: 'kvm2' } as const
const skipReason = sshdSkipReason()
const PATH = process.env['PATH']

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-choice-'))
})
afterEach(() => {
  process.env['PATH'] = PATH
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('the command line of ssh', () => {
  const given = (options: Partial<TransportOptions>): TransportOptions => ({ ...DEFAULTS, ...options })
  const BASE = ['-T', '-o', 'EscapeChar=none']
  const FURTHER = ['-o', 'BatchMode=yes', '-o', 'ControlMaster=no', '-o', 'ControlPath=none']

  it.each([
    [{}, FAR, ['ssh', ...BASE, 'kvm2', 'blocksync serve']],
    [
      {
        port: 2222,
        identities: ['a', 'b'],
        configFile: 'c',
        sudo: 'always' as const,
        serveArguments: ['--native=off'],
      },
      { ...FAR, user: 'root' },
      [
        'ssh',
        ...BASE,
        '-F',
        'c',
        '-p',
        '2222',
        '-i',
        'a',
        '-i',
        'b',
        '-l',
        'root',
        'kvm2',
        'sudo -n blocksync serve --native=off',
      ],
    ],
    [{ port: 2222 }, { ...FAR, port: 22 }, ['ssh', ...BASE, '-p', '22', 'kvm2', 'blocksync serve']],
    [
      { rsh: ['ssh', '-p', '23', 'bastion', 'ssh'], remoteCommand: 'nice blocksync' },
      { ...FAR, user: 'root' },
      ['ssh', ...BASE, '-p', '23', 'bastion', 'ssh', '-l', 'root', 'kvm2', 'nice blocksync serve'],
    ],
    [
      { rsh: ['/opt/rsh', '-x'] },
      { ...FAR, user: 'root' },
      ['/opt/rsh', '-x', '-l', 'root', 'kvm2', 'blocksync serve'],
    ],
    [
      { lane: 'further' as const, configFile: 'c' },
      FAR,
      ['ssh', ...BASE, ...FURTHER, '-F', 'c', 'kvm2', 'blocksync serve'],
    ],
    [
      { lane: 'further' as const, rsh: ['/usr/bin/ssh', '-J', 'gate'] },
      FAR,
      ['/usr/bin/ssh', ...BASE, ...FURTHER, '-J', 'gate', 'kvm2', 'blocksync serve'],
    ],
    [{ lane: 'further' as const, rsh: ['/opt/rsh'] }, FAR, ['/opt/rsh', 'kvm2', 'blocksync serve']],
  ])('%j', (options, far, argv) => {
    expect(sshArgv(far, given(options))).toEqual(argv)
  })

  it.each([
    [{ port: 1 }, '-p'],
    [{ identities: ['a'] }, '-i'],
    [{ configFile: 'c' }, '-F'],
  ])('refuses %j for a remote shell that is not ssh: it would have no effect', (options, operand) => {
    expect(() => sshArgv(FAR, given({ ...options, rsh: ['rsh'] }))).toThrow(
      expect.objectContaining({ code: 'usage', operand }),
    )
  })

  it('refuses a serve argument that a shell would not take literally', () => {
    for (const word of ['a b', '$(x)', "'", '', 'a;b']) {
      expect(() => sshArgv(FAR, given({ serveArguments: [word] }))).toThrow(/plain word/)
    }
  })

  it.each(['-oProxyCommand=touch x', '', 'a b', 'a\u001bb', 'a\nb'])(
    'refuses the host name %j',
    async (host) => {
      await expect(connect({ ...FAR, host }, DEFAULTS, () => {})).rejects.toMatchObject({ code: 'usage' })
      await expect(connect({ ...FAR, user: host }, DEFAULTS, () => {})).rejects.toMatchObject({
        code: 'usage',
      })
    },
  )

  it('a remote shell that is not there', async () => {
    const options = given({ rsh: [join(directory, 'no-such-shell')] })
    await expect(connect(FAR, options, () => {})).rejects.toMatchObject({
      code: 'connect/failed',
      operand: 'kvm2',
    })
  })
})

describe('auto', () => {
  it.skipIf(skipReason !== null)(
    'is the system ssh where there is one, and ssh2 where there is none',
    async () => {
      expect(await chooseSsh(DEFAULTS)).toBe('openssh')
      expect(await chooseSsh({ ...DEFAULTS, ssh: 'ssh2' })).toBe('ssh2')
      process.env['PATH'] = directory
      expect(await chooseSsh(DEFAULTS)).toBe('ssh2')
      expect(await chooseSsh({ ...DEFAULTS, ssh: 'openssh' })).toBe('openssh')
      expect(await chooseSsh({ ...DEFAULTS, rsh: ['rsh'] })).toBe('openssh')
    },
  )

  it('refuses -e with ssh2', async () => {
    await expect(chooseSsh({ ...DEFAULTS, rsh: ['rsh'], ssh: 'ssh2' })).rejects.toMatchObject({
      code: 'usage',
    })
  })

  it('the system ssh that is not there is named with what to do', async () => {
    process.env['PATH'] = directory
    const connecting = connect(FAR, { ...DEFAULTS, ssh: 'openssh' }, () => {})
    await expect(connecting).rejects.toMatchObject({
      code: 'connect/failed',
      hint: expect.stringContaining('--ssh ssh2') as unknown,
    })
  })
})

describe.skipIf(skipReason !== null)('the configuration', () => {
  const query = (given: Partial<HostQuery>): HostQuery => ({
    host: 'kvm2',
    user: null,
    port: null,
    identities: [],
    configFile: join(directory, 'config'),
    operand: 'kvm2',
    ...given,
  })

  it.each<[string, Partial<HostQuery>]>([
    ['', {}],
    ['', { user: 'bob', port: 2222, identities: ['~/.ssh/none'] }],
    ['Host kvm2\n HostName 192.0.2.7\n Port 2222\n User alice\n', {}],
    ['Host kvm2\n Port 2222\n User alice\n', { user: 'bob', port: 23 }],
    ['Host kvm*\n HostName %h.example.org\n HostKeyAlias x\n', {}],
    [
      'Host kvm2\n UserKnownHostsFile ~/one "/two three"\n GlobalKnownHostsFile none\n StrictHostKeyChecking no\n',
      {},
    ],
    [
      'Host kvm2\n StrictHostKeyChecking accept-new\n IdentitiesOnly yes\n ConnectTimeout 7\n ServerAliveInterval 5\n',
      {},
    ],
    ['Host kvm2\n ProxyJump bob@one:23,[2001:db8::1]:24,three\n', {}],
    ['Host kvm2\n ProxyCommand nc -x proxy %h %p %%\n Port 24\n', {}],
    ['Host kvm2\n IdentityAgent none\n', {}],
    ['Host kvm2\n ProxyJump none\n IdentityAgent ~/agent\n', {}],
  ])('%j %j: the same with and without an ssh client', async (text, given) => {
    writeFileSync(join(directory, 'config'), text)
    const notices: string[] = []
    const withSsh = await resolveHostConfig(query(given), (line) => notices.push(line))
    process.env['PATH'] = directory
    const without = await resolveHostConfig(query(given), (line) => notices.push(line))
    // ssh has more default identities than ssh2 can use, and leaves out files that do not exist.
    const { identityFiles: _some, ...rest } = withSsh
    expect(without).toMatchObject(rest)
    expect(notices).toEqual([])
  })

  it('says what it does not follow without an ssh client, and runs nothing', async () => {
    const marker = join(directory, 'marker')
    writeFileSync(join(directory, 'config'), `Include other\nMatch exec "touch ${marker}"\n  Port 99\n`)
    process.env['PATH'] = directory
    const notices: string[] = []
    const config = await resolveHostConfig(query({}), (line) => notices.push(line))
    expect(config.port).toBe(22)
    expect(notices).toEqual([expect.stringContaining("'Include' is not followed")])
    await expect(findProgram(marker)).resolves.toBeNull()
    expect(() => readFileSync(marker)).toThrow('ENOENT')
  })

  it('refuses a file that is not there', async () => {
    const missing = query({ configFile: join(directory, 'missing') })
    await expect(resolveHostConfig(missing, () => {})).rejects.toMatchObject({
      code: 'connect/failed',
      operand: 'kvm2',
    })
    process.env['PATH'] = directory
    await expect(resolveHostConfig(missing, () => {})).rejects.toMatchObject({
      code: 'connect/failed',
      operand: 'kvm2',
    })
  })

  it('offers the keys of an agent, and with IdentitiesOnly only the named ones', async () => {
    const socket = join(directory, 'agent')
    const started = execFileSync('ssh-agent', ['-a', socket], { encoding: 'utf8', timeout: 10_000 })
    const agentPid = Number(/SSH_AGENT_PID=(\d+)/.exec(started)?.[1])
    try {
      for (const name of ['one', 'two']) {
        makeKey(join(directory, name), 'ed25519')
        const added = spawnSync('ssh-add', ['-q', join(directory, name)], {
          env: { ...process.env, SSH_AUTH_SOCK: socket },
          timeout: 10_000,
        })
        expect(added.status).toBe(0)
      }
      const countOf = async (text: string): Promise<number[]> => {
        writeFileSync(join(directory, 'config'), `Host kvm2\n IdentityAgent ${socket}\n${text}`)
        const plan = await planAuth(await resolveHostConfig(query({}), () => {}), [])
        const counts: number[] = []
        for (const method of plan.methods) {
          if (method.type !== 'agent' || typeof method.agent === 'string') continue
          const { agent } = method
          counts.push(
            await new Promise((resolve, reject) =>
              agent.getIdentities((error, keys) => (error ? reject(error) : resolve(keys?.length ?? 0))),
            ),
          )
        }
        return counts
      }
      expect(await countOf('')).toEqual([2])
      expect(await countOf(` IdentitiesOnly yes\n IdentityFile ${join(directory, 'two')}\n`)).toEqual([1])
      expect(await countOf(` IdentitiesOnly yes\n IdentityFile ${join(directory, 'three')}\n`)).toEqual([0])
    } finally {
      process.kill(agentPid)
    }
  })
})

describe('run', () => {
  const request = { timeoutMs: 10_000, errorCode: 'guard/held', operand: 'x' } as const

  it('gives the status and the output', async () => {
    const script = 'console.log("out"); console.error("err"); process.exitCode = 3'
    expect(await run({ ...request, argv: [process.execPath, '-e', script] })).toEqual({
      exitStatus: 3,
      stdout: 'out\n',
      stderrTail: 'err',
    })
  })

  it.each([
    ['a missing program', { argv: ['/no/such/program'] as const }, /was not found/],
    [
      'a deadline',
      { argv: [process.execPath, '-e', 'setInterval(() => {}, 1000)'] as const, timeoutMs: 200 },
      /did not end within 0.2 s/,
    ],
    [
      'a signal',
      { argv: [process.execPath, '-e', 'process.kill(process.pid, "SIGKILL")'] as const },
      /was killed by SIGKILL/,
    ],
    [
      'too much output',
      { argv: [process.execPath, '-e', 'console.log("x".repeat(1e6))'] as const, maxOutputBytes: 1000 },
      /more than 1000 bytes/,
    ],
    [
      'an abort',
      { argv: [process.execPath, '-e', 'setInterval(() => {}, 1000)'] as const, signal: AbortSignal.abort() },
      /was stopped/,
    ],
  ])('rejects for %s', async (_name, given, message) => {
    await expect(run({ ...request, ...given })).rejects.toMatchObject({
      code: 'guard/held',
      operand: 'x',
      message: expect.stringMatching(message) as unknown,
    })
  })
})
