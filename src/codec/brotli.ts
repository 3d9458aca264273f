// Brotli by node:zlib, RFC 7932: what every Node has. Fast settings: the line is what we wait for, not the last percent.
// Refuses windows above 1 MiB before the decoder takes memory for one.

import { brotliCompress, brotliDecompress, constants } from 'node:zlib'

import { type Codec, pieceError, WINDOW_LOG } from './codec.js'
import { zlibCodec } from './oneshot.js'

/** 2 and above take one and a half times as long for a tenth less; see docs/decisions. */
const QUALITY = 1

const ENCODER = {
  [constants.BROTLI_PARAM_QUALITY]: QUALITY,
  [constants.BROTLI_PARAM_LGWIN]: WINDOW_LOG,
}
const DECODER = {
  // "large window" is not brotli as of the RFC: it would let a peer ask for a window of 1 GiB
  [constants.BROTLI_DECODER_PARAM_LARGE_WINDOW]: 0,
}

/** What a brotli stream of `rawBytes` takes at most: stored meta-blocks and their headers. */
function mostBytes(rawBytes: number): number {
  return rawBytes + (rawBytes >> 10) + 64
}

export const brotliCodec: Codec = zlibCodec('brotli', {
  compress: { call: brotliCompress, params: ENCODER, mostBytes },
  decompress: { call: brotliDecompress, params: DECODER },
  checkStream: (data) => {
    const log = windowLog(data[0] ?? 0)
    if (log > WINDOW_LOG) throw pieceError(`brotli data with a window of 2^${log} bytes`)
  },
})

/** WBITS of a stream that begins with `byte` (RFC 7932, 9.1). What is no window at all the decoder refuses. */
function windowLog(byte: number): number {
  if ((byte & 1) === 0) return 16
  const upper = (byte >> 1) & 7
  if (upper !== 0) return 17 + upper
  const lower = (byte >> 4) & 7
  return lower === 0 ? 17 : 8 + lower
}
