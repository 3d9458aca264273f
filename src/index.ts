// What a program that embeds blocksync may import.

export type { AlgorithmName } from './digest/digester.js'
export { EXIT, type ErrorCode, exitStatusOf, SyncError } from './errors.js'
export {
  type NativeMode,
  type ResumeChoice,
  type RunMode,
  type SizePolicy,
  SYNC_DEFAULTS,
  syncOptions,
  type SyncOptions,
} from './options.js'
export { constantRate, type RateSchedule, type RateSlot } from './rate/schedule.js'
export type { DiskPair, DiskReport, Operand, Progress, RunHooks, RunReport } from './sync/report.js'
export { probe, type ProbeResult } from './sync/probe.js'
export { sync } from './sync/sync.js'
export type { FarSide, TransportOptions } from './transport/transport.js'
