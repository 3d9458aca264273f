// Which names say that two disks are one, and which are no evidence.

import { describe, expect, it } from 'vitest'

import type { StableIdentity } from '../../src/endpoint/endpoint.js'
import { sameIdRefusal, sharedId } from '../../src/guard/same-id.js'

function stable(machineId: string, ...names: string[]): StableIdentity {
  return { machineId, hostName: machineId, names: [...names, 'path:/dev/sda'] }
}

describe('one disk seen twice', () => {
  it.each([
    ['wwid:naa.600140512345678', true],
    ['wwid:eui.0025388b71b4ab0d-part1', true],
    ['wwid:uuid.1f2e3d4c', true],
    ['dm:LVM-abcdefABCDEF', true],
    ['dm:mpath-3600140512345678', true],
    // made by an emulator, or by a copy
    ['wwid:t10.ATA     QEMU HARDDISK                           QM00001', false],
    ['wwid:nvme.1b36-deadbeef-51454d55-00000001', false],
    ['part:6ed3d47a-01', false],
    ['md:1f2e3d4c', false],
    ['path:/dev/vg/web', false],
  ])('%s: %j', (name, isOne) => {
    const source = stable('a', 'wwid:naa.1', name)
    const destination = stable('b', 'wwid:naa.2', name)
    expect(sharedId(source, destination)).toBe(isOne ? name : null)
    expect(sharedId(source, stable('b'))).toBeNull()
    const refusal = sameIdRefusal(source, destination, '/dev/sda', 'host2:/dev/sdb')
    if (!isOne) expect(refusal).toBeNull()
    else {
      expect(refusal).toMatchObject({ code: 'guard/same-id', exitStatus: 3, operand: 'host2:/dev/sdb' })
      expect(refusal?.message).toMatch(
        /^host2:\/dev\/sdb has the same .* as \/dev\/sda .*; nothing was written$/,
      )
      expect(refusal?.hint).toContain('--force-same-id')
    }
  })
})
