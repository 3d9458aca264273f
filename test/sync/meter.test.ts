// Counts of a disk over several passes: what lanes there were is what had something to do.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { createDigester } from '../../src/digest/open.js'
import { syncOptions } from '../../src/options.js'
import { DiskMeter } from '../../src/sync/meter.js'
import { Channel } from '../../src/wire/channel.js'

const HERE = { at: { kind: 'local' }, path: '/a', typed: '/a' } as const
const GEOMETRY = { blockBytes: 1 << 20, leafBytes: 4096 }

describe('lanes in the report of a disk', () => {
  it('are those that had a pass of it: not those that came up too late, or could not open it', async () => {
    const channels = Array.from(
      { length: 4 },
      () => new Channel(new PassThrough(), new PassThrough(), Buffer.alloc(0)),
    )
    const meter = new DiskMeter({ source: HERE, destination: HERE }, 0, 1, syncOptions({}), {})
    expect(meter.report().lanes).toBe(0)
    meter.part(1)
    meter.started(
      channels,
      await createDigester({ algorithm: 'sha256', seed: Buffer.alloc(16), geometry: GEOMETRY }, null),
    )
    expect(meter.report().lanes).toBe(1)
    meter.part(3)
    meter.part(3)
    expect(meter.report().lanes).toBe(2)
  })
})
