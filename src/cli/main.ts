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

/** What a handle that somebody forgot to close may delay the end by. */
const LINGER_MS = 1000

/**
 * Ends by running out of work. process.exit() tears the engine down under its own threads, and on Node 24 now and then
 * waits for one of them for ever; it is left for what does not end by itself.
 */
const finish = (status: number): void => {
  process.exitCode = status
  setTimeout(() => process.exit(status), LINGER_MS).unref()
}

if (process.argv[2] === 'serve') {
  const { serveCommand } = await import('./serve.js')
  const loadServe = async () => (await import('../sync/serve.js')).serve
  const status = await serveCommand(process.argv.slice(3), process, loadServe, exit)
  process.stdin.destroy()
  finish(status)
} else {
  const [{ runProgram }, { processContext }] = await Promise.all([
    import('./program.js'),
    import('./process.js'),
  ])
  finish(await runProgram(process.argv.slice(2), processContext(exit)))
}
