// Warm between two hosts with Xen: a paravirtual counter guest on a volume moves to a volume of another name, and its old
// host does not start it again.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { resultOf } from '../migrate.js'
import { XenHosts, type XenHostName } from './hosts.js'

const CONFIG = '/etc/xen/ctr.cfg'
const TICK_TIMEOUT_MS = 180_000
/** Everything is emulated twice: by hand the guest was stopped for half a minute. */
const MIGRATE_TIMEOUT_MS = 600_000

const configFor = (disk: string): string => `name = "ctr"
type = "pv"
memory = 96
vcpus = 1
# the guest's own kernel, on both hosts
kernel = "/run/lab/guest/vmlinuz"
ramdisk = "/run/lab/guest/initrd"
extra = "console=hvc0 quiet panic=-1 lab.tick=0.5 lab.dirty=64"
disk = ["phy:${disk},xvda,w"]
on_crash = "destroy"
`

describe('warm, between two hosts of Xen', () => {
  let hosts: XenHosts
  beforeAll(async () => {
    hosts = await XenHosts.up()
  })
  afterAll(async () => {
    await hosts?.down()
  })

  async function volume(host: XenHostName, name: string): Promise<string> {
    await hosts.must(host, ['lvcreate', '-qqy', '-Wn', '-Zn', '-L', '64M', '-n', name, 'vg0'])
    return `/dev/vg0/${name}`
  }

  async function consoleOf(host: XenHostName): Promise<string[]> {
    const answer = await hosts.run(host, ['cat', '/var/log/xen/guest-ctr.log'])
    return answer.stdout.split(/\r?\n/)
  }

  async function counter(host: XenHostName): Promise<number> {
    const lines = (await consoleOf(host)).filter((line) => line.startsWith('CTR '))
    return Number(lines.at(-1)?.slice(4) ?? 0)
  }

  const countsTo = (host: XenHostName, count: number): Promise<void> =>
    expect
      .poll(() => counter(host), { interval: 500, timeout: TICK_TIMEOUT_MS })
      .toBeGreaterThanOrEqual(count)

  it('moves the guest, which finds nothing wrong, and refuses to start it on the old host', async () => {
    const disk = await volume(1, 'ctr')
    const other = await volume(2, 'other')
    await hosts.must(1, [
      'dd',
      'if=/dev/urandom',
      `of=${disk}`,
      'bs=1M',
      'seek=24',
      'count=16',
      'oflag=direct',
    ])
    await hosts.write(1, CONFIG, configFor(disk))
    await hosts.must(1, ['mkdir', '-p', '/etc/xen/auto'])
    await hosts.must(1, ['ln', '-s', CONFIG, '/etc/xen/auto/ctr.cfg'])
    await hosts.must(1, ['xl', 'create', '-q', CONFIG])
    await countsTo(1, 3)

    const words = [
      'blocksync',
      'migrate',
      'ctr',
      hosts.address(2),
      '--json',
      '--map',
      `xvda=${other}`,
      '--yes',
    ]
    const answer = await hosts.run(1, words, { timeoutMs: MIGRATE_TIMEOUT_MS })
    expect(answer.status, `${answer.stderr}${answer.stdout}`).toBe(0)
    const result = resultOf(answer)
    expect(result).toMatchObject({ ok: true, hypervisor: 'xen', mode: 'warm', runsOn: 'destination' })
    console.log(`downtime ${result.downtimeMs} ms ${JSON.stringify(result.downtime)}`)

    const last = await counter(1)
    await countsTo(2, last + 10)
    const lines = [...(await consoleOf(1)), ...(await consoleOf(2))]
    expect(lines.filter((line) => /MISMATCH|WRITE-ERROR|unreadable/.test(line))).toEqual([])
    expect(lines.filter((line) => line === `CTR ${last + 1}`)).toHaveLength(1)

    const names = async (host: XenHostName): Promise<string> => hosts.must(host, ['xl', 'list'])
    expect(await names(1)).not.toMatch(/^ctr /m)
    expect(await names(2)).toMatch(/^ctr /m)
    expect((await hosts.run(1, ['xl', 'create', '-q', CONFIG])).status).not.toBe(0)
    expect((await hosts.run(1, ['test', '-e', '/etc/xen/auto/ctr.cfg'])).status).not.toBe(0)
    // a definition that somebody kept elsewhere
    await hosts.write(1, '/root/kept.cfg', configFor(disk))
    expect((await hosts.run(1, ['xl', 'create', '-q', '/root/kept.cfg'])).status).not.toBe(0)
    // nor after what a start of the host does
    await hosts.must(1, ['vgchange', '-ay', 'vg0'])
    expect((await hosts.run(1, ['xl', 'create', '-q', '/root/kept.cfg'])).status).not.toBe(0)
    expect(await names(1)).not.toMatch(/^ctr /m)
  })

  it('moves it back, onto the volume that was deactivated', async () => {
    const last = await counter(2)
    const words = ['blocksync', 'migrate', 'ctr', hosts.address(1), '--map', 'xvda=/dev/vg0/ctr', '--yes']
    const answer = await hosts.run(2, [...words, '--max-rounds', '1'], { timeoutMs: MIGRATE_TIMEOUT_MS })
    expect(answer.status, `${answer.stderr}${answer.stdout}`).toBe(0)
    await countsTo(1, last + 10)
    expect((await consoleOf(1)).filter((line) => /MISMATCH|WRITE-ERROR|unreadable/.test(line))).toEqual([])
    const options = ['--noheadings', '--binary', '--options', 'lv_skip_activation,lv_tags']
    expect((await hosts.must(1, ['lvs', ...options, 'vg0/ctr'])).trim()).toBe('0')
    expect(await hosts.must(2, ['lvs', ...options, 'vg0/other'])).toMatch(/1 blocksync-moved-/)
    expect((await hosts.run(2, ['test', '-e', '/dev/vg0/other'])).status).not.toBe(0)
  })
})
