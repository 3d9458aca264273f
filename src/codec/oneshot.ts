// One call of a node:zlib function over a whole piece, in libuv's pool: bytes in, bytes out, and how many were used.
// Refuses what node:zlib refuses; a result longer than `mostBytes` is one of these things.

import type { BrotliOptions } from 'node:zlib'

/** `info` is missing in the types of Node 20, and documented there. */
type OneShotOptions = BrotliOptions & { info: true }

/** What the functions of node:zlib that take a piece as a whole have in common, zstd's too. */
export type ZlibCall = (
  data: Uint8Array,
  options: OneShotOptions,
  done: (error: Error | null, result: unknown) => void,
) => void

/** `usedBytes` of the input made `output`: fewer than were given where something stands behind the end. */
export type ZlibResult = { output: Buffer; usedBytes: number }

/** What node:zlib takes at least for a piece of output. */
const MIN_CHUNK_BYTES = 64

/**
 * Calls `call` with memory for `mostBytes` of output and one byte more: with the default of 16 KiB pieces every one of
 * them is another journey to the pool, which halves the speed; and without the byte so is the end.
 * Rejects with node:zlib's error.
 */
export async function zlibOneShot(
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

/** With `info` node:zlib gives its buffer together with the engine that made it. */
function resultOf(result: unknown): ZlibResult {
  if (isObject(result) && result.buffer instanceof Buffer && isObject(result.engine)) {
    const usedBytes = result.engine.bytesWritten
    if (typeof usedBytes === 'number') return { output: result.buffer, usedBytes }
  }
  throw new TypeError('node:zlib gave something else than a buffer and its engine')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
