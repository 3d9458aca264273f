// The kill matrix by hand: `npm run kills -- --runs 1000 --seed 1 [--seconds 3600] [--show]`. Prints what broke with its
// seed, and figures at the end; after so many seconds no further run is begun.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '86400' },
    show: { type: 'boolean', default: false },
  },
})
for (const [name, value] of [
  ['--runs', values.runs],
  ['--seed', values.seed],
  ['--seconds', values.seconds],
]) {
  if (/^[1-9]\d{0,8}$/.test(value)) continue
  console.error(`${name} is a number, not '${value}'`)
  process.exit(2)
}

const root = join(import.meta.dirname, '..', '..')
const { status } = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    'test/trust/kill-matrix.test.ts',
    '--disable-console-intercept',
  ],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      BLOCKSYNC_KILL_RUNS: values.runs,
      BLOCKSYNC_KILL_SEED: values.seed,
      BLOCKSYNC_KILL_SECONDS: values.seconds,
      ...(values.show ? { BLOCKSYNC_KILL_SHOW: '1' } : {}),
    },
  },
)
process.exit(status ?? 1)
