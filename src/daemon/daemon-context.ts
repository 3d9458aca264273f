// What a daemon is given instead of reaching for the process: how its configuration is loaded, how this program is started again, where
// signals come from. Types only; cli gives the real ones.

import type { Argv } from '../exec.js'
import type { NativeCore } from '../native.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { FreeBlocks } from './bases.js'
import type { LogForm } from './log.js'
import type { NotifyBy } from './notify.js'
import type { LoadConfig } from './reload.js'
import type { OpenFront } from './view.js'

export type DaemonSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP'

/** The part of `process` that is needed here. */
export type DaemonSignals = {
  on(signal: DaemonSignal, handler: () => void): unknown
  removeListener(signal: DaemonSignal, handler: () => void): unknown
}

export type DaemonContext = Readonly<{
  /** As --config has them; null is the usual place. They are read again on SIGHUP. */
  configPaths: readonly string[] | null
  /** Rejects with config/missing and config/invalid. */
  loadConfig: LoadConfig
  /** As --state-dir has it; null is what the configuration says. */
  stateDir: string | null
  /** Starts this program again: Node.js and the path of its entry, absolute. */
  program: Argv
  /** Text that --bwlimit takes (cli/timetable.ts). */
  bwlimitText: (schedule: RateSchedule | null) => string
  environment: NodeJS.ProcessEnv
  /** Null is journald where that is the reader, else text. */
  logForm: LogForm | null
  /** A line with its end, to stderr. */
  write: (line: string) => void
  signals: DaemonSignals
  native: NativeCore | null
  openFront: OpenFront
  /** How people are told; the real one by default. */
  notifyBy?: NotifyBy
  /** What room a file system has; the real one by default. */
  statfs?: (path: string) => Promise<FreeBlocks>
  /** How long attempts may take to end in order, ms. */
  stopGraceMs?: number
}>
