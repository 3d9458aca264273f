// Session after session, and what they came to: how many frames a second, how they ended, how much memory was taken.

import { knownDisks } from './shapes.js'
import { fuzzLines } from './lines.js'
import { type Half, runSession } from './session.js'

export type FuzzOptions = Readonly<{
  seed: number
  /** The first session. */
  from: number
  sessions: number
  frames: number
  directory: string
  onSession?: (session: number) => void
  onProgress?: (line: string) => void
}>

export type Failure = Readonly<{
  session: number
  half: Half | 'lines' | 'memory'
  violations: readonly string[]
  corpus: string
}>

export type Summary = Readonly<{
  sessions: number
  frames: number
  lines: number
  writes: number
  framesPerSecond: number
  grownMiB: number
  endings: Readonly<Record<string, number>>
  failures: readonly Failure[]
}>

/** By how much the process may grow after it is warm. */
export const MAX_GROWTH_BYTES = 200 << 20
/** The engine's own caches, pools and compiled code are there by then. */
const WARM_SESSIONS = 150
/** While one waits for a file or a thread, others go on. */
const SESSIONS_AT_ONCE = 8
const MAX_FAILURES = 20
const PROGRESS_MS = 10_000

export async function fuzz(options: FuzzOptions): Promise<Summary> {
  const { seed, from, directory } = options
  const disks = await knownDisks()
  const failures: Failure[] = []
  const endings: Record<string, number> = {}
  let [frames, lines, writes, warmBytes] = [0, 0, 0, 0]
  let session = from
  const startMs = performance.now()
  let saidMs = startMs
  const work = async (): Promise<void> => {
    while (frames < options.frames && session - from < options.sessions && failures.length < MAX_FAILURES) {
      const number = session++
      options.onSession?.(number)
      const outcome = await runSession(disks, seed, number, directory)
      frames += outcome.frames
      writes += outcome.writes
      const ending = `${outcome.half} ${outcome.ending}`
      endings[ending] = (endings[ending] ?? 0) + 1
      if (outcome.violations.length > 0) {
        const { half, violations, sent, disk } = outcome
        const corpus = JSON.stringify({ half, disk, pieces: sent.map((piece) => piece.toString('hex')) })
        failures.push({ session: number, half, violations, corpus })
      }
      const told = fuzzLines(seed, number)
      lines += told.lines
      if (told.violations.length > 0)
        failures.push({ session: number, half: 'lines', violations: told.violations, corpus: '' })
      if (number - from === WARM_SESSIONS) warmBytes = peakBytes()
      if (performance.now() - saidMs > PROGRESS_MS) {
        saidMs = performance.now()
        options.onProgress?.(`${session - from} sessions, ${frames} frames, ${failures.length} failures`)
      }
    }
  }
  await Promise.all(Array.from({ length: options.sessions === 1 ? 1 : SESSIONS_AT_ONCE }, work))
  const grown = warmBytes === 0 ? 0 : peakBytes() - warmBytes
  if (grown > MAX_GROWTH_BYTES)
    failures.push({ session, half: 'memory', violations: [`grew by ${grown} bytes`], corpus: '' })
  return {
    sessions: session - from,
    frames,
    lines,
    writes,
    framesPerSecond: Math.round(frames / ((performance.now() - startMs) / 1000)),
    grownMiB: Math.round(grown / 2 ** 20),
    endings: Object.fromEntries(Object.entries(endings).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    failures,
  }
}

/** The most that was ever resident. */
function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024
}
