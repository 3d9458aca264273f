// How these tests say "refused": a SyncError with a code, no other exception, and no memory taken on the way.

import { expect, vi } from 'vitest'

import type { ErrorCode } from '../../src/errors.js'
import { SyncError } from '../../src/errors.js'

/** Runs `act`, which must throw a SyncError of `code`; gives it back. */
export function expectRefused(code: ErrorCode, act: () => unknown): SyncError {
  try {
    act()
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(SyncError)
    if (thrown instanceof SyncError) {
      expect(thrown.code).toBe(code)
      return thrown
    }
  }
  throw new Error(`not refused: ${code} was due`)
}

/** The same for a promise. */
export async function expectRejected(code: ErrorCode, promise: Promise<unknown>): Promise<SyncError> {
  const outcome = await promise.then(
    () => null,
    (error: unknown) => ({ error }),
  )
  return expectRefused(code, () => {
    if (outcome !== null) throw outcome.error
  })
}

/** The largest buffer that was asked for while `act` ran, in bytes. */
export function largestAllocation(act: () => void): number {
  let largest = 0
  const note = (size: number): void => {
    largest = Math.max(largest, size)
  }
  const alloc = Buffer.alloc.bind(Buffer)
  const allocUnsafe = Buffer.allocUnsafe.bind(Buffer)
  const allocUnsafeSlow = Buffer.allocUnsafeSlow.bind(Buffer)
  const spies = [
    vi.spyOn(Buffer, 'alloc').mockImplementation((size, ...rest) => (note(size), alloc(size, ...rest))),
    vi.spyOn(Buffer, 'allocUnsafe').mockImplementation((size) => (note(size), allocUnsafe(size))),
    vi.spyOn(Buffer, 'allocUnsafeSlow').mockImplementation((size) => (note(size), allocUnsafeSlow(size))),
  ]
  try {
    act()
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
  return largest
}
