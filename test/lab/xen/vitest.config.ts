// How the tests with Xen run: emulated machines that take minutes, so alone and when asked for.

import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

import { ClosingReporter } from '../../support/closing-reporter.js'

/** The image takes 80 s the first time, and everything inside is emulated twice. */
const TEST_TIMEOUT_MS = 900_000

export default defineConfig({
  test: {
    root: join(import.meta.dirname, '..', '..', '..'),
    include: ['test/lab/xen/*.lab.ts'],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: TEST_TIMEOUT_MS,
    pool: 'forks',
    fileParallelism: false,
    reporters: ['default', new ClosingReporter()],
  },
})
