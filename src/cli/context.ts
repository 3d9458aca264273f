// What a command is given instead of reaching for the process: where to print, what the time is, who sends signals and
// how the engine is loaded. Tests give their own.

import type { NativeStatus } from '../native.js'
import type { RunsEngine } from './bwlimit.js'
import type { DigestEngine } from './digest.js'
import type { DoctorEngine } from './doctor.js'
import type { LocalNames } from './operand.js'
import type { MigrateEngine } from './migrate.js'
import type { Output } from './output.js'
import type { Receipts } from './receipt-file.js'
import type { ReplicateEngine } from './replicate.js'
import type { SignalSource } from './signals.js'
import type { StatusEngine } from './status.js'
import type { RunSync } from './sync.js'
import type { RunUndo } from './undo.js'

export type CommandContext = Readonly<{
  output: Output
  environment: NodeJS.ProcessEnv
  names: LocalNames
  /** A steady clock in ms. */
  nowMs: () => number
  signals: SignalSource
  /** Asks the person at the terminal; null where there is none. */
  ask: ((question: string, signal: AbortSignal) => Promise<boolean>) | null
  /** Calls back when stdin has ended: a parent that holds it open is gone then. Disposing it lets go of stdin. */
  onInputEnd: (ended: () => void) => Disposable
  /** Single keys of the terminal on stdin; none where there is no terminal. Disposing it gives the terminal back. */
  onKey: (pressed: (key: string) => void) => Disposable
  /** Ends the process at once. */
  exit: (status: number) => void
  /** Loaded only by the command that needs it: start-up time counts. */
  loadSync: () => Promise<RunSync>
  loadReceipts: () => Promise<Receipts>
  loadDigest: () => Promise<DigestEngine>
  loadDoctor: () => Promise<DoctorEngine>
  loadRuns: () => Promise<RunsEngine>
  loadStatus: () => Promise<StatusEngine>
  loadMigrate: () => Promise<MigrateEngine>
  loadReplicate: () => Promise<ReplicateEngine>
  loadUndo: () => Promise<RunUndo>
  loadNativeStatus: () => Promise<() => NativeStatus>
}>
