// Records and identities for tests: whole, and of the right form.

import type { StableIdentity } from '../../src/endpoint/endpoint.js'
import type { FinishedRun, PairEnd, PairRecord, RunBy } from '../../src/state/record.js'

export const PAIR_ID = '01234567-89ab-4cde-8f01-23456789abcd'
export const OTHER_PAIR_ID = '11234567-89ab-4cde-8f01-23456789abcd'
export const BY: RunBy = { user: 'anna', host: 'host1', version: '0.1.0' }

export function stable(hostName: string, ...names: string[]): StableIdentity {
  const machineId = Buffer.from(hostName.padEnd(16, '.')).toString('hex').slice(0, 32)
  return { machineId, hostName, names }
}

export function end(hostName: string, path: string, ...better: string[]): PairEnd {
  return { stable: stable(hostName, ...better, `path:${path}`), path }
}

export function finishedRun(changes: Partial<FinishedRun> = {}): FinishedRun {
  return {
    runId: '21234567-89ab-4cde-8f01-23456789abcd',
    finishedAt: '2026-11-20T12:00:00.000Z',
    by: BY,
    lengthBytes: 1 << 30,
    root: 'ab'.repeat(32),
    algorithm: 'xxh3-128',
    seed: '00'.repeat(16),
    blockBytes: 1 << 20,
    leafBytes: 4096,
    ...changes,
  }
}

/** Of host1's /dev/vg/web, which was synced to that of host2. */
export function pairRecord(changes: Partial<PairRecord> = {}): PairRecord {
  return {
    pairId: PAIR_ID,
    role: 'source',
    disk: end('host1', '/dev/vg/web', 'dm:LVM-1'),
    peer: end('host2', '/dev/vg/web', 'dm:LVM-2'),
    generation: 3,
    finished: finishedRun(),
    running: null,
    ...changes,
  }
}
