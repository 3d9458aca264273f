// How the tests run: which files, how long one may take, and the reporter that names every skip.

import { defineConfig } from 'vitest/config'

import { ClosingReporter } from './test/support/closing-reporter.js'

/** Real ssh, real devices: a test that takes longer than this hangs. */
const TEST_TIMEOUT_MS = 60_000

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/state-directory.ts'],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: TEST_TIMEOUT_MS,
    // Each file in a process of its own: loop devices, signals and the native core's state do not meet.
    pool: 'forks',
    // Tests that start processes wait for ssh and disks a fifth of their time: three at once fill two processors.
    maxWorkers: 3,
    reporters: ['default', new ClosingReporter()],
  },
})
