// Operands and pairs as tables: what each spelling means, and what is refused with which way out.

import { describe, expect, it } from 'vitest'

import { hostPrefix, parseHost, parseOperand } from '../../src/cli/operand.js'
import type { LocalNames } from '../../src/cli/operand.js'
import { parsePairs, remoteOf } from '../../src/cli/pairs.js'
import { SyncError } from '../../src/errors.js'

const names: LocalNames = {
  cwd: '/home/me',
  isFile: (path) => ['disk.img', 'user@word', 'host9'].includes(path),
}

function failure(action: () => unknown): SyncError {
  try {
    action()
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('it was not refused')
}

function remote(host: string, user: string | null = null, port: number | null = null): object {
  return { kind: 'remote', host, user, port }
}

const local = { kind: 'local' }

describe('one operand', () => {
  it.each<[string, object, string | null]>([
    ['/dev/vg/root', local, '/dev/vg/root'],
    ['./disk.img', local, './disk.img'],
    ['../disk.img', local, '../disk.img'],
    ['images/disk.img', local, 'images/disk.img'],
    ['/dev/disk/by-path/pci-0000:00:1f.2', local, '/dev/disk/by-path/pci-0000:00:1f.2'],
    ['./a:b', local, './a:b'],
    ['./user@host:/x', local, './user@host:/x'],
    ['/[::1]:/x', local, '/[::1]:/x'],
    ['host2', remote('host2'), null],
    ['user@host2', remote('host2', 'user'), null],
    ['host2:', remote('host2'), null],
    ['user@host2:', remote('host2', 'user'), null],
    ['host9:', remote('host9'), null],
    ['host2:/dev/x', remote('host2'), '/dev/x'],
    ['user@host2:/dev/x', remote('host2', 'user'), '/dev/x'],
    ['a@b@host2:/dev/x', remote('host2', 'a@b'), '/dev/x'],
    ['DOM\\user@host2:/dev/x', remote('host2', 'DOM\\user'), '/dev/x'],
    ['host2:disk.img', remote('host2'), 'disk.img'],
    ['host2:~/disk.img', remote('host2'), 'disk.img'],
    ['host2:/a:b', remote('host2'), '/a:b'],
    ['host2:/with blank', remote('host2'), '/with blank'],
    ['host2:-n', remote('host2'), '-n'],
    ['h_1.example-x.org:/x', remote('h_1.example-x.org'), '/x'],
    ['192.0.2.7:/x', remote('192.0.2.7'), '/x'],
    ['[::1]:/dev/x', remote('::1'), '/dev/x'],
    ['[::1]', remote('::1'), null],
    ['[::1]:', remote('::1'), null],
    ['root@[fe80::1%eth0]:/dev/x', remote('fe80::1%eth0', 'root'), '/dev/x'],
    ['[host2]:/x', remote('host2'), '/x'],
    ['ssh://host2/dev/x', remote('host2'), '/dev/x'],
    ['SSH://host2/dev/x', remote('host2'), '/dev/x'],
    ['ssh://user@host2:2222/dev/x', remote('host2', 'user', 2222), '/dev/x'],
    ['ssh://[::1]:22/dev/x', remote('::1', null, 22), '/dev/x'],
    ['ssh://host2', remote('host2'), null],
    ['ssh://host2:22', remote('host2', null, 22), null],
    ['ssh://host2/a%20b%25', remote('host2'), '/a b%'],
    ['ssh://host2/a:b#c?d', remote('host2'), '/a:b#c?d'],
  ])('%s', (typed, at, path) => {
    const parsed = parseOperand(typed, names)
    expect(parsed).toMatchObject({ at, path, typed })
  })

  it.each<[string, string]>([
    ['host2:/srv/', 'directory'],
    ['./srv/', 'directory'],
    ['/srv', 'disk'],
    ['host2:', 'disk'],
  ])('%s names a %s', (typed, kind) => {
    expect(parseOperand(typed, names).names).toBe(kind)
  })

  it.each<[string, string, RegExp, RegExp]>([
    ['empty', '', /empty/, /variable/],
    ['a file of that name', 'disk.img', /file here or a host/, /\.\/disk\.img .*disk\.img:/],
    ['a file with a user', 'user@word', /file here or a host/, /\.\/user@word/],
    ['a newline', '/dev/x\n', /control character/, /./],
    ['an escape', 'host\u001b[2J:/x', /control character/, /./],
    ['a C1 control', '/dev/\u009bx', /control character/, /./],
    ['NUL', 'host:/x\0y', /control character/, /./],
    ['an encoded newline', 'ssh://host2/a%0ab', /control character/, /./],
    ['a host like an option', '-oProxyCommand=x:/dev/x', /taken for an option/, /./],
    ['a bare word like an option', '-host', /taken for an option/, /./],
    ['a user like an option', '-oProxyCommand=x@host2:/dev/x', /taken for an option/, /./],
    ['a host like an option behind a user', 'root@-host:/dev/x', /taken for an option/, /./],
    ['an option in a URL', 'ssh://-oProxyCommand=x/dev/x', /taken for an option/, /./],
    ['an option in brackets', '[-host]:/dev/x', /taken for an option/, /./],
    ['a host with a blank', 'my host:/x', /not the name of a host/, /./],
    ['a host with shell characters', 'a;b:/x', /not the name of a host/, /./],
    ['a user with shell characters', 'a$(id)@host2:/x', /not the name of a user/, /./],
    ['an empty user', '@host2:/x', /no user/, /./],
    ['no host', ':/x', /no host/, /host:\/path/],
    ['IPv6 without brackets', '::1:/dev/x', /no host|rsync/, /\[::1\]|host:\/path/],
    ['an rsync module', 'host2::module/x', /rsync daemon/, /./],
    ['a colon in a relative path', 'images/a:b', /colon is not clear/, /\.\/images\/a:b/],
    ['another URL', 'http://host2/x', /URL/, /ssh:\/\//],
    ['a file URL', 'file:///x', /URL/, /\/path/],
    ['a password', 'ssh://user:secret@host2/x', /password/, /key/],
    ['a bad port', 'ssh://host2:0/x', /port/, /./],
    ['a port of letters', 'ssh://host2:ssh/x', /port/, /./],
    ['a port too large', 'ssh://host2:65536/x', /port/, /./],
    ['no host in a URL', 'ssh:///x', /no host/, /./],
    ['a broken percent', 'ssh://host2/a%2', /%/, /%25/],
    ['another home', 'host2:~bob/x', /home of another/, /whole path/],
    ['the home itself', 'host2:~/', /directory/, /./],
    ['this directory', '.', /directory/, /./],
    ['too long', `/${'x'.repeat(5000)}`, /longer/, /./],
  ])('refuses %s', (_name, typed, message, hint) => {
    const error = failure(() => parseOperand(typed, names))
    expect(error.code).toBe('usage')
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/nothing was opened/)
    expect(error.hint ?? '').toMatch(hint)
    expect(error.operand).not.toBe(null)
  })

  it('does not repeat a password', () => {
    const error = failure(() => parseOperand('ssh://user:secret@host2/x', names))
    expect(`${error.message} ${error.operand} ${error.hint}`).not.toContain('secret')
  })
})

describe('a host alone', () => {
  it.each<[string, object, string]>([
    ['host2', remote('host2'), 'host2'],
    ['host9', remote('host9'), 'host9'],
    ['root@host2:', remote('host2', 'root'), 'root@host2'],
    ['[::1]', remote('::1'), '::1'],
    ['ssh://root@host2:22', remote('host2', 'root', 22), 'ssh://root@host2:22'],
  ])('%s', (typed, at, named) => {
    expect(parseHost(typed)).toMatchObject({ ...at, typed: named })
  })

  it.each(['', '/dev/x', './x', '-host', 'a b'])('refuses %j', (typed) => {
    expect(failure(() => parseHost(typed)).code).toBe('usage')
  })

  it('is written back as a prefix of a path', () => {
    expect(hostPrefix(parseHost('u@[::1]'))).toBe('u@[::1]:')
    expect(hostPrefix(parseHost('ssh://u@h:22'))).toBe('ssh://u@h:22')
  })
})

type Ends = [sourcePath: string, sourceTyped: string, destinationPath: string, destinationTyped: string]

describe('pairs', () => {
  it.each<[string[], string[], Ends[]]>([
    [['/dev/a', 'host2:/dev/b'], [], [['/dev/a', '/dev/a', '/dev/b', 'host2:/dev/b']]],
    [['/dev/a', 'host2'], [], [['/dev/a', '/dev/a', '/dev/a', 'host2:/dev/a']]],
    [['/dev/a', 'u@host2:'], [], [['/dev/a', '/dev/a', '/dev/a', 'u@host2:/dev/a']]],
    [['./a.img', 'host2'], [], [['./a.img', './a.img', '/home/me/a.img', 'host2:/home/me/a.img']]],
    [['host2', '/dev/a'], [], [['/dev/a', 'host2:/dev/a', '/dev/a', '/dev/a']]],
    [['host2:', './a.img'], [], [['/home/me/a.img', 'host2:/home/me/a.img', './a.img', './a.img']]],
    [['ssh://u@host2:22', '/dev/a'], [], [['/dev/a', 'ssh://u@host2:22/dev/a', '/dev/a', '/dev/a']]],
    [['host2:/dev/b', './x'], [], [['/dev/b', 'host2:/dev/b', './x', './x']]],
    [['./a', './b'], [], [['./a', './a', './b', './b']]],
    [['/dev/a', 'host2:/srv/'], [], [['/dev/a', '/dev/a', '/srv/a', 'host2:/srv/a']]],
    [['host2:/dev/a', './srv/'], [], [['/dev/a', 'host2:/dev/a', './srv/a', './srv/a']]],
    [
      ['/dev/a', '/dev/b', 'host2'],
      [],
      [
        ['/dev/a', '/dev/a', '/dev/a', 'host2:/dev/a'],
        ['/dev/b', '/dev/b', '/dev/b', 'host2:/dev/b'],
      ],
    ],
    [
      ['/dev/a', './b', 'host2:/srv/'],
      [],
      [
        ['/dev/a', '/dev/a', '/srv/a', 'host2:/srv/a'],
        ['./b', './b', '/srv/b', 'host2:/srv/b'],
      ],
    ],
    [
      ['host2:/dev/a', 'host2:b', '/srv/'],
      [],
      [
        ['/dev/a', 'host2:/dev/a', '/srv/a', '/srv/a'],
        ['b', 'host2:b', '/srv/b', '/srv/b'],
      ],
    ],
    [
      [],
      ['/dev/a=host2:/dev/x', '/dev/b=host2'],
      [
        ['/dev/a', '/dev/a', '/dev/x', 'host2:/dev/x'],
        ['/dev/b', '/dev/b', '/dev/b', 'host2:/dev/b'],
      ],
    ],
  ])('%j %j', (operands, disks, expected) => {
    const pairs = parsePairs(operands, disks, names)
    expect(
      pairs.map(({ source, destination }) => [
        source.path,
        source.typed,
        destination.path,
        destination.typed,
      ]),
    ).toEqual(expected)
  })

  it('knows the remote side of both directions, and none', () => {
    expect(remoteOf(parsePairs(['/a', 'u@host2'], [], names))).toMatchObject({ host: 'host2', user: 'u' })
    expect(remoteOf(parsePairs(['host2', '/a'], [], names))).toMatchObject({ host: 'host2' })
    expect(remoteOf(parsePairs(['/a', '/b'], [], names))).toBe(null)
  })

  it.each<[string, string[], string[], RegExp, RegExp]>([
    ['nothing', [], [], /missing/, /blocksync/],
    ['one operand', ['/dev/a'], [], /DESTINATION is missing/, /blocksync \/dev\/a/],
    ['two hosts', ['host1:/a', 'host2:/a'], [], /both sides are remote/, /on one of the two.*two steps/],
    ['two bare words', ['host1', 'host2'], [], /both sides are remote/, /\.\/name/],
    ['a directory as source', ['./srv/', 'host2'], [], /directory/, /./],
    ['a remote directory as source', ['host2:/srv/', './x'], [], /directory/, /./],
    ['a host and a directory', ['host2', './srv/'], [], /which disk/, /host2:\/dev/],
    ['. into a directory', ['/srv/..', 'host2:/x/'], [], /directory/, /./],
    ['several into one disk', ['/a', '/b', 'host2:/c'], [], /several sources/, /host2:\/c\/.*--disk/],
    ['several into one local disk', ['/a', '/b', '/c'], [], /several sources/, /\/c\//],
    ['several, one remote', ['/a', 'host2:/b', '/srv/'], [], /same way/, /--disk/],
    ['several hosts', ['host2:/a', 'host3:/b', '/srv/'], [], /same two machines/, /--disk/],
    ['the same host as two users', ['a@host2:/a', 'b@host2:/b', '/srv/'], [], /same two machines/, /./],
    ['one name twice', ['/x/a', '/y/a', 'host2:/srv/'], [], /same destination/, /--disk/],
    ['a mistyped command', ['verfy', '/a', 'host2'], [], /both sides are remote/, /./],
    ['operands and --disk', ['/a'], ['/a=host2'], /do not go together/, /--disk/],
    ['--disk without =', [], ['/a'], /SRC=DST/, /--disk/],
    ['--disk with two =', [], ['/a=b=/c'], /SRC=DST/, /--disk/],
    ['--disk without source', [], ['=host2:/c'], /SRC=DST/, /--disk/],
    ['--disk without destination', [], ['/c='], /SRC=DST/, /--disk/],
    ['--disk both ways', [], ['/a=host2:/a', 'host2:/b=/b'], /same way/, /--disk/],
    ['--disk to one place', [], ['/a=host2:/x', '/b=host2:/y/../x'], /same destination/, /--disk/],
    ['--disk in a chain', [], ['/a=/b', '/b=/c'], /both source and destination/, /./],
    ['too many', [...Array.from({ length: 300 }, (_, index) => `/d${index}`), 'host2'], [], /more than/, /./],
  ])('refuses %s', (_name, operands, disks, message, hint) => {
    const error = failure(() => parsePairs(operands, disks, names))
    expect(error.exitStatus).toBe(2)
    expect(error.message).toMatch(message)
    expect(error.hint ?? '').toMatch(hint)
  })
})
