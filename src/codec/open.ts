// The one place that knows every codec: what this end has, what both ends agree on, from a name or a wire id to a codec.
// Refused: a codec that one of the ends does not have. Nothing is loaded before it is used.

import { SyncError } from '../errors.js'
import type { CompressChoice } from '../options.js'
import {
  type Codec,
  type CodecId,
  CODEC_NAMES,
  codecName,
  type CodecName,
  type Compression,
} from './codec.js'

export type { Compression } from './codec.js'

/** What this end can compress and decompress, the best first. */
export function availableCodecs(): CodecName[] {
  return CODEC_NAMES.filter((name) => name === 'brotli' || isZstdHere())
}

/** node:zlib has zstd where Node was built with it; asked of the versions, so that node:zlib need not be loaded for it. */
function isZstdHere(): boolean {
  return process.versions.zstd !== undefined
}

/** Of the far end's banner, what decides. */
export type CodecPeer = Readonly<{ name: string; node: string; codecs: readonly CodecName[] }>

/**
 * What `--compress` comes to between this end and `far`; null is no compression. `auto` with a far end that has no codec
 * is null; everything else that an end lacks is refused with connect/capability, naming that end and its Node.
 * `here` is for tests.
 */
export function agreeCodec(
  choice: CompressChoice,
  far: CodecPeer,
  here: Readonly<{ node: string; codecs: readonly CodecName[] }> = {
    node: process.version,
    codecs: availableCodecs(),
  },
): Compression | null {
  if (choice === 'none') return null
  if (choice === 'best' || choice === 'auto') {
    const codec = CODEC_NAMES.find((name) => here.codecs.includes(name) && far.codecs.includes(name))
    if (codec !== undefined) return { codec, mode: choice === 'auto' ? 'auto' : 'always' }
    if (choice === 'auto') return null
    throw lacks(
      `blocksync on ${far.name} (Node.js ${far.node}) has no compression that this end has too`,
      far.name,
      'Leave -z out, or install the same version of blocksync on both hosts.',
    )
  }
  const needs = choice === 'zstd' ? ' (it came with Node.js 22.15)' : ''
  const hint = 'Type -z to take the best that both ends have.'
  if (!here.codecs.includes(choice))
    throw lacks(`Node.js ${here.node} on this host has no ${choice}${needs}`, 'this host', hint)
  if (!far.codecs.includes(choice))
    throw lacks(`blocksync on ${far.name} (Node.js ${far.node}) has no ${choice}${needs}`, far.name, hint)
  return { codec: choice, mode: 'always' }
}

function lacks(what: string, operand: string, hint: string): SyncError {
  return new SyncError('connect/capability', `${what}; nothing was opened`, { operand, hint })
}

/** The codec of a name that availableCodecs has. */
export async function openCodec(name: CodecName): Promise<Codec> {
  switch (name) {
    case 'zstd':
      return (await import('./zstd.js')).zstdCodec
    case 'brotli':
      return (await import('./brotli.js')).brotliCodec
    default:
      throw new RangeError(`unknown codec ${String(name satisfies never)}`)
  }
}

/**
 * The payload of a `data` frame as it was before it was compressed: exactly `rawBytes`. `payload` must not change until
 * then. Rejects with session/protocol for what no peer of ours sends: a codec this end did not name, a piece that is not
 * what was announced.
 */
export async function decompress(
  codec: Exclude<CodecId, 0>,
  payload: Uint8Array,
  rawBytes: number,
): Promise<Buffer> {
  const name = codecName(codec)
  if (!availableCodecs().includes(name))
    throw new SyncError(
      'session/protocol',
      `the far end broke the protocol: data compressed with ${name}, which Node.js ${process.version} here does not have`,
    )
  return await (await openCodec(name)).decompress(payload, rawBytes)
}
