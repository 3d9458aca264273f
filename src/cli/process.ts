// The real process as a CommandContext: its streams, clock, signals and files, and the engine, loaded when it is asked for.

import { lstatSync } from 'node:fs'
import path from 'node:path'

import { errnoOf } from '../errors.js'
import type { CommandContext } from './context.js'
import { EARLY_PARTS, runEarly } from './early.js'
import { onInputEnd, onKey } from './input.js'
import { Output } from './output.js'

export function processContext(exit: (status: number) => void): CommandContext {
  const cwd = process.cwd()
  return {
    output: new Output(process.stdout, process.stderr),
    environment: process.env,
    names: { cwd, isFile: (name) => isFile(path.resolve(cwd, name)) },
    nowMs: () => performance.now(),
    signals: process,
    ask: process.stdin.isTTY && process.stderr.isTTY ? ask : null,
    onInputEnd: (ended) => onInputEnd(process.stdin, ended),
    onKey: (pressed) => onKey(process.stdin, pressed),
    exit,
    loadSync: () => Promise.resolve(runEarly(EARLY_PARTS)),
    loadReceipts: async () => (await import('./receipt-file.js')).receiptFiles,
    loadDigest: async () => (await import('./engine.js')).digestEngine,
    loadDoctor: async () => (await import('./engine.js')).doctorEngine,
    loadStatus: async () => (await import('./engine.js')).statusEngine,
    loadMigrate: async () => (await import('./migrate-engine.js')).migrateEngine,
    loadReplicate: async () => (await import('./replicate-engine.js')).replicateEngine,
    loadUndo: async () => (await import('./engine.js')).runUndo,
    loadRuns: async () => (await import('./engine.js')).runsEngine,
    loadNativeStatus: async () => (await import('../native.js')).nativeStatus,
  }
}

async function ask(question: string, signal: AbortSignal): Promise<boolean> {
  const { askYesOrNo } = await import('./ask.js')
  return await askYesOrNo(question, { input: process.stdin, output: process.stderr }, signal)
}

/** True where something other than a directory has that name. */
function isFile(name: string): boolean {
  try {
    return !lstatSync(name).isDirectory()
  } catch (thrown) {
    // ENOENT, ENOTDIR, EACCES...: then it is no file that could have been meant
    if (errnoOf(thrown) !== null) return false
    throw thrown
  }
}
