// What reading a configuration takes from the command line, so that a value means the same in both: given by src/cli
// (config-parsers.ts). Each of these refuses by a SyncError whose message and hint name the key.

import type { Argv } from '../exec.js'
import type { SyncOptions } from '../options.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { DiskPair } from '../sync/report.js'

/** An option of `blocksync sync` that a job may have, by its long name. */
export type JobOption = Readonly<{
  /** Without dashes in front. */
  name: string
  /** What --help says of it. */
  help: string
  /** `switch`: true or false; `list`: a text or several. */
  kind: 'switch' | 'text' | 'list'
  /** Null where any text may be right. */
  choices: readonly string[] | null
  /** What true and false stand for, where the option may also stand without a value; else null. */
  bare: Readonly<{ on: string; off: string }> | null
  /** `far-side`: it has no meaning in a job whose disks are all here. */
  about: 'run' | 'far-side'
}>

/** Values by the option's name: one for each time it is given, '' of a switch. An empty list is an option that is not given. */
export type GivenOptions = ReadonlyMap<string, readonly string[]>

export interface ConfigParsers {
  /** `key` is what the message is about: the key with a colon behind it. */
  sizeBytes(key: string, text: string): number
  rate(key: string, text: string): RateSchedule | null
  /** One number with one unit. */
  durationMs(key: string, text: string): number
  /** A command line split into words; nothing is expanded. */
  words(key: string, text: string): Argv
  /** SOURCE and DESTINATION as sync takes them; nothing is looked up. */
  pair(source: string, destination: string): DiskPair
  readonly jobOptions: readonly JobOption[]
  /** Why a job has none of these options of sync, by their names. */
  readonly refusedOptions: ReadonlyMap<string, string>
  /** Checks values of one option, as they stand alone. */
  checkOption(name: string, values: readonly string[]): void
  /** All options together; the error's operand is the option that it is about. */
  syncOptions(given: GivenOptions, stateDir: string | null, pair: DiskPair): SyncOptions
}
