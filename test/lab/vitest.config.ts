// How the lab's tests run: real hypervisors in namespaces, so with patience, and apart from the others. Each file
// has hosts of its own; two files at once, since much of a move is waiting.

import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

import { ClosingReporter } from '../support/closing-reporter.js'

/** Guests under emulation, on a machine that other jobs may load. */
const TEST_TIMEOUT_MS = 180_000

export default defineConfig({
  test: {
    root: join(import.meta.dirname, '..', '..'),
    include: ['test/lab/*.lab.ts'],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: TEST_TIMEOUT_MS,
    pool: 'forks',
    maxWorkers: 2,
    reporters: ['default', new ClosingReporter()],
  },
})
