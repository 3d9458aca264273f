// Live migration over a host that answers from a list: words, progress, the end of a job that is not wanted any more.

import { describe, expect, it } from 'vitest'

import type { LiveProgress, LiveRequest } from '../../src/hypervisor/driver.js'
import { libvirtDriver } from '../../src/hypervisor/libvirt.js'
import { liveWords, parseJob } from '../../src/hypervisor/libvirt-live.js'
import { FakeHost } from './fake-host.js'
import { plain } from './fixtures.js'

const JOB = `Job type: 2
operation: 3
time_elapsed: 1500
data_total: 403251200
data_processed: 329332508
data_remaining: 43343872
disk_total: 268435456
memory_total: 134815744
`
const RUNNING = "Domain: 'web'\n  state.state=1\n  state.reason=1\n"
const OFF = "Domain: 'web'\n  state.state=5\n  state.reason=3\n"

const REQUEST: LiveRequest = {
  guest: 'web',
  definition: plain(),
  persistentDefinition: plain({ extra: '  <!-- persistent -->\n' }),
  destinationUri: 'qemu+ssh://host2/system',
  copied: ['vda', 'vdc'],
  sharedChecked: true,
  bandwidthBytes: 10 * 2 ** 20 + 1,
  timeoutMs: 60_000,
}

/** A host on which the migration ends when the test says so, and a job that is aborted ends it too. */
function liveHost(states: string): { host: FakeHost; end: (exitStatus: number) => void } {
  let end: (exitStatus: number) => void = () => undefined
  const ended = new Promise<number>((resolve) => (end = resolve))
  const host = new FakeHost((line) => {
    if (line.startsWith('domjobinfo')) return { stdout: JOB }
    if (line.startsWith('domjobabort')) end(1)
    return line.startsWith('domstats') ? { stdout: states } : {}
  })
  const run = host.run.bind(host)
  host.run = async (request) => {
    const result = await run(request)
    if (!request.argv.includes('migrate')) return result
    const exitStatus = await ended
    return { ...result, exitStatus, stderrTail: exitStatus === 0 ? '' : 'error: operation aborted' }
  }
  return { host, end }
}

describe('the words of virsh migrate', () => {
  it('are all of it for disks that are copied beside shared ones', () => {
    expect(liveWords(REQUEST, '/d.xml', '/p.xml').join(' ')).toBe(
      'migrate --live --abort-on-error --domain web --desturi qemu+ssh://host2/system --xml /d.xml ' +
        '--persistent --persistent-xml /p.xml --copy-storage-all --migrate-disks vda,vdc --unsafe --bandwidth 10',
    )
  })

  it('leave out what was not asked', () => {
    const little = { ...REQUEST, copied: [], sharedChecked: false, bandwidthBytes: null }
    expect(liveWords(little, '/d.xml', null).join(' ')).toBe(
      'migrate --live --abort-on-error --domain web --desturi qemu+ssh://host2/system --xml /d.xml',
    )
    expect(liveWords({ ...little, bandwidthBytes: 1 }, '/d.xml', null).slice(-2)).toEqual([
      '--bandwidth',
      '1',
    ])
  })
})

describe('a live migration', () => {
  it('tells how far it is, gives both definitions as files and takes them away', async () => {
    const { host, end } = liveHost(RUNNING)
    const seen: LiveProgress[] = []
    const done = libvirtDriver(host, 'qemu:///system').live?.migrate(
      REQUEST,
      (progress) => {
        seen.push(progress)
        end(0)
      },
      new AbortController().signal,
    )
    await done
    expect(seen).toEqual([{ doneBytes: 329332508, totalBytes: 403251200, remainingBytes: 43343872 }])
    expect([...host.seen.values()]).toEqual([REQUEST.definition, REQUEST.persistentDefinition])
    expect(host.files.size).toBe(0)
  })

  it('is ended by its signal, and rejects with the reason', async () => {
    const { host } = liveHost(RUNNING)
    const controller = new AbortController()
    const reason = new Error('not wanted any more')
    const moved = libvirtDriver(host, 'qemu:///system').live?.migrate(
      REQUEST,
      () => controller.abort(reason),
      controller.signal,
    )
    await expect(moved).rejects.toBe(reason)
    expect(host.ran).toContain('domjobabort --domain web')
    expect(host.files.size).toBe(0)
  })

  it('does not begin after its signal', async () => {
    const { host } = liveHost(RUNNING)
    const moved = libvirtDriver(host, 'qemu:///system').live?.migrate(
      REQUEST,
      () => undefined,
      AbortSignal.abort(new Error('no')),
    )
    await expect(moved).rejects.toThrow('no')
    expect(host.ran).toEqual([])
  })

  it('is ended when it takes too long', async () => {
    const { host } = liveHost(RUNNING)
    const moved = libvirtDriver(host, 'qemu:///system').live?.migrate(
      { ...REQUEST, timeoutMs: 1 },
      () => undefined,
      new AbortController().signal,
    )
    await expect(moved).rejects.toMatchObject({ code: 'migrate/hypervisor', operand: 'web' })
    expect(host.ran).toContain('domjobabort --domain web')
  })

  it.each([
    [RUNNING, 'web was not migrated: operation aborted'],
    [OFF, 'web was not migrated: operation aborted; it is off here now'],
  ])('that fails says so, and where the guest is', async (states, message) => {
    const { host, end } = liveHost(states)
    end(1)
    const moved = libvirtDriver(host, 'qemu:///system').live?.migrate(
      REQUEST,
      () => undefined,
      new AbortController().signal,
    )
    await expect(moved).rejects.toMatchObject({ code: 'migrate/hypervisor', message })
  })
})

describe('the job of a guest', () => {
  it('is read from what libvirt counts', () => {
    expect(parseJob(JOB)).toEqual({ doneBytes: 329332508, totalBytes: 403251200, remainingBytes: 43343872 })
    expect(parseJob('Job type: 0\n\n')).toBeNull()
    expect(parseJob('')).toBeNull()
  })

  it.each([
    ['Job type: 0\n', true],
    ['', true],
    [JOB, false],
  ])('that could not be ended is a failure only where there is one', async (info, isFine) => {
    const host = new FakeHost((line) =>
      line.startsWith('domjobabort') ? { exitStatus: 1, stderrTail: 'error: no' } : { stdout: info },
    )
    const aborted = libvirtDriver(host, 'qemu:///system').live?.abort('web')
    if (isFine) await expect(aborted).resolves.toBeUndefined()
    else await expect(aborted).rejects.toMatchObject({ code: 'migrate/hypervisor' })
  })
})
