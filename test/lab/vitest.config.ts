// How the lab's tests run: real hypervisors in namespaces, so one file at a time, with patience, and apart from the others.

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
    fileParallelism: false,
    reporters: ['default', new ClosingReporter()],
  },
})
