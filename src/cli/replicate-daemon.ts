// The daemon, wired: what src/daemon asks of the rest of the program and of the process. Loaded by `blocksync replicate daemon` alone.

import { fileURLToPath } from 'node:url'

import { loadConfig } from '../config/load.js'
import { runDaemon } from '../daemon/daemon.js'
import { openFront } from '../daemon/front.js'
import { loadNative } from '../native.js'
import { configParsers } from './config-parsers.js'
import type { DaemonRequest } from './replicate.js'
import { bwlimitText } from './timetable.js'

/** Runs until it is told to end; resolves with the exit status. Rejects where it was not started: config/*, replicate/busy. */
export async function startDaemon({ files, stateDir, log, environment }: DaemonRequest): Promise<number> {
  const parsers = configParsers()
  return await runDaemon({
    configPaths: files,
    loadConfig: async (paths) => await loadConfig({ paths }, parsers),
    stateDir,
    program: [process.execPath, fileURLToPath(new URL('main.js', import.meta.url))],
    bwlimitText,
    environment,
    logForm: log ?? null,
    write: (line) => process.stderr.write(line),
    signals: process,
    native: loadNative('auto'),
    openFront,
  })
}
