// `--verify=all`: after every disk of a run is written and flushed, both ends read all of it again and compare it, with
// another seed and the destination's device answering. Refuses (verify/mismatch) a run whose disks are not equal then.

import { stat } from 'node:fs/promises'

import { createDigester } from '../digest/open.js'
import { errnoOf, SyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import type { OpenPair } from './disk-pass.js'
import { type DiskRunContext, runDisk } from './disk-run.js'
import { DiskMeter } from './meter.js'
import { rangesText } from './read-back.js'
import { newSeed, type Session } from './session.js'

/**
 * Compares all of them, one after the other. The algorithm stays the one that was agreed on: it is the fastest that both
 * have, and what would fool it depends on the seed. The source's page cache is left alone: what its programs see of a
 * file is what was to be copied, and the question is about the destination.
 */
export async function verifyAll(
  session: Session,
  disks: readonly OpenPair[],
  context: Omit<DiskRunContext, 'scan' | 'verify' | 'pair' | 'before' | 'checkpoints'>,
): Promise<void> {
  const options: SyncOptions = { ...context.options, mode: 'verify', verify: 'none' }
  const parameters = { ...context.digester.parameters, seed: newSeed() }
  const digester = await createDigester(parameters, context.native)
  for (const open of disks) {
    const { pair, size, disk, near, far } = open
    const meter = new DiskMeter(pair, disk, disks.length, options, {})
    const [source, destination] = context.push ? [near.info, far] : [far, near.info]
    const stable = { source: null, destination: null }
    meter.opened(size.lengthBytes, false, false, { source, destination, stable })
    await runDisk(
      session,
      { ...open, meter },
      {
        ...context,
        options,
        digester,
        scan: null,
        verify: 'all',
        pair: null,
        before: null,
        checkpoints: null,
      },
    )
    const report = meter.report()
    if (report.different) throw await mismatch(open, report, context.push)
    open.meter.verified('all', 0)
  }
}

async function mismatch(
  { pair, meter }: OpenPair,
  found: ReturnType<DiskMeter['report']>,
  push: boolean,
): Promise<SyncError> {
  const { source, destination } = pair
  const blocks = found.differentBlocks + found.zeroBlocks
  const where = found.differing.length === 0 ? '' : `, first in ${rangesText(found.differing)}`
  const sinceMs = meter.report().evidence?.startedAt.getTime() ?? Infinity
  const isChanged = push && (await changedSince(source.path, sinceMs))
  const why = isChanged
    ? `${source.typed} was written to since the run began, so it may just have changed: `
    : `If anything writes to ${source.typed} (a guest, a mounted file system), it may just have changed since: `
  return new SyncError(
    'verify/mismatch',
    `${destination.typed} and ${source.typed} differ in ${blocks} of ${found.totalBlocks} blocks when all of both is read again after the flush${where}`,
    {
      operand: destination.typed,
      hint: `${why}use --verify=written, or a snapshot of it (lvcreate -s). If not, run the same command again; if it happens again, check the disk and memory.`,
    },
  )
}

/** By the time of an image file; of a device nobody keeps one. */
async function changedSince(path: string, sinceMs: number): Promise<boolean> {
  try {
    const facts = await stat(path)
    return facts.isFile() && facts.mtimeMs >= sinceMs
  } catch (error) {
    // it is gone, or not ours to look at: no answer
    if (errnoOf(error) !== null) return false
    throw error
  }
}
