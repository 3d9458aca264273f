// The codec again, slow and plain: one DataView, one position, no limits, no reuse. What it reads from bytes must be what
// the fast one reads.

import type { DataRecord, RefineItem, RefineLevel } from '../../src/wire/bodies.js'

export type TwinFrame = { type: number; disk: number; body: number[] }

/** All whole frames in `bytes`; what is left over at the end is dropped. */
export function twinFrames(bytes: Uint8Array): TwinFrame[] {
  const view = viewOf(bytes)
  const frames: TwinFrame[] = []
  let at = 0
  while (at + 8 <= bytes.length) {
    const bodyBytes = view.getUint32(at + 4)
    if (at + 8 + bodyBytes > bytes.length) break
    const body: number[] = []
    for (let index = 0; index < bodyBytes; index += 1) body.push(view.getUint8(at + 8 + index))
    frames.push({ type: view.getUint8(at), disk: view.getUint16(at + 2), body })
    at += 8 + bodyBytes
  }
  return frames
}

export type TwinRun = { kind: string; blockCount: number; blocks: string | null }

export function twinDigests(body: Uint8Array, digestBytes: number): { firstBlock: number; runs: TwinRun[] } {
  const view = viewOf(body)
  const runs: TwinRun[] = []
  let at = 8
  while (at < body.length) {
    const kind = ['?', 'data', 'zero', 'hole'][view.getUint8(at)] ?? '?'
    const blockCount = view.getUint32(at + 4)
    at += 8
    const slabBytes = kind === 'data' ? blockCount * digestBytes : 0
    runs.push({ kind, blockCount, blocks: kind === 'data' ? hexOf(body, at, slabBytes) : null })
    at += slabBytes
  }
  return { firstBlock: twinUint64(view, 0), runs }
}

export function twinRefine(body: Uint8Array): { level: RefineLevel; items: RefineItem[] } {
  const view = viewOf(body)
  const items: RefineItem[] = []
  for (let index = 0; index < view.getUint32(4); index += 1) {
    items.push({ block: twinUint64(view, 8 + index * 12), group: view.getUint32(8 + index * 12 + 8) })
  }
  return { level: view.getUint8(0) === 1 ? 'groups' : 'leaves', items }
}

export function twinData(body: Uint8Array): { records: DataRecord[]; codec: number; payload: string } {
  const view = viewOf(body)
  const records: DataRecord[] = []
  const count = view.getUint32(0)
  for (let index = 0; index < count; index += 1) {
    const at = 8 + index * 16
    records.push({
      kind: view.getUint8(at) === 1 ? 'data' : 'zero',
      length: view.getUint32(at + 4),
      offset: twinUint64(view, at + 8),
    })
  }
  return {
    records,
    codec: view.getUint8(4),
    payload: hexOf(body, 8 + count * 16, body.length - 8 - count * 16),
  }
}

function twinUint64(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)
}

function hexOf(bytes: Uint8Array, at: number, length: number): string {
  return Array.from(bytes.subarray(at, at + length), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
