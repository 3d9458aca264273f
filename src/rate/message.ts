// What goes over a run's control socket: one line of JSON in, one out. Refuses lines that are no request or no answer, and
// all that are too long.

import type { Socket } from 'node:net'

import { isObject } from '../json.js'
import { isRate, isRateSchedule } from './schedule.js'
import type { RateSchedule } from './schedule.js'

/** `show` changes nothing; `bwlimit` sets the limit from now on (null is none). Both are answered with the run as it is. */
export type ControlRequest =
  | Readonly<{ command: 'show' }>
  | Readonly<{ command: 'bwlimit'; schedule: RateSchedule | null }>

/** Operands as they were typed. */
export type RunDisk = Readonly<{ source: string; destination: string }>

export type RunStatus = Readonly<{
  pid: number
  /** The first few. */
  disks: readonly RunDisk[]
  diskCount: number
  schedule: RateSchedule | null
  /** In force now; null is no limit. */
  bytesPerSecond: number | null
}>

export type ControlReply = Readonly<{ ok: true; run: RunStatus }> | Readonly<{ ok: false; message: string }>

/** Enough to know a run by; so an answer has a bound. */
export const MAX_SHOWN_DISKS = 4

/** A schedule with all its slots, or a few paths of 4096 characters escaped; more is something else. */
export const MAX_LINE_BYTES = 256 << 10

/** The request of a line, or null where it is none. */
export function parseRequest(line: string): ControlRequest | null {
  const fields = parseObject(line)
  if (fields === null) return null
  if (fields['command'] === 'show') return { command: 'show' }
  const { command, schedule } = fields
  if (command !== 'bwlimit' || (schedule !== null && !isRateSchedule(schedule))) return null
  return { command, schedule }
}

/** The answer of a line, or null where it is none. */
export function parseReply(line: string): ControlReply | null {
  const fields = parseObject(line)
  if (fields === null) return null
  if (fields['ok'] === false && typeof fields['message'] === 'string')
    return { ok: false, message: fields['message'] }
  const run = fields['ok'] === true ? parseStatus(fields['run']) : null
  return run === null ? null : { ok: true, run }
}

/**
 * The first line that comes over the socket; resolves with null where it ends without one or sends too much. Rejects with
 * the socket's error.
 */
export async function readLine(socket: Socket): Promise<string | null> {
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let lengthBytes = 0
    socket.on('data', (chunk: Buffer) => {
      const end = chunk.indexOf(0x0a)
      const part = end < 0 ? chunk : chunk.subarray(0, end)
      lengthBytes += part.length
      if (lengthBytes > MAX_LINE_BYTES) return resolve(null)
      chunks.push(part)
      if (end >= 0) resolve(Buffer.concat(chunks).toString())
    })
    socket.once('error', reject)
    socket.once('close', () => resolve(null))
  })
}

function parseStatus(value: unknown): RunStatus | null {
  if (!isObject(value)) return null
  const { pid, disks, diskCount, schedule, bytesPerSecond } = value
  if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(diskCount)) return null
  if (!Array.isArray(disks) || disks.length > MAX_SHOWN_DISKS || !disks.every(isDisk)) return null
  if (schedule !== null && !isRateSchedule(schedule)) return null
  if (bytesPerSecond !== null && !isRate(bytesPerSecond)) return null
  return { pid: Number(pid), disks, diskCount: Number(diskCount), schedule, bytesPerSecond }
}

function isDisk(value: unknown): value is RunDisk {
  return isObject(value) && typeof value['source'] === 'string' && typeof value['destination'] === 'string'
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? value : null
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null
    throw thrown
  }
}
