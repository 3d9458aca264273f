// Host.writeOut: an older state of a disk, written out as a new file or to a device: a copy first, then the undo journals taken
// back in the copy. Refuses before the first byte what does not fit, and a device that somebody uses; the disk itself is only read.

import type { BigIntStats } from 'node:fs'
import { stat } from 'node:fs/promises'

import { type Digester, type Range, SEED_BYTES } from '../digest/digester.js'
import { availableAlgorithms, createDigester } from '../digest/open.js'
import { type Endpoint, isSameDisk } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { Survey } from '../guard/survey.js'
import { loadNative } from '../native.js'
import { stateUnusable } from '../state/directory.js'
import type { HostState } from '../state/state.js'
import { type OpenDisk, openDisk } from '../sync/open-disk.js'
import { undoTarget } from '../sync/undo-disk.js'
import { checkDisk, planUndo, type UndoTarget, writeBack } from '../undo/apply.js'
import { systemFiles, type JournalFiles } from '../undo/files.js'
import { listGroups } from '../undo/groups.js'
import type { DigesterOf } from '../undo/journal-file.js'
import type { Group } from '../undo/manifest.js'
import { holesOnly, type Piece, piecesOf, withoutZeros } from '../undo/pieces.js'
import { type DiskParts, knownUndo } from './disk-parts.js'
import { checkPath, nothingAsNull } from './files.js'
import type { WriteOutRequest } from './host.js'
import { stepsBehind } from './undo-steps.js'

/** Reads are of whole leaves: what direct I/O wants of any disk, and as fine as zeros are looked for. */
const LEAF_BYTES = 4096
const BLOCK_BYTES = 1 << 20
/** Pieces of a MiB that are read and written at once: a device wants a queue. */
const PIECES_AT_ONCE = 8

/** Rejects with undo/*, guard/*, source/*, destination/*, and with the reason of the signal. */
export async function writeOut(
  request: WriteOutRequest,
  parts: DiskParts,
): Promise<Readonly<{ bytes: number }>> {
  const { from, to, lengthBytes } = request
  const { signal } = parts
  checkPath(to)
  const native = loadNative(parts.native)
  const files = systemFiles(native)
  const digesterOf: DigesterOf = (parameters) => createDigester(parameters, native)
  const { state, journals } = await knownUndo(from, parts.statePath)
  const context = { native, survey: new Survey(native), state, signal }
  const plain = {
    create: 'never',
    createSizeBytes: 0,
    force: [],
    lane: 'first',
    peer: null,
    undo: 'none',
  } as const
  // its lock keeps runs that write away while it is read
  await using disk = await openDisk(
    { ...plain, path: from, role: 'source', access: 'read', guards: 'off' },
    context,
  )
  const { info } = disk.endpoint
  if (info.sizeBytes < lengthBytes) throw tooShort(from, info.sizeBytes, lengthBytes)
  const groups = chosen(journals === null ? [] : await listGroups(files, journals), request)
  for (const group of groups) {
    signal.throwIfAborted()
    checkDisk(group, { ...info, stable: disk.stable })
    await using _plan = await planUndo(files, group, info.sizeBytes, digesterOf)
  }
  const create = await makes(to)
  await using target = await openDisk(
    {
      ...plain,
      path: to,
      role: 'destination',
      access: 'write',
      guards: 'on',
      create,
      createSizeBytes: lengthBytes,
    },
    context,
  )
  checkTarget(target, disk, request, create)
  const algorithm = native === null ? 'sha256' : (availableAlgorithms(native)[0] ?? 'sha256')
  const geometry = { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES }
  const digester = await createDigester({ algorithm, seed: new Uint8Array(SEED_BYTES), geometry }, native)
  try {
    await begin(state, target)
    const copy = new Copy(disk.endpoint, target.endpoint, digester, create === 'never' ? 'written' : 'holes')
    await copy.run(lengthBytes, signal)
    const counted = new Counted(target.endpoint, lengthBytes)
    await takeBack(files, groups, { counted, sizeBytes: info.sizeBytes, digesterOf, signal })
    await target.endpoint.flush()
    if (create === 'never') await forget(state, target)
    return { bytes: copy.writtenBytes + counted.writtenBytes }
  } catch (error) {
    if (create === 'if-missing') await undoTarget(target).remove()
    throw error
  }
}

/** The groups by their names: they have to be the newest ones that there are, in that order. Throws undo/missing, undo/mismatch. */
function chosen(groups: readonly Group[], { from, undo }: WriteOutRequest): readonly Group[] {
  const missing = undo.find((name) => !groups.some(({ manifest }) => manifest.group === name))
  if (missing !== undefined)
    throw new SyncError(
      'undo/missing',
      `the undo journal ${missing} of ${from} is not there; nothing was written`,
      {
        operand: from,
        hint: 'That state cannot be reached any more; choose a newer one.',
      },
    )
  const newest = stepsBehind(groups, groups[undo.length]?.manifest.group ?? null, from)
  if (newest.some(({ manifest }, at) => manifest.group !== undo[at]) || newest.length !== undo.length)
    throw new SyncError(
      'undo/mismatch',
      `${from} was changed since: its newest undo journals are not those that were named; nothing was written`,
      { operand: from, hint: 'Look what there is now, and type the same again.' },
    )
  const making = newest.find(({ manifest }) => manifest.made === 'file')
  if (making === undefined) return newest
  throw new SyncError(
    'undo/missing',
    `before ${making.manifest.startedAt} there was no ${from}: that state is no disk; nothing was written`,
    { operand: from, hint: 'Choose a newer one.' },
  )
}

/** Whether a file is to be made there. Throws destination/open for one that is there. */
async function makes(to: string): Promise<'never' | 'if-missing'> {
  const there: BigIntStats | null = await nothingAsNull(stat(to, { bigint: true }))
  if (there === null) return 'if-missing'
  if (!there.isFile()) return 'never'
  throw alreadyThere(to)
}

function alreadyThere(to: string): SyncError {
  return new SyncError('destination/open', `there is a file ${to} already; nothing was written`, {
    operand: to,
    hint: 'Name a file that is not there, or a block device that nobody uses.',
  })
}

function checkTarget(
  { endpoint: { info } }: OpenDisk,
  { endpoint: { info: source } }: OpenDisk,
  { from, to, lengthBytes }: WriteOutRequest,
  create: 'never' | 'if-missing',
): void {
  if (create === 'if-missing' && !info.created) throw alreadyThere(to)
  if (isSameDisk(info.identity, source.identity))
    throw new SyncError('guard/same-disk', `${to} is the same disk as ${from}; nothing was written`, {
      operand: to,
      hint: 'Name another disk, or a new file.',
    })
  if (info.sizeBytes < lengthBytes) throw tooShort(to, info.sizeBytes, lengthBytes)
}

function tooShort(path: string, sizeBytes: number, lengthBytes: number): SyncError {
  return new SyncError(
    'guard/size',
    `${path} has ${sizeBytes} bytes, and ${lengthBytes} are wanted; nothing was written`,
    { operand: path, hint: 'Name a disk that is large enough.' },
  )
}

/** A journal that is there of the device becomes void, and no run is gone on with. */
async function begin(state: HostState, target: OpenDisk): Promise<void> {
  const stays = await state.overtake(target.stable, null)
  if (stays !== null) throw stateUnusable(stays, target.endpoint.info.path, 'nothing was written')
  target.isBegun = true
  await target.undo?.begin()
}

/** No record says any more what is on the device. */
async function forget(state: HostState, target: OpenDisk): Promise<void> {
  const why = await state.forgetUndone(target.stable, '')
  if (why !== null) throw stateUnusable(why, target.endpoint.info.path, 'it was written')
}

/** The newest first; each is checked once more as it is read. */
async function takeBack(
  files: JournalFiles,
  groups: readonly Group[],
  work: Readonly<{ counted: Counted; sizeBytes: number; digesterOf: DigesterOf; signal: AbortSignal }>,
): Promise<void> {
  for (const group of groups) {
    work.signal.throwIfAborted()
    await using plan = await planUndo(files, group, work.sizeBytes, work.digesterOf)
    await writeBack(plan, work.counted, () => work.signal.throwIfAborted())
  }
}

/** What is behind the wanted end is left out: the disk was longer later. */
class Counted implements Pick<UndoTarget, 'write' | 'zero'> {
  writtenBytes = 0
  readonly #target: Endpoint
  readonly #endBytes: number

  constructor(target: Endpoint, endBytes: number) {
    this.#target = target
    this.#endBytes = endBytes
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    const parts: Uint8Array[] = []
    let at = 0
    for (const { offset, length } of ranges) {
      parts.push(from.subarray(at, at + Math.max(0, Math.min(length, this.#endBytes - offset))))
      at += length
    }
    const kept = this.#within(ranges)
    const bytes = kept.reduce((sum, { length }) => sum + length, 0)
    if (bytes === 0) return
    this.writtenBytes += bytes
    await this.#target.write(kept, bytes === from.length ? from : Buffer.concat(parts, bytes))
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    const kept = this.#within(ranges)
    if (kept.length > 0) await this.#target.zero(kept)
  }

  #within(ranges: readonly Range[]): Range[] {
    return ranges
      .map(({ offset, length }) => ({ offset, length: Math.min(length, this.#endBytes - offset) }))
      .filter(({ length }) => length > 0)
  }
}

/** Copies the first bytes of a disk. `zeros`: a new file has holes where nothing is written, a device has what it had. */
class Copy {
  writtenBytes = 0
  readonly #from: Endpoint
  readonly #to: Endpoint
  readonly #digester: Digester
  readonly #zeros: 'holes' | 'written'

  constructor(from: Endpoint, to: Endpoint, digester: Digester, zeros: 'holes' | 'written') {
    this.#from = from
    this.#to = to
    this.#digester = digester
    this.#zeros = zeros
  }

  /** Nothing is being read or written any more when it settles. */
  async run(lengthBytes: number, signal: AbortSignal): Promise<void> {
    const underWay = new Set<Promise<void>>()
    let failed: { error: unknown } | null = null
    const whole = [{ offset: 0, length: lengthBytes }]
    try {
      for await (const piece of piecesOf(this.#from, lengthBytes === 0 ? [] : whole, LEAF_BYTES)) {
        signal.throwIfAborted()
        const work: Promise<void> = this.#piece(piece)
          .catch((error: unknown) => void (failed ??= { error }))
          .finally(() => underWay.delete(work))
        underWay.add(work)
        if (underWay.size >= PIECES_AT_ONCE) await Promise.race(underWay)
        if (failed !== null) break
      }
    } finally {
      await Promise.all(underWay)
    }
    throwIfFailed(failed)
  }

  async #piece(piece: Piece): Promise<void> {
    const { entries, chunks } = piece.bytes === 0 ? holesOnly(piece) : await this.#read(piece)
    const data = entries.filter(({ kind }) => kind === 'data')
    const holes = piece.bytes === 0 ? [] : piece.holes
    const zeros = [...entries.filter(({ kind }) => kind === 'zeros'), ...holes]
    if (data.length > 0) {
      const bytes = Buffer.concat(chunks)
      await this.#to.write(data, bytes)
      this.writtenBytes += bytes.length
    }
    if (this.#zeros === 'written' && zeros.length > 0) await this.#to.zero(zeros)
  }

  async #read({ data, bytes }: Piece): Promise<ReturnType<typeof withoutZeros>> {
    const count = data.reduce((sum, { length }) => sum + Math.ceil(length / LEAF_BYTES), 0)
    const content = Buffer.allocUnsafeSlow(bytes)
    const leaves = Buffer.alloc(count * this.#digester.digestBytes)
    const zeroLeaves = new Uint8Array(count)
    await this.#from.readDigested(data, this.#digester, content, leaves, zeroLeaves)
    return withoutZeros(data, content, leaves, zeroLeaves, LEAF_BYTES)
  }
}

/** Set by other functions meanwhile, which control flow does not see. */
function throwIfFailed(failed: { error: unknown } | null): void {
  if (failed !== null) throw failed.error
}
