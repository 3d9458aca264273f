// The map of a rescued disk: what could not be read goes in, a mapfile as GNU ddrescue writes it comes out (its manual,
// "Mapfile structure"), whole or not at all. Refuses to replace a file that is no such map, or the map of another disk.

import { constants } from 'node:fs'
import { access, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

import type { Range } from '../digest/digester.js'
import { errnoOf, SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { writeAtomically } from '../state/atomic-file.js'
import { packageVersion } from '../version.js'

/** A map of a million places that ddrescue could not read is smaller. */
const MAX_MAP_BYTES = 64 << 20

/** Of a block: not tried, not trimmed, not scraped, bad, done. */
const BLOCK_STATUS = '?*/-+'
/** Of the whole: copying, trimming, scraping, retrying, filling, generating, done. */
const CURRENT_STATUS = '?*/-FG+'

/** What a map says: places in order, without a gap, with a letter of BLOCK_STATUS for each. */
export type MapBlock = Readonly<{ offset: number; length: number; status: string }>

/** What is to be written: the disk is `sizeBytes` long, and its first `lengthBytes` were gone over but for `unreadable`. */
export type Rescued = Readonly<{
  source: string
  sizeBytes: number
  lengthBytes: number
  unreadable: readonly Range[]
}>

export class RescueMap {
  readonly path: string
  /** Of the map that was there: where it ends, and how much of it was bad; null where there was none. */
  readonly earlier: Readonly<{ endBytes: number; badBytes: number }> | null

  private constructor(path: string, earlier: RescueMap['earlier']) {
    this.path = path
    this.earlier = earlier
  }

  /** Looks at what is there and whether it can be replaced. Rejects with `usage`: nothing was opened. */
  static async open(path: string): Promise<RescueMap> {
    try {
      await access(dirname(resolve(path)), constants.W_OK | constants.X_OK)
      const text = await readMap(path)
      if (text === null) return new RescueMap(path, null)
      const blocks = parseMap(text)
      const badBytes = blocks.reduce((sum, { length, status }) => sum + (status === '-' ? length : 0), 0)
      const last = blocks.at(-1)
      return new RescueMap(path, { endBytes: last === undefined ? 0 : last.offset + last.length, badBytes })
    } catch (error) {
      if (!(error instanceof RangeError) && errnoOf(error) === null) throw error
      const why = error instanceof RangeError ? error.message : `cannot be written (${errnoOf(error)})`
      throw new SyncError('usage', `--rescue: ${path} ${why}; nothing was opened`, {
        operand: '--rescue',
        hint: 'Name a file that does not exist yet in a directory that you may write to, or the map of an earlier rescue of this disk.',
        cause: error,
      })
    }
  }

  /** Rejects with `usage` where the map that was there is not one of a disk of that size. */
  check(source: string, sizeBytes: number): void {
    const { earlier } = this
    if (earlier === null || earlier.endBytes === sizeBytes) return
    throw new SyncError(
      'usage',
      `--rescue: ${this.path} is the map of a disk of ${earlier.endBytes} bytes, and ${source} has ${sizeBytes}; nothing was written`,
      { operand: '--rescue', hint: 'Each disk has a map of its own: name another file.' },
    )
  }

  /** Replaces the map; it is on stable storage when it resolves. Rejects with rescue/write. */
  async write(rescued: Rescued): Promise<void> {
    try {
      await writeAtomically(resolve(this.path), mapText(rescued, new Date()))
    } catch (cause) {
      throw new SyncError(
        'rescue/write',
        `the disk is done, but its map ${this.path} could not be written (${errnoOf(cause) ?? String(cause)})`,
        {
          operand: '--rescue',
          cause,
          hint: 'Make room for it, or name another file; then run the same command again: it has little left to do.',
        },
      )
    }
  }
}

/** The text of a map. */
export function mapText({ source, sizeBytes, lengthBytes, unreadable }: Rescued, now: Date): string {
  const lines = [
    `# Mapfile. Created by blocksync version ${packageVersion()}`,
    `# Source: ${printable(source)}`,
    `# Current time: ${now.toISOString()}`,
    '# Finished',
    '# current_pos  current_status  current_pass',
    `${hexOf(lengthBytes)}     +               1`,
    '#      pos        size  status',
  ]
  const add = (from: number, to: number, status: string): void => {
    if (from < to) lines.push(`${hexOf(from)}  ${hexOf(to - from)}  ${status}`)
  }
  let at = 0
  for (const { offset, length } of unreadable) {
    add(at, offset, '+')
    add(offset, offset + length, '-')
    at = offset + length
  }
  add(at, lengthBytes, '+')
  add(lengthBytes, sizeBytes, '?')
  return `${lines.join('\n')}\n`
}

/** The reverse, of a map by whatever program. Throws a RangeError that says what it is not. */
export function parseMap(text: string): MapBlock[] {
  const [status, ...lines] = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'))
  const [position = '', letter = '', pass, ...more] = (status ?? '').trim().split(/\s+/)
  const isStatus = isNumber(position) && letter.length === 1 && CURRENT_STATUS.includes(letter)
  if (!isStatus || more.length > 0 || (pass !== undefined && !/^\d+$/.test(pass)) || lines.length === 0)
    throw new RangeError('is there, and is no mapfile')
  const blocks: MapBlock[] = []
  let at: number | null = null
  for (const line of lines) {
    const words = line.trim().split(/\s+/)
    const [offsetText = '', lengthText = '', blockStatus = ''] = words
    const [offset, length] = [Number(offsetText), Number(lengthText)]
    const isBlock = words.length === 3 && blockStatus.length === 1 && BLOCK_STATUS.includes(blockStatus)
    const isPlaced = isNumber(offsetText) && isNumber(lengthText) && offset === (at ?? offset) && length > 0
    if (!isBlock || !isPlaced || !Number.isSafeInteger(offset + length))
      throw new RangeError('is there, and is no whole mapfile')
    blocks.push({ offset, length, status: blockStatus })
    at = offset + length
  }
  return blocks
}

/** Decimal or hexadecimal: what ddrescue has ever written. */
function isNumber(text: string): boolean {
  return /^(0x[0-9a-fA-F]+|\d+)$/.test(text)
}

function hexOf(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(8, '0')}`
}

/** Null where there is none. Throws a RangeError for what can be no map. */
async function readMap(path: string): Promise<string | null> {
  try {
    // a fifo would make the open wait; a link would be replaced, not what it leads to
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const facts = await file.stat()
    if (!facts.isFile() || facts.size > MAX_MAP_BYTES) throw new RangeError('is there, and is no mapfile')
    return await file.readFile('utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    if (errnoOf(error) === 'ELOOP') throw new RangeError('is a symbolic link', { cause: error })
    throw error
  }
}
