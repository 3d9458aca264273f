// From what was agreed about compression to the compressor of one pass.

import type { Compression } from '../codec/codec.js'
import { Compressor } from '../codec/compressor.js'
import { openCodec } from '../codec/open.js'
import type { Throttle } from '../rate/throttle.js'

/** The compressor of a pass, or null for payload that is sent as it is. `throttle` bounds what `auto` expects of the line. */
export async function openCompressor(
  compression: Compression | null,
  throttle: Throttle,
): Promise<Compressor | null> {
  if (compression === null) return null
  const codec = await openCodec(compression.codec)
  return new Compressor(codec, compression.mode, { ceiling: () => throttle.bytesPerSecond })
}
