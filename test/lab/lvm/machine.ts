// The emulated machine with device-mapper: this machine's LVM and Node with their libraries, and one bundled program, all in
// its first file system. It runs that to its end; what the program printed comes out. Nothing of it is kept but the kernel.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { build } from 'esbuild'

import { findProgram } from '../../support/needs.js'
import { cpioArchive, type CpioEntry } from '../cpio.js'
import { firstFileSystem, kernelOf, kernelPath } from '../kernel.js'
import { must } from '../programs.js'

const HERE = import.meta.dirname
const MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_rng',
  'crc32c_generic',
  'crc32c_intel',
  'dm_mod',
  'dm_snapshot',
  'dm_thin_pool',
]
/** Volumes of LVM are on it; it is sparse. */
const DISK_SIZE = '4G'
/** A minute on an idle machine; one that others load takes four. */
const RUN_TIMEOUT_MS = 540_000

/** Boots it, runs `test/lab/lvm/inside.ts` there, and resolves with the lines of its console. */
export async function runInside(): Promise<readonly string[]> {
  const kernel = await kernelOf('linux-image-amd64')
  const directory = await mkdtemp(join(tmpdir(), 'blocksync-lab-'))
  try {
    const init = await readFile(join(HERE, 'guest-init.sh'))
    const first = await firstFileSystem(kernel, MODULES, init)
    // the kernel unpacks one archive behind the other; an archive begins at a multiple of 4
    const padding = Buffer.alloc((4 - (first.length % 4)) % 4)
    await writeFile(join(directory, 'initrd'), Buffer.concat([first, padding, await programs()]))
    await must(['truncate', '--size', DISK_SIZE, join(directory, 'disk')])
    return await boot(kernelPath(kernel), directory)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function programs(): Promise<Buffer> {
  const found = ['lvm', 'dmsetup'].map((name) => {
    const path = findProgram(name)
    if (path === null) throw new Error(`no ${name}: install lvm2 and dmsetup`)
    return path
  })
  const files = new Map<string, Buffer>()
  for (const [path, as] of [
    ...found.map((path) => [path, `usr/sbin/${path.split('/').at(-1)}`] as const),
    [process.execPath, 'usr/bin/node'] as const,
  ]) {
    files.set(as, await readFile(path))
    for (const library of await librariesOf(path))
      files.set(library.slice(1), await readFile(await realpath(library)))
  }
  // where the program looks for its version
  files.set('package.json', await readFile(join(HERE, '..', '..', '..', 'package.json')))
  files.set('lab/inside.mjs', await bundled(join(HERE, 'inside.ts')))
  const directories = new Set<string>()
  for (const file of files.keys()) {
    for (let at = dirname(file); at !== '.'; at = dirname(at)) directories.add(at)
  }
  const entries: CpioEntry[] = [...directories].toSorted().map((name) => ({ name, mode: 0o755, data: null }))
  return cpioArchive([...entries, ...[...files].map(([name, data]) => ({ name, mode: 0o755, data }))])
}

/** Absolute paths, as the program looks for them. */
async function librariesOf(program: string): Promise<readonly string[]> {
  const listed = await must(['ldd', program])
  return Array.from(listed.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm), ([, path = '']) => path)
}

async function bundled(entry: string): Promise<Buffer> {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'silent',
  })
  return Buffer.from(result.outputFiles[0]?.contents ?? [])
}

async function boot(kernel: string, directory: string): Promise<readonly string[]> {
  const machine = ['-accel', 'tcg,thread=multi', '-M', 'pc', '-cpu', 'max', '-m', '1280', '-smp', '2']
  const bare = ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio']
  const words = 'console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on'
  const system = ['-kernel', kernel, '-initrd', join(directory, 'initrd'), '-append', words]
  const drive = `file=${join(directory, 'disk')},if=none,id=disk,format=raw,cache=unsafe,discard=unmap`
  const devices = ['-drive', drive, '-device', 'virtio-blk-pci,drive=disk', '-device', 'virtio-rng-pci']
  const qemu = spawn('qemu-system-x86_64', [...machine, ...bare, ...system, ...devices], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const output: Buffer[] = []
  qemu.stdout.on('data', (chunk: Buffer) => output.push(chunk))
  const timer = setTimeout(() => qemu.kill('SIGKILL'), RUN_TIMEOUT_MS)
  try {
    await once(qemu, 'close')
  } finally {
    clearTimeout(timer)
    qemu.kill('SIGKILL')
  }
  return Buffer.concat(output).toString().split(/\r?\n/)
}
