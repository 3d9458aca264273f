#!/usr/bin/env node
// The entry: the process goes in, its exit status comes out. `serve` and `agent` are told apart before anything is
// imported, since they are started over a connection; what the near end needs is loaded only where this is the near end, and what
// replicates only where that is asked for.

import { availableParallelism } from 'node:os'

import { EXIT } from '../errors.js'
import { optimizeLate } from './compiler.js'
import { threadPoolSize } from './thread-pool.js'

/** What a handle that somebody forgot to close may delay the end by. */
const LINGER_MS = 1000

/** Node's own status for a defect is 1, which here means "the two differ". */
function crash(error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? String(error)) : String(error)
  process.stderr.write(`blocksync: internal error: ${text}\n`, () => process.exit(EXIT.internal))
}

function exit(status: number): void {
  process.exit(status)
}

async function main(): Promise<number> {
  const [, , first, ...rest] = process.argv
  if (first === 'serve') {
    const { runFar } = await import('./far.js')
    return await runFar(rest, exit)
  }
  if (first === 'agent') {
    const { runAgent } = await import('./agent.js')
    return await runAgent(rest, exit)
  }
  const asked = first === 'help' ? rest[0] : first
  const isReplicating = asked === 'replicate' || asked === 'check'
  const { runNear } = isReplicating ? await import('./replicate-near.js') : await import('./near.js')
  return await runNear(process.argv.slice(2), exit)
}

/**
 * Ends by running out of work. process.exit() tears the engine down under its own threads, and on Node 24 now and then
 * waits for one of them for ever; it is left for what does not end by itself.
 */
function finish(status: number): void {
  process.exitCode = status
  setTimeout(() => process.exit(status), LINGER_MS).unref()
}

process.on('uncaughtException', crash)
// libuv reads it when the first job comes, so this has to be before anything that reads a file in the background
process.env['UV_THREADPOOL_SIZE'] ??= threadPoolSize(availableParallelism())
optimizeLate()
main().then(finish, crash)
