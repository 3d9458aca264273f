// The one place that chooses what a host is: this one, in process, or another one through the agent that is started there by
// the same transports that start `serve`. Each kind is loaded only when it is used.

import { loadNative } from '../native.js'
import type { NativeMode } from '../options.js'
import { connect } from '../transport/open.js'
import type { FarSide, StderrLine, TransportOptions } from '../transport/transport.js'
import type { Host } from './host.js'

export type HostOptions = Readonly<{
  /** Where this host keeps its state; null is the usual place. Another host is told by `transport.serveArguments`. */
  stateDir: string | null
  native: NativeMode
  /** As for a sync: of `serveArguments` the agent takes --native=... and --state-dir=... */
  transport: TransportOptions
  /** How long nothing may be heard of another host; 0 is for ever. */
  timeoutMs: number
  onStderrLine?: StderrLine
  /** Aborted while it is being opened: rejects with its reason. */
  signal?: AbortSignal
}>

/** Opens the host at `side`. Rejects with connect/*, native/required or usage; nothing stays behind then. */
export async function openHost(side: FarSide, options: HostOptions): Promise<Host> {
  const { stateDir, native, transport, timeoutMs, signal, onStderrLine } = options
  if (side.kind === 'local') {
    const { LocalHost } = await import('./local.js')
    return new LocalHost({ stateDir, native })
  }
  const { openRemoteHost } = await import('./remote.js')
  signal?.throwIfAborted()
  const connection = await connect(
    side,
    { ...transport, command: 'agent' },
    onStderrLine ?? ignoreLine,
    loadNative(native),
  )
  return await openRemoteHost(connection, side.typed, timeoutMs, signal ?? null)
}

function ignoreLine(): void {
  // nobody asked for what is said there
}
