// Which disk a record is of: the same, another one, or one that took its name.

import { describe, expect, it } from 'vitest'

import { fitOf } from '../../src/state/match.js'
import { stable } from './fixtures.js'

const web = stable('host1', 'dm:LVM-1', 'path:/dev/mapper/vg-web')

describe('fitOf', () => {
  it('knows a disk by its better names, wherever it is now', () => {
    const sdb = stable('host1', 'wwid:naa.5', 'path:/dev/sdb')
    expect(fitOf(sdb, stable('host1', 'wwid:naa.5', 'path:/dev/sdc'))).toEqual({ kind: 'same' })
    expect(fitOf(web, web)).toEqual({ kind: 'same' })
    expect(fitOf(stable('host1', 'path:/a.img'), stable('host1', 'path:/a.img'))).toEqual({ kind: 'same' })
  })

  it('needs one of the names that both have to be equal, and none to differ', () => {
    const both = stable('host1', 'wwid:naa.5', 'part:1', 'path:/dev/sdb1')
    expect(fitOf(both, stable('host1', 'wwid:naa.5', 'path:/dev/sdb1'))).toEqual({ kind: 'same' })
    expect(fitOf(both, stable('host1', 'wwid:naa.6', 'part:1', 'path:/dev/sdb1'))).toMatchObject({
      kind: 'misfit',
    })
  })

  it('says of a volume that was made anew that it is another one', () => {
    const anew = stable('host1', 'dm:LVM-2', 'path:/dev/mapper/vg-web')
    expect(fitOf(web, anew)).toEqual({
      kind: 'misfit',
      why: 'another disk has that name now (dm:LVM-2, then dm:LVM-1)',
    })
    // a path alone is no proof where the record knew better
    expect(fitOf(web, stable('host1', 'path:/dev/mapper/vg-web'))).toMatchObject({ kind: 'misfit' })
    expect(fitOf(stable('host1', 'path:/dev/mapper/vg-web'), web)).toMatchObject({ kind: 'misfit' })
  })

  it('says of a host with another machine id that it is another one', () => {
    const other = { ...web, machineId: 'ff'.repeat(16) }
    expect(fitOf(web, other)).toMatchObject({
      kind: 'misfit',
      why: 'host1 has another machine id than then: it was installed anew, or it is another host of that name',
    })
  })

  it('has nothing to say of other disks', () => {
    expect(fitOf(web, stable('host1', 'dm:LVM-3', 'path:/dev/mapper/vg-db'))).toEqual({ kind: 'other' })
    expect(fitOf(web, stable('host2', 'dm:LVM-1', 'path:/dev/mapper/vg-web'))).toEqual({ kind: 'other' })
  })
})
