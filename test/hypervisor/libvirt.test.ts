// The libvirt driver over a host that answers from a list: what it runs, what it understands, what it refuses; and over
// virsh's own test driver, which needs no daemon.

import { describe, expect, it } from 'vitest'

import type { Driver, Guest } from '../../src/hypervisor/driver.js'
import { libvirtDriver } from '../../src/hypervisor/libvirt.js'
import { needs } from '../support/needs.js'
import { batched, FakeHost, runHere, type Answer } from './fake-host.js'
import { BARRIER, MOVED_METADATA, ODD, plain, UUID } from './fixtures.js'

const URI = 'qemu:///system'
const RUNNING = "Domain: 'web'\n  state.state=1\n  state.reason=1\n\n"
const OFF = "Domain: 'web'\n  state.state=5\n  state.reason=1\n\n"
const SAVING = "Domain: 'web'\n  state.state=3\n  state.reason=3\n\n"
const PAUSED = "Domain: 'web'\n  state.state=3\n  state.reason=2\n\n"
const BY_USER = "Domain: 'web'\n  state.state=3\n  state.reason=1\n\n"
const LISTED = `${UUID} web\n\n`

function driverWith(answer: Answer): { driver: Driver; host: FakeHost } {
  const host = new FakeHost(answer)
  return { driver: libvirtDriver(host, URI), host }
}

/** A host whose virsh answers all commands, alone or in a batch, by how they begin. */
function answering(answers: Readonly<Record<string, string>>): Answer {
  return (line) => ({ stdout: batched(line, answers) })
}

const DESCRIBED: Readonly<Record<string, string>> = {
  'dumpxml --domain web --security-info --inactive': plain(),
  'dumpxml --domain web --security-info': plain(),
  'list --all --uuid --persistent': `${UUID}\n`,
  'list --all --uuid --name': LISTED,
  domstats: RUNNING,
}

function guestOf(changes: Partial<Guest> = {}): Guest {
  return {
    name: 'web',
    uuid: UUID,
    state: 'off',
    isPersistent: true,
    autostart: true,
    memoryBytes: 128 << 20,
    vcpus: 1,
    machine: 'pc-i440fx-7.2',
    disks: [],
    nics: [],
    files: [],
    definition: plain(),
    persistentDefinition: plain(),
    definitionPath: null,
    problems: [],
    ...changes,
  }
}

describe('describe', () => {
  it('asks once, and understands a plain guest', async () => {
    const { driver, host } = driverWith(answering(DESCRIBED))
    const guest = await driver.describe('web')
    expect(host.ran).toHaveLength(1)
    expect(guest).toEqual(
      guestOf({
        state: 'running',
        autostart: false,
        disks: [
          {
            target: 'vda',
            device: 'disk',
            source: { kind: 'file', path: '/srv/web.img' },
            format: 'raw',
            isReadOnly: false,
            isShareable: false,
            cache: 'none',
            backing: [],
          },
        ],
      }),
    )
  })

  it('knows all kinds of disks and nics, chains, volumes, nvram', async () => {
    const { driver } = driverWith(
      answering({
        ...DESCRIBED,
        'dumpxml --domain web --security-info': ODD,
        'vol-path': '/pool/d.img\n',
        capabilities:
          '<capabilities>\n  <host>\n    <cpu><model>EPYC</model></cpu>\n  </host>\n</capabilities>\n',
      }),
    )
    const guest = await driver.describe('web')
    expect(guest.name).toBe('web & "db"')
    expect(guest.memoryBytes).toBe(2 ** 31)
    expect(guest.hostCpu).toBe('<cpu><model>EPYC</model></cpu>')
    expect(guest.files).toEqual([{ kind: 'nvram', path: '/var/lib/libvirt/qemu/nvram/web_VARS.fd' }])
    expect(guest.disks.map(({ target, source, backing }) => [target, source, backing])).toEqual([
      ['vda', { kind: 'file', path: '/srv/a & b.img' }, []],
      ['vdb', { kind: 'block', path: '/dev/vg/b' }, ['/srv/mid.qcow2', '/dev/vg/base']],
      ['vdc', { kind: 'network', protocol: 'rbd', name: 'pool/image' }, []],
      ['vdd', { kind: 'volume', pool: 'default', volume: 'd.img', path: '/pool/d.img' }, []],
      ['sda', { kind: 'empty' }, []],
      ['vde', { kind: 'passthrough', what: 'a disk of type nvme' }, []],
      ['sdb', { kind: 'block', path: '/dev/sdz' }, []],
    ])
    expect(guest.disks.map(({ device }) => device)).toEqual([
      'disk',
      'disk',
      'disk',
      'disk',
      'cdrom',
      'disk',
      'lun',
    ])
    expect(guest.disks.map(({ isReadOnly }) => isReadOnly)).toEqual([
      false,
      false,
      false,
      true,
      true,
      false,
      false,
    ])
    expect(guest.disks.map(({ isShareable }) => isShareable)).toEqual([
      false,
      false,
      true,
      false,
      false,
      false,
      false,
    ])
    expect(guest.nics).toEqual([
      { index: 0, kind: 'network', name: 'default', mac: '52:54:00:00:00:01' },
      { index: 1, kind: 'bridge', name: 'br0', mac: '52:54:00:00:00:02' },
      { index: 2, kind: 'user', name: null, mac: null },
    ])
  })

  it('takes the migratable definition of a guest that runs, and the persistent one of a guest that is off', async () => {
    const live = plain({ extra: '  <!-- live -->\n' })
    const migratable = plain({ extra: '  <!-- migratable -->\n' })
    const answers = {
      'dumpxml --domain web --security-info --migratable': migratable,
      'dumpxml --domain web --security-info --inactive': plain(),
      'dumpxml --domain web --security-info': live,
      'list --all --uuid --persistent': UUID,
    }
    const running = await driverWith(answering({ ...answers, domstats: RUNNING })).driver.describe('web')
    expect(running.definition).toBe(migratable)
    expect(running.persistentDefinition).toBe(plain())
    const off = await driverWith(answering({ ...answers, domstats: OFF })).driver.describe('web')
    expect(off.definition).toBe(plain())
    const transient = { ...answers, 'list --all --uuid --persistent': '', domstats: RUNNING }
    const guest = await driverWith(answering(transient)).driver.describe('web')
    expect(guest.isPersistent).toBe(false)
    expect(guest.persistentDefinition).toBeNull()
  })

  it.each([
    ['passthrough', { devices: "<hostdev mode='subsystem' type='pci'/>" }, 'warm cold live'],
    ['passthrough', { devices: "<interface type='hostdev'/>" }, 'warm cold live'],
    ['passthrough', { devices: "<tpm><backend type='passthrough'/></tpm>" }, 'warm cold live'],
    ['nvdimm', { devices: "<memory model='nvdimm'/>" }, 'warm cold live'],
    ['transient-disk', { devices: "<disk><target dev='vdb'/><transient/></disk>" }, 'warm cold live'],
    ['block-job', { devices: "<disk><target dev='vdb'/><mirror type='file'/></disk>" }, 'warm cold live'],
    ['filesystem', { devices: "<filesystem type='mount'/>" }, 'warm live'],
    ['shmem', { devices: "<shmem name='x'/>" }, 'warm live'],
    ['launch-security', { extra: "<launchSecurity type='sev'/>" }, 'warm live'],
    ['invtsc', { extra: "<cpu><feature policy='require' name='invtsc'/></cpu>" }, 'warm live'],
    ['tpm-state', { devices: "<tpm><backend type='emulator' version='2.0'/></tpm>" }, 'warm cold live'],
  ])('finds %s', async (code, parts, modes) => {
    const { driver } = driverWith(
      answering({ ...DESCRIBED, 'dumpxml --domain web --security-info': plain(parts) }),
    )
    const { problems } = await driver.describe('web')
    expect(problems.map((problem) => [problem.code, problem.modes.join(' ')])).toEqual([[code, modes]])
  })

  it.each([
    ['snapshots', { 'snapshot-list': 'one\ntwo\n' }, 3],
    ['managed-save', { 'list --all --uuid --with-managed-save': UUID }, 3],
    ['checkpoints', { 'checkpoint-list': 'c1\n' }, 0],
    ['asleep', { domstats: "Domain: 'web'\n  state.state=7\n  state.reason=0\n" }, 3],
    ['moved', { 'dumpxml --domain web --security-info --inactive': plain({ metadata: MOVED_METADATA }) }, 3],
  ])('finds %s in what libvirt says beside the definition', async (code, answers, modes) => {
    const { driver } = driverWith(
      answering({
        ...answers,
        ...Object.fromEntries(Object.entries(DESCRIBED).filter(([key]) => !(key in answers))),
      }),
    )
    const { problems } = await driver.describe('web')
    expect(problems.map((problem) => [problem.code, problem.modes.length])).toEqual([[code, modes]])
  })

  it('finds no fault with an invariant clock of a fixed frequency', async () => {
    const extra =
      "<cpu><feature policy='require' name='invtsc'/></cpu><clock><timer name='tsc' frequency='3000000000'/></clock>"
    const { driver } = driverWith(
      answering({ ...DESCRIBED, 'dumpxml --domain web --security-info': plain({ extra }) }),
    )
    expect((await driver.describe('web')).problems).toEqual([])
  })

  it('finds the state of an emulated TPM', async () => {
    const devices = "<tpm><backend type='emulator' version='2.0'/></tpm>"
    const { driver, host } = driverWith(
      answering({ ...DESCRIBED, 'dumpxml --domain web --security-info': plain({ devices }) }),
    )
    host.paths.add(`/var/lib/libvirt/swtpm/${UUID}/tpm2/tpm2-00.permall`)
    expect((await driver.describe('web')).files).toEqual([
      { kind: 'tpm', path: `/var/lib/libvirt/swtpm/${UUID}/tpm2/tpm2-00.permall` },
    ])
  })

  it('asks qemu-img for the chain of an image that nobody opened yet', async () => {
    const xml = plain().replace("type='raw'", "type='qcow2'")
    const answers = { ...DESCRIBED, 'dumpxml --domain web --security-info': xml, domstats: OFF }
    const chain = JSON.stringify([{ filename: '/srv/web.img' }, { filename: '/srv/base.img' }])
    const { driver } = driverWith((line, request, host) =>
      line.startsWith('qemu-img') ? { stdout: chain } : answering(answers)(line, request, host),
    )
    expect((await driver.describe('web')).disks[0]?.backing).toEqual(['/srv/base.img'])
    const without = driverWith((line, request, host) =>
      line.startsWith('qemu-img') ? { exitStatus: 127 } : answering(answers)(line, request, host),
    )
    expect((await without.driver.describe('web')).problems.map(({ code }) => code)).toEqual([
      'backing-unknown',
    ])
  })

  it('does not count the disk of a fence', async () => {
    const xml = plain({ name: 'web.moved-m-1', devices: BARRIER })
    const { driver } = driverWith(answering({ ...DESCRIBED, 'dumpxml --domain web --security-info': xml }))
    expect((await driver.describe('web')).disks.map(({ target }) => target)).toEqual(['vda'])
  })

  it('refuses a guest that is not there, and names those that are', async () => {
    const { driver } = driverWith(
      answering({ 'list --all --uuid --name': `${LISTED}${UUID.replace('4', '5')} my db\n` }),
    )
    await expect(driver.describe('wbe')).rejects.toMatchObject({
      code: 'migrate/guest',
      operand: 'wbe',
      hint: 'These are there: web, my db.',
    })
  })

  it('addresses a guest that is called by a number by its UUID', async () => {
    const { driver, host } = driverWith(answering({ 'list --all --uuid --name': `${UUID} 7\n` }))
    await driver.resume('7')
    expect(host.ran.at(-1)).toBe(`resume --domain ${UUID}`)
    await expect(driver.describe('8')).rejects.toMatchObject({ code: 'migrate/guest' })
  })

  it('keeps odd names in one word of virsh', async () => {
    const { driver, host } = driverWith(() => ({ exitStatus: 1, stderrTail: 'error: no' }))
    await expect(driver.describe("a 'b'; destroy web")).rejects.toMatchObject({ code: 'migrate/hypervisor' })
    expect(host.ran[0]).toMatch(/^dumpxml --domain 'a '\\''b'\\''; destroy web' --security-info; echo /)
  })
})

describe('state', () => {
  it.each([
    [RUNNING, 'running'],
    [OFF, 'off'],
    [SAVING, 'saving'],
    [PAUSED, 'paused'],
    [BY_USER, 'paused'],
    ["Domain: 'web'\n  state.state=4\n  state.reason=1\n", 'stopping'],
    ["Domain: 'web'\n  state.state=6\n  state.reason=1\n", 'crashed'],
    ["Domain: 'web'\n  state.state=7\n  state.reason=0\n", 'paused'],
  ])('of %j is %s', async (stats, state) => {
    const { driver, host } = driverWith(answering({ domstats: stats }))
    expect(await driver.state('web')).toBe(state)
    expect(host.ran).toEqual(['domstats --state --raw --domain web'])
  })

  it('is absent only where the list of guests says so', async () => {
    const failing: Answer = (line) => (line.startsWith('domstats') ? { exitStatus: 1 } : { stdout: LISTED })
    expect(await driverWith(failing).driver.state('other')).toBe('absent')
    await expect(driverWith(failing).driver.state('web')).rejects.toMatchObject({
      code: 'migrate/hypervisor',
    })
  })

  it('is not known where libvirt does not answer', async () => {
    const stderrTail = 'error: failed to connect to the hypervisor\nerror: Failed to connect socket'
    await expect(driverWith(() => ({ exitStatus: 1, stderrTail })).driver.state('web')).rejects.toMatchObject(
      {
        code: 'migrate/daemon',
        operand: 'host1',
      },
    )
    await expect(driverWith(() => ({ exitStatus: 127 })).driver.facts()).rejects.toMatchObject({
      code: 'migrate/daemon',
      message: expect.stringContaining('virsh is not there') as string,
    })
  })
})

describe('list', () => {
  it('has every guest with the disks it uses, however many there are', async () => {
    const uuids = Array.from(
      { length: 450 },
      (_none, index) => `4dea22b3-1d52-d8f3-2516-${`${index}`.padStart(12, '0')}`,
    )
    const listed = uuids.map((uuid, index) => `${uuid} web ${index}`).join('\n')
    const stats =
      "Domain: 'web 3'\n  state.state=1\n  state.reason=1\n\nDomain: 'web 4'\n  state.state=5\n  state.reason=0\n"
    const { driver, host } = driverWith((line) =>
      line.startsWith('dumpxml')
        ? {
            stdout: batched(line, {
              [`dumpxml --domain ${uuids[7]}`]: '',
              dumpxml: plain({ devices: BARRIER }),
            }),
          }
        : { stdout: line.startsWith('list') ? listed : stats },
    )
    const guests = await driver.list()
    // the one that was gone when its definition was asked for is not there
    expect(guests).toHaveLength(449)
    expect(guests[3]).toEqual({ name: 'web 3', uuid: uuids[3], state: 'running', disks: ['/srv/web.img'] })
    expect(guests[4]?.state).toBe('off')
    expect(host.ran.map((line) => line.split(' ')[0])).toEqual([
      'list',
      'domstats',
      'dumpxml',
      'dumpxml',
      'dumpxml',
    ])
  })
})

describe('save', () => {
  const IMAGE = `<uuid>${UUID}</uuid>\n`

  it('saves, reads back and flushes', async () => {
    const { driver, host } = driverWith((line) => ({
      stdout: line.startsWith('save-image-dumpxml') ? IMAGE : '',
    }))
    await driver.save('web', '/state/web.save')
    expect(host.ran.toSorted()).toEqual([
      'save --domain web --file /state/web.save',
      'save-image-dumpxml --file /state/web.save --xpath /domain/uuid',
      'sync /state/web.save /state',
    ])
  })

  it.each([
    ['libvirt had it run again', [RUNNING], false],
    ['it was left paused', [PAUSED], true],
    ['somebody had paused it', [BY_USER], false],
    ['the save went on and is ended', [SAVING, SAVING, RUNNING], false],
  ])('that fails leaves the guest running: %s', async (_what, states, isResumed) => {
    const left = [...states]
    const { driver, host } = driverWith((line) => {
      if (line.startsWith('save ')) return { exitStatus: 1, stderrTail: 'error: No space left on device' }
      if (line.startsWith('domstats')) return { stdout: (left.length > 1 ? left.shift() : left[0]) ?? '' }
      return {}
    })
    await expect(driver.save('web', '/s')).rejects.toMatchObject({
      code: 'migrate/hypervisor',
      message: expect.stringContaining('No space left on device') as string,
    })
    expect(host.ran.includes('resume --domain web')).toBe(isResumed)
    expect(host.ran.includes('domjobabort --domain web')).toBe(states[0] === SAVING)
  })

  it('that was done when virsh was lost is done', async () => {
    const { driver } = driverWith((line) => {
      if (line.startsWith('save ')) return { exitStatus: 1, stderrTail: 'error: client socket is closed' }
      if (line.startsWith('domstats')) return { stdout: OFF }
      return { stdout: IMAGE }
    })
    await expect(driver.save('web', '/s')).resolves.toBeUndefined()
  })

  it('of which libvirt cannot read the file is none', async () => {
    const { driver } = driverWith((line) => {
      if (line.startsWith('save-image'))
        return { exitStatus: 1, stderrTail: 'error: save image is incomplete' }
      return { stdout: OFF }
    })
    await expect(driver.save('web', '/s')).rejects.toMatchObject({
      message: '/s is not a saved guest: save image is incomplete',
    })
  })
})

describe('restorePaused', () => {
  it('gives libvirt the definition as a file, and takes the file away', async () => {
    const { driver, host } = driverWith(() => ({}))
    await driver.restorePaused('/s', guestOf(), plain())
    expect(host.ran).toEqual([
      expect.stringMatching(/^restore --file \/s --xml \/run\/blocksync-\S+\.xml --paused$/),
    ])
    expect([...host.seen.values()]).toEqual([plain()])
    expect(host.files.size).toBe(0)
  })

  it('takes the place of a fence of that very guest, and of nothing else', async () => {
    let isFenced = true
    const answer: Answer = (line) => {
      if (line.startsWith('restore'))
        return isFenced ? { exitStatus: 1, stderrTail: 'error: already defined' } : {}
      if (line.startsWith('undefine')) isFenced = false
      const xml = plain({ name: 'web.moved-m-1', metadata: MOVED_METADATA })
      return { stdout: batched(line, { dumpxml: xml, list: `${UUID} web.moved-m-1\n` }) || xml }
    }
    const { driver, host } = driverWith(answer)
    await driver.restorePaused('/s', guestOf(), plain())
    expect(host.ran.filter((line) => line.startsWith('undefine'))).toEqual([`undefine --domain ${UUID}`])
    const other = driverWith((line) =>
      line.startsWith('restore')
        ? { exitStatus: 1, stderrTail: 'error: already defined' }
        : { stdout: plain() },
    )
    await expect(other.driver.restorePaused('/s', guestOf(), plain())).rejects.toMatchObject({
      message: 'web was not restored from /s: already defined',
    })
    expect(other.host.ran.filter((line) => line.startsWith('undefine'))).toEqual([])
    expect(other.host.files.size).toBe(0)
  })
})

describe('shutdown, destroy, start', () => {
  it('asks by ACPI and waits for the event', async () => {
    const states = [RUNNING, RUNNING, OFF]
    const { driver, host } = driverWith((line) =>
      line.startsWith('domstats') ? { stdout: states.shift() ?? OFF } : {},
    )
    await driver.shutdown('web', 60_000)
    expect(host.ran[0]).toBe('shutdown --domain web --mode acpi')
    expect(
      host.ran.filter((line) => line === 'event --domain web --event lifecycle --timeout 2'),
    ).toHaveLength(2)
  })

  it('does not wait longer than it was told', async () => {
    const { driver } = driverWith(answering({ domstats: RUNNING }))
    await expect(driver.shutdown('web', 1)).rejects.toMatchObject({
      code: 'migrate/shutdown',
      operand: 'web',
    })
  })

  it('ends nothing that does not run, and says so of what it could not end', async () => {
    const failing =
      (stats: string): Answer =>
      (line) =>
        line.startsWith('destroy') ? { exitStatus: 1, stderrTail: 'error: busy' } : { stdout: stats }
    await driverWith(failing(OFF)).driver.destroy('web')
    await expect(driverWith(failing(RUNNING)).driver.destroy('web')).rejects.toMatchObject({
      message: 'web was not ended: busy',
    })
  })

  it('starts by the persistent definition, or by one that is given', async () => {
    const { driver, host } = driverWith(() => ({}))
    await driver.start('web', null)
    await driver.start('web', plain())
    expect(host.ran).toEqual([
      'start --domain web',
      expect.stringMatching(/^create --file \/run\/blocksync-/),
    ])
    expect(host.files.size).toBe(0)
  })
})

describe('define and undefine', () => {
  it('defines, with autostart as it was', async () => {
    const { driver, host } = driverWith(answering({}))
    await driver.define(plain(), { name: 'web', autostart: true })
    await driver.define(plain(), { name: 'web', autostart: false })
    expect(host.ran[0]).toMatch(/^define --file \S+; echo \S+; autostart --domain web; echo /)
    expect(host.ran[1]).toMatch(/autostart --domain web --disable/)
  })

  it('is refused when any of it failed', async () => {
    const { driver } = driverWith((line) => ({ stdout: batched(line, {}), stderrTail: 'error: bad XML' }))
    await expect(driver.define(plain(), { name: 'web', autostart: true })).rejects.toMatchObject({
      message: 'web was not defined: bad XML',
    })
  })

  it.each([
    ['9.0.0', '--keep-nvram --keep-tpm'],
    ['8.8.9', '--keep-nvram'],
    ['10.0.0', '--keep-nvram --keep-tpm'],
  ])('leaves nvram and TPM with libvirt %s', async (version, keep) => {
    const xml = plain({ devices: '<tpm/>' }).replace('</type>', '</type><nvram>/v.fd</nvram>')
    const { driver, host } = driverWith(
      answering({ list: LISTED, dumpxml: xml, version: `Running against daemon: ${version}\n` }),
    )
    await driver.undefine('web')
    expect(host.ran.at(-1)).toBe(`undefine --domain web ${keep}`)
  })

  it('changes nothing where there is no definition', async () => {
    const { driver, host } = driverWith(answering({ list: '' }))
    await driver.undefine('web')
    expect(host.ran).toHaveLength(1)
  })
})

describe('the fence', () => {
  const fencedXml = plain({ name: 'web.moved-m-1', metadata: MOVED_METADATA, devices: BARRIER })
  const FENCE = { id: 'm-1', guest: 'web', uuid: UUID, renamedTo: 'web.moved-m-1', autostart: true, kept: {} }

  it('is the name, the mark, no autostart and a disk that is not there, in one call', async () => {
    const { driver, host } = driverWith(answering({ dumpxml: fencedXml }))
    expect(await driver.fence(guestOf(), 'm-1')).toEqual(FENCE)
    expect(host.ran).toHaveLength(1)
    const commands = host.ran[0]?.split('; ').filter((command) => !command.startsWith('echo')) ?? []
    expect(commands.slice(0, 4)).toEqual([
      `metadata --domain ${UUID} --uri urn:blocksync:moved --config --key blocksync --set '<moved id="m-1" guest="web" autostart="yes"/>'`,
      `attach-disk --domain ${UUID} --config --source /this-guest-moved-away/blocksync-migration-m-1 --target vdmoved --targetbus virtio --sourcetype file --driver qemu --subdriver raw --mode readonly`,
      `domrename --domain ${UUID} --new-name web.moved-m-1`,
      `autostart --domain ${UUID} --disable`,
    ])
  })

  it('is the same the second time, also for the guest as it is now', async () => {
    const stderrTail = "error: Can't rename domain to itself"
    const { driver } = driverWith((line) => ({ stdout: batched(line, { dumpxml: fencedXml }), stderrTail }))
    expect(await driver.fence(guestOf(), 'm-1')).toEqual(FENCE)
    const now = guestOf({ name: 'web.moved-m-1', autostart: false, persistentDefinition: fencedXml })
    expect(await driver.fence(now, 'm-1')).toEqual(FENCE)
  })

  it.each([
    ['the name is as it was', { dumpxml: plain({ metadata: MOVED_METADATA, devices: BARRIER }) }],
    ['the mark is missing', { dumpxml: plain({ name: 'web.moved-m-1', devices: BARRIER }) }],
    ['it still starts by itself', { dumpxml: fencedXml, 'list --all --autostart': UUID }],
    ['it is gone', {}],
  ])('is none where %s', async (_what, answers) => {
    const { driver } = driverWith((line) => ({ stdout: batched(line, answers), stderrTail: 'error: why' }))
    await expect(driver.fence(guestOf(), 'm-1')).rejects.toMatchObject({
      code: 'migrate/hypervisor',
      message: 'the definition of web was not put aside: why',
    })
  })

  it('of a transient guest has nothing to do', async () => {
    const { driver, host } = driverWith(() => null)
    const fence = await driver.fence(guestOf({ persistentDefinition: null, isPersistent: false }), 'm-1')
    expect(fence.renamedTo).toBeNull()
    await driver.unfence(fence)
    expect(host.ran).toEqual([])
  })

  it('is taken back whole, or it is said', async () => {
    const { driver, host } = driverWith(answering({ dumpxml: plain(), 'list --all --autostart': UUID }))
    await driver.unfence(FENCE)
    expect(host.ran[0]).toMatch(
      /^domrename --domain \S+ --new-name web; .*detach-disk .*--target vdmoved; .*--remove/,
    )
    const half = driverWith(
      answering({ dumpxml: plain({ devices: BARRIER }), 'list --all --autostart': UUID }),
    )
    await expect(half.driver.unfence(FENCE)).rejects.toMatchObject({ code: 'migrate/hypervisor' })
  })

  it('is found by its mark, not by a name alone', async () => {
    const { driver } = driverWith(
      answering({
        'list --all --uuid --name': `${UUID} web.moved-m-1\n${UUID.replace('4', '5')} a.moved-b\n`,
        [`dumpxml --domain ${UUID}`]: fencedXml,
        dumpxml: plain({ name: 'a.moved-b' }),
      }),
    )
    expect(await driver.fences()).toEqual([{ id: 'm-1', guest: 'web', uuid: UUID }])
  })
})

describe('with the test driver of virsh', needs('virsh'), () => {
  function testDriver(): Driver {
    return libvirtDriver(new FakeHostHere(), 'test:///default')
  }

  it('describes its guest', async () => {
    const driver = testDriver()
    expect((await driver.facts()).hypervisor).toMatch(/^TEST /)
    const guest = await driver.describe('test')
    expect(guest).toMatchObject({
      name: 'test',
      state: 'running',
      isPersistent: true,
      vcpus: 2,
      problems: [],
    })
    expect(guest.memoryBytes).toBe(8 * 2 ** 30)
    expect(guest.disks.map(({ source }) => source)).toEqual([{ kind: 'file', path: '/guest/diskimage1' }])
    expect(guest.nics).toEqual([{ index: 0, kind: 'network', name: 'default', mac: 'aa:bb:cc:dd:ee:ff' }])
    expect(await driver.describe(guest.uuid)).toEqual(guest)
    expect(await driver.list()).toEqual([
      { name: 'test', uuid: guest.uuid, state: 'running', disks: ['/guest/diskimage1'] },
    ])
  })

  it('knows who is there', async () => {
    const driver = testDriver()
    expect(await driver.state('test')).toBe('running')
    expect(await driver.state('nobody')).toBe('absent')
    await expect(driver.describe('nobody')).rejects.toMatchObject({
      code: 'migrate/guest',
      hint: 'These are there: test.',
    })
    // 1 is the id of the guest that runs, and no name of one
    await expect(driver.describe('1')).rejects.toMatchObject({ code: 'migrate/guest' })
    expect(await driver.fences()).toEqual([])
  })

  it('acts on it', async () => {
    const driver = testDriver()
    await driver.pause('test')
    // each call of virsh has a guest of its own, which runs
    await expect(driver.shutdown('test', 1)).rejects.toMatchObject({ code: 'migrate/shutdown' })
    await driver.destroy('test')
    await expect(driver.start('test', null)).rejects.toMatchObject({ code: 'migrate/hypervisor' })
  })

  it('hears that nothing answers', async () => {
    const driver = libvirtDriver(new FakeHostHere(), 'test:///no/such/file.xml')
    await expect(driver.facts()).rejects.toMatchObject({ code: 'migrate/daemon' })
  })
})

class FakeHostHere extends FakeHost {
  constructor() {
    super(() => null)
  }

  override run = runHere
}
