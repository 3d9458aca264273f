// One suite for every kind of snapshot. Volumes of LVM are played here and real in `npm run test:lab:lvm`.

import { beforeAll, describe, it } from 'vitest'

import { useScratch, type Scratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { ALL_CHECKS, type SnapshotKind, type SnapshotWorld } from './conformance.js'
import { commandWorld, fakeWorld, fileSystem, noneWorld, reflinkWorld } from './worlds.js'

type Make = (scratch: Scratch) => SnapshotWorld | Promise<SnapshotWorld>

function suite(kind: SnapshotKind, make: Make): void {
  const scratch = useScratch()
  const checks = ALL_CHECKS.filter(({ kinds }) => kinds.includes(kind))
  it.each(checks)('$name', async ({ run: check }) => {
    await check(await make(scratch()))
  })
}

describe('none', () => {
  suite('none', noneWorld)
})
describe('command', () => {
  suite('command', commandWorld)
})
describe('lvm, played', () => {
  suite('lvm', () => fakeWorld('lvm'))
})
describe('lvm-thin, played', () => {
  suite('lvm-thin', () => fakeWorld('lvm-thin'))
})

for (const kind of ['xfs', 'btrfs']) {
  describe(`reflink on ${kind}`, needs('loop', `mkfs.${kind}`), () => {
    const scratch = useScratch()
    let directory = ''
    beforeAll(async () => {
      directory = await fileSystem(scratch(), kind)
    })
    suite('reflink', (own) => reflinkWorld(own, directory))
  })
}
