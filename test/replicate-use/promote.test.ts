// Promoting and taking back, on a real host with files: what was half done is led back, whoever lives keeps his disks, and it may be
// killed at any call of the host.

import { createServer, type AddressInfo } from 'node:net'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import type { Host } from '../../src/host/host.js'
import { isReadOnly } from '../../src/replicate/access.js'
import { type Door, knockHost, sourceLife } from '../../src/replicate/alive.js'
import { promote, type PromoteRequest, type Promoted } from '../../src/replicate/promote.js'
import { saveReplica } from '../../src/replicate/replica-file.js'
import { heldReplicas } from '../../src/replicate/replicas.js'
import { takeBack, type TakenBack } from '../../src/replicate/take-back.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { refusal } from '../support/refusal.js'
import { dyingHost, ID, isContent, Killed, killAttempt, makeWorld, scribble, type World } from './world.js'

const scratch = useScratch()

async function promoting(host: Host, change: Partial<PromoteRequest> = {}): Promise<Promoted> {
  return await promote({
    host,
    name: 'web',
    sourceAlive: 'refuse',
    ownMachineId: 'this-one',
    agree: () => Promise.resolve(),
    onWarning: () => undefined,
    knock: () => Promise.resolve('timeout'),
    ...change,
  })
}

async function takingBack(host: Host, written: 'refuse' | 'discard'): Promise<TakenBack> {
  return await takeBack({
    host,
    name: ID,
    written,
    agree: () => Promise.resolve(),
    onWarning: () => undefined,
    signal: new AbortController().signal,
  })
}

async function writableDisks(world: World): Promise<number> {
  const marks = await Promise.all(world.disks.map((path) => isReadOnly(world.open(), path)))
  return marks.filter((mark) => mark === false).length
}

describe('promote', () => {
  it('makes the disks writable, says which generation, and is no error again', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    await using host = world.open()
    expect(await writableDisks(world)).toBe(0)
    const promoted = await promoting(host)
    expect(promoted).toMatchObject({
      job: 'web',
      id: ID,
      was: 'replica',
      newest: { generation: 2, consistency: 'crash-consistent' },
      disks: world.disks,
      commands: [],
    })
    expect(promoted.newest.ageSeconds).toBeGreaterThan(1000)
    expect((await world.record()).state).toBe('promoted')
    expect(await writableDisks(world)).toBe(2)
    await expect(promoting(host)).resolves.toMatchObject({ was: 'promoted' })
    expect(await heldReplicas(host)).toMatchObject([
      { id: ID, job: 'web', state: 'promoted', generation: 2, problem: null },
    ])
  })

  it('takes a half attempt back first', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    await killAttempt(world)
    expect(await isContent(world, 2)).toBe(false)
    await using host = world.open()
    await expect(promoting(host)).resolves.toMatchObject({ newest: { generation: 2 } })
    expect(await isContent(world, 2)).toBe(true)
  })

  it.each([
    ['open', 'answers'],
    ['ECONNREFUSED', 'answers'],
    ['ENETUNREACH', 'cannot be asked'],
    ['ENOTFOUND', 'cannot be asked'],
  ])('refuses while the source may live (%s)', async (answer, says) => {
    const world = await makeWorld(scratch(), { generations: 1 })
    await using host = world.open()
    const error = await refusal(promoting(host, { knock: () => Promise.resolve(answer) }))
    expect(error.code).toBe('replicate/refused')
    expect(error.hint).toContain('--force-source-alive')
    expect(error.message).toContain(says)
    expect((await world.record()).state).toBe('good')
    expect(await writableDisks(world)).toBe(0)
    const warnings: string[] = []
    await promoting(host, {
      knock: () => Promise.resolve(answer),
      sourceAlive: 'force',
      onWarning: (text) => warnings.push(text),
    })
    expect(warnings.join()).toContain('nothing may write to it')
    expect((await world.record()).state).toBe('promoted')
  })

  it.each(['timeout', 'EHOSTUNREACH'])('promotes where the source is dead (%s)', async (answer) => {
    const world = await makeWorld(scratch(), { generations: 1 })
    await using host = world.open()
    await expect(promoting(host, { knock: () => Promise.resolve(answer) })).resolves.toMatchObject({
      was: 'replica',
    })
  })

  it('asks real hosts: one that listens, one that refuses, this one, and one without an address', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    const source = { hostName: 'kvm1', machineId: 'there', address: '127.0.0.1', port: null }
    const life = async (change: Partial<typeof source>, at = 22): Promise<string> => {
      const asked = { ...source, ...change }
      return (
        await sourceLife({
          source: asked,
          ownMachineId: 'here',
          knock: async (address, door, timeoutMs) =>
            door === 'echo' ? 'timeout' : await knockHost(address, at, timeoutMs),
        })
      ).is
    }
    expect(await life({}, port)).toBe('alive')
    await new Promise((resolve) => server.close(resolve))
    expect(await life({}, port)).toBe('alive')
    expect(await life({ machineId: 'here' })).toBe('alive')
    expect((await sourceLife({ source: { ...source, address: null }, ownMachineId: 'here' })).is).toBe(
      'unknown',
    )
  })

  it('asks for an echo where nothing answers at the port, at the one that the record knows', async () => {
    const world = await makeWorld(scratch(), { generations: 1 })
    await using host = world.open()
    const asked: Door[] = []
    const knock = (answer: string) => async (_address: string, door: Door) => {
      asked.push(door)
      return await Promise.resolve(door === 'echo' ? answer : 'timeout')
    }
    const alive = await refusal(promoting(host, { knock: knock('open') }))
    expect(alive).toMatchObject({ code: 'replicate/refused' })
    expect(alive.message).toContain('the source (kvm1 at 192.0.2.1) answers a ping')
    const was = await world.record()
    await saveReplica(host, { ...was, source: { ...was.source, port: 2222 } })
    for (const answer of ['timeout', 'absent']) {
      await expect(promoting(host, { knock: knock(answer) })).resolves.toMatchObject({ job: 'web' })
      await saveReplica(host, { ...(await world.record()), state: 'good' })
    }
    expect(asked).toEqual([22, 'echo', 2222, 'echo', 2222, 'echo'])
  })

  it('asks for a real echo, and does without where there is no ping', needs('ping'), async () => {
    expect(await knockHost('127.0.0.1', 'echo', 2000)).toBe('open')
    // no words of ping, whatever it is called
    expect(await knockHost('-V', 'echo', 1000)).not.toBe('open')
    const before = process.env['PATH']
    try {
      process.env['PATH'] = scratch().directory
      expect(await knockHost('127.0.0.1', 'echo', 2000)).toBe('absent')
    } finally {
      process.env['PATH'] = before
    }
  })

  it('refuses without a complete generation, an unknown name, and two of one name', async () => {
    const empty = await makeWorld(scratch(), { generations: 0 })
    expect(await refusal(promoting(empty.open()))).toMatchObject({ code: 'replicate/refused' })
    const world = await makeWorld(scratch(), { generations: 1 })
    const unknown = await refusal(promoting(world.open(), { name: 'wab' }))
    expect(unknown.code).toBe('replicate/unknown')
    expect(unknown.hint).toContain(ID)
    await saveReplica(world.open(), { ...(await world.record()), id: 'web.ffff0000' })
    const several = await refusal(promoting(world.open()))
    expect(several.code).toBe('replicate/unknown')
    expect(several.hint).toContain('web.ffff0000')
    await expect(promoting(world.open(), { name: ID })).resolves.toMatchObject({ id: ID })
  })

  it('refuses while somebody else works on the replica, and where nobody agrees', async () => {
    const world = await makeWorld(scratch(), { generations: 1 })
    {
      await using other = world.open()
      await other.takeLock(`replica-${ID}`, 0)
      expect(await refusal(promoting(world.open()))).toMatchObject({ code: 'replicate/busy' })
    }
    const no = new SyncError('replicate/refused', 'nobody agreed')
    expect(await refusal(promoting(world.open(), { agree: () => Promise.reject(no) }))).toBe(no)
    expect((await world.record()).state).toBe('good')
    expect(await writableDisks(world)).toBe(0)
  })

  it('reads the disks where their journals are gone, and refuses only what is no generation', async () => {
    const whole = await makeWorld(scratch(), { generations: 3 })
    await rm(join(whole.stateDir, 'undo'), { recursive: true })
    const warnings: string[] = []
    await using host = whole.open()
    await expect(promoting(host, { onWarning: (text) => warnings.push(text) })).resolves.toMatchObject({
      newest: { generation: 3 },
    })
    expect(warnings.join()).toContain('are generation 3')
    expect((await whole.record()).generations.map(({ number }) => number)).toEqual([3])

    const half = await makeWorld(scratch(), { generations: 3 })
    await killAttempt(half)
    await rm(join(half.stateDir, 'undo'), { recursive: true })
    const error = await refusal(promoting(half.open()))
    expect(error.code).toBe('replicate/refused')
    expect((await half.record()).state).toBe('empty')
  })

  it('may be killed behind any call, and goes on when it is typed again', async () => {
    for (let at = 0, isDone = false; !isDone; at++) {
      expect(at).toBeLessThan(200)
      const world = await makeWorld(scratch(), { generations: 2 })
      await killAttempt(world)
      const own = world.open()
      const dying = dyingHost(own, at)
      try {
        await promoting(dying)
        isDone = true
      } catch (thrown) {
        // some calls are told as what could not be done
        if (!(thrown instanceof Killed) && !(thrown instanceof SyncError)) throw thrown
      }
      await own.close()
      const { state } = await world.record()
      // nobody was told of disks that an attempt would write
      if (state === 'good') expect(await writableDisks(world)).toBe(0)
      await using host = world.open()
      await expect(promoting(host)).resolves.toMatchObject({ newest: { generation: 2 } })
      expect((await world.record()).state).toBe('promoted')
      expect(await isContent(world, 2)).toBe(true)
      expect(await writableDisks(world)).toBe(2)
    }
  }, 120_000)
})

describe('the definition of the guest', () => {
  const xml = `<domain type='kvm'>
  <name>web&amp;co</name>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/mapper/vg--0-web'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/iso/install.iso'/>
      <target dev='sda' bus='sata'/>
    </disk>
  </devices>
</domain>
`

  it('has the disks of this host, and says what it has not', async () => {
    const world = await makeWorld(scratch(), { generations: 1 })
    const kept = join(world.stateDir, 'replica', ID, 'guest-1.xml')
    await writeFile(kept, xml)
    const was = await world.record()
    await saveReplica(world.open(), {
      ...was,
      disks: was.disks.map((disk, index) => ({
        ...disk,
        sourcePath: index === 0 ? '/dev/vg-0/web' : '/srv/b.img',
      })),
      guest: { domain: 'web&co', hypervisor: 'libvirt', definition: kept },
    })
    const warnings: string[] = []
    await using host = world.open()
    const promoted = await promoting(host, { onWarning: (text) => warnings.push(text) })
    const path = join(world.stateDir, 'replica', ID, 'guest.promoted.xml')
    expect(promoted.definition).toBe(path)
    expect(promoted.commands).toEqual([
      ['virsh', 'define', path],
      ['virsh', 'start', 'web&co'],
    ])
    const written = await readFile(path, 'utf8')
    expect(written).toContain(`<source file='${world.disks[0]}'/>`)
    expect(written).toContain("<disk type='file' device='disk'>")
    expect(written).toContain('/iso/install.iso')
    expect(written).not.toContain('/dev/mapper')
    expect(warnings.join('\n')).toMatch(/sda.*not in the replica[^]*no disk that .*-2\.img is of/)
  })

  it('is a warning where it cannot be used: the disks are promoted', async () => {
    const world = await makeWorld(scratch(), { generations: 1 })
    const kept = join(world.stateDir, 'replica', ID, 'guest-1.xml')
    await writeFile(kept, '<domain')
    await saveReplica(world.open(), {
      ...(await world.record()),
      guest: { domain: 'web', hypervisor: 'libvirt', definition: kept },
    })
    const warnings: string[] = []
    const promoted = await promoting(world.open(), { onWarning: (text) => warnings.push(text) })
    expect(promoted).toMatchObject({ definition: null, commands: [] })
    expect(warnings.join()).toContain('no definition of web was written')
    expect(await writableDisks(world)).toBe(2)
  })
})

describe('take-back', () => {
  it('makes it a replica again where nothing was written', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    {
      await using host = world.open()
      await promoting(host)
    }
    await using host = world.open()
    await expect(takingBack(host, 'refuse')).resolves.toMatchObject({ generation: 2 })
    expect((await world.record()).state).toBe('good')
    expect(await writableDisks(world)).toBe(0)
  })

  it('refuses what was written, what is open, and what is not promoted', async () => {
    const world = await makeWorld(scratch(), { generations: 2, change: { state: 'promoted' } })
    await using host = world.open()
    const child = scratch().start('tail', '-f', world.disks[1] ?? '')
    await expect
      .poll(async () => (await refusal(takingBack(host, 'refuse'))).message, { timeout: 5000 })
      .toContain(`is open in process ${child.pid}`)
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))
    await scribble(world, world.disks[1] ?? '')
    const error = await refusal(takingBack(host, 'refuse'))
    expect(error.message).toContain('was written since')
    expect(error.hint).toContain('--discard')
    expect((await world.record()).state).toBe('promoted')

    const good = await makeWorld(scratch(), { generations: 1 })
    expect(await refusal(takingBack(good.open(), 'refuse'))).toMatchObject({ code: 'replicate/refused' })
  })

  it(
    'refuses a device that is mounted, and a file that is attached',
    needs('loop', 'mkfs.ext4'),
    async () => {
      const device = await scratch().loopDevice(await scratch().sparseFile('mounted.img', 8 << 20))
      await run('mkfs.ext4', '-q', device)
      const first = await readFile(device)
      const world = await makeWorld(scratch(), {
        generations: 1,
        disks: [device],
        first,
        change: { state: 'promoted' },
      })
      await run('blockdev', '--setrw', device)
      const mounted = await scratch().mount('mounted', device)
      await using host = world.open()
      expect((await refusal(takingBack(host, 'discard'))).message).toContain(`is mounted at ${mounted}`)
      const file = await makeWorld(scratch(), { generations: 1, change: { state: 'promoted' } })
      const attached = await scratch().loopDevice(file.disks[0] ?? '', '--read-only')
      expect((await refusal(takingBack(file.open(), 'discard'))).message).toContain(
        `is attached to ${attached}`,
      )
      expect((await file.record()).state).toBe('promoted')
    },
  )

  it('gives up what was written where that is asked for: the next attempt begins anew', async () => {
    const world = await makeWorld(scratch(), { generations: 2, change: { state: 'promoted' } })
    await scribble(world, world.disks[0] ?? '')
    await using host = world.open()
    await expect(takingBack(host, 'discard')).resolves.toMatchObject({ generation: null })
    expect(await world.record()).toMatchObject({
      state: 'empty',
      base: 'old-source',
      generations: [],
      nextGeneration: 3,
    })
    expect(await writableDisks(world)).toBe(0)
  })
})
