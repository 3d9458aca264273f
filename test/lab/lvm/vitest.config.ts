// How the tests of LVM run: in one emulated machine with device-mapper, alone and when asked for.

import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

import { ClosingReporter } from '../../support/closing-reporter.js'

/** The kernel is downloaded the first time; then a machine boots, and LVM runs under emulation. */
const TEST_TIMEOUT_MS = 600_000

export default defineConfig({
  test: {
    root: join(import.meta.dirname, '..', '..', '..'),
    include: ['test/lab/lvm/*.lab.ts'],
    testTimeout: TEST_TIMEOUT_MS,
    hookTimeout: TEST_TIMEOUT_MS,
    pool: 'forks',
    fileParallelism: false,
    reporters: ['default', new ClosingReporter()],
  },
})
