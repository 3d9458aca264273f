// The lab for the tests of one file: both hosts for all of them, and what a test made there gone before the next.

import { afterAll, afterEach, beforeAll } from 'vitest'

import { COUNTER_GUEST, startGuest, type GuestSpec, type LabGuest } from './guest.js'
import { HOST_NAMES, type HostName } from './host-files.js'
import { LabHosts } from './hosts.js'
import { ask } from './programs.js'

export type Lab = Readonly<{
  hosts: () => LabHosts
  /** A guest that is ended after the test, wherever it runs by then. */
  start: (spec?: GuestSpec, host?: HostName) => Promise<LabGuest>
}>

/** In a `describe` or a file: hosts before its tests, nothing after them. */
export function useLab(): Lab {
  let up: LabHosts | null = null
  const guests: LabGuest[] = []
  const hosts = (): LabHosts => {
    if (up === null) throw new Error('the lab is only there while tests run')
    return up
  }
  beforeAll(async () => {
    up = await LabHosts.up()
  })
  afterEach(async () => {
    if (up === null) return
    for (const guest of guests.splice(0)) await guest.end()
    for (const host of HOST_NAMES) await clear(up, host)
  })
  afterAll(async () => {
    await up?.down()
    up = null
  })
  const start = async (spec: GuestSpec = COUNTER_GUEST, host: HostName = 'A'): Promise<LabGuest> => {
    const guest = await startGuest(hosts(), host, spec)
    guests.push(guest)
    return guest
  }
  return { hosts, start }
}

/** Fences, journals and disks of the last test would be in the way of the next. */
async function clear(hosts: LabHosts, host: HostName): Promise<void> {
  const names = (await hosts.virsh(host, 'list', '--all', '--name')).split('\n').filter(Boolean)
  for (const name of names) {
    await hosts.run(host, ['virsh', 'destroy', name])
    await hosts.run(host, ['virsh', 'undefine', name])
  }
  await hosts.detachAll(host)
  for (const path of ['/srv/vm', '/var/lib/blocksync']) {
    await ask(['chattr', '-R', '-f', '-i', hosts.outside(host, path)])
    await hosts.must(host, ['find', path, '-mindepth', '1', '-delete'])
  }
}
