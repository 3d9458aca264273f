// known_hosts: what we match is what ssh-keygen finds, and what we conclude from it.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import {
  appendKnownHost,
  fingerprint,
  hostKeyNames,
  isFor,
  judgeHostKey,
  keyTypeOf,
  orderHostKeyAlgorithms,
  parseKnownHosts,
  readKnownHosts,
  type KnownHost,
  type Verdict,
} from '../../src/transport/known-hosts.js'
import { makeKey, sshdSkipReason } from '../support/sshd.js'

const skipReason = sshdSkipReason()

describe.skipIf(skipReason !== null)(
  `known_hosts${skipReason === null ? '' : ` (skipped: ${skipReason})`}`,
  () => {
    let directory = ''
    /** Public halves as 'type base64'. */
    const keys = { a: '', b: '', ecdsa: '', rsa: '' }
    const blob = (name: keyof typeof keys): Buffer => Buffer.from(keys[name].split(' ')[1] ?? '', 'base64')

    beforeAll(() => {
      directory = mkdtempSync(join(tmpdir(), 'blocksync-known-'))
      for (const [name, type] of [
        ['a', 'ed25519'],
        ['b', 'ed25519'],
        ['ecdsa', 'ecdsa'],
        ['rsa', 'rsa'],
      ] as const) {
        makeKey(join(directory, name), type)
        keys[name] = readFileSync(join(directory, `${name}.pub`), 'utf8')
          .split(' ')
          .slice(0, 2)
          .join(' ')
      }
    })
    afterAll(() => rmSync(directory, { recursive: true, force: true }))

    /** Lines that ssh-keygen finds for a name. */
    const oracleLines = (file: string, name: string): number[] => {
      const { stdout } = spawnSync('ssh-keygen', ['-F', name, '-f', file], {
        encoding: 'utf8',
        timeout: 10_000,
      })
      return [...stdout.matchAll(/found: line (\d+)/g)].map((match) => Number(match[1]))
    }
    const ourLines = (file: string, name: string): number[] =>
      parseKnownHosts(readFileSync(file, 'utf8'), file)
        .filter((entry) => isFor(entry, name.toLowerCase()))
        .map((entry) => entry.line)

    const hostFields = [
      'kvm1',
      'kvm1,kvm2,192.0.2.7',
      '[kvm1]:2222',
      '[kvm1]:2222,kvm9',
      '*.example.org',
      '*.example.org,!db.example.org',
      '!db.example.org,*.example.org',
      'kvm?',
      '*',
      '!kvm1',
      '2001:db8::1',
      '[2001:db8::1]:2222',
      'KVM7',
      '**a*b**c',
      '|1|bm90IGEgaGFzaA==|bm90IGEgaGFzaA==',
      '|2|bm90|bm90',
    ]
    const names = [
      'kvm1',
      'kvm2',
      'KVM1',
      'kvm12',
      'kvm7',
      '192.0.2.7',
      '[kvm1]:2222',
      '[kvm2]:2222',
      'db.example.org',
      'web.example.org',
      'example.org',
      '2001:db8::1',
      '[2001:db8::1]:2222',
      'xaybzc',
      'abc',
      'ab',
      'far',
    ]

    it.each(['plain', 'hashed'] as const)('finds the lines that ssh-keygen -F finds (%s)', (form) => {
      const file = join(directory, form)
      // -H refuses a file with lines that are none, and hashes single names but leaves patterns as they are.
      const fields =
        form === 'hashed'
          ? hostFields.filter((hosts) => !hosts.startsWith('|'))
          : [...hostFields, '# kvm1', '']
      const lines = [...fields.map((hosts) => `${hosts} ${keys.a} a comment`), `@revoked kvm2 ${keys.b}`]
      if (form === 'plain') lines.push('kvm1')
      writeFileSync(file, lines.join('\n') + '\n')
      if (form === 'hashed')
        execFileSync('ssh-keygen', ['-q', '-H', '-f', file], { stdio: 'ignore', timeout: 10_000 })
      if (form === 'hashed') expect(readFileSync(file, 'utf8').match(/^\|1\|/gm)?.length).toBeGreaterThan(5)
      let found = 0
      for (const name of names) {
        // ssh lowers a name before it hashes it; ssh-keygen does not.
        if (form === 'hashed' && name !== name.toLowerCase()) continue
        const expected = oracleLines(file, name)
        found += expected.length
        expect({ name, lines: ourLines(file, name) }).toEqual({ name, lines: expected })
      }
      expect(found).toBeGreaterThan(20)
    })

    it('prints fingerprints as ssh-keygen -l does', () => {
      for (const name of ['a', 'ecdsa', 'rsa'] as const) {
        const text = execFileSync('ssh-keygen', ['-l', '-f', join(directory, `${name}.pub`)], {
          encoding: 'utf8',
          timeout: 10_000,
        })
        expect(text).toContain(` ${fingerprint(blob(name))} `)
      }
    })

    it('names a host by port and alias', () => {
      expect(hostKeyNames('KVM1', 22, null)).toEqual(['kvm1'])
      expect(hostKeyNames('kvm1', 2222, null)).toEqual(['[kvm1]:2222', 'kvm1'])
      expect(hostKeyNames('kvm1', 2222, 'Alias')).toEqual(['alias'])
    })

    const verdicts: {
      name: string
      text: () => string
      kind: Verdict['kind']
      port?: number
      line?: number
    }[] = [
      { name: 'known', text: () => `kvm1 ${keys.a}`, kind: 'trusted', line: 1 },
      {
        name: 'known on a second line',
        text: () => `kvm1 ${keys.b}\nkvm1 ${keys.a}`,
        kind: 'trusted',
        line: 2,
      },
      { name: 'an empty file', text: () => '', kind: 'unknown' },
      { name: 'another host', text: () => `kvm2 ${keys.a}`, kind: 'unknown' },
      { name: 'changed', text: () => `kvm1 ${keys.b}`, kind: 'changed', line: 1 },
      { name: 'only another type is known', text: () => `kvm1 ${keys.rsa}`, kind: 'changed', line: 1 },
      {
        name: 'of several, the one of the same type is named',
        text: () => `kvm1 ${keys.rsa}\nkvm1 ${keys.b}`,
        kind: 'changed',
        line: 2,
      },
      { name: 'revoked', text: () => `@revoked kvm1 ${keys.a}`, kind: 'revoked', line: 1 },
      {
        name: 'revoked beats known',
        text: () => `kvm1 ${keys.a}\n@revoked * ${keys.a}`,
        kind: 'revoked',
        line: 2,
      },
      {
        name: 'another key is revoked',
        text: () => `kvm1 ${keys.a}\n@revoked * ${keys.b}`,
        kind: 'trusted',
        line: 1,
      },
      { name: 'an authority is no key', text: () => `@cert-authority kvm1 ${keys.a}`, kind: 'unknown' },
      { name: 'a marker of unknown meaning', text: () => `@trusted kvm1 ${keys.a}`, kind: 'unknown' },
      {
        name: 'port: the name with the port',
        text: () => `[kvm1]:2222 ${keys.a}`,
        kind: 'trusted',
        port: 2222,
      },
      { name: 'port: the bare name confirms', text: () => `kvm1 ${keys.a}`, kind: 'trusted', port: 2222 },
      {
        name: 'port: the bare name does not refute',
        text: () => `kvm1 ${keys.b}`,
        kind: 'unknown',
        port: 2222,
      },
      {
        name: 'port: the name with another port',
        text: () => `[kvm1]:2223 ${keys.a}`,
        kind: 'unknown',
        port: 2222,
      },
      { name: 'port: changed', text: () => `[kvm1]:2222 ${keys.b}`, kind: 'changed', port: 2222 },
      {
        name: 'port: revoked under the bare name',
        text: () => `[kvm1]:2222 ${keys.a}\n@revoked kvm1 ${keys.a}`,
        kind: 'revoked',
        port: 2222,
      },
      { name: 'negated', text: () => `*,!kvm1 ${keys.a}`, kind: 'unknown' },
      {
        name: 'a type that is not that of the key',
        text: () => `kvm1 ssh-rsa ${keys.a.split(' ')[1]}`,
        kind: 'unknown',
      },
      { name: 'a key that is cut', text: () => `kvm1 ${keys.a.slice(0, -20)}`, kind: 'changed' },
      { name: 'no base64', text: () => `kvm1 ssh-ed25519 ////`, kind: 'unknown' },
      { name: 'CRLF line ends', text: () => `kvm1 ${keys.a}\r\n`, kind: 'trusted' },
      { name: 'leading blanks and tabs', text: () => `  kvm1\t${keys.a}\tcomment`, kind: 'trusted' },
    ]
    it.each(verdicts)('$name: $kind', ({ text, kind, port, line }) => {
      const verdict = judgeHostKey(
        parseKnownHosts(text(), 'f'),
        hostKeyNames('kvm1', port ?? 22, null),
        blob('a'),
      )
      expect(verdict.kind).toBe(kind)
      const entry: KnownHost | null =
        verdict.kind === 'changed'
          ? verdict.known
          : verdict.kind === 'unknown'
            ? verdict.authority
            : verdict.by
      if (line !== undefined) expect(entry?.line).toBe(line)
      if (text().startsWith('@cert')) expect(entry?.marker).toBe('cert-authority')
    })

    it('asks for the known key types first', () => {
      const entries = parseKnownHosts(
        `kvm1 ${keys.rsa}\nkvm2 ${keys.ecdsa}\n[kvm1]:2222 ${keys.ecdsa}\n`,
        'f',
      )
      expect(orderHostKeyAlgorithms(entries, ['kvm1']).slice(0, 3)).toEqual([
        'rsa-sha2-512',
        'rsa-sha2-256',
        'ssh-ed25519',
      ])
      expect(orderHostKeyAlgorithms(entries, ['[kvm1]:2222', 'kvm1']).slice(0, 2)).toEqual([
        'ecdsa-sha2-nistp256',
        'ssh-ed25519',
      ])
      expect(orderHostKeyAlgorithms(entries, ['new'])[0]).toBe('ssh-ed25519')
    })

    it('a wildcard of many stars takes no exponential time', () => {
      const [entry] = parseKnownHosts(`${'*a'.repeat(60)}*b ${keys.a}`, 'f')
      const startedAt = performance.now()
      expect(entry !== undefined && isFor(entry, 'a'.repeat(250))).toBe(false)
      expect(performance.now() - startedAt).toBeLessThan(5000)
    })

    it('reads several files, skips missing ones, and refuses one that it cannot read', async () => {
      const file = join(directory, 'one')
      writeFileSync(file, `kvm1 ${keys.a}\n`)
      const entries = await readKnownHosts([join(directory, 'missing'), file], 'kvm1')
      expect(entries.map((entry) => [entry.file, entry.line])).toEqual([[file, 1]])
      await expect(readKnownHosts([directory], 'kvm1')).rejects.toMatchObject({
        code: 'connect/host-key',
        operand: 'kvm1',
      })
    })

    it('appends to a new file and behind a line without an end', async () => {
      const file = join(directory, 'sub', 'new')
      await appendKnownHost(file, '[kvm1]:2222', blob('a'), 'kvm1')
      expect(oracleLines(file, '[kvm1]:2222')).toEqual([1])
      writeFileSync(file, `kvm9 ${keys.b}`)
      await appendKnownHost(file, 'kvm1', blob('rsa'), 'kvm1')
      expect(readFileSync(file, 'utf8')).toBe(`kvm9 ${keys.b}\nkvm1 ${keys.rsa}\n`)
      await expect(appendKnownHost(directory, 'kvm1', blob('a'), 'kvm1')).rejects.toMatchObject({
        code: 'connect/host-key',
      })
    })

    it('takes the type out of a key blob, and nothing out of other bytes', () => {
      expect(keyTypeOf(blob('ecdsa'))).toBe('ecdsa-sha2-nistp256')
      expect(keyTypeOf(Buffer.alloc(0))).toBe('')
      expect(keyTypeOf(Buffer.from([255, 255, 255, 255, 1]))).toBe('')
    })
  },
)
