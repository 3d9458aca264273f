// How long the far end's program takes until it answers, beside a Node.js that does nothing: what each run pays before
// anything else. Nothing is opened, and no ssh is in between.

import { spawn } from 'node:child_process'
import { once } from 'node:events'

import type { Bench } from './rounds.js'

/** Seconds of each round. */
export type StartSeries = Readonly<{ name: StartName; seconds: number[] }>
export type StartName = 'node -e 0' | 'blocksync serve, until its banner'

const TIMEOUT_MS = 20_000
/** Each takes a fraction of a second, and single ones scatter. */
const TURNS_A_ROUND = 5

/** Measures both in turn. */
export async function measureStarts(bench: Bench): Promise<StartSeries[]> {
  const empty: StartSeries = { name: 'node -e 0', seconds: [] }
  const serve: StartSeries = { name: 'blocksync serve, until its banner', seconds: [] }
  for (let turn = 0; turn < bench.rounds * TURNS_A_ROUND; turn += 1) {
    empty.seconds.push(await emptyProgram(bench.signal))
    serve.seconds.push(await untilBanner(bench.program, bench.signal))
  }
  return [empty, serve]
}

async function emptyProgram(signal: AbortSignal): Promise<number> {
  const startedMs = performance.now()
  const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore', timeout: TIMEOUT_MS, signal })
  const [status] = (await once(child, 'close')) as [number | null]
  if (status !== 0) throw new Error(`node -e 0 ended with status ${status}`)
  return (performance.now() - startedMs) / 1000
}

async function untilBanner(program: string, signal: AbortSignal): Promise<number> {
  const startedMs = performance.now()
  const child = spawn(process.execPath, [program, 'serve'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: TIMEOUT_MS,
    signal,
  })
  const closed = once(child, 'close')
  closed.catch(() => undefined) // awaited below
  try {
    const [chunk] = (await Promise.race([once(child.stdout, 'data'), closed])) as [unknown]
    if (!Buffer.isBuffer(chunk) || !chunk.toString().startsWith('BLOCKSYNC '))
      throw new Error(`blocksync serve did not begin with its banner: ${String(chunk)}`)
    return (performance.now() - startedMs) / 1000
  } finally {
    // It ends with its input; the banner of a client never comes, so its status is not 0.
    child.stdin.end()
    child.stdout.resume()
    await closed
  }
}
