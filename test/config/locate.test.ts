// Files as they are on a disk: which are read, in which order, and those that are refused before they are read as YAML.

import { chmodSync, mkdirSync, symlinkSync } from 'node:fs'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { loadConfig } from '../../src/config/load.js'
import { configTexts, MAX_FILE_BYTES } from '../../src/config/locate.js'
import { run } from '../../src/exec.js'
import { needs } from '../support/needs.js'
import { PARSERS, rejectionOf, TemporaryDirectory } from './support.js'

const JOB = 'jobs: { a: { source: /a, destination: "k:/a" } }\n'

describe('the usual files', () => {
  it('are config.yaml, and conf.d/*.yaml by their names', async () => {
    using directory = new TemporaryDirectory()
    mkdirSync(join(directory.path, 'conf.d'))
    for (const name of [
      'config.yaml',
      'conf.d/20.yaml',
      'conf.d/10.yaml',
      'conf.d/.30.yaml',
      'conf.d/40.yml',
    ])
      directory.put(name, `# ${name}\n`)
    expect((await configTexts(null, directory.path)).map(({ text }) => text)).toEqual([
      '# config.yaml\n',
      '# conf.d/10.yaml\n',
      '# conf.d/20.yaml\n',
    ])
  })

  it('may be config.yaml alone', async () => {
    using directory = new TemporaryDirectory()
    directory.put('config.yaml', JOB)
    expect(await configTexts(null, directory.path)).toHaveLength(1)
  })

  it('that are not there: what to create is said', async () => {
    using directory = new TemporaryDirectory()
    const { code, exitStatus, message, hint } = await rejectionOf(configTexts(null, directory.path))
    const file = join(directory.path, 'config.yaml')
    expect([code, exitStatus, message]).toEqual([
      'config/missing',
      2,
      `${file} is not there; nothing was started`,
    ])
    expect(hint).toContain(`Write a configuration to ${file}`)
  })
})

describe('a file that is named', () => {
  it('is loaded, by a link too', async () => {
    using directory = new TemporaryDirectory()
    const file = directory.put('a.yaml', `\ufeff${JOB}`)
    const link = join(directory.path, 'link.yaml')
    symlinkSync(file, link)
    expect((await loadConfig({ paths: [link] }, PARSERS)).jobs).toHaveLength(1)
    const { message } = await rejectionOf(loadConfig({ paths: [file, link] }, PARSERS))
    expect(message).toBe(`${link} and ${file} are the same file; nothing was started`)
  })

  it.each<[string, (directory: TemporaryDirectory) => string, RegExp, RegExp]>([
    ['a directory', ({ path }) => path, / is a directory;/, /--config \S+\/config\.yaml/],
    [
      'too large',
      (directory) => directory.put('a', Buffer.alloc(MAX_FILE_BYTES + 1, '#')),
      /larger than 1048576 bytes/,
      /conf\.d/,
    ],
    ['no text', (directory) => directory.put('a', 'jobs:\n \0'), /a:2: a zero byte/, /YAML/],
    [
      'not UTF-8',
      (directory) => directory.put('a', Buffer.from('jobs: {}\n\n# \xe4\n', 'latin1')),
      /a:3: this is not UTF-8/,
      /UTF-8/,
    ],
    [
      'a name of nothing',
      ({ path }) => join(path, 'none.yaml'),
      /none\.yaml is not there/,
      /Write a configuration/,
    ],
    ['below a file', (directory) => join(directory.put('a', ''), 'b'), /cannot be read \(ENOTDIR\)/, /ls -l/],
  ])('is refused where it is %s', async (_name, make, message, hint) => {
    using directory = new TemporaryDirectory()
    const error = await rejectionOf(loadConfig({ paths: [make(directory)] }, PARSERS))
    expect(error.exitStatus).toBe(2)
    expect(error.message).toMatch(message)
    expect(error.message).toContain('nothing was started')
    expect(error.hint).toMatch(hint)
  })

  it('is refused where it is a pipe that nobody writes to, at once', async () => {
    using directory = new TemporaryDirectory()
    const path = join(directory.path, 'pipe')
    await run({ argv: ['mkfifo', path], timeoutMs: 10_000, errorCode: 'internal', operand: path })
    const error = await rejectionOf(loadConfig({ paths: [path] }, PARSERS))
    expect(error.message).toContain('no regular file')
  })

  it.each([0o646, 0o666, 0o606])('is refused where others may write it (%o)', async (mode) => {
    using directory = new TemporaryDirectory()
    const file = directory.put('a.yaml', JOB)
    chmodSync(file, mode)
    const error = await rejectionOf(loadConfig({ paths: [file] }, PARSERS))
    expect(error.message).toContain('may be written by others')
    expect(error.hint).toBe(`chmod go-w ${file}`)
  })

  it('is refused where anybody may put another in its place, but not below /tmp', async () => {
    using directory = new TemporaryDirectory()
    const file = directory.put('a.yaml', JOB)
    chmodSync(directory.path, 0o777)
    expect((await rejectionOf(loadConfig({ paths: [file] }, PARSERS))).message).toContain(
      'put another in its place',
    )
    chmodSync(directory.path, 0o1777)
    expect((await loadConfig({ paths: [file] }, PARSERS)).jobs).toHaveLength(1)
  })

  it(
    'is refused where it belongs to somebody else, or a group of others may write it',
    needs('root'),
    async () => {
      using directory = new TemporaryDirectory()
      const file = directory.put('a.yaml', JOB)
      await chown(file, 65534, 0)
      expect((await rejectionOf(loadConfig({ paths: [file] }, PARSERS))).message).toContain(
        'belongs to somebody else (uid 65534)',
      )
      await chown(file, 0, 65534)
      chmodSync(file, 0o664)
      expect((await rejectionOf(loadConfig({ paths: [file] }, PARSERS))).message).toContain(
        'may be written by others',
      )
      await chown(file, 0, 0)
      expect((await loadConfig({ paths: [file] }, PARSERS)).jobs).toHaveLength(1)
    },
  )
})
