// What cannot be moved is refused before anything is changed, each with its status, and the guest does not notice.

import { describe, expect, it } from 'vitest'

import { COUNTER_GUEST, makeDisk, startGuest, type GuestSpec } from './guest.js'
import { useLab } from './lab.js'
import {
  CREATE,
  blocksync,
  expectRunsOnlyOn,
  journals,
  migrateWords,
  move,
  other,
  resultOf,
  traceOf,
} from './migrate.js'

const SMALL: GuestSpec = {
  ...COUNTER_GUEST,
  disks: [{ kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 64, dataMiB: 16 }],
}

describe('refusals, between two hosts of libvirt', () => {
  const lab = useLab()

  it('refuses what it cannot find or reach, all with the guest untouched', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(SMALL)
    const trace = (): Promise<string[]> => Promise.all([traceOf(hosts, 'A'), traceOf(hosts, 'B')])
    const before = await trace()
    const refused = async (status: number, code: RegExp, ...words: string[]): Promise<void> => {
      const answer = await blocksync(hosts, 'A', ...words, '--json')
      expect(answer.status, `${words.join(' ')}: ${answer.stderr}${answer.stdout}`).toBe(status)
      expect(answer.stderr + answer.stdout).toMatch(code)
    }
    const b = hosts.address('B')
    await refused(2, /migrate\/guest/, 'nobody', b)
    await refused(4, /transport\/|ssh/, guest.name, '127.0.0.9')
    await refused(2, /migrate\/unknown/, '--continue', '20200101-000000-aaaa')
    await refused(2, /migrate\/unknown/, '--abort', '20200101-000000-aaaa')

    // nobody said that a disk may be made there
    await refused(3, /destination-missing/, guest.name, b)
    // something is at its place already, and it is no copy of this disk
    await makeDisk(hosts, 'B', { kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 32, dataMiB: 8 })
    for (const words of [[], ['--plan']])
      await refused(3, /migrate\/refused/, guest.name, b, ...CREATE, ...words)
    await hosts.must('B', ['rm', '/srv/vm/ctr.img'])

    await hosts.stopDaemon('B', 'libvirtd')
    await refused(4, /migrate\/daemon/, guest.name, b, ...CREATE)
    await hosts.startDaemon('B', 'libvirtd')

    expect(await trace()).toEqual(before)
    expect(journals(hosts, 'A', 'source')).toEqual([])
    await expectRunsOnlyOn(guest, 'A')
  })

  it('refuses a disk there that a guest there uses, and a guest of the same name', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(SMALL)
    const theirs = await startGuest(hosts, 'B', {
      ...SMALL,
      name: 'theirs',
      disks: [{ kind: 'file', name: '/srv/vm/theirs.img', sizeMiB: 64, dataMiB: 0 }],
    })
    const inUse = await move(hosts, guest, 'A', ['--map', 'vda=/srv/vm/theirs.img'], 3)
    expect(JSON.stringify(inUse)).toContain('/srv/vm/theirs.img')
    await theirs.countsOn('B')
    expect(theirs.complaints()).toEqual([])
    await theirs.end()

    await makeDisk(hosts, 'B', { kind: 'file', name: '/srv/vm/x.img', sizeMiB: 64, dataMiB: 0 })
    const same = await startGuest(hosts, 'B', {
      ...SMALL,
      disks: [{ kind: 'file', name: '/srv/vm/x.img', sizeMiB: 64, dataMiB: 0 }],
    })
    await move(hosts, guest, 'A', [], 3)
    expect(await guest.runsOn()).toEqual(['A', 'B'])
    await hosts.virsh('B', 'destroy', same.name)
    await guest.countsOn('A')
  })

  it('refuses a second migration while one is open, and to continue one that is finished', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(SMALL)
    const first = await hosts.start('A', migrateWords(guest.name, 'B'))
    await expect.poll(() => journals(hosts, 'A', 'source'), { interval: 10, timeout: 20_000 }).toHaveLength(1)
    const second = await blocksync(hosts, 'A', guest.name, hosts.address('B'), '--json', ...CREATE)
    const ended = await first.ended
    expect(ended.status, ended.stderr).toBe(0)
    expect(second.status, second.stderr + second.stdout).toBe(3)
    expect(second.stderr + second.stdout).toMatch(/migration \S+ of ctr is not finished/)

    const id = resultOf(ended).journal ?? ''
    for (const action of ['--continue', '--abort']) {
      const answer = await blocksync(hosts, 'A', action, id, '--json')
      expect(answer.status, `${action}: ${answer.stderr}${answer.stdout}`).toBe(3)
      expect(answer.stderr + answer.stdout).toMatch(/migrate\/ended/)
    }
    await expectRunsOnlyOn(guest, other('A'))
  })
})
