// Runs with an undo journal as the host of a destination does them, without a source: what its tests of steps back stand on.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

import { Survey } from '../../src/guard/survey.js'
import { loadNative } from '../../src/native.js'
import { HostState } from '../../src/state/state.js'
import { openDisk } from '../../src/sync/open-disk.js'

export const LEAF_BYTES = 4096

export type Change = Readonly<{ offset: number; bytes: Buffer } | { offset: number; zeros: number }>

export type RunRequest = Readonly<{
  path: string
  stateDir: string
  changes: readonly Change[]
  /** Absent: a further step. */
  keep?: 'keep' | 'chain' | 'none'
  /** The file is made, or made longer. */
  sizeBytes?: number
  /** Absent: it comes to its end. */
  end?: 'finished' | 'stopped'
}>

/** One run; resolves with the group of its journal, or null. */
export async function runOver(request: RunRequest): Promise<string | null> {
  const { path, stateDir, changes, keep = 'chain', sizeBytes, end = 'finished' } = request
  const native = loadNative('auto')
  const state = await HostState.open(stateDir)
  await using disk = await openDisk(
    {
      path,
      role: 'destination',
      access: 'write',
      create: sizeBytes === undefined ? 'never' : 'if-missing',
      createSizeBytes: sizeBytes ?? 0,
      guards: 'on',
      force: [],
      lane: 'first',
      peer: null,
      undo: keep,
    },
    { native, survey: new Survey(native), state },
  )
  const { endpoint, undo } = disk
  disk.isBegun = true
  await undo?.begin()
  if (sizeBytes !== undefined && sizeBytes > endpoint.info.sizeBytes) await endpoint.grow(sizeBytes)
  const preserver = undo?.preserver(endpoint, LEAF_BYTES) ?? null
  try {
    for (const change of changes) {
      const length = 'zeros' in change ? change.zeros : change.bytes.length
      const range = { offset: change.offset, length }
      await preserver?.before([range])
      await ('zeros' in change ? endpoint.zero([range]) : endpoint.write([range], change.bytes))
    }
  } finally {
    await preserver?.close()
    await endpoint.flush()
  }
  if (end === 'finished') await undo?.finish()
  return undo?.report?.group ?? null
}

/** A digest of all of a file. */
export async function contentOf(path: string): Promise<string> {
  const content = await readFile(path)
  return createHash('sha256').update(content).digest('hex')
}
