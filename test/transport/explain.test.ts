// Ends of a far program and the errors that people see; texts as the programs print them.
import { describe, expect, it } from 'vitest'

import { exitStatusOf } from '../../src/errors.js'
import { explainExit, type ExitContext } from '../../src/transport/explain.js'
import { MAX_LINE_CHARACTERS, StderrTail } from '../../src/transport/stderr-tail.js'
import { STDERR_TAIL_BYTES } from '../../src/transport/transport.js'

const OPENSSH: ExitContext = {
  kind: 'openssh',
  peerName: 'root@kvm2',
  remoteCommand: 'blocksync',
  sudo: 'never',
}
const SUDO: ExitContext = { ...OPENSSH, sudo: 'always' }
const SSH2: ExitContext = { ...OPENSSH, kind: 'ssh2' }
const LOCAL: ExitContext = { kind: 'local', peerName: 'local', remoteCommand: 'main.js', sudo: 'never' }

const CHANGED = [
  '@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@',
  '@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @',
  '@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@',
  'IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!',
  'Offending ED25519 key in /home/a/.ssh/known_hosts:17',
  '  remove with:',
  '  ssh-keygen -f "/home/a/.ssh/known_hosts" -R "kvm2"',
  'Host key for kvm2 has changed and you have requested strict checking.',
  'Host key verification failed.',
].join('\n')

describe('before the banner', () => {
  it.each([
    ['ssh: Could not resolve hostname kvm2: Name or service not known', 255, 'connect/host'],
    ['ssh: connect to host kvm2 port 22: No route to host', 255, 'connect/host'],
    ['ssh: connect to host kvm2 port 22: Connection refused', 255, 'connect/refused'],
    ['ssh: connect to host kvm2 port 22: Connection timed out', 255, 'connect/refused'],
    ['kex_exchange_identification: Connection closed by remote host', 255, 'connect/refused'],
    [
      'No ED25519 host key is known for kvm2 and you have requested strict checking.\nHost key verification failed.',
      255,
      'connect/host-key',
    ],
    [CHANGED, 255, 'connect/host-key'],
    ['root@kvm2: Permission denied (publickey).', 255, 'connect/auth'],
    ['Received disconnect from 192.0.2.2 port 22:2: Too many authentication failures', 255, 'connect/auth'],
    [
      'Unable to negotiate with 192.0.2.2 port 22: no matching key exchange method found.',
      255,
      'connect/failed',
    ],
    ['', 255, 'connect/failed'],
    ['bash: line 1: blocksync: command not found', 127, 'connect/no-program'],
    ['sh: 1: blocksync: Permission denied', 126, 'connect/no-program'],
    ['', 0, 'connect/failed'],
    ['SyntaxError: Unexpected token', 1, 'connect/failed'],
  ])('%j, status %i: %s', (stderrTail, exitStatus, code) => {
    const error = explainExit(OPENSSH, { exitStatus, signal: null, stderrTail }, 'before-banner')
    expect(error).toMatchObject({ code, exitStatus: 4, operand: 'root@kvm2' })
    expect(error.message).toMatch(/^root@kvm2: .*nothing was written/)
    const lastLine = stderrTail.split('\n').at(-1) ?? ''
    expect(error.message).toContain(lastLine)
    expect(error.hint).toMatch(/\.$/)
  })

  it('quotes the offending line of known_hosts', () => {
    const error = explainExit(
      OPENSSH,
      { exitStatus: 255, signal: null, stderrTail: CHANGED },
      'before-banner',
    )
    expect(error.message).toContain('Offending ED25519 key in /home/a/.ssh/known_hosts:17')
    expect(error.message).not.toContain('@@@')
  })

  it.each([
    ['sudo: a password is required', 1, 'connect/auth', /NOPASSWD/],
    [
      'sudo: a terminal is required to read the password; either use the -S option',
      1,
      'connect/auth',
      /NOPASSWD/,
    ],
    ['a is not in the sudoers file.', 1, 'connect/auth', /NOPASSWD/],
    ['sudo: blocksync: command not found', 1, 'connect/no-program', /npm install/],
    ['bash: line 1: sudo: command not found', 127, 'connect/no-program', /without --sudo/],
  ])('with --sudo: %j is %s %s', (stderrTail, exitStatus, code, hint) => {
    const error = explainExit(SUDO, { exitStatus, signal: null, stderrTail }, 'before-banner')
    expect(error.code).toBe(code)
    expect(error.hint).toMatch(hint)
  })

  it('the text of sudo means nothing without --sudo', () => {
    const exit = { exitStatus: 1, signal: null, stderrTail: 'sudo: a password is required' }
    expect(explainExit(OPENSSH, exit, 'before-banner').code).toBe('connect/failed')
  })

  it('the local half', () => {
    const error = explainExit(
      LOCAL,
      { exitStatus: 1, signal: null, stderrTail: "Cannot find module 'x'" },
      'before-banner',
    )
    expect(error).toMatchObject({ code: 'connect/failed', operand: 'local' })
    expect(error.message).toContain("Cannot find module 'x'")
  })
})

describe('after the banner', () => {
  it.each([
    [
      OPENSSH,
      { exitStatus: 255, signal: null, stderrTail: 'Connection to kvm2 closed by remote host.' },
      /^the connection to root@kvm2 broke before/,
    ],
    [
      OPENSSH,
      { exitStatus: 255, signal: null, stderrTail: '' },
      /^the connection to root@kvm2 broke, or blocksync there was killed/,
    ],
    [
      OPENSSH,
      { exitStatus: 137, signal: null, stderrTail: '' },
      /^blocksync on root@kvm2 was killed by SIGKILL/,
    ],
    [
      OPENSSH,
      { exitStatus: 70, signal: null, stderrTail: 'boom' },
      /^blocksync on root@kvm2 ended with status 70 .*: boom$/,
    ],
    [
      OPENSSH,
      { exitStatus: null, signal: 'SIGTERM', stderrTail: '' },
      /^the ssh process to root@kvm2 was killed by SIGTERM/,
    ],
    [
      SSH2,
      { exitStatus: null, signal: null, stderrTail: 'ssh2: read ECONNRESET' },
      /^the connection to root@kvm2 broke before .*ECONNRESET/,
    ],
    [
      SSH2,
      { exitStatus: null, signal: 'SIGKILL', stderrTail: '' },
      /^blocksync on root@kvm2 was killed by SIGKILL/,
    ],
    [
      SSH2,
      { exitStatus: 255, signal: null, stderrTail: '' },
      /^blocksync on root@kvm2 ended with status 255/,
    ],
    [
      LOCAL,
      { exitStatus: null, signal: 'SIGSEGV', stderrTail: '' },
      /^the local half of blocksync was killed by SIGSEGV/,
    ],
  ] as const)('%o %o', (context, exit, message) => {
    const error = explainExit(context, exit, 'banner-seen')
    expect(error.code).toBe('session/lost')
    expect(exitStatusOf(error.code)).toBe(8)
    expect(error.message).toMatch(message)
    expect(error.hint).toContain('run the same command again')
  })
})

describe('stderr', () => {
  /** The lines and the tail of a text that arrives in pieces of `pieceBytes`. */
  const pass = (text: string, pieceBytes: number): { lines: string[]; tail: string } => {
    const lines: string[] = []
    const tail = new StderrTail((line) => lines.push(line))
    const bytes = Buffer.from(text)
    for (let offset = 0; offset < bytes.length; offset += pieceBytes)
      tail.push(bytes.subarray(offset, offset + pieceBytes))
    tail.end()
    tail.end()
    return { lines, tail: tail.text() }
  }

  it.each([1, 2, 3, 7, 100, 100_000])('is the same for pieces of %i bytes', (pieceBytes) => {
    const text = `größe\n\n\u001b]0;title\u0007 \u202etxt\r\n${'z'.repeat(2000)}\n${'ä'.repeat(9000)}\nend`
    const { lines, tail } = pass(text, pieceBytes)
    expect(lines).toEqual([
      'größe',
      '',
      '?]0;title? ?txt',
      `${'z'.repeat(MAX_LINE_CHARACTERS)}...`,
      `${'ä'.repeat(MAX_LINE_CHARACTERS)}...`,
      'end',
    ])
    expect(tail).toBe(Buffer.from(text).subarray(-STDERR_TAIL_BYTES).toString())
  })

  it.each([0, 1, STDERR_TAIL_BYTES - 1, STDERR_TAIL_BYTES, STDERR_TAIL_BYTES + 1, 3 * STDERR_TAIL_BYTES])(
    'keeps the last of %i bytes',
    (size) => {
      const text = Array.from({ length: size }, (_, index) => String(index % 10)).join('')
      for (const pieceBytes of [1000, STDERR_TAIL_BYTES, 100_000])
        expect(pass(text, pieceBytes).tail).toBe(text.slice(-STDERR_TAIL_BYTES))
    },
  )
})
