// How the long run of `replicate` is run: one file, alone, as long as it was asked for.

import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

import { ClosingReporter } from '../../support/closing-reporter.js'

export default defineConfig({
  test: {
    root: join(import.meta.dirname, '..', '..', '..'),
    include: ['test/lab/soak/*.lab.ts'],
    hookTimeout: 180_000,
    pool: 'forks',
    reporters: ['default', new ClosingReporter()],
  },
})
