// Which side of a run is far, and how it is started: apart from the engine, so that ssh is on its way while that is loaded.

import type { NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import { connect } from '../transport/open.js'
import type { Connection, FarSide, StderrLine } from '../transport/transport.js'
import type { DiskPair } from './report.js'

/** Where the far end of a run is: at the destination of a push (two local disks are one), at the source of a pull. */
export function farSideOf({ source, destination }: DiskPair): FarSide {
  return source.at.kind === 'local' ? destination.at : source.at
}

/** Starts `serve` there, with the options it needs to know. Rejects as `connect` does. */
export async function startFar(
  far: FarSide,
  options: SyncOptions,
  native: NativeCore | null,
  onStderrLine: StderrLine,
): Promise<Connection> {
  const { directory = null, maxBytes = null } = options.undo ?? {}
  const words = new Set(options.transport.serveArguments)
  if (options.native !== 'auto') words.add(`--native=${options.native}`)
  if (directory !== null) words.add(`--undo-dir=${directory}`)
  if (maxBytes !== null) words.add(`--undo-max=${maxBytes}`)
  // A comparison sends digests alone, far below what one window holds.
  const forwarding = options.mode === 'write' && options.transport.lane === 'first' ? 'wanted' : 'none'
  const request = { ...options.transport, serveArguments: [...words], forwarding } as const
  return await connect(far, request, onStderrLine, native)
}

/** A far end that is starting: taken over once, or ended. */
export class EarlyFar {
  #starting: Promise<Connection> | null

  constructor(starting: Promise<Connection>) {
    this.#starting = starting
    // it is whoever takes it that is told
    starting.catch(() => undefined)
  }

  take(): Promise<Connection> | null {
    const starting = this.#starting
    this.#starting = null
    return starting
  }

  async endUntaken(): Promise<void> {
    const [outcome] = await Promise.allSettled([this.take()])
    if (outcome.status === 'fulfilled') await outcome.value?.[Symbol.asyncDispose]()
  }
}
