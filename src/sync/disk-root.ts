// The root digest of one disk alone: a path and the parameters come in, the root and the section digests come out, by the
// same scan as in a run. Opens it for reading; refuses a length beyond its end.

import type { Digester, DigestParameters } from '../digest/digester.js'
import { createDigester } from '../digest/open.js'
import { Root } from '../digest/root.js'
import { ZeroDigests } from '../digest/zero.js'
import type { EndpointInfo } from '../endpoint/endpoint.js'
import { openEndpoint } from '../endpoint/open.js'
import { SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { Scan } from './scan.js'

export type RootRequest = Readonly<{
  path: string
  parameters: DigestParameters
  /** Of the disk from its start; null is all of it. */
  lengthBytes: number | null
}>

/** `sections`: 32 bytes for each section. `readBytes`: holes were not read. */
export type DiskRoot = Readonly<{
  info: EndpointInfo
  lengthBytes: number
  root: string
  sections: Buffer
  readBytes: number
}>

/**
 * Reads a disk of this host at the speed of a run and computes its root (docs/receipt.md). Rejects with source/*, with
 * guard/size where it is shorter than `lengthBytes`, and with the signal's reason; nothing is being read any more then.
 */
export async function diskRoot(
  { path, parameters, lengthBytes }: RootRequest,
  native: NativeCore | null,
  signal: AbortSignal,
): Promise<DiskRoot> {
  signal.throwIfAborted()
  const digester = await createDigester(parameters, native)
  await using disk = await openEndpoint(
    { path, role: 'source', access: 'read', create: 'never', createSizeBytes: 0, claim: 'exclusive' },
    native,
  )
  const { info } = disk
  const length = lengthBytes ?? info.sizeBytes
  if (length > info.sizeBytes) {
    throw new SyncError(
      'guard/size',
      `${path} has ${info.sizeBytes} bytes, and the digest of ${length} was asked for; nothing was read`,
      { operand: path, hint: 'Is this the right disk? blocksync digest without --length takes all of it.' },
    )
  }
  const scan = new Scan(disk, digester, { offset: 0, length })
  const onAbort = (): void => {
    scan.stop().catch(() => undefined) // awaited below
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const { root, sections } = await rootOfScan(scan, digester)
    return { info, lengthBytes: length, root, sections, readBytes: scan.readBytes }
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
    await scan.stop()
  }
}

async function rootOfScan(scan: Scan, digester: Digester): Promise<{ root: string; sections: Buffer }> {
  const root = new Root(digester, new ZeroDigests(digester, scan.range.length), scan.range)
  for (let run = await scan.next(); run !== undefined; run = await scan.next()) {
    if (run.kind === 'data') root.add(run.digests.blocks, run.blockCount)
    else root.addZeros(run.blockCount)
  }
  return root.finish()
}
