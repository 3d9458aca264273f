// A throw-away guest on a replica, with a real qemu: a disk whose boot sector says a line on the first serial port. The replica stays
// as it is, and nothing of the guest stays, also when who started it is killed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'

import type { BootChoice } from '../../src/config/config.js'
import { LocalHost } from '../../src/host/local.js'
import { bootReplica, type Booted } from '../../src/replicate/boot.js'
import { drill, type Drilled } from '../../src/replicate/drill.js'
import { saveReplica } from '../../src/replicate/replica-file.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { refusal } from '../support/refusal.js'
import { bootableDisk } from './boot-sector.js'
import { DISK_BYTES, ID, isContent, makeWorld, type World } from './world.js'

const scratch = useScratch()
let number = 0

/** Without KVM: inside of a guest that can be slower than none. */
const PLAIN = ['-machine', 'accel=tcg', '-cpu', 'max']
const BOOT: BootChoice = {
  memoryBytes: 32 << 20,
  expect: 'login:',
  timeoutMs: 60_000,
  format: null,
  arguments: PLAIN,
}

async function booting(
  disks: readonly string[],
  change: Partial<BootChoice> = {},
): Promise<Readonly<{ booted: Promise<Booted>; workDirectory: string }>> {
  number += 1
  const workDirectory = scratch().path(`boot-state-${number}/boot`)
  await mkdir(dirname(workDirectory))
  await using host = new LocalHost({ stateDir: dirname(workDirectory), native: 'auto' })
  const raw = disks.map((path) => ({ path, format: 'raw' as const }))
  const booted = bootReplica({ host, disks: raw, boot: { ...BOOT, ...change }, workDirectory }, () =>
    performance.now(),
  )
  await booted.catch(() => undefined)
  return { booted, workDirectory }
}

/** Processes with that in one of their words. */
function processesWith(text: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
      } catch {
        // it ended between the two
        return false
      }
    })
}

describe('a guest on a replica', { ...needs('qemu-system-x86_64'), timeout: 90_000 }, () => {
  it('is seen by what its console says, also without the end of a line', async () => {
    const path = await scratch().file(
      'hello, world.img',
      bootableDisk('\r\nhere is the guest\r\nkvm2 login: ', DISK_BYTES),
    )
    const before = await readFile(path)
    const { booted, workDirectory } = await booting([path], { arguments: [] })
    expect((await booted).line).toBe('kvm2 login: ')
    expect((await booted).durationMs).toBeLessThan(60_000)
    expect((await readFile(path)).equals(before)).toBe(true)
    await expect(stat(workDirectory)).rejects.toThrow('ENOENT')
    expect(processesWith(path)).toEqual([])
  })

  it('fails with the end of the console where the text does not come', async () => {
    const path = await scratch().file(
      'panic.img',
      bootableDisk('loading\r\nKernel panic: no root\r\n', DISK_BYTES),
    )
    const { booted, workDirectory } = await booting([path], { timeoutMs: 8000 })
    const error = await refusal(booted)
    expect(error).toMatchObject({ code: 'replicate/drill', exitStatus: 7 })
    expect(error.message).toMatch(/'login:' did not come within 8 s[^]*\n {2}Kernel panic: no root/)
    await expect(stat(workDirectory)).rejects.toThrow('ENOENT')
    expect(processesWith(path)).toEqual([])
  })

  it('says what qemu said where it does not start', async () => {
    const path = await scratch().file('words.img', bootableDisk('login: ', DISK_BYTES))
    const { booted } = await booting([path], { arguments: [...PLAIN, '-no-such-option'] })
    const error = await refusal(booted)
    expect(error.message).toMatch(/before the guest ended[^]*no-such-option/)
  })

  it('writes nothing to the replica, whatever the guest writes', async () => {
    const path = await scratch().file('writes.img', bootableDisk('login: ', DISK_BYTES, 'writes'))
    const before = await readFile(path)
    await booting([path]).then(({ booted }) => booted)
    expect((await readFile(path)).equals(before)).toBe(true)
  })

  it('ends with who started it', async () => {
    const path = await scratch().file('endless.img', bootableDisk('nothing\r\n', DISK_BYTES))
    const state = scratch().path('killed-state')
    await mkdir(state)
    const workDirectory = join(state, 'boot')
    const root = join(import.meta.dirname, '..', '..')
    const source = join(root, 'src')
    // below the package, where its version and dependencies are found
    const outfile = join(root, 'dist-tools', `boot-test-${process.pid}.mjs`)
    scratch().onClose(async () => rm(outfile, { force: true }))
    await mkdir(dirname(outfile), { recursive: true })
    await build({
      stdin: {
        resolveDir: root,
        contents: `import { LocalHost } from '${source}/host/local.js'
import { bootReplica } from '${source}/replicate/boot.js'
const host = new LocalHost({ stateDir: '${state}', native: 'auto' })
const boot = { memoryBytes: ${32 << 20}, expect: 'never', timeoutMs: 60000, arguments: ${JSON.stringify(PLAIN)} }
await bootReplica({ host, disks: [{ path: '${path}', format: 'raw' }], boot, workDirectory: '${workDirectory}' }, () => 0)
`,
      },
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20.19',
      packages: 'external',
    })
    const child = spawn(process.execPath, [outfile], { stdio: 'ignore' })
    scratch().onClose(() => Promise.resolve(child.kill('SIGKILL')))
    await expect.poll(() => processesWith(path).length, { timeout: 20_000 }).toBeGreaterThan(0)
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    await expect.poll(() => processesWith(path), { timeout: 30_000 }).toEqual([])
    await expect
      .poll(
        async () =>
          stat(workDirectory).then(
            () => true,
            () => false,
          ),
        { timeout: 30_000 },
      )
      .toBe(false)
  })

  it('is part of a drill', async () => {
    const first = bootableDisk('it lives: login: ', DISK_BYTES)
    const world = await makeWorld(scratch(), { generations: 1, first })
    const { drilled } = await drilling(world)
    expect(drilled.boot?.line).toBe('it lives: login: ')
    expect(await isContent(world, 1)).toBe(true)
    expect(readdirSync(join(world.stateDir, 'replica', ID))).toEqual(['replica.json'])
  })
})

async function drilling(
  world: World,
  change: Partial<BootChoice> = {},
): Promise<Readonly<{ drilled: Drilled; warnings: readonly string[] }>> {
  const warnings: string[] = []
  await using host = world.open()
  const drilled = await drill({
    host,
    name: ID,
    boot: { ...BOOT, ...change },
    signal: new AbortController().signal,
    clockMs: () => performance.now(),
    onWarning: (text) => warnings.push(text),
  })
  return { drilled, warnings }
}

/** A qcow2 image of a disk that says so, as bytes. */
async function qcow2(text: string, ...words: readonly string[]): Promise<Buffer> {
  number += 1
  const raw = await scratch().file(`raw-${number}.img`, bootableDisk(text, DISK_BYTES))
  const image = scratch().path(`image-${number}.qcow2`)
  await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', ...words, raw, image)
  return await readFile(image)
}

/** The guest's definition, kept with the replica; `types` of the disks in their order, null where it says none. */
async function define(world: World, types: readonly (string | null)[]): Promise<void> {
  const disks = world.disks.map((path, index) => {
    const type = types[index] ?? null
    const driver = type === null ? '' : `<driver name='qemu' type='${type}'/>`
    return `<disk type='block' device='disk'>${driver}<source dev='/dev/vg/${basename(path)}'/><target dev='vd${index}'/></disk>`
  })
  const definition = join(world.stateDir, 'replica', ID, 'guest-1.xml')
  await writeFile(
    definition,
    `<domain type='kvm'><name>web</name><devices>${disks.join('')}</devices></domain>\n`,
  )
  const guest = { domain: 'web', hypervisor: 'libvirt', definition } as const
  await saveReplica(world.open(), { ...(await world.record()), guest })
}

describe('formats of the disks', { ...needs('qemu-system-x86_64', 'qemu-img'), timeout: 90_000 }, () => {
  // longer than the image, as a device is
  const images = async (image: Buffer): Promise<World> => {
    const first = Buffer.alloc(DISK_BYTES)
    image.copy(first)
    return await makeWorld(scratch(), { generations: 1, first })
  }

  it('are not taken from the disk: what looks like qcow2 is refused where nothing says so', async () => {
    const world = await images(await qcow2('login: '))
    const error = await refusal(drilling(world))
    expect(error).toMatchObject({ code: 'replicate/refused', operand: world.disks[0] })
    expect(error.message).toMatch(/begins as a qcow2 image does[^]*no guest was started/)
    expect(error.hint).toContain('format: qcow2')
    expect(await isContent(world, 1)).toBe(true)
  })

  it('are what the configuration says', async () => {
    const world = await images(await qcow2('from qcow2 login: '))
    const { drilled } = await drilling(world, { format: 'qcow2' })
    expect(drilled.boot?.line).toContain('from qcow2 login: ')
    expect(await isContent(world, 1)).toBe(true)
  })

  it('are what the definition of the guest says, of each disk', async () => {
    const world = await images(await qcow2('from qcow2 login: '))
    // the second one is started as what it is said to be, whatever it begins with
    await define(world, ['qcow2', 'raw'])
    expect((await drilling(world)).drilled.boot?.line).toContain('from qcow2 login: ')
    // of one that it does not tell of the configuration does
    await define(world, [null, 'raw'])
    expect((await refusal(drilling(world))).code).toBe('replicate/refused')
    const { drilled, warnings } = await drilling(world, { format: 'qcow2' })
    expect(drilled.boot?.line).toContain('from qcow2 login: ')
    expect(warnings).toEqual([])
    await define(world, ['vmdk', 'raw'])
    expect((await refusal(drilling(world))).message).toContain('is vmdk as the definition of web has it')
  })

  it('are never those of a raw disk whose guest wrote the header of an image: no file of the host is read', async () => {
    // what it rests on would start, if it were believed
    const secret = await scratch().file('secret.img', bootableDisk('secret login: ', DISK_BYTES))
    const image = scratch().path('planted.qcow2')
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', secret, '-F', 'raw', image)
    const world = await images(await readFile(image))
    expect((await drilling(world, { format: 'qcow2' })).drilled.boot?.line).toContain('secret login: ')
    expect((await refusal(drilling(world))).code).toBe('replicate/refused')
    for (const say of ['definition', 'configuration']) {
      if (say === 'definition') await define(world, ['raw', 'raw'])
      else await saveReplica(world.open(), { ...(await world.record()), guest: null })
      const format = say === 'definition' ? null : 'raw'
      const error = await refusal(drilling(world, { format, timeoutMs: 3000 }))
      expect(error.code).toBe('replicate/drill')
      expect(error.message).not.toContain('secret')
    }
  })

  it('are told of a definition that is gone, and then by the configuration', async () => {
    const world = await makeWorld(scratch(), {
      generations: 1,
      first: bootableDisk('login: ', DISK_BYTES),
    })
    await define(world, ['raw', 'raw'])
    await rm(join(world.stateDir, 'replica', ID, 'guest-1.xml'))
    const { drilled, warnings } = await drilling(world)
    expect(drilled.boot?.line).toContain('login: ')
    expect(warnings.join()).toContain('what the disks of web are is not known')
  })
})
