// The line protocols beside the wire: banners, tokens and lines of the gate, requests to a run's control socket. What comes
// out is a value or a refusal, never another exception.

import { SyncError } from '../../src/errors.js'
import {
  decodeFacts,
  decodeLine,
  decodeToken,
  encodeLine,
  LineReader,
  MAX_HELLO_BYTES,
} from '../../src/guard/admission.js'
import { parseReply, parseRequest } from '../../src/rate/message.js'
import { askedWords } from '../../src/cli/restrict-words.js'
import { encodeBanner, ownBanner, parseBanner } from '../../src/wire/handshake.js'
import { Random } from './random.js'

const LINES = [
  encodeBanner(ownBanner('server', true, ['xxh64x2'], ['zstd'])),
  encodeLine({ nonce: '0'.repeat(32), proof: 'f'.repeat(64) }),
  encodeLine({ facts: { machine: 'm', aliases: ['block:1:2', 'file:1:2'] } }),
  encodeLine({ disk: '/dev/x' }),
  `lanes1.${'0'.repeat(32)}.${'1'.repeat(32)}\n`,
  '{"command":"show"}\n',
  '{"command":"bwlimit","schedule":[{"minute":0,"bytesPerSecond":1000}]}\n',
  '{"command":"bwlimit","schedule":null}\n',
  '{"ok":true,"run":{"pid":1,"disks":[{"source":"a","destination":"b"}],"diskCount":1,"schedule":null,"bytesPerSecond":null}}\n',
  'nice -n 10 blocksync serve --native=auto --state-dir=/x\n',
]
const LINES_EACH = 12

export function fuzzLines(seed: number, session: number): { lines: number; violations: string[] } {
  const random = new Random(seed ^ 0x5eed, session)
  const violations: string[] = []
  const reader = new LineReader()
  for (let count = 0; count < LINES_EACH; count += 1) {
    const line = Buffer.from(random.pick(LINES))
    for (let changes = random.int(4); changes > 0; changes -= 1) line[random.int(line.length)] = random.next()
    const cut = random.once(6) ? line.subarray(0, random.int(line.length + 1)) : line
    const text = cut.toString('latin1').replace(/\n$/, '')
    for (const read of [
      () => parseBanner(text),
      () => decodeFacts(decodeLine(text)?.['facts']),
      () => decodeToken(text),
      () => parseRequest(text),
      () => parseReply(text),
      () => askedWords(text),
      () => reader.push(Buffer.concat(Array.from({ length: random.int(8) + 1 }, () => cut)), MAX_HELLO_BYTES),
    ]) {
      try {
        read()
      } catch (thrown) {
        if (!(thrown instanceof SyncError) || thrown.code === 'internal')
          violations.push(`${JSON.stringify(text)}: ${String(thrown)}`)
      }
    }
  }
  return { lines: LINES_EACH, violations }
}
