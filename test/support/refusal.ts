// The error that something is rejected with: for tests of what is refused.

import { SyncError } from '../../src/errors.js'

/** Rejects where it was done after all, and with what is no SyncError. */
export async function refusal(answer: Promise<unknown>): Promise<SyncError> {
  const thrown: unknown = await answer.then(
    (value) => new Error(`it was done: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  )
  if (thrown instanceof SyncError) return thrown
  throw thrown
}
