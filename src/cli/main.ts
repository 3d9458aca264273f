#!/usr/bin/env node
// The entry: the process goes in, its exit status comes out. `serve` is told apart before anything is imported, since
// it is started for every run; the engine is loaded by the command that needs it.

import { EXIT } from '../errors.js'

// Node's own status for a defect is 1, which here means "the two differ"
process.on('uncaughtException', (error) => {
  process.stderr.write(`blocksync: internal error: ${error.stack ?? String(error)}\n`, () =>
    process.exit(EXIT.internal),
  )
})

const exit = (status: number): void => process.exit(status)

if (process.argv[2] === 'serve') {
  const { serveCommand } = await import('./serve.js')
  exit(
    await serveCommand(
      process.argv.slice(3),
      process,
      async () => (await import('../sync/serve.js')).serve,
      exit,
    ),
  )
} else {
  const [{ runProgram }, { processContext }] = await Promise.all([
    import('./program.js'),
    import('./process.js'),
  ])
  exit(await runProgram(process.argv.slice(2), processContext(exit)))
}
