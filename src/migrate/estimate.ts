// How much a migration would send and how long that and its downtime would take: planned disks and a measured rate in, numbers
// out. Refuses to promise what was not measured: without a rate there is no time.

import { randomBytes } from 'node:crypto'

import type { Host } from '../host/host.js'
import type { GuestState, MigrateMode } from '../hypervisor/driver.js'
import { MAX_INPUT_BYTES } from '../host/host.js'
import type { Estimate, PlannedDisk, PlannedFile } from './plan.js'

/** Long enough to be more than the round trip on a slow line, and nothing on a fast one. */
const MEASURED_BYTES = MAX_INPUT_BYTES >> 1
const MEASURE_TIMEOUT_MS = 20_000
/** A saved state is written and read once; a plain disk does this. */
const STATE_BYTES_PER_SECOND = 200 << 20
/** What the programs of a hypervisor take for save, restore and resume beside the bytes; seen on two hosts of our own. */
const WARM_FIXED_MS = 1500
/** What QEMU allows itself unless it is told otherwise (downtime-limit). */
const LIVE_DOWNTIME_MS = 300

export type Clock = Readonly<{ nowMs: () => number }>

/** Bytes a second to the other host, by handing some to a program there twice; null where that cannot be measured. */
export async function measureRate(destination: Host, { nowMs }: Clock): Promise<number | null> {
  const time = async (input: string): Promise<number | null> => {
    const startMs = nowMs()
    const { exitStatus } = await destination.run({ argv: ['wc', '-c'], timeoutMs: MEASURE_TIMEOUT_MS, input })
    return exitStatus === 0 ? nowMs() - startMs : null
  }
  const emptyMs = await time('')
  // nothing on the way can make this shorter
  const fullMs = emptyMs === null ? null : await time(randomBytes(MEASURED_BYTES / 2).toString('hex'))
  if (emptyMs === null || fullMs === null || fullMs <= emptyMs) return null
  return (MEASURED_BYTES / (fullMs - emptyMs)) * 1000
}

export type EstimateBasis = Readonly<{
  mode: MigrateMode
  state: GuestState
  disks: readonly PlannedDisk[]
  files: readonly PlannedFile[]
  memoryBytes: number
  /** Null where it is not known. */
  bytesPerSecond: number | null
}>

/** Bytes at most (what is equal there already is not sent); times where a rate is known. */
export function estimate(basis: EstimateBasis): Estimate {
  const { mode, state, disks, files, memoryBytes, bytesPerSecond } = basis
  const copied = disks.filter(({ fate }) => fate === 'copied')
  const memory = mode === 'cold' ? 0 : memoryBytes
  const bytes =
    copied.reduce((sum, disk) => sum + Math.min(disk.sizeBytes, disk.allocatedBytes), 0) +
    files.reduce((sum, file) => sum + file.sizeBytes, 0) +
    memory
  const sendMs = (count: number): number | null =>
    bytesPerSecond === null ? null : Math.round((count / bytesPerSecond) * 1000)
  return { bytes, durationMs: sendMs(bytes), downtimeMs: downtime(mode, state, memory, sendMs(memory)) }
}

function downtime(
  mode: MigrateMode,
  state: GuestState,
  memoryBytes: number,
  sendMs: number | null,
): number | null {
  switch (mode) {
    case 'live':
      return LIVE_DOWNTIME_MS
    case 'warm':
      // written, sent and read again, one after the other
      return sendMs === null
        ? null
        : sendMs + Math.round((memoryBytes / STATE_BYTES_PER_SECOND) * 2000) + WARM_FIXED_MS
    case 'cold':
      // how long a guest takes to shut down and to boot is its own affair
      return state === 'off' ? 0 : null
    default:
      return mode satisfies never
  }
}
