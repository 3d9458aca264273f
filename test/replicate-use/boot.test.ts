// A throw-away guest on a replica, with a real qemu: a disk whose boot sector says a line on the first serial port. The replica stays
// as it is, and nothing of the guest stays, also when who started it is killed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'

import type { BootChoice } from '../../src/config/config.js'
import { LocalHost } from '../../src/host/local.js'
import { bootReplica, type Booted } from '../../src/replicate/boot.js'
import { drill } from '../../src/replicate/drill.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { refusal } from '../support/refusal.js'
import { bootableDisk } from './boot-sector.js'
import { DISK_BYTES, ID, isContent, makeWorld } from './world.js'

const scratch = useScratch()
let number = 0

/** Without KVM: inside of a guest that can be slower than none. */
const PLAIN = ['-machine', 'accel=tcg', '-cpu', 'max']
const BOOT: BootChoice = { memoryBytes: 32 << 20, expect: 'login:', timeoutMs: 60_000, arguments: PLAIN }

async function booting(
  disks: readonly string[],
  change: Partial<BootChoice> = {},
): Promise<Readonly<{ booted: Promise<Booted>; workDirectory: string }>> {
  number += 1
  const workDirectory = scratch().path(`boot-state-${number}/boot`)
  await mkdir(dirname(workDirectory))
  await using host = new LocalHost({ stateDir: dirname(workDirectory), native: 'auto' })
  const booted = bootReplica({ host, disks, boot: { ...BOOT, ...change }, workDirectory }, () =>
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
await bootReplica({ host, disks: ['${path}'], boot, workDirectory: '${workDirectory}' }, () => 0)
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
    await expect.poll(() => processesWith(path), { timeout: 10_000 }).toEqual([])
    await expect
      .poll(
        async () =>
          stat(workDirectory).then(
            () => true,
            () => false,
          ),
        { timeout: 5000 },
      )
      .toBe(false)
  })

  it('is part of a drill', async () => {
    const first = bootableDisk('it lives: login: ', DISK_BYTES)
    const world = await makeWorld(scratch(), { generations: 1, first })
    await using host = world.open()
    const drilled = await drill({
      host,
      name: ID,
      boot: BOOT,
      signal: new AbortController().signal,
      clockMs: () => performance.now(),
      onWarning: () => undefined,
    })
    expect(drilled.boot?.line).toBe('it lives: login: ')
    expect(await isContent(world, 1)).toBe(true)
    expect(readdirSync(join(world.stateDir, 'replica', ID))).toEqual(['replica.json'])
  })
})
