// A copy of a generation, to be read: a reflink is a file, a thin volume is activated for as long as it is read. Refuses nothing
// that LVM does not.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { GenerationCopy } from './record.js'

/** LVM waits for its lock. */
const LVM_TIMEOUT_MS = 120_000

/** Rejects with host/program. Who got it disposes of it: the volume is deactivated then. */
export async function openCopy(
  host: Host,
  copy: GenerationCopy,
): Promise<Readonly<{ path: string }> & AsyncDisposable> {
  if (copy.kind === 'reflink') return { path: copy.path, [Symbol.asyncDispose]: () => Promise.resolve() }
  const { volume } = copy
  await activate(host, volume, ['--activate', 'y', '--ignoreactivationskip'])
  return { path: `/dev/${volume}`, [Symbol.asyncDispose]: () => activate(host, volume, ['--activate', 'n']) }
}

async function activate(host: Host, volume: string, words: readonly string[]): Promise<void> {
  const { exitStatus, stderrTail } = await host.run({
    argv: ['lvchange', ...words, volume],
    timeoutMs: LVM_TIMEOUT_MS,
  })
  if (exitStatus === 0) return
  throw new SyncError(
    'host/program',
    `the copy ${printable(volume)} on ${host.name} could not be ${words.includes('y') ? '' : 'de'}activated: ${stderrTail}`,
    { operand: volume, hint: `Look there: lvs ${printable(volume)}` },
  )
}
