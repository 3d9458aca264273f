// What frames carry about who a disk is: whole there and back, left out where it is not asked for, bounded however much
// there is, and refused where it is not what it should be.

import { describe, expect, it } from 'vitest'

import type { EndpointInfo, Signature } from '../../src/endpoint/endpoint.js'
import type { KnownDisk, PairRecord, PairStart } from '../../src/state/record.js'
import {
  decodeOpen,
  decodeOpened,
  decodeStart,
  encodeControl,
  encodeOpen,
  encodeOpened,
  encodeStart,
  type OpenMessage,
  type StartMessage,
} from '../../src/wire/control.js'
import { FRAME, isAside, MAX_CONTROL_BYTES } from '../../src/wire/frame.js'
import { decodeRecord, decodeRecorded, type RecordMessage } from '../../src/wire/known.js'
import { BY, end, finishedRun, OTHER_PAIR_ID, PAIR_ID, pairRecord, stable } from '../state/fixtures.js'
import { expectRefused } from './expect.js'

const INFO: EndpointInfo = {
  path: '/dev/vg/web',
  kind: 'block-device',
  sizeBytes: 4096,
  logicalSectorBytes: 512,
  created: false,
  direct: true,
  identity: { machine: 'here', aliases: ['block:253:1'] },
}
const EXT4: Signature = {
  kind: 'ext4',
  id: '00112233-4455-6677-8899-aabbccddeeff',
  label: 'root',
  partitions: null,
  inPartition: 1,
  offsetBytes: 1 << 20,
}
const KNOWN: KnownDisk = {
  stable: stable('host2', 'dm:LVM-2', 'path:/dev/mapper/vg-web'),
  content: [EXT4],
  pairs: [pairRecord()],
  stamp: '1234.4096.1700000000000000000.1700000000000000001',
  frozen: true,
}

/** As long as it can be. */
const WIDE_JOURNAL = { group: '0'.repeat(32), path: '\u0001'.repeat(4096), freeBytes: 1, continues: false }

const opened = (known: KnownDisk | null): KnownDisk | null =>
  decodeOpened(encodeOpened({ ...INFO, warnings: [], known, undo: null })).known

describe('opened', () => {
  it('says who the disk is, what is on it and what is recorded, or nothing of it', () => {
    expect(opened(KNOWN)).toEqual(KNOWN)
    const little = { ...KNOWN, content: [], pairs: [], stamp: null, frozen: false }
    expect(opened(little)).toEqual(little)
    expect(opened(null)).toBeNull()
    expect(JSON.parse(encodeOpened({ ...INFO, warnings: [], known: null, undo: null }).toString())).toEqual(
      INFO,
    )
  })

  it('always fits into a frame: what is too much is left out from the end', () => {
    const wide = '\u0001'.repeat(4096)
    const names = Array.from({ length: 8 }, (_, index) => `n${index}:${'"'.repeat(508)}`)
    const long = end('host2', '/x'.padEnd(4096, '"'), ...names.slice(1))
    const known: KnownDisk = {
      stable: { ...KNOWN.stable, names },
      content: Array.from({ length: 40 }, () => ({
        ...EXT4,
        label: '\u00e9"'.repeat(128),
        id: '"'.repeat(256),
      })),
      pairs: Array.from({ length: 40 }, () => pairRecord({ disk: long, peer: long })),
      stamp: '9'.repeat(128),
      frozen: true,
    }
    const body = encodeOpened({
      ...INFO,
      path: wide,
      warnings: Array(4).fill('"'.repeat(1000)) as string[],
      known,
      undo: WIDE_JOURNAL,
    })
    expect(body.length).toBeLessThanOrEqual(MAX_CONTROL_BYTES)
    const decoded = decodeOpened(body).known
    expect(decoded?.content.length).toBeGreaterThan(0)
    const usual = opened({ ...KNOWN, pairs: Array.from({ length: 40 }, () => pairRecord()) })
    expect(usual?.pairs).toHaveLength(8)
  })

  it('makes text harmless', () => {
    const wrong = { ...EXT4, label: '\u001b[2J' }
    expect(opened({ ...KNOWN, content: [wrong] })?.content[0]?.label).toBe('?[2J')
  })

  const wrong: [name: string, fields: object][] = [
    ['stable', { stable: null }],
    ['stable', { stable: { ...KNOWN.stable, machineId: '../..' } }],
    ['stable', { stable: { ...KNOWN.stable, names: [] } }],
    ['stable', { stable: { ...KNOWN.stable, names: ['path:/a b'] } }],
    ['stable', { stable: { ...KNOWN.stable, names: ['PATH:/a'] } }],
    ['stable', { stable: { ...KNOWN.stable, names: Array(9).fill('path:/a') } }],
    ['stable', { stable: { ...KNOWN.stable, names: [`path:${'x'.repeat(600)}`] } }],
    ['stable', { stable: { ...KNOWN.stable, hostName: 'x'.repeat(65) } }],
    ['content', { content: {} }],
    ['content', { content: [null] }],
    ['content', { content: [{ ...EXT4, kind: 'Ext 4' }] }],
    ['content', { content: [{ ...EXT4, label: 'x'.repeat(257) }] }],
    ['content', { content: [{ ...EXT4, inPartition: -1 }] }],
    ['content', { content: Array(33).fill(EXT4) }],
    ['pairs', { pairs: Array(9).fill(pairRecord()) }],
    ['pairs', { pairs: [{ ...pairRecord(), role: 'both' }] }],
    ['pairs', { pairs: ['x'] }],
    ['stamp', { stamp: 7 }],
    ['stamp', { stamp: '' }],
    ['stamp', { stamp: '9'.repeat(129) }],
    ['stamp', { stamp: '\u001b[2J' }],
    ['frozen', { frozen: 'yes' }],
  ]
  it.each(wrong)('refuses a wrong %s %j', (_, fields) => {
    const body = encodeControl({ ...INFO, ...KNOWN, ...fields })
    expectRefused('session/protocol', () => decodeOpened(body))
  })
})

describe('open', () => {
  const request: OpenMessage = {
    ...decodeOpen(
      encodeControl({ role: 'source', path: '/a', access: 'read', create: 'never', createSizeBytes: 0 }),
    ),
  }

  it('may say who asks', () => {
    expect(request.peer).toBeNull()
    expect(encodeOpen(request).toString()).not.toContain('peer')
    const peer = stable('host1', 'path:/a')
    expect(decodeOpen(encodeOpen({ ...request, peer })).peer).toEqual(peer)
    expectRefused('session/protocol', () =>
      decodeOpen(encodeControl({ ...request, lane: undefined, peer: 'x' })),
    )
  })
})

describe('start', () => {
  const start: StartMessage = decodeStart(
    encodeControl({
      mode: 'write',
      offsetBytes: 0,
      lengthBytes: 4096,
      destinationBytes: 4096,
      blockBytes: 4096,
      leafBytes: 4096,
      algorithm: 'sha256',
      seed: '00'.repeat(16),
    }),
  )
  const pair: PairStart = {
    pairId: PAIR_ID,
    runId: OTHER_PAIR_ID,
    generation: 3,
    peer: end('host1', '/dev/vg/web', 'dm:LVM-1'),
    by: BY,
  }

  it('may name the pair that is written', () => {
    expect(start.pair).toBeNull()
    expect(encodeStart(start).toString()).not.toContain('pair')
    expect(decodeStart(encodeStart({ ...start, pair })).pair).toEqual(pair)
  })

  it.each([{ pairId: 'x' }, { runId: 7 }, { generation: -1 }, { peer: null }, { by: { user: 1 } }])(
    'refuses %j',
    (fields) => {
      const body = encodeControl({
        ...start,
        seed: '00'.repeat(16),
        compression: undefined,
        bytesPerSecond: undefined,
        pair: { ...pair, ...fields },
      })
      expectRefused('session/protocol', () => decodeStart(body))
    },
  )
})

describe('record and recorded', () => {
  const message: RecordMessage = {
    pairId: PAIR_ID,
    peer: end('host1', '/dev/vg/web', 'dm:LVM-1'),
    generation: 4,
    finished: finishedRun(),
    replaces: [OTHER_PAIR_ID],
  }

  it('come back, at any time', () => {
    expect(decodeRecord(encodeControl(message))).toEqual(message)
    expect(decodeRecorded(encodeControl({ failure: null }))).toEqual({ failure: null })
    expect(decodeRecorded(encodeControl({ failure: 'no\u001broom' }))).toEqual({ failure: 'no?room' })
    expect([isAside(FRAME.record), isAside(FRAME.recorded)]).toEqual([true, true])
  })

  it.each([
    { pairId: '../../x' },
    { generation: 0 },
    { generation: 1.5 },
    { peer: {} },
    { finished: null },
    { finished: { ...finishedRun(), seed: 'xx' } },
    { replaces: undefined },
    { replaces: ['../x'] },
    { replaces: Array(65).fill(PAIR_ID) },
  ])('refuses %j', (fields) => {
    expectRefused('session/protocol', () => decodeRecord(encodeControl({ ...message, ...fields })))
  })

  it.each([{}, { failure: 7 }])('refuses the answer %j', (fields) => {
    expectRefused('session/protocol', () => decodeRecorded(encodeControl(fields)))
  })

  it('a record of the longest paths and names fits into a frame', () => {
    const names = Array.from({ length: 7 }, (_, index) => `n${index}:${'"'.repeat(508)}`)
    const peer = end('host1', '/x'.padEnd(4096, '"'), ...names)
    const record: PairRecord = pairRecord({ peer })
    expect(encodeControl({ ...message, peer: record.peer }).length).toBeLessThan(MAX_CONTROL_BYTES)
  })
})
