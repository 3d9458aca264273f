// The resource agent of contrib/ocf on the hosts of the lab, called as Pacemaker calls it: ocf-tester's own list, and a move
// with what comes before and after it on both nodes.

import { describe, expect, it } from 'vitest'

import { COUNTER_GUEST, type GuestSpec } from './guest.js'
import { ADDRESSES, type HostName } from './host-files.js'
import { useLab } from './lab.js'
import { expectRunsOnlyOn, JournalWatch, migrateWords } from './migrate.js'
import type { Answer } from './programs.js'

const AGENT = '/run/lab/checkout/contrib/ocf/blocksync'
const TESTER = '/usr/sbin/ocf-tester'
const TIMEOUT_MS = 120_000

/** resource-agents: developer guide, "Return codes". */
const OCF = { success: 0, generic: 1, configured: 6, installed: 5, notRunning: 7 } as const

/** By then the copy has been made there, and the rounds go on. */
const LINES_OF_PREPARE = 4

const PERSISTENT: GuestSpec = {
  ...COUNTER_GUEST,
  kind: 'persistent',
  disks: [{ kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 128, dataMiB: 32 }],
}

describe('the resource agent', () => {
  const lab = useLab()

  const act = (
    host: HostName,
    action: string,
    more: Readonly<Record<string, string>> = {},
  ): Promise<Answer> => {
    const given = {
      OCF_ROOT: '/usr/lib/ocf',
      OCF_RESOURCE_INSTANCE: 'web',
      OCF_RESKEY_guest: 'ctr',
      OCF_RESKEY_connect: 'qemu:///system',
      OCF_RESKEY_migrate_options: '--create file',
      OCF_RESKEY_CRM_meta_timeout: '30000',
      ...more,
    }
    const words = Object.entries(given).map(([name, value]) => `${name}=${value}`)
    return lab.hosts().run(host, ['env', ...words, AGENT, action], { timeoutMs: TIMEOUT_MS })
  }

  it('passes ocf-tester', async () => {
    const hosts = lab.hosts()
    await lab.start(PERSISTENT)
    await hosts.must('A', ['mkdir', '-p', '/run/resource-agents'])
    const options = ['-o', 'guest=ctr', '-o', 'connect=qemu:///system']
    const { status, stdout, stderr } = await hosts.run('A', [TESTER, '-n', 'web', ...options, AGENT], {
      timeoutMs: TIMEOUT_MS,
    })
    expect(`${stdout}${stderr}`).toContain('passed all tests')
    expect(status).toBe(0)
  })

  it('takes a guest along when its resource moves, and leaves the old node alone', async () => {
    const guest = await lab.start(PERSISTENT)
    const to = { OCF_RESKEY_CRM_meta_migrate_target: ADDRESSES.B }
    expect((await act('B', 'monitor')).status).toBe(OCF.notRunning)
    expect((await act('B', 'start')).status).toBe(OCF.installed)
    expect((await act('A', 'monitor')).status).toBe(OCF.success)

    const moved = await act('A', 'migrate_to', to)
    expect([moved.status, moved.stderr]).toEqual([OCF.success, expect.anything()])
    expect((await act('B', 'migrate_from')).status).toBe(OCF.success)
    // what Pacemaker does then on the node that it left
    expect((await act('A', 'stop')).status).toBe(OCF.success)
    expect((await act('A', 'monitor')).status).toBe(OCF.notRunning)
    expect((await act('A', 'start')).status).toBe(OCF.installed)
    await expectRunsOnlyOn(guest, 'B')

    expect((await act('B', 'stop')).status).toBe(OCF.success)
    expect(await guest.runsOn()).toEqual([])
  })

  it('stops a guest whose move was cut off', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(PERSISTENT)
    using journal = await JournalWatch.open(hosts, 'A')
    const running = await hosts.start('A', migrateWords(guest.name, 'B'))
    await Promise.race([running.ended, journal.reaches(LINES_OF_PREPARE)])
    process.kill(running.pid, 'SIGKILL')
    await running.ended
    expect((await act('A', 'stop')).status).toBe(OCF.success)
    expect(await guest.runsOn()).toEqual([])
    const open = await hosts.must('A', ['blocksync', 'migrate', '--status'])
    expect(open).toContain('put back')
    // what is left of it stands in nobody's way
    expect((await act('A', 'start')).status).toBe(OCF.success)
  })

  it('says what is wrong', async () => {
    await lab.start(PERSISTENT)
    const unknown = await act('A', 'validate-all', { OCF_RESKEY_hypervisor: 'vmware' })
    expect([unknown.status, unknown.stderr]).toEqual([
      OCF.configured,
      expect.stringContaining('auto, libvirt or xen, not vmware'),
    ])
    const missing = await act('A', 'start', { OCF_RESKEY_blocksync: 'no-such-program' })
    expect(missing.status).toBe(OCF.installed)
    // it can still be seen and stopped
    expect((await act('A', 'monitor', { OCF_RESKEY_blocksync: 'no-such-program' })).status).toBe(OCF.success)
    const nowhere = await act('A', 'migrate_to', { OCF_RESKEY_CRM_meta_migrate_target: '10.77.0.3' })
    expect([nowhere.status, nowhere.stderr]).toEqual([
      OCF.generic,
      expect.stringContaining('blocksync migrate ended with 4'),
    ])
  })
})
