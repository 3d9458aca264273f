// Debian's kernel packages, unpacked and never installed, kept below the user's cache directory for the next run; and
// first file systems made with modules of them. Refuses where a package cannot be had; nothing else of the machine changes.

import { copyFile, mkdir, mkdtemp, readFile, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'

import { findProgram } from '../support/needs.js'
import { cpioArchive, type CpioEntry } from './cpio.js'
import { must } from './programs.js'

/** An unpacked kernel package. */
export type Kernel = Readonly<{ root: string; version: string }>

/** A slow mirror; the large package has 70 MB. */
const DOWNLOAD_TIMEOUT_MS = 300_000
const UNPACK_TIMEOUT_MS = 120_000

/** Where what is made once lies. */
export async function cacheDirectory(): Promise<string> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? tmpdir(), 'blocksync-lab')
  await mkdir(cache, { recursive: true, mode: 0o700 })
  return cache
}

/**
 * A directory of the cache, filled by `make` in a place of its own and renamed when it is whole: two runs at once do not
 * meet, and one that was killed leaves nothing that looks finished.
 */
export async function cached(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const cache = await cacheDirectory()
  const directory = join(cache, name)
  if ((await readdir(cache)).includes(name)) return directory
  const made = await mkdtemp(join(cache, 'new-'))
  try {
    const whole = join(made, name)
    await mkdir(whole)
    await make(whole)
    await rename(whole, directory).catch((error: unknown) => {
      // Another run was quicker: its result is as good.
      const code = error instanceof Error && 'code' in error ? error.code : ''
      if (code !== 'EEXIST' && code !== 'ENOTEMPTY') throw error
    })
  } finally {
    await rm(made, { recursive: true, force: true })
  }
  return directory
}

/** The kernel that a meta package ('linux-image-cloud-amd64') stands for now, or did when it was downloaded. */
export async function kernelOf(metaPackage: string): Promise<Kernel> {
  const root = await cached(metaPackage, async (directory) => {
    const depends = await must(['apt-cache', 'depends', metaPackage])
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
    if (name === undefined) throw new Error(`no ${metaPackage} in the package lists: apt-get update`)
    await must(['apt-get', 'download', '-q', name], { cwd: directory, timeoutMs: DOWNLOAD_TIMEOUT_MS })
    const deb = (await readdir(directory)).find((file) => file.endsWith('.deb'))
    if (deb === undefined) throw new Error(`apt-get download ${name} left no package`)
    await must(['dpkg', '-x', join(directory, deb), directory], { timeoutMs: UNPACK_TIMEOUT_MS })
    await rm(join(directory, deb))
    const version = await versionIn(directory)
    await must(['depmod', '-b', directory, version], { timeoutMs: UNPACK_TIMEOUT_MS })
  })
  return { root, version: await versionIn(root) }
}

async function versionIn(root: string): Promise<string> {
  const kernel = (await readdir(join(root, 'boot'))).find((name) => name.startsWith('vmlinuz-'))
  if (kernel === undefined) throw new Error(`no kernel in ${root}`)
  return kernel.slice('vmlinuz-'.length)
}

export function kernelPath({ root, version }: Kernel): string {
  return join(root, 'boot', `vmlinuz-${version}`)
}

export function modulesDirectory({ root, version }: Kernel): string {
  return join(root, 'lib', 'modules', version)
}

/** A first file system: busybox, `init`, and modules with what they rest on; /modules/order says how to load them. */
export async function firstFileSystem(
  kernel: Kernel,
  modules: readonly string[],
  init: Uint8Array,
): Promise<Buffer> {
  const directory = modulesDirectory(kernel)
  const files = moduleFiles(await readFile(join(directory, 'modules.dep'), 'utf8'), modules)
  const entries: CpioEntry[] = []
  for (const file of files) {
    const name = basename(file).replace(/\.(gz|xz)$/, '')
    entries.push({ name: `modules/${name}`, mode: 0o644, data: await plainModule(join(directory, file)) })
  }
  const order = entries.map(({ name }) => `${basename(name)}\n`).join('')
  const busybox = findProgram('busybox')
  if (busybox === null) throw new Error('no busybox: install busybox-static')
  return gzipSync(
    cpioArchive([
      { name: 'bin', mode: 0o755, data: null },
      { name: 'bin/busybox', mode: 0o755, data: await readFile(busybox) },
      { name: 'init', mode: 0o755, data: init },
      { name: 'modules', mode: 0o755, data: null },
      ...entries,
      { name: 'modules/order', mode: 0o644, data: Buffer.from(order) },
    ]),
    { level: 1 },
  )
}

/** Paths of the modules and what they rest on, in the order in which they can be loaded. What is built in is not listed. */
function moduleFiles(dependencies: string, modules: readonly string[]): string[] {
  const ordered: string[] = []
  for (const module of modules) {
    const pattern = new RegExp(`/${module.replace(/[-_]/g, '[-_]')}\\.ko(\\.gz|\\.xz)?:$`)
    const line = dependencies.split('\n').find((candidate) => pattern.test(candidate.split(' ')[0] ?? ''))
    if (line === undefined) continue
    // "a.ko: b.ko c.ko": the nearest first, so the farthest is loaded first
    const [file = '', ...rest] = line.split(' ')
    for (const path of [...rest.toReversed(), file.slice(0, -1)]) {
      if (path !== '' && !ordered.includes(path)) ordered.push(path)
    }
  }
  return ordered
}

async function plainModule(path: string): Promise<Uint8Array> {
  if (path.endsWith('.gz')) return gunzipSync(await readFile(path))
  if (!path.endsWith('.xz')) return readFile(path)
  const copy = await mkdtemp(join(tmpdir(), 'blocksync-lab-'))
  try {
    await copyFile(path, join(copy, basename(path)))
    await must(['xz', '-d', join(copy, basename(path))])
    return await readFile(join(copy, basename(path, '.xz')))
  } finally {
    await rm(copy, { recursive: true, force: true })
  }
}
