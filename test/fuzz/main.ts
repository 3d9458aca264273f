// `npm run fuzz -- [--frames N] [--seed N] [--from K] [--sessions N]`: sessions until so many frames were sent. A failure
// prints what replays it and ends with status 1.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { fuzz } from './run.js'

const { values } = parseArgs({
  options: {
    frames: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    from: { type: 'string', default: '0' },
    sessions: { type: 'string', default: 'Infinity' },
  },
})
const seed = Number(values.seed)
const directory = mkdtempSync(join(tmpdir(), 'blocksync-fuzz-'))
let session = 0

function crashed(error: unknown): never {
  console.error(
    `crashed in session ${session}: npm run fuzz -- --seed ${seed} --from ${session} --sessions 1`,
  )
  console.error(error)
  process.exit(1)
}
process.on('uncaughtException', crashed)
process.on('unhandledRejection', crashed)

try {
  const summary = await fuzz({
    seed,
    from: Number(values.from),
    sessions: Number(values.sessions),
    frames: Number(values.frames),
    directory,
    onSession: (number) => {
      session = number
    },
    onProgress: (line) => console.error(line),
  })
  for (const failure of summary.failures) {
    console.error(`session ${failure.session} (${failure.half}): ${failure.violations.join('; ')}`)
    console.error(`  npm run fuzz -- --seed ${seed} --from ${failure.session} --sessions 1`)
    if (values.sessions === '1') console.error(failure.corpus)
  }
  console.log(JSON.stringify({ seed, ...summary, failures: summary.failures.length }, null, 1))
  process.exitCode = summary.failures.length === 0 ? 0 : 1
} finally {
  rmSync(directory, { recursive: true, force: true })
}
