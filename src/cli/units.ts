// Sizes, rates and times as people write and read them. Refuses what is not a number with one of the known units,
// what is not a whole number of bytes, and what does not fit into a safe integer.

import { SyncError } from '../errors.js'

/** Bytes of each unit, by its lower-case name: one letter and `iB` are 1024-based, `B` after a letter is 1000-based. */
const BYTES_OF_UNIT: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, index): [string, number][] => [
    [letter, 1024 ** (index + 1)],
    [`${letter}ib`, 1024 ** (index + 1)],
    [`${letter}b`, 1000 ** (index + 1)],
  ]),
])

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

const UNITS_HINT = '(K M G T are 1024-based, KB MB GB TB 1000-based)'

/** Longer numbers are typing errors; it also keeps the digits within what a double tells apart. */
const MAX_NUMBER_TEXT = 24

/** The bytes of a size such as `1M`, `64KiB`, `1.5GB` or `4096`. Rejects with `usage`, naming the option. */
export function parseSize(option: string, text: string): number {
  const bytes = parseQuantity(text)
  if (bytes === null || !Number.isInteger(bytes))
    throw badValue(option, text, 'is not a size in bytes', `1M, 64K or 4096 ${UNITS_HINT}`)
  return bytes
}

/** Bytes a second of a rate such as `80M`, `10MB/s`; null (no limit) for `0` and `off`. Rejects with `usage`. */
export function parseRate(option: string, text: string): number | null {
  if (text === 'off') return null
  const bytes = parseQuantity(text.endsWith('/s') ? text.slice(0, -2) : text)
  if (bytes === null)
    throw badValue(option, text, 'is not a rate in bytes a second', `80M, 10MB or off ${UNITS_HINT}`)
  if (bytes === 0) return null
  if (bytes < 1)
    throw badValue(option, text, 'is less than one byte a second', `80M, 10MB or off ${UNITS_HINT}`)
  return Math.floor(bytes)
}

/** Milliseconds of each unit of time, by its name. */
const MS_OF_UNIT: Readonly<Record<string, number>> = {
  '': 1000,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** The milliseconds of a time such as `30` (seconds), `90s`, `5m`, `1.5h`. Rejects with `usage`, naming the option. */
export function parseDuration(option: string, text: string): number {
  const match = text.length > MAX_NUMBER_TEXT ? null : /^([0-9]+(?:\.[0-9]+)?) ?([smhd]?)$/.exec(text)
  const ms = Math.round(Number(match?.[1]) * (MS_OF_UNIT[match?.[2] ?? ''] ?? Number.NaN))
  if (Number.isSafeInteger(ms)) return ms
  throw badValue(option, text, 'is not a time', '30 (seconds), 5m or 2h')
}

/** A TCP port, 1 to 65535. Rejects with `usage`, naming the option. */
export function parsePort(option: string, text: string): number {
  const port = portNumber(text)
  if (port === null) throw badValue(option, text, 'is not a port from 1 to 65535', '22')
  return port
}

/** The port that the digits stand for, or null. */
export function portNumber(text: string): number | null {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0
  return port >= 1 && port <= 65535 ? port : null
}

/** Three digits and a 1024-based unit: `512 B`, `1.00 TiB`, `88.2 MiB`. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes)
  let unit = 0
  // 1023.5 would print as 1024: it is one of the next unit already
  while (value >= (unit === 0 ? 1024 : 1023.5) && unit < BINARY_UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? Math.floor(value) : threeDigits(value)} ${BINARY_UNITS[unit]}`
}

/** As formatBytes, a second. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`
}

/** Hours, minutes and seconds: `0:05:12`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000))
  const two = (value: number): string => String(value).padStart(2, '0')
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
}

/** How long something took: `1.25 s`, from a minute on `0:05:12`. */
export function formatElapsed(durationMs: number): string {
  return durationMs < 59_995 ? `${(Math.max(0, durationMs) / 1000).toFixed(2)} s` : formatDuration(durationMs)
}

function threeDigits(value: number): string {
  if (value < 9.995) return value.toFixed(2)
  if (value < 99.95) return value.toFixed(1)
  return value.toFixed(0)
}

/** Bytes (perhaps not whole), or null where it is not a quantity. */
function parseQuantity(text: string): number | null {
  if (text.length > MAX_NUMBER_TEXT) return null
  const match = /^([0-9]+(?:\.[0-9]+)?) ?([a-z]*)$/i.exec(text)
  if (match === null) return null
  const factor = BYTES_OF_UNIT.get((match[2] ?? '').toLowerCase())
  if (factor === undefined) return null
  const bytes = Number(match[1]) * factor
  return bytes <= Number.MAX_SAFE_INTEGER ? bytes : null
}

function badValue(option: string, text: string, problem: string, example: string): SyncError {
  return new SyncError('usage', `'${text}' ${problem}; nothing was opened`, {
    operand: option,
    hint: `Write for example ${option} ${example}.`,
  })
}
