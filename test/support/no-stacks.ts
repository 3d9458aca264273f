// For files that make errors by the hundred thousand: what their stacks cost is more than what is tested.

import { afterAll, beforeAll } from 'vitest'

/** Errors of this file have no stack; those that are expected to be told are told by their messages. */
export function withoutStacks(): void {
  const limit = Error.stackTraceLimit
  beforeAll(() => {
    Error.stackTraceLimit = 0
  })
  afterAll(() => {
    Error.stackTraceLimit = limit
  })
}
