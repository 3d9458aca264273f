// The choice of the configuration is what opens a method and a quiesce, without a conversion between them.

import { expect, expectTypeOf, it } from 'vitest'

import type { QuiesceChoice, SnapshotChoice } from '../../src/config/config.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import type { cutQuiesced } from '../../src/snapshot/quiesce.js'

it('every choice of the configuration is a method of its kind', () => {
  expectTypeOf<SnapshotChoice>().toExtend<Parameters<typeof openSnapshots>[0]>()
  expectTypeOf<QuiesceChoice | null>().toExtend<Parameters<typeof cutQuiesced>[1]>()
  const choices: SnapshotChoice[] = [
    { kind: 'lvm', size: { percent: 20 } },
    { kind: 'lvm-thin' },
    { kind: 'reflink' },
    { kind: 'none' },
    { kind: 'command', create: ['a'], remove: ['b'], timeoutMs: 1 },
  ]
  expect(choices.map((choice) => openSnapshots(choice).kind)).toEqual(choices.map(({ kind }) => kind))
})
