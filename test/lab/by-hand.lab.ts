// The lab itself: the move by hand, with virsh and the sync command, passes; the same with the last sync left out is
// noticed by the guest. Without this a green test of `migrate` would say nothing.

import { writeFileSync } from 'node:fs'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { COUNTER_GUEST, startGuest, type LabGuest } from './guest.js'
import { LabHosts } from './hosts.js'
import { must } from './programs.js'

describe('the lab', () => {
  let hosts: LabHosts
  beforeAll(async () => {
    hosts = await LabHosts.up()
  })
  afterAll(async () => {
    await hosts?.down()
  })

  const disk = '/srv/vm/ctr.img'
  const state = '/srv/vm/ctr.save'
  const there = 'root@10.77.0.2:/srv/vm/other.img'
  const sync = async (...words: string[]): Promise<void> => {
    const answer = await hosts.run('A', ['blocksync', '--json', ...words, disk, there])
    expect(answer, `${answer.stdout}${answer.stderr}`).toMatchObject({ status: 0 })
  }

  async function moveByHand(guest: LabGuest, lastSync: 'with' | 'without'): Promise<void> {
    await sync('--create')
    await guest.countsOn('A', 5)
    await hosts.virsh('A', 'save', guest.name, state)
    if (lastSync === 'with') await sync()
    await hosts.must('A', ['scp', '-q', state, `10.77.0.2:${state}`])
    const definition = await hosts.virsh('B', 'save-image-dumpxml', '--security-info', state)
    writeFileSync(hosts.outside('B', '/srv/vm/other.xml'), definition.replace(disk, '/srv/vm/other.img'))
    await hosts.virsh('B', 'restore', state, '--xml', '/srv/vm/other.xml', '--running')
  }

  it('has hosts that differ and reach each other', async () => {
    const facts = (host: 'A' | 'B'): Promise<string> =>
      hosts.must(host, [
        'cat',
        '/etc/machine-id',
        '/proc/sys/kernel/random/boot_id',
        '/proc/sys/kernel/hostname',
      ])
    const [a, b] = await Promise.all([facts('A'), facts('B')])
    for (const [index, line] of a.trim().split('\n').entries()) expect(b.split('\n')[index]).not.toBe(line)
    expect(await hosts.must('A', ['ssh', '10.77.0.2', 'cat', '/proc/sys/kernel/hostname'])).toBe('lab-b\n')
    expect(await hosts.must('B', ['ssh', 'lab-a', 'blocksync', '--version'])).toMatch(/^blocksync /)
    const uri = 'qemu+ssh://10.77.0.2/system'
    expect((await hosts.must('A', ['virsh', '--connect', uri, 'hostname'])).trim()).toBe('lab-b')
  })

  it('moves a guest by hand, and the guest finds nothing wrong', async () => {
    const guest = await startGuest(hosts, 'A')
    await moveByHand(guest, 'with')
    await guest.countsOn('B', 8)
    expect(guest.complaints()).toEqual([])
    expect(guest.counts('B')[0]).toBe(guest.counter('A') + 1)
    expect(await guest.runsOn()).toEqual(['B'])
    await guest.end()
  })

  it('has a guest that notices when the last sync is left out', async () => {
    const guest = await startGuest(hosts, 'A', { ...COUNTER_GUEST, name: 'ctr2' })
    await moveByHand(guest, 'without')
    await guest.countsOn('B', 20)
    // The counter alone would not do: a guest that was saved between its look and its write finds nothing wrong there.
    expect(guest.complaints().join('\n')).toMatch(/^B: MISMATCH pieces/m)
    await guest.end()
  })

  it('gives loop devices to one host and detaches them at the end', async () => {
    await using own = await LabHosts.up()
    const path = own.outside('A', '/srv/vm/x.img')
    await must(['truncate', '--size', '1M', path])
    const device = await own.loopDevice('A', '/srv/vm/x.img', 'x')
    const real = (await own.must('A', ['readlink', '-f', device])).trim()
    await own.must('A', ['blockdev', '--setro', real])
    await own.down()
    expect(await must(['losetup', '--list', '--noheadings', '--output', 'NAME'])).not.toContain(`${real}\n`)
    expect(await must(['blockdev', '--getro', real])).toBe('0\n')
  })
})
