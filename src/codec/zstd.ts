// Zstandard by node:zlib, RFC 8878: Node 22.15, 23.8 and later have it; loaded only where isZstdHere.
// Refuses windows above 1 MiB, what stands behind the frame, and a Node without zstd.

import * as zlib from 'node:zlib'

import { SyncError } from '../errors.js'
import { type Codec, WINDOW_LOG } from './codec.js'
import { type ZlibCall, zlibCodec } from './oneshot.js'

/** Level 3, the default, takes half as long again for a tenth less. */
const LEVEL = 1

/** Numbers of zstd.h, which are its stable interface; Node 20, whose types we use, does not name them. */
export const ZSTD_PARAMETERS = {
  ZSTD_c_compressionLevel: 100,
  ZSTD_c_windowLog: 101,
  ZSTD_d_windowLogMax: 100,
} as const

const ENCODER = {
  [ZSTD_PARAMETERS.ZSTD_c_compressionLevel]: LEVEL,
  [ZSTD_PARAMETERS.ZSTD_c_windowLog]: WINDOW_LOG,
}
const DECODER = { [ZSTD_PARAMETERS.ZSTD_d_windowLogMax]: WINDOW_LOG }

/** ZSTD_compressBound: stored blocks, and a margin for small pieces. */
function mostBytes(rawBytes: number): number {
  return rawBytes + (rawBytes >> 8) + 128
}

function isZlibCall(found: unknown): found is ZlibCall {
  return typeof found === 'function'
}

/** A function that this Node may not have: its types are those of Node 20. Throws `internal`: availableCodecs was not asked. */
function zlibFunction(name: 'zstdCompress' | 'zstdDecompress'): ZlibCall {
  const found: unknown = Reflect.get(zlib, name)
  if (isZlibCall(found)) return found
  throw new SyncError('internal', `Node.js ${process.version} has no ${name}`)
}

export const zstdCodec: Codec = zlibCodec('zstd', {
  compress: { call: zlibFunction('zstdCompress'), params: ENCODER, mostBytes },
  decompress: { call: zlibFunction('zstdDecompress'), params: DECODER },
})
