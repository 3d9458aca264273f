// Which failures are tried again, and after how long.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { isErrorCode, SyncError, type ErrorCode } from '../../src/errors.js'
import { backoffMs } from '../../src/sync/attempts.js'
import { explainExit } from '../../src/transport/explain.js'

describe('a failure', () => {
  it('is tried again only where the connection is the reason', () => {
    const codes: ErrorCode[] = ['session/lost', 'connect/refused', 'connect/failed']
    for (const code of codes) expect(new SyncError(code, 'x').isRetriable).toBe(true)
    const final = [
      'usage',
      'guard/locked',
      'guard/held',
      'connect/auth',
      'connect/host-key',
      'connect/version',
      'source/read',
      'destination/write',
      'verify/mismatch',
      'session/protocol',
      'interrupt/sigint',
      'internal',
    ]
    for (const code of final) {
      if (!isErrorCode(code)) throw new Error(`${code} is no code`)
      expect([code, new SyncError(code, 'x', { passing: true }).isRetriable]).toEqual([code, false])
    }
  })

  it.each([
    ['ssh: Could not resolve hostname host2: Temporary failure in name resolution', true],
    ['ssh: Could not resolve hostname host2: Name or service not known', false],
    ['ssh: connect to host host2 port 22: No route to host', true],
    ['ssh: connect to host host2 port 22: Network is unreachable', true],
  ])('of a host passes by itself or not: %s', (stderrTail, passes) => {
    const context = { kind: 'openssh', peerName: 'host2', remoteCommand: 'blocksync', sudo: 'never' } as const
    const error = explainExit(context, { exitStatus: 255, signal: null, stderrTail }, 'before-banner')
    expect([error.code, error.isRetriable]).toEqual(['connect/host', passes])
  })
})

describe('the pause before a retry', () => {
  it('doubles from one second to a minute', () => {
    expect([1, 2, 3, 6, 7, 8, 1000].map((retry) => backoffMs(retry, 0))).toEqual([
      1000, 2000, 4000, 32_000, 60_000, 60_000, 60_000,
    ])
  })

  it('is shorter by chance, by a quarter at most', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (retry, chance) => {
          const ms = backoffMs(retry, chance)
          expect(ms).toBeLessThanOrEqual(backoffMs(retry, 0))
          expect(ms).toBeGreaterThanOrEqual(0.75 * backoffMs(retry, 0) - 1)
        },
      ),
    )
  })
})
