// Names of snapshots: whose they are is told apart, and they fit into what device-mapper takes.

import { describe, expect, it } from 'vitest'

import { snapshotOwner } from '../../src/replicate/replica-file.js'
import { isOfJob, snapshotName } from '../../src/snapshot/names.js'

const MACHINE = '0123abcd'.repeat(4)
const OWNER = snapshotOwner(MACHINE, '/var/lib/blocksync')
const ATTEMPT = '20260102-030405-0123abcd'

describe('an owner', () => {
  it('is that of a machine and its state directory', () => {
    expect(OWNER).toMatch(/^[0-9a-f]{8}$/)
    expect(snapshotOwner(MACHINE, '/var/lib/blocksync')).toBe(OWNER)
    expect(snapshotOwner(MACHINE, '/var/lib/other')).not.toBe(OWNER)
    expect(snapshotOwner('fedcba98'.repeat(4), '/var/lib/blocksync')).not.toBe(OWNER)
    // the same eight digits that a replica is called by, and another machine all the same
    expect(snapshotOwner(`${MACHINE.slice(0, -1)}0`, '/var/lib/blocksync')).not.toBe(OWNER)
  })

  it('is part of the name, and what has none or another one is of nobody here', () => {
    const name = snapshotName({ job: 'web', owner: OWNER, attempt: 'a1' }, 0)
    expect(name).toBe(`blocksync-snap-web+${OWNER}+a1+0`)
    expect(isOfJob(name, { job: 'web', owner: OWNER })).toBe(true)
    expect(isOfJob(name, { job: 'web', owner: '00000000' })).toBe(false)
    expect(isOfJob(name, { job: 'we', owner: OWNER })).toBe(false)
    expect(isOfJob('blocksync-snap-web+a1+0', { job: 'web', owner: OWNER })).toBe(false)
    for (const owner of ['', 'web', `${OWNER}0`, '0123ABCD'])
      expect(() => snapshotName({ job: 'web', owner, attempt: 'a1' }, 0)).toThrow(TypeError)
  })
})

it.each(['web', 'a-'.repeat(31), 'x'.repeat(64), '-'.repeat(12), '_tdata'])(
  'a volume with a snapshot of the job %s may be in a group of 50 characters',
  (job) => {
    const name = snapshotName({ job, owner: OWNER, attempt: ATTEMPT }, 255)
    // doubled hyphens, the one behind the group, and what LVM puts behind the names of inner volumes
    const mapped = `${'g'.repeat(50)}-${name.replaceAll('-', '--')}-tdev`
    expect(mapped.length).toBeLessThanOrEqual(127)
    expect(isOfJob(name, { job, owner: OWNER })).toBe(true)
  },
)
