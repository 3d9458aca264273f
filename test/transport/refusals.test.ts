// What a person sees when the other side cannot be reached or refuses: each cause, through the system's ssh and through ssh2.
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import { connect } from '../../src/transport/open.js'
import type { TransportOptions } from '../../src/transport/transport.js'
import { freePort, knownHostLine, makeKey, sshdSkipReason, startSshd, type Sshd } from '../support/sshd.js'

const FAR_PATH = fileURLToPath(new URL('fixtures/far.js', import.meta.url))
const skipReason = sshdSkipReason()

/** Connects and reads to the end: resolves with how it ended, or with the error a person would see. */
async function attempt(options: TransportOptions, host = 'far'): Promise<SyncError | 'worked'> {
  try {
    await using connection = await connect(
      { kind: 'remote', host, user: null, port: null, typed: host },
      options,
      () => {},
    )
    connection.end()
    let bytes = 0
    for await (const chunk of connection.input) bytes += (chunk as Buffer).length
    const exit = await connection.exit
    return exit.exitStatus === 0 && bytes > 0 ? 'worked' : connection.explain(exit, 'before-banner')
  } catch (error) {
    if (error instanceof SyncError) return error
    throw error
  }
}

describe.skipIf(skipReason !== null)(
  `refusals${skipReason === null ? '' : ` (skipped: ${skipReason})`}`,
  () => {
    let sshd: Sshd
    let directory = ''
    let strangerSshdKey = ''

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'blocksync-refusals-'))
      sshd = await startSshd({ hostKeyTypes: ['rsa', 'ed25519', 'ecdsa'] })
      strangerSshdKey = join(directory, 'other_host_key')
      makeKey(strangerSshdKey, 'ed25519')
    })
    afterAll(async () => {
      await sshd.stop()
      rmSync(directory, { recursive: true, force: true })
    })

    /** Writes known_hosts for one case and gives the configuration that uses it (and further lines, which come first). */
    const config = (knownHosts: string, lines: readonly string[] = []): string => {
      const knownHostsPath = join(directory, 'known_hosts')
      const configPath = join(directory, 'ssh_config')
      writeFileSync(knownHostsPath, knownHosts)
      writeFileSync(
        configPath,
        [
          'Host *',
          ...lines,
          `  UserKnownHostsFile ${knownHostsPath}`,
          '',
          readFileSync(sshd.clientConfigPath, 'utf8'),
        ].join('\n'),
      )
      return configPath
    }
    const known = (type: 'ed25519' | 'rsa' | 'ecdsa' = 'ed25519'): string =>
      knownHostLine(`[127.0.0.1]:${sshd.port}`, sshd.hostKeyPath(type))
    const other = (): string => knownHostLine(`[127.0.0.1]:${sshd.port}`, strangerSshdKey)

    type Row = Readonly<{
      name: string
      options: () => Partial<TransportOptions> | Promise<Partial<TransportOptions>>
      host?: string
      expected: { code: string; message?: RegExp; hint?: RegExp } | 'worked'
      only?: 'openssh' | 'ssh2'
    }>
    const rows: readonly Row[] = [
      { name: 'a known host', options: () => ({ configFile: config(known()) }), expected: 'worked' },
      {
        name: 'a host known by its rsa key only',
        options: () => ({ configFile: config(known('rsa')) }),
        expected: 'worked',
      },
      {
        name: 'a host known by its ecdsa key only',
        options: () => ({ configFile: config(known('ecdsa')) }),
        expected: 'worked',
      },
      {
        name: 'HostKeyAlias',
        options: () => ({
          configFile: config(knownHostLine('alias', sshd.hostKeyPath('ed25519')), ['  HostKeyAlias alias']),
        }),
        expected: 'worked',
      },
      {
        name: 'an unknown host key',
        options: () => ({ configFile: config('') }),
        expected: {
          code: 'connect/host-key',
          message: /^far: the host key .*not known/,
          hint: /ssh far once/,
        },
      },
      {
        name: 'an unknown host key and StrictHostKeyChecking no (ssh would accept it)',
        options: () => ({ configFile: config('', ['  StrictHostKeyChecking no']) }),
        expected: { code: 'connect/host-key', hint: /ssh-keyscan -p \d+ -t \w+ 127\.0\.0\.1 >> / },
        only: 'ssh2',
      },
      {
        name: 'a changed host key',
        options: () => ({ configFile: config(`# a line before\n${other()}`) }),
        expected: { code: 'connect/host-key', message: /^far: .*known_hosts:2/, hint: /ssh-keygen -R/ },
      },
      {
        name: 'a changed host key, with both fingerprints',
        options: () => ({ configFile: config(other()) }),
        expected: {
          code: 'connect/host-key',
          message: /Offered: ssh-ed25519 SHA256:\S+; known from \S+known_hosts:1: ssh-ed25519 SHA256:/,
        },
        only: 'ssh2',
      },
      {
        name: 'a changed host key and accept-new',
        options: () => ({ configFile: config(other(), ['  StrictHostKeyChecking accept-new']) }),
        expected: { code: 'connect/host-key' },
      },
      {
        name: 'a revoked host key',
        options: () => ({
          configFile: config(`${known()}@revoked * ${known().split(' ').slice(1).join(' ')}`, [
            '  HostKeyAlgorithms ssh-ed25519',
          ]),
        }),
        expected: { code: 'connect/host-key', message: /revoked/i },
      },
      {
        name: 'a certificate authority only',
        options: () => ({ configFile: config(`@cert-authority ${other()}`) }),
        expected: { code: 'connect/host-key' },
      },
      {
        name: 'a certificate authority only, and why it does not count',
        options: () => ({ configFile: config(`@cert-authority ${other()}`) }),
        expected: {
          code: 'connect/host-key',
          message: /@cert-authority of \S+known_hosts:1 does not count/,
          hint: /--ssh openssh/,
        },
        only: 'ssh2',
      },
      {
        name: 'a wrong user key',
        options: () => ({
          configFile: config(known(), [
            `  IdentityFile ${sshd.strangerPath}`,
            '  IdentityAgent none',
            '  User nobody',
          ]),
        }),
        expected: { code: 'connect/auth', message: /^far: /, hint: /-i/ },
      },
      {
        name: 'a key with a passphrase',
        options: () => {
          const file = join(directory, 'locked')
          if (!existsSync(file)) makeKey(file, 'ed25519', 'secret')
          const configFile = join(directory, 'locked_config')
          writeFileSync(
            configFile,
            readFileSync(sshd.clientConfigPath, 'utf8').replace(/IdentityFile .*/, `IdentityFile ${file}`),
          )
          return { configFile }
        },
        expected: {
          code: 'connect/auth',
          message: /locked is protected by a passphrase: load it with ssh-add/,
        },
        only: 'ssh2',
      },
      {
        name: 'a key file that does not exist',
        options: () => {
          const configFile = join(directory, 'no_identity_config')
          writeFileSync(
            configFile,
            readFileSync(sshd.clientConfigPath, 'utf8').replace(/IdentityFile .*/, ''),
          )
          return { configFile, identities: [join(directory, 'nowhere')] }
        },
        expected: { code: 'connect/auth', message: /nowhere/ },
        only: 'ssh2',
      },
      {
        name: 'a named key',
        options: () => {
          const configFile = join(directory, 'no_identity_config')
          writeFileSync(
            configFile,
            readFileSync(sshd.clientConfigPath, 'utf8').replace(/IdentityFile .*/, ''),
          )
          return { configFile, identities: [sshd.identityPath] }
        },
        expected: 'worked',
      },
      {
        name: 'a closed port',
        options: async () => ({ configFile: config(known()), port: await freePort() }),
        expected: { code: 'connect/refused', message: /^far: /, hint: /port/ },
      },
      {
        name: 'a host name that does not resolve',
        host: 'bad..name',
        options: () => ({ configFile: config(known()) }),
        expected: { code: 'connect/host', message: /^bad\.\.name: / },
      },
      {
        name: 'no such program',
        options: () => ({ configFile: config(known()), remoteCommand: 'blocksync-that-is-not-there' }),
        expected: {
          code: 'connect/no-program',
          message: /^far: 'blocksync-that-is-not-there'/,
          hint: /npm install -g .*blocksync.*--remote-command/,
        },
      },
      {
        name: 'a file that is no program',
        options: () => ({ configFile: config(known()), remoteCommand: strangerSshdKey }),
        expected: { code: 'connect/no-program', message: /\(status 126\)/ },
      },
      {
        name: 'a far end that fails at once',
        options: () => ({ configFile: config(known()), serveArguments: ['exit', '3'] }),
        expected: { code: 'connect/failed', message: /ended with status 3 .*last words/ },
      },
      {
        name: 'a far end that is killed at once',
        options: () => ({
          configFile: config(known()),
          remoteCommand: `true; ${process.execPath} ${FAR_PATH}`,
          serveArguments: ['suicide'],
        }),
        expected: { code: 'connect/failed' },
      },
      {
        name: 'a configuration file that is wrong',
        options: () => ({ configFile: config(known(), ['  NoSuchOption yes']) }),
        expected: { code: 'connect/failed', message: /NoSuchOption|nosuchoption/ },
      },
      {
        name: 'a jump host',
        host: 'inner',
        options: () => ({ configFile: jumpConfig('  ProxyJump far', known()) }),
        expected: 'worked',
      },
      {
        name: 'two jump hosts',
        host: 'inner',
        options: () => ({ configFile: jumpConfig('  ProxyJump far,far2', known()) }),
        expected: 'worked',
      },
      {
        name: 'a jump host whose key is not known',
        host: 'inner',
        options: () => ({
          configFile: jumpConfig(
            '  ProxyJump far',
            knownHostLine('inner-key', sshd.hostKeyPath('ed25519')),
            'inner-key',
          ),
        }),
        expected: { code: 'connect/host-key' },
      },
      {
        // Only here: OpenSSH starts one ssh after another in this case, without an end.
        name: 'a jump host that leads to itself',
        host: 'inner',
        options: () => ({ configFile: jumpConfig('  ProxyJump inner', known()) }),
        expected: { code: 'connect/failed', message: /more than 8 jump hosts/ },
        only: 'ssh2',
      },
      {
        name: 'a proxy command',
        host: 'inner',
        options: () => ({
          configFile: jumpConfig(`  ProxyCommand ssh -F ${sshd.clientConfigPath} -W %h:%p far`, known()),
        }),
        expected: 'worked',
      },
      {
        name: 'a proxy command that fails',
        host: 'inner',
        options: () => ({ configFile: jumpConfig('  ProxyCommand false', known()) }),
        expected: { code: 'connect/refused' },
      },
      {
        name: 'a setting that only ssh can honour',
        options: () => ({ configFile: config(known(), ['  RevokedHostKeys /dev/null']) }),
        expected: { code: 'connect/failed', message: /revokedhostkeys/, hint: /--ssh openssh/ },
        only: 'ssh2',
      },
    ]

    const jumpConfig = (line: string, knownHosts: string, alias?: string): string => {
      const base = config(knownHosts)
      const configPath = join(directory, 'jump_config')
      copyFileSync(base, configPath)
      const inner = readFileSync(sshd.clientConfigPath, 'utf8')
        .replace(
          'Host far far2',
          `Host inner\n${line}${alias === undefined ? '' : `\n  HostKeyAlias ${alias}`}`,
        )
        .replace(/UserKnownHostsFile .*/, `UserKnownHostsFile ${join(directory, 'known_hosts')}`)
      writeFileSync(configPath, `${inner}\n${readFileSync(base, 'utf8')}`)
      return configPath
    }

    for (const ssh of ['openssh', 'ssh2'] as const) {
      for (const row of rows) {
        if (row.only !== undefined && row.only !== ssh) continue
        it(`${ssh}: ${row.name}`, { timeout: 20_000 }, async () => {
          const options: TransportOptions = {
            ...SYNC_DEFAULTS.transport,
            ssh,
            remoteCommand: `${process.execPath} ${FAR_PATH}`,
            serveArguments: ['sink'],
            ...(await row.options()),
          }
          const result = await attempt(options, row.host)
          if (row.expected === 'worked') {
            expect(result).toBe('worked')
            return
          }
          if (result === 'worked') throw new Error('it worked')
          expect({ code: result.code, message: result.message }).toMatchObject({ code: row.expected.code })
          if (row.expected.hint !== undefined) expect(result.hint).toMatch(row.expected.hint)
          expect(result.operand).toBe(row.host ?? 'far')
          expect(result.hint).not.toBeNull()
          // OpenSSH words the host key part itself; its file and line are quoted as it prints them.
          if (row.expected.message !== undefined) expect(result.message).toMatch(row.expected.message)
        })
      }
    }

    it('ssh2: accept-new learns a new key once, and then holds to it', async () => {
      const configFile = config('', ['  StrictHostKeyChecking accept-new'])
      const options: TransportOptions = {
        ...SYNC_DEFAULTS.transport,
        ssh: 'ssh2',
        configFile,
        remoteCommand: `${process.execPath} ${FAR_PATH}`,
        serveArguments: ['sink'],
      }
      expect(await attempt(options)).toBe('worked')
      expect(readFileSync(join(directory, 'known_hosts'), 'utf8')).toBe(known('ed25519'))
      expect(await attempt(options)).toBe('worked')
      expect(readFileSync(join(directory, 'known_hosts'), 'utf8')).toBe(known('ed25519'))
      writeFileSync(join(directory, 'known_hosts'), other())
      expect(await attempt(options)).toMatchObject({ code: 'connect/host-key' })
    })

    it('a host key that was changed while known_hosts was not', async () => {
      const changing = await startSshd()
      try {
        const options = (ssh: 'openssh' | 'ssh2'): TransportOptions => ({
          ...SYNC_DEFAULTS.transport,
          ssh,
          configFile: changing.clientConfigPath,
          remoteCommand: `${process.execPath} ${FAR_PATH}`,
          serveArguments: ['sink'],
        })
        expect(await attempt(options('ssh2'))).toBe('worked')
        await changing.changeHostKeys()
        expect(await attempt(options('ssh2'))).toMatchObject({ code: 'connect/host-key' })
        expect(await attempt(options('openssh'))).toMatchObject({ code: 'connect/host-key' })
      } finally {
        await changing.stop()
      }
    })
  },
)
