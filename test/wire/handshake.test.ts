// Banners: what is found behind shell noise, what is refused, and what happens when none comes.

import { PassThrough } from 'node:stream'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Banner, Greeting } from '../../src/wire/handshake.js'
import {
  agreeVersion,
  encodeBanner,
  MAX_BANNER_BYTES,
  MAX_NOISE_BYTES,
  parseBanner,
  PROTOCOL,
  readBanner,
} from '../../src/wire/handshake.js'
import { expectRefused, expectRejected } from './expect.js'
import { settled } from './pair.js'

const SERVER: Banner = {
  side: 'server',
  least: 1,
  most: 3,
  program: '0.1.0',
  node: 'v20.19.0',
  native: true,
  algorithms: ['xxh3-128', 'xxh64x2', 'sha256'],
  codecs: ['zstd', 'brotli'],
  processors: 8,
  process: '6f0c1a52-3b1e-4c0f-9f5e-2f3f0f6d7a11.4026531836.4711',
  timeoutMs: 90_000,
  bonds: false,
}
const LINE =
  'BLOCKSYNC server 1-3 program=0.1.0 node=v20.19.0 native=yes digests=xxh3-128,xxh64x2,sha256 codecs=zstd,brotli cpus=8 ' +
  'process=6f0c1a52-3b1e-4c0f-9f5e-2f3f0f6d7a11.4026531836.4711 timeout=90000\n'

async function greetingOf(...chunks: readonly (string | Buffer)[]): Promise<Greeting | null> {
  const input = new PassThrough()
  const greeting = readBanner(input, 'server', 'host2', 5000)
  greeting.catch(() => undefined) // awaited at the end, but it may reject before
  for (const chunk of chunks) {
    input.write(chunk)
    await settled()
  }
  input.end()
  return await greeting
}

describe('a banner', () => {
  it('is one line of text', () => {
    expect(encodeBanner(SERVER)).toBe(LINE)
    expect(parseBanner(LINE.trimEnd())).toEqual(SERVER)
  })

  it('of any content comes back', () => {
    const word = fc.stringMatching(/^[A-Za-z0-9.+-]{1,30}$/)
    fc.assert(
      fc.property(
        fc.constantFrom('client' as const, 'server' as const),
        fc.nat(99_999),
        fc.nat(99_999),
        word,
        word,
        fc.boolean(),
        fc.subarray([...SERVER.algorithms]),
        fc.subarray([...SERVER.codecs]),
        fc.integer({ min: 1, max: 99_999 }),
        fc.constantFrom(null, SERVER.process),
        fc.constantFrom(null, 0, 1000),
        fc.boolean(),
        (
          side,
          least,
          most,
          program,
          node,
          native,
          algorithms,
          codecs,
          processors,
          name,
          timeoutMs,
          bonds,
        ) => {
          const able = { native, algorithms, codecs, processors, bonds }
          const banner: Banner = { side, least, most, program, node, ...able, process: name, timeoutMs }
          expect(parseBanner(encodeBanner(banner).trimEnd())).toEqual(banner)
          expect(encodeBanner(banner).length).toBeLessThanOrEqual(MAX_BANNER_BYTES)
        },
      ),
      { seed: 20_250_105, numRuns: 200 },
    )
  })

  it('may end in CRLF, name unknown capabilities, digests and codecs, and leave out all of them', () => {
    expect(parseBanner(LINE.replace('\n', '\r'))).toEqual(SERVER)
    expect(
      parseBanner('BLOCKSYNC server 1-3 colour=blue digests=blake9,sha256 codecs=brotli,lz9 x-y='),
    ).toEqual({
      ...SERVER,
      program: 'unknown',
      node: 'unknown',
      native: false,
      algorithms: ['sha256'],
      codecs: ['brotli'],
      processors: 1,
      process: null,
      timeoutMs: null,
      bonds: false,
    })
    expect(parseBanner('BLOCKSYNC client 2-2')).toMatchObject({
      side: 'client',
      least: 2,
      most: 2,
      algorithms: [],
      codecs: [],
    })
  })

  it('without a codec does not name the capability, and an empty list of them is none', () => {
    const plain = encodeBanner({ ...SERVER, codecs: [] })
    expect(plain).not.toContain('codecs')
    expect(parseBanner(plain.trimEnd())?.codecs).toEqual([])
    expect(parseBanner(`${plain.trimEnd()} codecs=`)?.codecs).toEqual([])
  })

  it('says nothing of its process or patience where that is not of the form it has', () => {
    const odd = (words: string): unknown[] => {
      const banner = parseBanner(`BLOCKSYNC client 2-2 ${words}`)
      return [banner?.process, banner?.timeoutMs]
    }
    expect(odd('process=1 timeout=x')).toEqual([null, null])
    expect(odd('process=../../etc.1.1 timeout=-1')).toEqual([null, null])
    expect(odd('timeout=1e9')).toEqual([null, null])
    expect(odd('timeout=0')).toEqual([null, 0])
  })

  it('has one processor where it says nothing that is a number of them', () => {
    const processors = (cpus: string): number | undefined =>
      parseBanner(`BLOCKSYNC server 2-2 cpus=${cpus}`)?.processors
    expect(['8', '1', '0', '', '-1', '1.5', '1e3', '99999', '100000', 'many'].map(processors)).toEqual([
      8, 1, 1, 1, 1, 1, 1, 99_999, 1, 1,
    ])
  })

  it('is nothing else', () => {
    const others = [
      '',
      'BLOCKSYNC',
      'BLOCKSYNC server',
      'BLOCKSYNC server 1',
      'BLOCKSYNC server 1-',
      'BLOCKSYNC server a-b',
      'BLOCKSYNC server 1-123456',
    ]
    for (const line of [
      ...others,
      'BLOCKSYNC both 1-1',
      'blocksync server 1-1',
      ' BLOCKSYNC server 1-1',
      'BLOCKSYNC server 1-1 word',
      'BLOCKSYNC server 1-1  a=b',
    ]) {
      expect(parseBanner(line)).toBeNull()
    }
  })

  it('does not bring control characters to a terminal', () => {
    expect(parseBanner('BLOCKSYNC server 1-1 program=\u001b[2J')?.program).toBe('?[2J')
  })
})

describe('reading a banner', () => {
  it('cut at every byte, with frames right behind it', async () => {
    const stream = Buffer.concat([Buffer.from(LINE), Buffer.from('0d00000000000000', 'hex')])
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const input = new PassThrough()
      const reading = readBanner(input, 'server', 'host2', 5000)
      input.write(stream.subarray(0, cut))
      await new Promise((resolve) => setImmediate(resolve))
      input.end(stream.subarray(cut))
      const greeting = await reading
      expect(greeting?.banner).toEqual(SERVER)
      expect(greeting?.noise).toBe('')
      const behind = (await input.toArray()) as Buffer[]
      expect(Buffer.concat([greeting?.rest ?? Buffer.alloc(0), ...behind]).toString('hex')).toBe(
        '0d00000000000000',
      )
    }
  })

  it('skips noise before it, also without a final newline, and tells what it was', async () => {
    for (const noise of [
      'Welcome to host2\n',
      'no newline',
      'BLOCKSYNC server ',
      'BLOCKSYNC server 1-',
      'BLOCKSYNC server nonsense\n',
      '\u0000\u00ff\r\n\r\n',
    ]) {
      const greeting = await greetingOf(Buffer.from(noise, 'latin1'), `${LINE}rest`)
      expect(greeting).toMatchObject({ banner: SERVER, noise })
      expect(greeting?.rest.toString()).toBe('rest')
    }
  })

  it('takes a line of the wrong side for noise: `cat` at the far end would send our own back', async () => {
    const own = encodeBanner({ ...SERVER, side: 'client' })
    expect(await greetingOf(own)).toBeNull()
    expect(await greetingOf(own, LINE)).toMatchObject({ banner: SERVER, noise: own })
  })

  it('takes a line that is too long for noise', async () => {
    const long = `BLOCKSYNC server 1-3 a=${'x'.repeat(MAX_BANNER_BYTES)}\n`
    expect(await greetingOf(long)).toBeNull()
    expect((await greetingOf(long, LINE))?.noise).toBe(long)
  })

  it('takes noise up to the limit and refuses more, naming the host and how it began', async () => {
    const noise = `Last login: Monday\n${'.'.repeat(MAX_NOISE_BYTES)}`
    const most = noise.slice(0, MAX_NOISE_BYTES - LINE.length)
    expect((await greetingOf(most, LINE))?.noise.length).toBe(most.length)
    const error = await expectRejected('connect/garbage', greetingOf(noise))
    expect(error.operand).toBe('host2')
    expect(error.message).toContain('host2')
    expect(error.hint).toContain('"Last login: Monday"')
  })

  it('gives null where the stream ends, or breaks, before one came', async () => {
    expect(await greetingOf()).toBeNull()
    expect(await greetingOf('sh: blocksync: not found\n', LINE.slice(0, -1))).toBeNull()
    const input = new PassThrough()
    const reading = readBanner(input, 'server', 'host2', 5000)
    input.destroy(new Error('cable cut'))
    expect(await reading).toBeNull()
    expect(await readBanner(input, 'server', 'host2', 5000)).toBeNull()
  })

  it('gives up when time is over, and listens no more', async () => {
    const input = new PassThrough()
    input.write('Password: ')
    const error = await expectRejected('connect/garbage', readBanner(input, 'server', 'host2', 20))
    expect(error.message).toContain('0.02 seconds')
    expect(error.hint).toContain('"Password: "')
    expect([input.listenerCount('data'), input.listenerCount('end'), input.isPaused()]).toEqual([0, 0, true])
  })
})

describe('versions', () => {
  it('the highest that both speak is used', () => {
    const { least, most } = PROTOCOL
    expect(agreeVersion({ ...SERVER, least, most: most + 5 }, 'host2')).toBe(most)
    expect(agreeVersion({ ...SERVER, least: 0, most: least }, 'host2')).toBe(least)
  })

  it('that do not overlap name both ranges', () => {
    const { least, most } = PROTOCOL
    for (const [theirLeast, theirMost] of [
      [most + 1, most + 2],
      [0, least - 1],
    ] as const) {
      const error = expectRefused('connect/version', () =>
        agreeVersion({ ...SERVER, least: theirLeast, most: theirMost }, 'host2'),
      )
      expect(error.message).toContain(`${least}-${most} here`)
      expect(error.message).toContain(`${theirLeast}-${theirMost} on host2`)
      expect([error.operand, error.hint === null]).toEqual(['host2', false])
    }
  })
})
