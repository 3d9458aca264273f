// The Xen driver on a host of our own making: what it reads, runs, writes and leaves, and what it does when xl fails.

import { beforeEach, describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import type { DefinitionChanges, Driver, Guest } from '../../src/hypervisor/driver.js'
import { xenDriver } from '../../src/hypervisor/xen.js'
import {
  isOlderXen,
  missingCpuFeatures,
  parseDomains,
  parseInfo,
  parseLive,
} from '../../src/hypervisor/xen-output.js'
import { domainTable, HVM, INFO, PROGRAMS, PV, PVH, UUID, XM } from './xen-fixtures.js'
import { XenHost } from './xen-host.js'

const CHANGES: DefinitionChanges = {
  disks: new Map([['xvda', { kind: 'block', path: '/dev/vg1/web-root' }]]),
  networks: new Map([['xenbr0', 'br7']]),
  files: new Map(),
}
const NO_CHANGES: DefinitionChanges = { disks: new Map(), networks: new Map(), files: new Map() }

let host: XenHost
let driver: Driver

beforeEach(() => {
  host = new XenHost()
  driver = xenDriver(host)
  host.files.set('/etc/xen/web.cfg', PV)
  for (const path of ['/srv/xen/web data,1.img', '/boot/vmlinuz-guest', '/boot/initrd-guest'])
    host.files.set(path, 'x')
})

/** A text of an object that is compared. */
const like = (pattern: RegExp): unknown => expect.stringMatching(pattern)
const codes = (problems: readonly Readonly<{ code: string }>[]): readonly string[] =>
  problems.map(({ code }) => code)
const failing = async (promise: Promise<unknown>): Promise<SyncError> => {
  try {
    await promise
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('it succeeded')
}

describe('what xl prints', () => {
  it('is a table with a state for each letter', () => {
    const table = domainTable(
      [
        'r-----',
        '-b----',
        '------',
        '--p---',
        '---ss-',
        '---s--',
        '---sr-',
        '---sc-',
        '---sw-',
        '-----d',
        '--p--d',
      ].map((flags, index) => ({ name: `a guest ${index}`, id: index + 1, flags, uuid: UUID })),
    )
    expect(parseDomains(table).map(({ state }) => state)).toEqual([
      'running',
      'running',
      'running',
      'paused',
      'saving',
      'stopping',
      'stopping',
      'crashed',
      'crashed',
      'stopping',
      'stopping',
    ])
    expect(parseDomains(table)[6]).toEqual({
      name: 'a guest 6',
      id: 7,
      uuid: UUID,
      state: 'stopping',
      isRestarting: true,
    })
  })

  it('is refused where it is something else, rather than read as an empty host', () => {
    for (const text of ['', 'Name ID\n', `${domainTable([])}garbage\n`])
      expect(() => parseDomains(text)).toThrow(expect.objectContaining({ code: 'migrate/daemon' }))
    for (const text of ['', '{}', '[{"domid":"x"}]', '[{"domid":3,"config":{}}]'])
      expect(() => parseLive(text)).toThrow(expect.objectContaining({ code: 'migrate/daemon' }))
    expect(() => parseInfo('host : x\n')).toThrow(expect.objectContaining({ code: 'migrate/daemon' }))
  })

  it('has facts of the host', async () => {
    expect(await driver.facts()).toEqual({
      version: '4.17.5',
      hypervisor: 'Xen 4.17.5',
      uri: null,
      freeMemoryBytes: 652 << 20,
    })
    expect(isOlderXen('4.9.1', '4.17.5')).toBe(true)
    expect(isOlderXen('4.17.2', '4.17.5')).toBe(false)
    expect(isOlderXen('4.17.5', '4.9.1')).toBe(false)
    expect(missingCpuFeatures('00000003:00000001:0:0:0:0:0:ff', '00000001:00000001:0:0:0:0:0:0')).toEqual([
      'word 0: 00000002',
    ])
    expect(missingCpuFeatures('f:f', 'f')).toEqual(['word 1: 0000000f'])
  })

  it('says that it cannot be asked, and what to do', async () => {
    host.faults.set('xl info', () => ({ exitStatus: 127, stderrTail: 'xl: not found' }))
    expect(await failing(driver.facts())).toMatchObject({
      code: 'migrate/daemon',
      hint: like(/xen-utils/),
    })
    host.faults.set('xl list', () => ({
      exitStatus: 1,
      stderrTail: 'Could not obtain handle on privileged command interface',
    }))
    expect(await failing(driver.state('web'))).toMatchObject({
      code: 'migrate/daemon',
      message: like(/privileged/),
    })
    host.faults.set('xl list', () => {
      throw new SyncError('host/program', 'xl did not end')
    })
    expect((await failing(driver.state('web'))).code).toBe('migrate/daemon')
    host.faults.set('xl list', () => {
      throw new SyncError('host/lost', 'gone')
    })
    expect((await failing(driver.state('web'))).code).toBe('host/lost')
  })
})

describe('describing a guest', () => {
  it('that is off, by its file', async () => {
    const guest = await driver.describe('web')
    expect(guest).toMatchObject({
      name: 'web',
      uuid: '',
      state: 'off',
      isPersistent: true,
      autostart: false,
      memoryBytes: 96 << 20,
      vcpus: 1,
      machine: 'pv',
      definition: PV,
      persistentDefinition: PV,
      definitionPath: '/etc/xen/web.cfg',
      files: [],
      problems: [],
    })
    expect(
      guest.disks.map(({ target, device, source, isReadOnly }) => [target, device, source, isReadOnly]),
    ).toEqual([
      ['xvda', 'disk', { kind: 'block', path: '/dev/vg0/web-root' }, false],
      ['xvdb', 'disk', { kind: 'file', path: '/srv/xen/web data,1.img' }, false],
      ['hdc', 'cdrom', { kind: 'empty' }, true],
    ])
    expect(guest.nics).toEqual([
      { index: 0, kind: 'bridge', name: 'xenbr0', mac: '00:16:3e:11:22:33' },
      { index: 1, kind: 'bridge', name: 'xenbr0', mac: null },
    ])
    expect('platform' in guest).toBe(false)
  })

  it('that runs: its UUID and MAC addresses are kept, all else of the file stays', async () => {
    host.addDomain('web', UUID)
    host.links.set('/etc/xen/auto/web.cfg', '/etc/xen/web.cfg')
    const guest = await driver.describe(UUID)
    expect(guest).toMatchObject({
      name: 'web',
      uuid: UUID,
      state: 'running',
      autostart: true,
      persistentDefinition: PV,
      problems: [],
    })
    expect(guest.definition).toBe(
      `${PV.replace("bridge=xenbr0', '' ]", "bridge=xenbr0', 'mac=00:16:3e:44:55:66' ]")}uuid = "${UUID}"\n`,
    )
    expect(guest.platform).toEqual({ version: '4.17.5', cpuFeatures: like(/^078bfbfd:/) })
  })

  it('that runs and has no file: as xl tells it', async () => {
    host.files.delete('/etc/xen/web.cfg')
    host.addDomain('web', UUID)
    const guest = await driver.describe('web')
    expect(guest).toMatchObject({
      isPersistent: false,
      persistentDefinition: null,
      definitionPath: null,
      problems: [],
      memoryBytes: 96 << 20,
    })
    expect(guest.definition).toContain("'format=raw,vdev=xvdb,access=rw,target=/srv/xen/web data,1.img'")
    expect(guest.definition).toContain('mac=00:16:3e:44:55:66,bridge=xenbr0')
    expect(guest.disks).toHaveLength(3)
  })

  it('that has no file and something unknown: refused by its name', async () => {
    host.files.delete('/etc/xen/web.cfg')
    const domain = host.addDomain('web', UUID)
    domain.live = { ...domain.live, config: { ...domain.live.config, pcidevs: [{}] } }
    expect((await driver.describe('web')).problems).toEqual([
      expect.objectContaining({
        code: 'definition',
        text: like(/config.pcidevs/),
        hint: like(/\/etc\/xen\/web.cfg/),
      }),
    ])
  })

  it('found by name= in another file, and by what /etc/xen/auto leads to', async () => {
    host.files.set('/etc/xen/some.cfg', PVH)
    host.files.set('/srv/conf/xm', XM)
    host.links.set('/etc/xen/auto/xm', '/srv/conf/xm')
    expect((await driver.describe('pod')).definitionPath).toBe('/etc/xen/some.cfg')
    expect((await driver.describe('6F1A2C3D-0000-4000-8000-0123456789ab')).name).toBe('pod')
    expect(await driver.describe('old')).toMatchObject({ definitionPath: '/srv/conf/xm', autostart: true })
    expect(await driver.state('old')).toBe('off')
    expect((await driver.list()).map(({ name, state }) => [name, state])).toEqual([
      ['pod', 'off'],
      ['web', 'off'],
      ['old', 'off'],
    ])
  })

  it('that is not there: with the names that are', async () => {
    host.addDomain('db', UUID)
    expect(await failing(driver.describe('nope'))).toMatchObject({
      code: 'migrate/guest',
      hint: 'There are: db, web',
    })
    expect(await driver.state('nope')).toBe('absent')
  })

  it.each([
    ['pci = [ "01:00.0" ]', 'passthrough'],
    ['usbdevice = "host:1234:5678"', 'passthrough'],
    ['iomem = [ "fe000,1" ]', 'passthrough'],
    ['gfx_passthru = 1', 'passthrough'],
    ['vtpm = [ "backend=tpm" ]', 'vtpm'],
    ['device_model_stubdomain_override = 1', 'stubdom'],
    ['nomigrate = 1', 'no-migrate'],
    ['disk = [ "backend=storage,vdev=xvda,target=/p" ]', 'driver-domain'],
    ['disk = [ "/p,vhd,xvda,w" ]', 'format'],
    ['disk = [ "/srv/q,qcow2,xvda,w" ]', 'format'],
    ['disk = [ "bogus" ]', 'definition'],
    ['import os', 'definition'],
  ])('with %s has the problem %s', async (line, code) => {
    for (const path of ['/p', '/srv/q']) host.files.set(path, 'x')
    host.files.set('/etc/xen/odd.cfg', `name = "odd"\nmemory = 64\n${line}\n`)
    const { problems } = await driver.describe('odd')
    expect(codes(problems)).toEqual([code])
    expect(problems[0]?.hint).not.toBe('')
  })

  it('that is a Python program: refused with the line', async () => {
    for (const [text] of PROGRAMS) {
      host.files.set('/etc/xen/prog.cfg', text)
      expect(codes((await driver.describe('prog')).problems)).toEqual(['definition'])
    }
  })

  it('with a qcow2 image: its backing files', async () => {
    host.files.set('/etc/xen/pod.cfg', PVH)
    host.files.set('/srv/pod.qcow2', 'x')
    host.faults.set('qemu-img info', () => ({
      stdout: JSON.stringify([{ filename: '/srv/pod.qcow2' }, { filename: '/srv/base.img' }]),
    }))
    const guest = await driver.describe('pod')
    expect(guest.disks[0]).toMatchObject({ format: 'qcow2', backing: ['/srv/base.img'] })
    expect(guest).toMatchObject({ problems: [], machine: 'pvh', vcpus: 4 })
    expect(host.lines).toContain('qemu-img info -U --backing-chain --output=json -- /srv/pod.qcow2')
  })

  it('tells leftovers, a save under way, two definitions, a state of xendomains, and what differs from the file', async () => {
    host.addDomain('web--incoming', UUID)
    const domain = host.addDomain('web', UUID, '---ss-')
    host.files.set('/etc/xen/copy.cfg', PV)
    host.files.set('/var/lib/xen/save/web', 'state')
    domain.live = {
      ...domain.live,
      config: {
        ...domain.live.config,
        b_info: { ...domain.live.config.b_info, max_memkb: 1 << 20 },
        disks: [{ pdev_path: '/dev/hot', vdev: 'xvdz', readwrite: 1 }],
      },
    }
    const guest = await driver.describe('web')
    expect(guest.state).toBe('saving')
    expect(new Set(codes(guest.problems))).toEqual(
      new Set(['leftover', 'saving', 'two-definitions', 'managed-save', 'changed']),
    )
    expect(
      guest.problems.filter(({ code }) => code === 'changed').map(({ text }) => text.replace(/.*runs: /, '')),
    ).toEqual([
      'its disk xvdz (/dev/hot) is not in the file',
      'the disk xvda of the file is not attached',
      'the disk xvdb of the file is not attached',
      'the disk hdc of the file is not attached',
      'it can have 1024 MiB of memory, and 96 in the file',
    ])
  })
})

describe('the definition for the destination', () => {
  it('has other paths and bridges, and nothing else', () => {
    expect(driver.retarget(PV, CHANGES)).toBe(
      PV.replace('/dev/vg0/web-root', '/dev/vg1/web-root')
        .replace('bridge=xenbr0', 'bridge=br7')
        .replace(", '' ]", ", 'bridge=br7' ]"),
    )
    for (const text of [PV, PVH, HVM, XM]) expect(driver.retarget(text, NO_CHANGES)).toBe(text)
    expect(
      driver.retarget(XM, {
        ...NO_CHANGES,
        disks: new Map([['xvda1', { kind: 'block', path: '/dev/swap' }]]),
      }),
    ).toBe(XM.replace('tap:aio:/srv/xen/old/swap.img', 'phy:/dev/swap'))
  })

  it('is not made with a disk that is not in it', () => {
    expect(() => driver.retarget(HVM, CHANGES)).toThrow(/no disk xvda/)
  })
})

describe('whether a host can run it', () => {
  const check = async (text: string, guest: Partial<Guest> = {}): Promise<readonly string[]> => {
    host.files.set('/tmp/probe.cfg', text)
    const base = await xenDriver(
      Object.assign(new XenHost(), { files: new Map([['/etc/xen/probe.cfg', text]]) }),
    ).list()
    const name = base[0]?.name ?? ''
    const described: Guest = {
      name,
      uuid: '',
      state: 'off',
      isPersistent: true,
      autostart: false,
      memoryBytes: 0,
      vcpus: 1,
      machine: 'pv',
      disks: [],
      nics: [],
      files: [],
      definition: text,
      persistentDefinition: text,
      definitionPath: null,
      problems: [],
      ...guest,
    }
    return codes(await driver.checkFor(described, text, NO_CHANGES))
  }

  it('finds nothing where all is well, also where the guest came from there', async () => {
    host.files.delete('/etc/xen/web.cfg')
    expect(await check(PV)).toEqual([])
    host.files.set('/etc/xen/web.cfg', PV)
    await driver.fence(await driver.describe('web'), 'm1')
    expect(await check(PV)).toEqual([])
    expect(await driver.fences()).toEqual([{ id: 'm1', guest: 'web', uuid: '' }])
  })

  it('finds all that is wrong at once', async () => {
    host.files.set('/etc/xen/pod.cfg', PVH)
    host.addDomain('pod', UUID)
    expect(await check(PVH.replace('memory=512', 'memory=4096'))).toEqual([
      'name-taken',
      'name-taken',
      'machine',
      'memory',
      'network',
      'file',
    ])
    const same = { uuid: '6f1a2c3d-0000-4000-8000-0123456789ab' }
    const another = PVH.replace('"pod"', '"pod2"').replace('maxmem=1024', 'maxmem=512')
    expect(await check(another, same)).toEqual(['uuid-taken', 'machine', 'network', 'file'])
    expect(await check(another, { uuid: UUID })).toEqual(['uuid-taken', 'machine', 'network', 'file'])
  })

  it('counts the memory of dom0 only where Xen takes from it', async () => {
    const text = 'name="big"\nmemory=900\ntype="pv"\n'
    expect(await check(text)).toEqual(['memory'])
    host.info = INFO.replace('dom0_mem=768M,max:768M', '')
    expect(await check(text)).toEqual([])
    host.files.set('/etc/xen/xl.conf', 'autoballoon="off"\n')
    expect(await check(text)).toEqual(['memory'])
  })

  it('compares Xen and the processor with what the guest runs on', async () => {
    const text = 'name="a"\nmemory=64\ntype="pv"\n'
    const platform = {
      version: '4.18.0',
      cpuFeatures: '078bfbfd:80982201:20100800:00000001:00000000:00000002:00000000:00000000',
    }
    expect(await check(text, { platform })).toEqual(['version', 'cpu'])
    expect(
      await check(`${text}cpuid="host,avx=0"\n`, { platform: { ...platform, version: '4.17.0' } }),
    ).toEqual([])
  })

  it('takes the default bridge of xl.conf', async () => {
    host.files.set('/etc/xen/xl.conf', '# mine\nvif.default.bridge="br3"\n')
    const text = "name='a'\nmemory=64\nvif=['']\n"
    expect(await check(text)).toEqual(['network'])
    host.directories.add('/sys/class/net/br3')
    expect(await check(text)).toEqual([])
  })
})

describe('save and restore', () => {
  beforeEach(() => host.addDomain('web', UUID))

  it('saves, flushes, restores paused, resumes', async () => {
    const guest = await driver.describe('web')
    await driver.save('web', '/w/state')
    expect(await driver.state('web')).toBe('off')
    await driver.restorePaused('/w/state', guest, driver.retarget(guest.definition, CHANGES))
    expect(await driver.state('web')).toBe('paused')
    expect((await driver.describe('web')).uuid).toBe(UUID)
    await driver.resume('web')
    expect(await driver.state('web')).toBe('running')
    await driver.pause('web')
    expect(await driver.state('web')).toBe('paused')
    expect(host.acts).toEqual([
      'xl save web /w/state',
      'sync /w/state /w',
      'xl restore -p /w/state.cfg /w/state',
      'xl unpause web',
      'xl pause web',
    ])
    expect(host.files.has('/w/state')).toBe(true)
    expect(host.files.has('/w/state.cfg')).toBe(false)
  })

  it('a save to a full disk leaves the guest running and no half state', async () => {
    host.faults.set('xl save', ({ files }) => {
      files.set('/w/state', 'half')
      return { exitStatus: 1, stderrTail: 'No space left on device\nFailed to save domain, resuming domain' }
    })
    expect(await failing(driver.save('web', '/w/state'))).toMatchObject({
      code: 'migrate/hypervisor',
      message: like(/No space left.*it is running as before$/),
    })
    expect(host.files.has('/w/state')).toBe(false)
    expect(await driver.state('web')).toBe('running')
  })

  it('a save that took the guest with it says so, and keeps what there is of the state', async () => {
    host.faults.set('xl save', (self) => {
      self.removeDomain('web')
      self.files.set('/w/state', 'half')
      return { exitStatus: 1, stderrTail: 'crash' }
    })
    expect((await failing(driver.save('web', '/w/state'))).message).toMatch(
      /it does not run now \(xl list: absent\)$/,
    )
    expect(host.files.has('/w/state')).toBe(true)
  })

  it('a restore that fails leaves no domain, and none is made beside another', async () => {
    const guest = await driver.describe('web')
    expect((await failing(driver.restorePaused('/w/state', guest, PV))).message).toMatch(
      /a guest named web is running on xen1 already/,
    )
    await driver.save('web', '/w/state')
    host.faults.set('xl restore', (self) => {
      self.addDomain('web', UUID, '--p---')
      return { exitStatus: 1, stderrTail: 'libxl: error' }
    })
    expect((await failing(driver.restorePaused('/w/state', guest, PV))).message).toMatch(
      /could not be restored on xen1: libxl: error/,
    )
    expect(host.domains).toEqual([])
    expect(host.files.has('/w/state.cfg')).toBe(false)
  })

  it('a state that could not be flushed is no saved state', async () => {
    host.faults.set('sync /w/state', () => ({ exitStatus: 1, stderrTail: 'Input/output error' }))
    expect((await failing(driver.save('web', '/w/state'))).message).toMatch(
      /could not be flushed.*Input\/output error/,
    )
  })

  it('names that mean something else to xl are given as numbers', async () => {
    const domain = host.addDomain('7', UUID.replace('0', '1'))
    await driver.pause('7')
    await driver.pause('web')
    expect(host.acts).toEqual([`xl pause ${domain.id}`, 'xl pause web'])
    expect(await failing(driver.pause('99'))).toMatchObject({ code: 'migrate/guest' })
  })
})

describe('ends and starts', () => {
  it('shuts down, destroys, starts', async () => {
    host.addDomain('web', UUID)
    await driver.shutdown('web', 1000)
    expect(await driver.state('web')).toBe('off')
    await driver.shutdown('web', 1000)
    await driver.start('web', null)
    expect(await driver.state('web')).toBe('running')
    expect((await failing(driver.start('web', null))).code).toBe('migrate/hypervisor')
    await driver.destroy('web')
    await driver.destroy('web')
    await driver.start('web', PV)
    expect(host.files.has('/run/blocksync-web.cfg')).toBe(false)
    expect(host.acts.filter((line) => !line.startsWith('sync'))).toEqual([
      'xl shutdown -F web',
      'xl create -q /etc/xen/web.cfg',
      'xl destroy 2',
      'xl create -q /run/blocksync-web.cfg',
    ])
    expect((await failing(driver.start('ghost', null))).code).toBe('migrate/guest')
  })

  it('a guest that does not shut down, that starts again, that is kept when it stopped', async () => {
    host.addDomain('web', UUID)
    host.faults.set('xl shutdown', () => ({}))
    expect(await failing(driver.shutdown('web', 300))).toMatchObject({
      code: 'migrate/shutdown',
      message: like(/still running after 0 s/),
      hint: like(/--force-off/),
    })
    host.faults.set('xl shutdown', (self) => {
      self.removeDomain('web')
      self.addDomain('web', UUID)
      return {}
    })
    expect((await failing(driver.shutdown('web', 300))).message).toMatch(/started again instead/)
    // stopped, and the same domain stays: on_poweroff="preserve"
    host.faults.set('xl shutdown', ({ domains }) => {
      for (const domain of domains) domain.flags = '---s--'
      return {}
    })
    await driver.shutdown('web', 300)
    expect(host.acts.at(-1)).toBe('xl destroy 2')
    expect(await driver.state('web')).toBe('off')
  })

  it('a guest that is on its way to start again is not taken for one that ended', async () => {
    host.addDomain('web', UUID)
    host.faults.set('xl shutdown', ({ domains }) => {
      for (const domain of domains) domain.flags = '---sr-'
      return {}
    })
    const refusal = failing(driver.shutdown('web', 300))
    setTimeout(() => host.removeDomain('web'), 400)
    expect(await refusal).toMatchObject({ code: 'migrate/shutdown', message: like(/started again instead/) })
  })

  it('writes, links and takes away the definition', async () => {
    await driver.define(PVH, { name: 'pod', autostart: true })
    await driver.define(PVH, { name: 'pod', autostart: true })
    expect(host.files.get('/etc/xen/pod.cfg')).toBe(PVH)
    expect(host.links.get('/etc/xen/auto/pod.cfg')).toBe('/etc/xen/pod.cfg')
    await driver.define(PVH, { name: 'pod', autostart: false })
    expect(host.links.size).toBe(0)
    await driver.undefine('pod')
    await driver.undefine('pod')
    expect(host.files.has('/etc/xen/pod.cfg')).toBe(false)
    host.files.set('/etc/xen/pod.cfg', PV)
    expect((await failing(driver.define(PVH, { name: 'pod', autostart: false }))).message).toMatch(
      /defines another guest \(web\)/,
    )
    expect((await failing(driver.define(PVH, { name: '../pod', autostart: false }))).code).toBe(
      'migrate/hypervisor',
    )
  })
})

describe('the fence', () => {
  it('renames every definition, removes links, and is taken back', async () => {
    host.files.set('/etc/xen/copy.cfg', PV)
    host.files.set('/etc/xen/auto/direct.cfg', PV)
    host.links.set('/etc/xen/auto/web.cfg', '/etc/xen/web.cfg')
    const before = new Map([...host.files, ...host.links])
    const guest = await driver.describe('web')
    const fence = await driver.fence(guest, 'id-1')
    expect(fence).toMatchObject({
      id: 'id-1',
      guest: 'web',
      renamedTo: '/etc/xen/auto/direct.cfg'.replace('auto/', '') + '.moved-id-1',
      autostart: true,
    })
    expect([...host.files.keys()].filter((path) => path.startsWith('/etc/xen')).toSorted()).toEqual([
      '/etc/xen/blocksync-moved-id-1.json',
      '/etc/xen/copy.cfg.moved-id-1',
      '/etc/xen/direct.cfg.moved-id-1',
      '/etc/xen/web.cfg.moved-id-1',
    ])
    expect(host.links.size).toBe(0)
    expect(await driver.state('web')).toBe('absent')
    expect((await failing(driver.start('web', null))).code).toBe('migrate/guest')
    expect(await driver.fence(guest, 'id-1')).toEqual(fence)
    await driver.unfence(fence)
    await driver.unfence(fence)
    expect(new Map([...host.files, ...host.links])).toEqual(before)
    expect(await driver.fences()).toEqual([])
  })

  it('cut off in its middle goes on where it was, with what it knew at the beginning', async () => {
    host.links.set('/etc/xen/auto/web.cfg', '/etc/xen/web.cfg')
    const guest = await driver.describe('web')
    const rename = host.rename.bind(host)
    host.rename = async () => await Promise.reject(new SyncError('host/lost', 'gone'))
    expect((await failing(driver.fence(guest, 'x'))).code).toBe('host/lost')
    expect(host.links.size).toBe(0)
    host.rename = rename
    await driver.unfence(await driver.fence({ ...guest, autostart: false }, 'x'))
    expect(host.links.get('/etc/xen/auto/web.cfg')).toBe('/etc/xen/web.cfg')
    expect(host.files.get('/etc/xen/web.cfg')).toBe(PV)
  })

  it('is gone when the guest comes back, and is nothing for a guest without a file', async () => {
    const guest = await driver.describe('web')
    await driver.fence(guest, 'id-1')
    await driver.define(PV, { name: 'web', autostart: false })
    expect([...host.files.keys()].filter((path) => path.startsWith('/etc/xen'))).toEqual(['/etc/xen/web.cfg'])
    host.files.delete('/etc/xen/web.cfg')
    expect(await driver.fence(guest, 'id-2')).toMatchObject({ renamedTo: null, kept: {} })
    expect([...host.files.keys()].filter((path) => path.startsWith('/etc/xen'))).toEqual([])
  })

  it('a note that is none is not taken for one', async () => {
    for (const text of ['', '[]', '{"id":5}', 'null']) {
      host.files.set('/etc/xen/blocksync-moved-a.json', text)
      expect((await failing(driver.fences())).message).toMatch(/is no note of a guest that moved away/)
    }
  })
})

describe('the words of the plan', () => {
  it('are commands for every action but live', () => {
    const actions = [
      'save',
      'restorePaused',
      'resume',
      'shutdown',
      'start',
      'define',
      'undefine',
      'fence',
    ] as const
    for (const action of actions) expect(driver.words(action, 'web').flat().join(' ')).toMatch(/web|STATE/)
    expect(driver.words('live', 'web')).toEqual([])
    expect(driver.live).toBeNull()
  })
})
