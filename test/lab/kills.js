// The kill tests at length: `npm run lab:kills -- 60 [SEED]`: every line of the journal, and so many random moments.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const [count = '60', seed = '1'] = process.argv.slice(2)
for (const value of [count, seed]) {
  if (/^[1-9]\d{0,5}$/.test(value)) continue
  console.error(`a number is wanted, not '${value}': npm run lab:kills -- 60 1`)
  process.exit(2)
}
const root = join(import.meta.dirname, '..', '..')
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
const words = ['run', '--config', 'test/lab/vitest.config.ts', 'kills', '--disable-console-intercept']
const { status } = spawnSync(process.execPath, [vitest, ...words], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, BLOCKSYNC_LAB_KILLS: count, BLOCKSYNC_LAB_SEED: seed },
})
process.exit(status ?? 1)
