// Who uses a disk, on made-up hosts: chains of partitions, volumes and loop devices, mount namespaces, swap, processes,
// libvirt's and Xen's guests; and what the user is told about it.

import { stat } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { SyncError } from '../../src/errors.js'
import { dryRunWarnings, forcedWarnings, refuseUses, sourceWarnings } from '../../src/guard/findings.js'
import { GUARD_NAMES, type GuardName, isGuardName } from '../../src/guard/guard-name.js'
import { guestName, parseLiveDomain } from '../../src/guard/guests.js'
import { parseMounts } from '../../src/guard/mounts.js'
import { Survey } from '../../src/guard/survey.js'
import { findUses, type Use } from '../../src/guard/use.js'
import { openScratch, type Scratch } from '../support/disks.js'
import { blockFacts, mountRow, Tree } from './tree.js'

const SDA = blockFacts(8, 0)
const SDA1 = blockFacts(8, 1)
const READ_ONLY = '0100000'
const READ_WRITE = '02100002'

let scratch: Scratch
let tree: Tree

beforeEach(async () => {
  scratch = await openScratch()
  tree = new Tree(scratch.path('host'))
})
afterEach(async () => {
  await scratch.close()
})

async function uses(facts = SDA): Promise<Use[]> {
  return await findUses('/dev/sda', facts, new Survey(null, tree.roots))
}

async function whats(facts = SDA): Promise<[string, string][]> {
  return (await uses(facts)).map(({ guard, what }) => [guard, what])
}

function refusal(found: readonly Use[], ...force: GuardName[]): SyncError | null {
  try {
    refuseUses('/dev/sda', found, force)
    return null
  } catch (error) {
    return error as SyncError
  }
}

/** sda with one partition that is a physical volume, the volume encrypted. */
async function volumes(): Promise<void> {
  await tree.device('sda', '8:0', {
    parts: { sda1: { number: '8:1', holders: ['dm-0'] }, sda2: { number: '8:2' } },
  })
  await tree.device('dm-0', '253:0', { mapped: 'vg-root', holders: ['dm-1'] })
  await tree.device('dm-1', '253:1', { mapped: 'crypt' })
}

describe('mounts', () => {
  it('a disk that nobody uses', async () => {
    await volumes()
    await tree.text('proc/self/mountinfo', mountRow('9:9', '/'))
    expect(await whats(blockFacts(8, 2))).toEqual([])
  })

  it('the disk itself, read-write and read-only', async () => {
    await tree.device('sda', '8:0')
    await tree.text('proc/self/mountinfo', mountRow('8:0', '/srv/two\\040words'))
    expect(await uses()).toMatchObject([
      { guard: 'mounted', what: 'mounted on /srv/two words', claims: 'disk', access: 'writes' },
    ])
    await tree.text('proc/self/mountinfo', mountRow('8:0', '/srv', 'ext4', 'x', 'ro,errors=continue'))
    expect(await uses()).toMatchObject([{ guard: 'mounted', access: 'reads' }])
  })

  it('a volume on a partition: the chain is told, and who is on the disk beside it is not this partition', async () => {
    await volumes()
    await tree.text('proc/self/mountinfo', mountRow('253:1', '/') + mountRow('8:2', '/boot'))
    const held = 'its partition sda1 is held by dm-0 (vg-root)'
    expect(await whats()).toEqual([
      ['mounted', `${held}, held by dm-1 (crypt), mounted on /`],
      ['mounted', 'its partition sda2 is mounted on /boot'],
      ['held', held],
      ['held', `${held}, held by dm-1 (crypt)`],
    ])
    expect(refusal(await uses())).toMatchObject({
      code: 'guard/mounted',
      exitStatus: 3,
      operand: '/dev/sda',
      message:
        'the destination /dev/sda is in use: its partition sda1 is held by dm-0 (vg-root), held by dm-1 (crypt), mounted on / ' +
        'and its partition sda2 is mounted on /boot; nothing was written',
      hint: 'If it is the right disk, unmount it first: umount /; or type --force-mounted --force-held if you know better.',
    })
    expect(await whats(SDA1)).toEqual([
      ['mounted', 'held by dm-0 (vg-root), held by dm-1 (crypt), mounted on /'],
      ['held', 'held by dm-0 (vg-root)'],
      ['held', 'held by dm-0 (vg-root), held by dm-1 (crypt)'],
    ])
    // a volume is not used by the disk that it lies on
    expect(await whats(blockFacts(253, 1))).toEqual([['mounted', 'mounted on /']])
  })

  it('another mount namespace, once for each, and ours before it', async () => {
    await tree.device('sda', '8:0', { parts: { sda1: { number: '8:1' } } })
    await tree.text('proc/self/mountinfo', mountRow('8:1', '/here'))
    await tree.link('proc/self/ns/mnt', 'mnt:[1]')
    await tree.process(20, ['a'], { mounts: mountRow('8:1', '/there') + mountRow('8:0', '/inside') })
    await tree.process(21, ['b'], { mounts: mountRow('8:0', '/also') })
    const found = await uses()
    expect(found.map(({ what }) => what)).toEqual([
      'its partition sda1 is mounted on /here',
      'mounted on /inside in another mount namespace (that of pid 20)',
    ])
    expect(found[1]?.hint).toContain('nsenter -t 20 -m umount /inside')
  })

  it('a file system with numbers of its own, by what it was mounted from', async () => {
    await tree.device('loop7', '8:0')
    await tree.device('sdb', '8:16')
    await tree.text('proc/self/mountinfo', mountRow('0:45', '/pool', 'btrfs', '/dev/loop7'))
    expect(await whats()).toEqual([['mounted', 'mounted on /pool']])
    expect(await whats(blockFacts(8, 16))).toEqual([])
  })

  it('rows of mountinfo, with optional fields and escapes', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
      '37 35 7:1 / /srv/two\\040words rw - btrfs /dev/loop1 ro',
      'nonsense',
      '',
    ].join('\n')
    expect(parseMounts(text)).toEqual([
      { deviceKey: '98:0', mountPoint: '/mnt2', type: 'ext3', source: '/dev/root', isReadOnly: false },
      {
        deviceKey: '7:1',
        mountPoint: '/srv/two words',
        type: 'btrfs',
        source: '/dev/loop1',
        isReadOnly: true,
      },
    ])
  })
})

describe('files behind loop devices, and swap', () => {
  it('a partition on a loop device over the file, mounted', async () => {
    const path = await scratch.file('disk.img', Buffer.alloc(512))
    await tree.device('loop3', '7:3', { backing: path, parts: { loop3p1: { number: '259:1' } } })
    await tree.text('proc/self/mountinfo', mountRow('259:1', '/mnt'))
    const facts = await stat(path, { bigint: true })
    expect(await whats(facts)).toEqual([
      ['mounted', 'the file behind /dev/loop3, its partition loop3p1 is mounted on /mnt'],
      ['attached', 'the file behind /dev/loop3'],
    ])
    expect(refusal(await uses(facts), 'mounted')).toMatchObject({
      code: 'guard/attached',
      hint: 'Name /dev/loop3 as the destination, or detach it first: losetup -d /dev/loop3; or type --force-attached if you know better.',
    })
    expect(refusal(await uses(facts), 'mounted', 'attached')).toBeNull()
  })

  it('a loop device whose file another loop device stands on', async () => {
    const path = await scratch.file('disk.img', Buffer.alloc(512))
    await tree.device('loop3', '7:3', { backing: path })
    await tree.device('loop4', '7:4', { backing: path })
    await tree.text('proc/self/mountinfo', mountRow('7:4', '/mnt'))
    expect(await whats(blockFacts(7, 3))).toEqual([
      ['mounted', `over ${path}, which is the file behind /dev/loop4, mounted on /mnt`],
      ['attached', `over ${path}, which is the file behind /dev/loop4`],
    ])
    expect((await uses(blockFacts(7, 3))).map(({ claims }) => claims)).toEqual(['nothing', 'nothing'])
  })

  it('swap on the disk cannot be overridden, swap on a partition of it can', async () => {
    await tree.device('sda', '8:0', { parts: { sda1: { number: '8:1' } } })
    await tree.text(
      'proc/swaps',
      'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda1   partition 1020 0 -2\n',
    )
    const [onDisk] = await uses()
    expect(onDisk).toMatchObject({
      guard: 'swap',
      what: 'its partition sda1 is in use as swap',
      override: 'possible',
    })
    expect(refusal(await uses(), 'swap')).toBeNull()
    const [onPart] = await uses(SDA1)
    expect(onPart).toMatchObject({ guard: 'swap', what: 'in use as swap', override: 'impossible' })
    expect(refusal(await uses(SDA1), 'swap')).toMatchObject({
      code: 'guard/swap',
      hint: 'If it is the right disk, run first: swapoff /dev/sda1.',
    })
  })
})

describe('processes', () => {
  it('who has the file open for writing, by name; readers and O_PATH are nobody', async () => {
    const path = await scratch.file('disk.img', Buffer.alloc(512))
    const other = await scratch.file('other.img', Buffer.alloc(512))
    await tree.text('proc/uptime', '100.00 50.00\n')
    await tree.process(30, ['/usr/bin/qemu-system-x86_64', '-name', 'guest=web,debug-threads=on'], {
      open: { 3: { path: other, flags: READ_WRITE }, 12: { path, flags: READ_WRITE } },
    })
    await tree.process(31, ['cat', path], { open: { 3: { path, flags: READ_ONLY } } })
    await tree.process(32, ['holder'], { open: { 3: { path, flags: '012000002' } } })
    await tree.process(process.pid, ['ourselves'], { open: { 3: { path, flags: READ_WRITE } } })
    const found = await uses(await stat(path, { bigint: true }))
    expect(found).toMatchObject([{ guard: 'open', access: 'writes', claims: 'nothing' }])
    expect(found[0]?.what).toMatch(
      /^open for writing by qemu-system-x86_64 \(pid 30, guest web, since \d{4}-\d\d-\d\d \d\d:\d\d\)$/,
    )
    expect(refusal(found)?.code).toBe('guard/open')
    expect(refusal(found)?.hint).toContain('--force-open')
    expect(refusal(found, 'open')).toBeNull()
  })

  it('text of others is made harmless', async () => {
    const path = await scratch.file('disk.img', Buffer.alloc(512))
    await tree.process(30, ['/bin/\u001b[31mred'], { open: { 3: { path, flags: READ_WRITE } } })
    expect((await uses(await stat(path, { bigint: true })))[0]?.what).toContain('?[31mred (pid 30')
  })

  it.each<[string[], string | null]>([
    [['/usr/bin/qemu-system-x86_64', '-name', 'guest=web,debug-threads=on'], 'web'],
    [['/usr/libexec/qemu-kvm', '-name', 'web'], 'web'],
    [['kvm', '-S', '-name', 'debug-threads=on,guest=a,,b'], 'a,b'],
    [['qemu-img', 'convert'], null],
    [['less', '-name', 'web'], null],
    [['qemu-system-x86_64', '-name'], null],
    [[], null],
  ])('%j is the guest %j', (words, name) => {
    expect(guestName(words)).toBe(name)
  })
})

describe('guests', () => {
  const XML = `<!-- live --><domstatus state='paused' reason='user' pid='40'>
  <vcpus/><domain type='kvm' id='3'><name>web &amp; co</name><devices>
  <disk type='block' device='disk'><source dev='/dev/none' index='1'/><target dev='vda'/></disk>
  <disk type='file'><source index="2" file="IMAGE"><seclabel model='dac'/></source>
  <backingStore type='file'><source file='/base &lt;1&gt;.qcow2'/></backingStore></disk>
  <interface><source dev='eth0'/></interface></devices></domain></domstatus>`

  it('a libvirt domain, paused or not, while its process is there', async () => {
    const path = await scratch.file('web.img', Buffer.alloc(512))
    await tree.text('run/libvirt/qemu/web.xml', XML.replace('IMAGE', path))
    await tree.text('run/libvirt/qemu/broken.xml', '<domstatus><domain>')
    await tree.text('run/libvirt/qemu/web.pid', '40')
    const facts = await stat(path, { bigint: true })
    expect(await whats(facts)).toEqual([])
    await tree.process(40, ['qemu-system-x86_64'])
    expect(await whats(facts)).toEqual([['guest', 'a disk of the running libvirt guest web & co']])
    expect(refusal(await uses(facts))).toMatchObject({
      code: 'guard/guest',
      hint: "Shut the guest down first: virsh shutdown 'web & co'; or type --force-guest if you know better.",
    })
  })

  it('all paths of its disks, and none of its other devices', () => {
    expect(parseLiveDomain(XML)).toEqual({
      name: 'web & co',
      pid: 40,
      paths: ['/dev/none', 'IMAGE', '/base <1>.qcow2'],
    })
    expect(
      parseLiveDomain("<domain><name>x</name><disk><source file='&#x2f;a&#47;b'/></disk></domain>"),
    ).toEqual({
      name: 'x',
      pid: null,
      paths: ['/a/b'],
    })
    expect(parseLiveDomain('<pool/>')).toBeNull()
  })

  it('a session of a user', async () => {
    const path = await scratch.file('web.img', Buffer.alloc(512))
    await tree.text(
      'run/user/1000/libvirt/qemu/run/web.xml',
      XML.replace('IMAGE', path).replace(" pid='40'", ''),
    )
    expect(await whats(await stat(path, { bigint: true }))).toMatchObject([['guest', expect.anything()]])
  })

  it("a block back-end of Xen, with the guest's name where its QEMU tells it", async () => {
    await tree.device('sda', '8:0', { parts: { sda1: { number: '8:1', holders: ['dm-10'] } } })
    await tree.device('dm-10', '253:10', { mapped: 'vg-web' })
    await tree.text('sys/bus/xen-backend/devices/vbd-5-51712/physical_device', 'fd:a\n')
    await tree.text('sys/bus/xen-backend/devices/vbd-5-51712/mode', 'w\n')
    await tree.text('sys/bus/xen-backend/devices/vif-5-0/mode', 'w\n')
    expect(await whats(blockFacts(253, 10))).toEqual([['guest', 'a disk of the running Xen guest 5']])
    await tree.process(50, ['/usr/bin/qemu-system-i386', '-xen-domid', '5', '-name', 'web'])
    expect((await uses(blockFacts(253, 10)))[0]).toMatchObject({
      what: 'a disk of the running Xen guest web',
      hint: 'Shut the guest down first: xl shutdown web',
      access: 'writes',
    })
    expect((await whats())[0]).toEqual([
      'guest',
      'its partition sda1 is held by dm-10 (vg-web), a disk of the running Xen guest web',
    ])
    await tree.text('sys/bus/xen-backend/devices/vbd-5-51712/mode', 'r\n')
    expect((await uses(blockFacts(253, 10)))[0]).toMatchObject({ access: 'reads' })
  })
})

describe('what the user is told', () => {
  const use = (guard: Use['guard'], what: string, access: Use['access'] = 'writes'): Use => ({
    guard,
    what,
    hint: `do ${guard}`,
    claims: 'nothing',
    access,
    override: 'possible',
  })

  it('each option overrides its own guard, and leaves the others', () => {
    const guards = ['mounted', 'swap', 'guest', 'open', 'attached', 'held'] as const
    const all = guards.map((guard) => use(guard, guard))
    for (const guard of guards) {
      expect(refusal([use(guard, 'x')])).toMatchObject({ code: `guard/${guard}`, exitStatus: 3 })
      expect(refusal([use(guard, 'x')])?.hint).toBe(
        `do ${guard}; or type --force-${guard} if you know better.`,
      )
      expect(refusal([use(guard, 'x')], guard)).toBeNull()
      for (const other of GUARD_NAMES) {
        if (other !== guard) expect(refusal([use(guard, 'x')], other)?.code).toBe(`guard/${guard}`)
      }
      const rest = refusal(all, guard)
      expect(rest?.hint).not.toContain(`--force-${guard}`)
      for (const other of guards) if (other !== guard) expect(rest?.hint).toContain(`--force-${other}`)
    }
    expect(refusal(all, ...guards)).toBeNull()
  })

  it('many findings are told briefly', () => {
    const many = Array.from({ length: 9 }, (_, index) => use('mounted', `mounted on /${index}`))
    expect(refusal(many)?.message).toBe(
      'the destination /dev/sda is mounted on /0, mounted on /1, mounted on /2, mounted on /3 and 5 more; nothing was written',
    )
  })

  it('a dry run says what would be refused, and what is overridden is said where it is written', () => {
    const found = [use('mounted', 'mounted on /srv'), use('open', 'open for writing by x')]
    expect(dryRunWarnings('/d', found, ['mounted'])).toEqual([
      'the destination /d is open for writing by x; a run that writes refuses it (--force-open)',
    ])
    expect(dryRunWarnings('/d', found, ['mounted', 'open'])).toEqual([])
    expect(forcedWarnings('/d', found)[0]).toContain(
      'mounted on /srv and open for writing by x; it is written all the same',
    )
    expect(forcedWarnings('/d', [])).toEqual([])
  })

  it('a source is warned about once, and only where somebody writes to it', () => {
    const held = use('held', 'held by dm-0 (vg)')
    expect(sourceWarnings('/s', [held, use('mounted', 'mounted on /', 'reads')])).toEqual([])
    const [warning, ...more] = sourceWarnings('/s', [
      use('mounted', 'mounted on /'),
      use('open', 'open for x'),
      held,
    ])
    expect(warning).toMatch(/^the source \/s is mounted on \/ and open for x: .*snapshot/)
    expect(more).toEqual([])
  })

  it('names of guards', () => {
    expect(GUARD_NAMES.every(isGuardName)).toBe(true)
    for (const wrong of ['', 'all', 'Mounted', 'toString', null, 7]) expect(isGuardName(wrong)).toBe(false)
  })
})
