// The far end as a child process on this machine: the same program, the same protocol, no network in between.

import { fileURLToPath } from 'node:url'

import type { NativeCore } from '../native.js'
import { connectChild } from './child.js'
import type { Connection, StderrLine, TransportOptions } from './transport.js'

/** Our own program as it is installed; from src/transport and from dist/transport it is the same file. */
const OWN_ENTRY_PATH = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** Starts `serve` (or `agent`) of the program at `entryPath` under the Node.js that runs us; rejects with connect/failed. */
export async function connectLocal(
  options: TransportOptions,
  onStderrLine: StderrLine,
  native: NativeCore | null,
  entryPath: string = OWN_ENTRY_PATH,
): Promise<Connection> {
  return await connectChild({
    argv: [process.execPath, entryPath, options.command ?? 'serve', ...options.serveArguments],
    context: { kind: 'local', peerName: 'local', remoteCommand: entryPath, sudo: 'never' },
    onStderrLine,
    forward: null,
    native,
    missingProgramHint: 'Run blocksync doctor.',
  })
}
