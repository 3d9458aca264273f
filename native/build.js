// Compiles the native core into native/prebuilds/<platform>-<arch>[-musl]/blocksync.node; run by `npm run build`.
// Without Linux or a compiler it says so and the JavaScript twin is used, unless BLOCKSYNC_BUILD_NATIVE=require.

import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A compile of a few small files; a compiler that takes longer hangs. */
const COMPILE_TIMEOUT_MS = 300_000
/** The program header and the interpreter's path stand at the very start of an executable. */
const ELF_HEAD_BYTES = 4096

const nativeDirectory = dirname(fileURLToPath(import.meta.url))
const packageRoot = dirname(nativeDirectory)
const isRequired = process.env.BLOCKSYNC_BUILD_NATIVE === 'require'

/** True where this Node runs on musl: its interpreter is called ld-musl-*. The same test as in src/native.ts. */
function isMusl() {
  const head = Buffer.alloc(ELF_HEAD_BYTES)
  const fd = openSync(process.execPath, 'r')
  try {
    readSync(fd, head, 0, ELF_HEAD_BYTES, 0)
  } finally {
    closeSync(fd)
  }
  return head.includes('/ld-musl-')
}

/** Ends the build without the core: status 0 where it is optional, 1 where it is required. */
function withoutCore(reason) {
  const consequence = isRequired
    ? 'BLOCKSYNC_BUILD_NATIVE=require, so this is an error'
    : 'the JavaScript twin will be used (slower)'
  process.stderr.write(`native core not built: ${reason}; ${consequence}\n`)
  process.exit(isRequired ? 1 : 0)
}

function packageDirectory(name) {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${name}/package.json`))
  } catch (error) {
    return withoutCore(`the development package ${name} is not installed (${error.code}); npm ci installs it`)
  }
}

function modifiedMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

if (process.platform !== 'linux') withoutCore(`it is for Linux, and this is ${process.platform}`)

const xxhash = join(packageDirectory('xxhash-addon'), 'xxHash')
const headers = join(packageDirectory('node-api-headers'), 'include')
const own = readdirSync(nativeDirectory).filter((name) => /\.[ch]$/.test(name))
const sources = [
  ...own.filter((name) => name.endsWith('.c')).map((name) => join(nativeDirectory, name)),
  join(xxhash, 'xxhash.c'),
  ...(process.arch === 'x64' ? [join(xxhash, 'xxh_x86dispatch.c')] : []),
]
const inputs = [...own.map((name) => join(nativeDirectory, name)), ...sources, fileURLToPath(import.meta.url)]

const target = join(
  nativeDirectory,
  'prebuilds',
  `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`,
  'blocksync.node',
)
const shown = target.slice(packageRoot.length + 1)
if (modifiedMs(target) > Math.max(...inputs.map(modifiedMs))) {
  process.stdout.write(`native core is up to date: ${shown}\n`)
  process.exit(0)
}

mkdirSync(dirname(target), { recursive: true })
const temporary = join(dirname(target), `.${basename(target)}.${process.pid}`)
// CC may carry arguments ('ccache cc'): split at spaces, no shell.
const [compiler, ...compilerArguments] = (process.env.CC || 'cc').split(' ').filter((word) => word !== '')
const compiled = spawnSync(
  compiler,
  [
    ...compilerArguments,
    '-std=gnu11',
    '-O3',
    '-fPIC',
    '-shared',
    '-s',
    '-fvisibility=hidden',
    '-Wall',
    '-Wextra',
    '-DNAPI_VERSION=8',
    `-ffile-prefix-map=${packageRoot}=.`,
    '-isystem',
    headers,
    '-isystem',
    xxhash,
    '-Wl,-z,relro,-z,now',
    '-o',
    temporary,
    ...sources,
  ],
  { stdio: ['ignore', 'inherit', 'inherit'], timeout: COMPILE_TIMEOUT_MS },
)
if (compiled.error !== undefined || compiled.status !== 0) {
  rmSync(temporary, { force: true })
  if (compiled.error?.code === 'ENOENT')
    withoutCore(`no C compiler: ${compiler} was not found (set CC, or install one)`)
  const how =
    compiled.error?.message ?? (compiled.status === null ? compiled.signal : `exit status ${compiled.status}`)
  withoutCore(`${compiler} failed (${how})`)
}
renameSync(temporary, target)
process.stdout.write(`native core built: ${shown} (${statSync(target).size} bytes)\n`)
