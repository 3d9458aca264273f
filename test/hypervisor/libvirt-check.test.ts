// What would keep a guest from running at its destination: each problem alone, and none where there is none.

import { describe, expect, it } from 'vitest'

import type { Guest, GuestNic, HostProblem } from '../../src/hypervisor/driver.js'
import { libvirtDriver } from '../../src/hypervisor/libvirt.js'
import { batched, FakeHost } from './fake-host.js'
import { MOVED_METADATA, plain, UUID } from './fixtures.js'

const OTHER = UUID.replace('4', '5')
const CPU = "<cpu mode='custom'><model>EPYC</model></cpu>"

type There = Readonly<{
  listed?: string
  sameUuid?: string
  networks?: string
  cpu?: { exitStatus: number; stdout?: string; stderrTail?: string }
  machine?: string
  paths?: readonly string[]
  availableMemoryBytes?: number
}>

async function problemsWith(
  there: There,
  definition = plain(),
  guest: Readonly<{ nics?: readonly GuestNic[]; hostCpu?: string }> = {},
): Promise<{ codes: string[]; texts: string[]; problems: readonly HostProblem[]; host: FakeHost }> {
  const host = new FakeHost((line) => {
    if (line.startsWith('domcapabilities'))
      return there.machine === undefined ? {} : { exitStatus: 1, stderrTail: there.machine }
    if (/^(hypervisor-)?cpu-compare /.test(line)) return there.cpu ?? {}
    const { listed = '', sameUuid = '', networks = '' } = there
    return { stdout: batched(line, { list: listed, dumpxml: sameUuid, 'net-list': networks }) }
  })
  host.factsNow = { ...host.factsNow, availableMemoryBytes: there.availableMemoryBytes ?? 2 ** 30 }
  for (const path of there.paths ?? ['/usr/bin/qemu-system-x86_64']) host.paths.add(path)
  const { nics = [], ...rest } = guest
  const asked: Guest = {
    name: 'web',
    uuid: UUID,
    state: 'running',
    isPersistent: true,
    autostart: false,
    memoryBytes: 128 << 20,
    vcpus: 1,
    machine: 'pc-i440fx-7.2',
    disks: [],
    nics,
    files: [],
    definition,
    persistentDefinition: definition,
    definitionPath: null,
    problems: [],
    ...rest,
  }
  const changes = { disks: new Map(), networks: new Map([['default', 'lan']]), files: new Map() }
  const problems = await libvirtDriver(host, 'qemu:///system').checkFor(asked, definition, changes)
  expect(host.files.size).toBe(0)
  return { codes: problems.map(({ code }) => code), texts: problems.map(({ text }) => text), problems, host }
}

describe('checkFor', () => {
  it('has no problem with a host that has all of it', async () => {
    const nics: GuestNic[] = [
      { index: 0, kind: 'network', name: 'default', mac: null },
      { index: 1, kind: 'bridge', name: 'br0', mac: null },
      { index: 2, kind: 'user', name: null, mac: null },
    ]
    const { codes, host } = await problemsWith(
      {
        listed: `${OTHER} db\n`,
        networks: 'lan\n',
        paths: ['/usr/bin/qemu-system-x86_64', '/sys/class/net/br0'],
      },
      plain({ extra: CPU }),
      { nics },
    )
    expect(codes).toEqual([])
    expect(host.ran).toContain(
      'domcapabilities --virttype qemu --emulatorbin /usr/bin/qemu-system-x86_64 --arch x86_64 --machine pc-i440fx-7.2',
    )
  })

  it('lists everything at once', async () => {
    const nics: GuestNic[] = [
      { index: 0, kind: 'network', name: 'default', mac: null },
      { index: 1, kind: 'network', name: 'default', mac: null },
      { index: 2, kind: 'bridge', name: 'br0', mac: null },
    ]
    const there = {
      listed: `${OTHER} web\n`,
      paths: [],
      cpu: { exitStatus: 1 },
      availableMemoryBytes: 2 ** 20,
    }
    const { codes, texts } = await problemsWith(there, plain({ extra: CPU }), { nics })
    expect(codes).toEqual(['name', 'emulator', 'cpu', 'memory', 'network', 'bridge'])
    expect(texts.join('\n')).toContain('the network lan is not active on host1')
    expect(texts.join('\n')).toContain('128 MiB')
  })

  it('refuses the same UUID, but for a guest that moved away from there', async () => {
    const listed = `${UUID} web.moved-m-1\n`
    expect((await problemsWith({ listed, sameUuid: plain() })).codes).toEqual(['uuid'])
    const fence = plain({ name: 'web.moved-m-1', metadata: MOVED_METADATA })
    expect((await problemsWith({ listed, sameUuid: fence })).codes).toEqual([])
    // a guest under its name that is another one stays in the way
    expect((await problemsWith({ listed: `${listed}${OTHER} web\n`, sameUuid: fence })).codes).toEqual([
      'name',
    ])
  })

  it('refuses a machine that is not there, with the words of libvirt', async () => {
    const machine =
      "error: failed to get emulator capabilities\nerror: invalid argument: the machine 'pc-9' is not supported"
    const { codes, texts } = await problemsWith({ machine })
    expect(codes).toEqual(['machine'])
    expect(texts[0]).toContain("the machine 'pc-9' is not supported")
    const unsupported =
      'error: this function is not supported by the connection driver: virConnectGetDomainCapabilities'
    expect((await problemsWith({ machine: unsupported })).codes).toEqual([])
  })

  it('compares the CPU of the definition, and of a host that the guest sees as it is', async () => {
    const refused = { cpu: { exitStatus: 1 } }
    expect((await problemsWith(refused)).codes).toEqual([])
    const custom = await problemsWith(refused, plain({ extra: CPU }))
    expect(custom.codes).toEqual(['cpu'])
    expect([...custom.host.seen.values()][0]).toContain('<model>EPYC</model>')
    const through = plain({ extra: "<cpu mode='host-passthrough'/>" })
    expect((await problemsWith(refused, through)).codes).toEqual([])
    const known = await problemsWith(refused, through, { hostCpu: '<cpu><model>Rome</model></cpu>' })
    expect(known.codes).toEqual(['cpu'])
    expect(known.host.ran.filter((line) => line.startsWith('cpu-compare --file /run/'))).toHaveLength(1)
    expect([...known.host.seen.values()]).toEqual(['<cpu><model>Rome</model></cpu>'])
    expect((await problemsWith(refused, plain({ extra: "<cpu mode='maximum'/>" }))).codes).toEqual([])
  })

  it('warns of what could not be compared', async () => {
    const cpu = { exitStatus: 1, stderrTail: 'error: operation not supported' }
    const { problems } = await problemsWith({ cpu }, plain({ extra: CPU }))
    expect(problems).toMatchObject([
      { code: 'cpu', weight: 'warning', text: expect.stringContaining('operation not supported') as string },
    ])
  })
})
