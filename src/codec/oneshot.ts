// A codec over two functions of node:zlib, each called once over a whole piece, in libuv's pool.
// Refuses what node:zlib refuses; a result longer than `mostBytes` is one of these things.

import type { BrotliOptions } from 'node:zlib'

import { isObject } from '../json.js'
import { checkPieceBytes, type Codec, CODEC_ID, type CodecName, pieceError } from './codec.js'

/** `info` is missing in the types of Node 20, and documented there. */
type OneShotOptions = BrotliOptions & { info: true }

/** What the functions of node:zlib that take a piece as a whole have in common, zstd's too. */
export type ZlibCall = (
  data: Uint8Array,
  options: OneShotOptions,
  done: (error: Error | null, result: unknown) => void,
) => void

/** `usedBytes` of the input made `output`: fewer than were given where something stands behind the end. */
type ZlibResult = { output: Buffer; usedBytes: number }

/** What node:zlib takes at least for a piece of output. */
const MIN_CHUNK_BYTES = 64

/**
 * Calls `call` with memory for `mostBytes` of output and one byte more: with the default of 16 KiB pieces every one of
 * them is another journey to the pool, which halves the speed; and without the byte so is the end.
 * Rejects with node:zlib's error.
 */
async function zlibOneShot(
  call: ZlibCall,
  data: Uint8Array,
  mostBytes: number,
  params: Readonly<Record<number, number>>,
): Promise<ZlibResult> {
  const options: OneShotOptions = {
    params: { ...params },
    chunkSize: Math.max(MIN_CHUNK_BYTES, mostBytes + 1),
    maxOutputLength: mostBytes,
    info: true,
  }
  return await new Promise((resolve, reject) => {
    call(data, options, (error, result) => {
      if (error === null) resolve(resultOf(result))
      else reject(error)
    })
  })
}

/** What two codecs of node:zlib differ in. */
export type ZlibParts = Readonly<{
  /** `mostBytes`: what so many bytes take at most. */
  compress: Readonly<{
    call: ZlibCall
    params: Readonly<Record<number, number>>
    mostBytes: (rawBytes: number) => number
  }>
  decompress: Readonly<{ call: ZlibCall; params: Readonly<Record<number, number>> }>
  /** Throws for a stream that the decoder would take too much memory for. */
  checkStream?: (data: Uint8Array) => void
}>

/** A codec over two functions of node:zlib. */
export function zlibCodec(name: CodecName, { compress, decompress, checkStream }: ZlibParts): Codec {
  return {
    name,
    id: CODEC_ID[name],

    async compress(data) {
      checkPieceBytes(data.length)
      const { output } = await zlibOneShot(
        compress.call,
        data,
        compress.mostBytes(data.length),
        compress.params,
      )
      return output
    },

    async decompress(data, rawBytes) {
      checkPieceBytes(rawBytes)
      checkStream?.(data)
      const { output, usedBytes } = await zlibOneShot(
        decompress.call,
        data,
        rawBytes,
        decompress.params,
      ).catch((error: unknown) => {
        throw pieceError(`${name} data for ${rawBytes} bytes that cannot be decompressed`, error)
      })
      if (output.length !== rawBytes || usedBytes !== data.length)
        throw pieceError(`${name} data of ${output.length} bytes where ${rawBytes} were announced`)
      return output
    },
  }
}

/** With `info` node:zlib gives its buffer together with the engine that made it. */
function resultOf(result: unknown): ZlibResult {
  if (isObject(result) && result.buffer instanceof Buffer && isObject(result.engine)) {
    const usedBytes = result.engine.bytesWritten
    if (typeof usedBytes === 'number') return { output: result.buffer, usedBytes }
  }
  throw new TypeError('node:zlib gave something else than a buffer and its engine')
}
