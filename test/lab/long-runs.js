// The long runs of `replicate`: `npm run lab:replicate -- 200 [SEED]` strikes so often, `npm run lab:soak -- 30 [MIB]` runs so many
// minutes with a disk of that size.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const [kind, first = kind === 'soak' ? '30' : '200', second = kind === 'soak' ? '2048' : '1'] =
  process.argv.slice(2)
for (const value of [first, second]) {
  if (/^[1-9]\d{0,5}$/.test(value)) continue
  console.error(
    `a number is wanted, not '${value}': npm run lab:replicate -- 200 1, or npm run lab:soak -- 30`,
  )
  process.exit(2)
}
const root = join(import.meta.dirname, '..', '..')
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
const [config, environment] =
  kind === 'soak'
    ? ['test/lab/soak/vitest.config.ts', { BLOCKSYNC_LAB_MINUTES: first, BLOCKSYNC_LAB_MIB: second }]
    : ['test/lab/vitest.config.ts', { BLOCKSYNC_LAB_STRIKES: first, BLOCKSYNC_LAB_SEED: second }]
const words = [
  'run',
  '--config',
  config,
  kind === 'soak' ? 'soak' : 'replicate.lab',
  '--disable-console-intercept',
]
const { status } = spawnSync(process.execPath, [vitest, ...words], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, ...environment },
})
process.exit(status ?? 1)
