// Packs the built package and installs it as a user does on a second host: no registry, no compiler, nothing but Node,
// npm and a shell. Refuses a package that needs more, or that brings along what is not for users.

import { execFileSync, type ExecFileSyncOptionsWithStringEncoding } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { findProgram, needs } from '../support/needs.js'

const ROOT = join(import.meta.dirname, '..', '..')
const PROGRAM_TIMEOUT_MS = 60_000
/** Enough for the JavaScript of a small program and its nine libraries; more means that something slipped in. */
const MAX_TARBALL_BYTES = 3 << 20
/** Programs a bare host has. No compiler, no make, no git, no python, no ssh. */
const BARE_PROGRAMS = ['npm', 'sh', 'env', 'cat', 'ls', 'uname', 'rm', 'mkdir']

type Packed = { filename: string; size: number; files: { path: string }[]; bundled: string[] }

describe('the package on a bare host', needs('native', 'npm'), () => {
  const temp = mkdtempSync(join(tmpdir(), 'blocksync-install-'))
  const bin = join(temp, 'bin')
  const prefix = join(temp, 'prefix')
  const environment = { PATH: bin, HOME: join(temp, 'home'), npm_config_cache: join(temp, 'cache') }
  const installed = join(prefix, 'lib', 'node_modules', 'blocksync')
  let packed: Packed
  let installOutput = ''

  /** Runs a program that must succeed; resolves with its stdout. */
  function bare(program: string, ...args: string[]): string {
    const options: ExecFileSyncOptionsWithStringEncoding = {
      cwd: temp,
      env: environment,
      encoding: 'utf8',
      timeout: PROGRAM_TIMEOUT_MS,
      stdio: ['ignore', 'pipe', 'pipe'],
    }
    return execFileSync(program, args, options)
  }

  function blocksync(...args: string[]): string {
    return bare(join(prefix, 'bin', 'blocksync'), ...args)
  }

  beforeAll(() => {
    for (const directory of [bin, environment.HOME]) mkdirSync(directory)
    symlinkSync(process.execPath, join(bin, 'node'))
    for (const name of BARE_PROGRAMS) {
      const path = findProgram(name)
      if (path === null) throw new Error(`${name} is not on this machine`)
      symlinkSync(path, join(bin, name))
    }
    // What prepack does but the build, which `npm test` has just done: other tests run from dist/ at this moment.
    execFileSync(process.execPath, [join(ROOT, 'contrib', 'trim-bundle.js')], { timeout: PROGRAM_TIMEOUT_MS })
    const pack = ['pack', ROOT, '--ignore-scripts', '--json', '--pack-destination', temp]
    const [first] = JSON.parse(bare('npm', ...pack)) as Packed[]
    if (first === undefined) throw new Error('npm pack reported no package')
    packed = first
    // scripts run, as they do with npm up to 11: nothing in the package may have one that fails
    installOutput = bare(
      'npm',
      'install',
      '--global',
      '--offline',
      '--prefix',
      prefix,
      join(temp, packed.filename),
    )
  })

  afterAll(() => {
    rmSync(temp, { recursive: true, force: true })
  })

  it('holds the program, the prebuilt core, the papers, and nothing of the workshop', () => {
    const paths = packed.files.map(({ path }) => path)
    const own = paths.filter((path) => !path.startsWith('node_modules/'))
    const core = `native/prebuilds/${process.platform}-${process.arch}/blocksync.node`
    for (const path of ['dist/cli/main.js', 'dist/index.js', 'dist/index.d.ts', core, 'package.json']) {
      expect(own).toContain(path)
    }
    for (const path of ['README.md', 'LICENSE', 'CHANGELOG.md', 'docs/decisions/0001-package.md']) {
      expect(own).toContain(path)
    }
    expect(
      own.filter((path) => !/^(dist|native\/prebuilds|docs|contrib\/(ocf|systemd))\/|^[^/]+$/.test(path)),
    ).toEqual([])
    expect(own.filter((path) => /\.test\.|\.map$|^\.|^tsconfig|^vitest/.test(path))).toEqual([])
    // The only compiled code is our own: what npm ci compiled for this Node stays here.
    expect(
      paths.filter((path) => /\.(node|o|a)$/.test(path)).every((path) => path.startsWith('native/')),
    ).toBe(true)
    expect(packed.size).toBeLessThan(MAX_TARBALL_BYTES)
  })

  it('brings its libraries along, and none that has an install script', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    expect(packed.bundled).toEqual(expect.arrayContaining(Object.keys(dependencies)))
    expect(installOutput).toMatch(/added 1 package/)
    const load = `console.log(typeof require(${JSON.stringify(join(installed, 'node_modules', 'ssh2'))}).Client)`
    expect(bare('node', '-e', load)).toBe('function\n')
    for (const name of packed.bundled) {
      const path = join(installed, 'node_modules', name, 'package.json')
      const { scripts = {} } = JSON.parse(readFileSync(path, 'utf8')) as { scripts?: Record<string, string> }
      expect(
        Object.keys(scripts).filter((script) => /^(pre|post)?install$/.test(script)),
        name,
      ).toEqual([])
    }
  })

  it('says its version', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
    expect(blocksync('--version').split('\n')[0]).toBe(`blocksync ${version}`)
  })

  it('finds its native core', () => {
    expect(blocksync('doctor', '--native', 'require')).toMatch(/native core.*yes/)
  })

  it('makes one image equal to another with it', () => {
    const source = Buffer.alloc((3 << 20) + 512, 'blocksync ')
    const destination = Buffer.from(source)
    destination.fill(1, 1 << 20, (1 << 20) + 4096)
    writeFileSync(join(temp, 'new.img'), source)
    writeFileSync(join(temp, 'old.img'), destination)
    const output = blocksync('./new.img', './old.img', '--native', 'require', '--json')
    const result = JSON.parse(output.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>
    expect(result).toMatchObject({
      event: 'result',
      ok: true,
      sentBytes: 4096,
      differentBlocks: 1,
      sameBlocks: 3,
    })
    expect(result['native']).toEqual({ source: true, destination: true })
    expect(readFileSync(join(temp, 'old.img')).equals(source)).toBe(true)
  })
})
