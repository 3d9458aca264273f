// Changes a disk image all the time, as a busy guest does: `node scribble.js PATH BYTES_PER_SECOND [SEED]`. Writes pieces of 4 to
// 64 KiB at places that chance names, through the page cache, until it is ended. Refuses a file that is not there.

import { openSync, fstatSync, writeSync } from 'node:fs'

const [path = '', rate = '1000000', seed = '1'] = process.argv.slice(2)
const PIECE_BYTES = 4096
const MOST_PIECES = 16
const TICK_MS = 50

const file = openSync(path, 'r+')
const pieces = Math.floor(fstatSync(file).size / PIECE_BYTES)
const content = Buffer.alloc(PIECE_BYTES * MOST_PIECES)
let state = Number(seed) >>> 0 || 1

/** xorshift32 (Marsaglia 2003): no more is asked of it than to be different everywhere. */
function next() {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  state >>>= 0
  return state
}

let owedBytes = 0
let lastMs = performance.now()
setInterval(() => {
  const nowMs = performance.now()
  owedBytes = Math.min(owedBytes + ((nowMs - lastMs) * Number(rate)) / 1000, Number(rate))
  lastMs = nowMs
  while (owedBytes > 0) {
    const at = next() % pieces
    const count = Math.min(1 + (next() % MOST_PIECES), pieces - at)
    const bytes = count * PIECE_BYTES
    for (let offset = 0; offset < bytes; offset += 4) content.writeUInt32LE(next(), offset)
    writeSync(file, content, 0, bytes, at * PIECE_BYTES)
    owedBytes -= bytes
  }
}, TICK_MS)
