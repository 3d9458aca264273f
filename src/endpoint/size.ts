// How long a disk is by now, by its descriptor: somebody may have lengthened it since it was opened. Refuses nothing.

import type { FileHandle } from 'node:fs/promises'

import type { NativeCore } from '../native.js'
import type { EndpointInfo } from './endpoint.js'
import { deviceGeometry, deviceNumber } from './sysfs.js'

/** By how much what the descriptor leads to is longer than `info` says; 0 where it is not, or where nobody knows. */
export async function grownSince(
  { sizeBytes }: EndpointInfo,
  handle: FileHandle,
  native: NativeCore | null,
): Promise<number> {
  return Math.max(0, (await presentBytes(handle, native)) - sizeBytes)
}

async function presentBytes(handle: FileHandle, native: NativeCore | null): Promise<number> {
  const facts = await handle.stat({ bigint: true })
  if (!facts.isBlockDevice()) return Number(facts.size)
  if (native !== null) return native.geometry(handle.fd).sizeBytes
  return (await deviceGeometry(deviceNumber(facts.rdev)))?.sizeBytes ?? 0
}
