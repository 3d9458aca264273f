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
  const serveArguments = options.native === 'auto' ? [] : [`--native=${options.native}`]
  return await connect(far, { ...options.transport, serveArguments }, onStderrLine, native)
}
