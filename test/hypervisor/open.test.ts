// Which hypervisor a host has: what answers decides, and what does not is named.

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { openDriver } from '../../src/hypervisor/open.js'
import { FakeHost } from './fake-host.js'

/** A host where the programs of this list answer; of the others, those of `broken` fail and the rest are not there. */
function hostWith(answering: readonly string[], broken: readonly string[] = []): FakeHost {
  const host = new FakeHost(() => null)
  host.run = async ({ argv }) => {
    const line = argv.slice(2).join(' ')
    host.ran.push(line)
    const program = argv[2] ?? ''
    const exitStatus = answering.includes(program) ? 0 : broken.includes(program) ? 1 : 127
    const stderrTail = exitStatus === 1 ? 'error: failed to connect to the hypervisor\nerror: no socket' : ''
    return await Promise.resolve({ exitStatus, stdout: '', stderrTail })
  }
  return host
}

describe('openDriver', () => {
  it.each([
    [['virsh'], 'libvirt'],
    [['virsh', 'xl'], 'libvirt'],
    [['xl'], 'xen'],
  ])('with %j takes %s', async (programs, kind) => {
    const driver = await openDriver(hostWith(programs), { hypervisor: 'auto', uri: null })
    expect(driver.kind).toBe(kind)
  })

  it('asks only what was named, and at the URI that was given', async () => {
    const host = hostWith(['virsh', 'xl'])
    expect((await openDriver(host, { hypervisor: 'xen', uri: null })).kind).toBe('xen')
    expect((await openDriver(host, { hypervisor: 'auto', uri: 'qemu:///session' })).kind).toBe('libvirt')
    expect(host.ran).toEqual(['xl info', 'virsh -q -c qemu:///session version'])
  })

  it('refuses a host where nothing answers, and names what was asked', async () => {
    await expect(
      openDriver(hostWith([], ['virsh']), { hypervisor: 'auto', uri: null }),
    ).rejects.toMatchObject({
      code: 'migrate/daemon',
      operand: 'host1',
      message:
        'no hypervisor answers on host1: virsh -q -c qemu:///system version (no socket); xl info (xl is not there)',
    })
    await expect(openDriver(hostWith(['xl']), { hypervisor: 'libvirt', uri: null })).rejects.toMatchObject({
      code: 'migrate/daemon',
    })
  })

  it('takes a program that hangs for none, and a lost host for lost', async () => {
    const failing = (code: 'host/program' | 'host/lost'): FakeHost => {
      const host = hostWith(['xl'])
      const run = host.run.bind(host)
      host.run = async (request) => {
        if (request.argv.includes('virsh')) throw new SyncError(code, 'virsh did not end')
        return await run(request)
      }
      return host
    }
    expect((await openDriver(failing('host/program'), { hypervisor: 'auto', uri: null })).kind).toBe('xen')
    await expect(openDriver(failing('host/lost'), { hypervisor: 'auto', uri: null })).rejects.toMatchObject({
      code: 'host/lost',
    })
  })

  it.each(['', '-h', '--debug', 'qemu', 'qemu:/system', 'qemu:///system --connect x'])(
    'refuses the URI %j',
    async (uri) => {
      const host = hostWith(['virsh'])
      await expect(openDriver(host, { hypervisor: 'auto', uri })).rejects.toMatchObject({ code: 'usage' })
      expect(host.ran).toEqual([])
    },
  )
})
