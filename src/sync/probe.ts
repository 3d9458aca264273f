// What a far end says of itself: a session without disks, for doctor.

import type { AlgorithmName } from '../digest/digester.js'
import { loadNative } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { FarSide } from '../transport/transport.js'
import type { RunHooks } from './report.js'
import { newSeed, openSession } from './session.js'

/** What the handshake with a far end tells about it. */
export type ProbeResult = Readonly<{
  version: string
  node: string
  native: boolean
  algorithms: AlgorithmName[]
  roundTripMs: number
  protocol: number
}>

/** Connects, exchanges banners, measures a round trip and leaves. Rejects with connect/* as a run would. */
export async function probe(far: FarSide, options: SyncOptions, hooks: RunHooks): Promise<ProbeResult> {
  await using session = await openSession(far, options, loadNative(options.native), newSeed(), hooks)
  const onAbort = (): void => session.connection.kill()
  hooks.signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const roundTripMs = await session.roundTripMs()
    await session.goodbye()
    const { program: version, node, native, algorithms } = session.far
    return { version, node, native, algorithms: [...algorithms], roundTripMs, protocol: session.protocol }
  } finally {
    hooks.signal?.removeEventListener('abort', onAbort)
  }
}
