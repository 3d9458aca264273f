// What tests of the configuration share: the real parsers, texts in place of files, and files that are removed again.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { configParsers } from '../../src/cli/config-parsers.js'
import type { Config, Job } from '../../src/config/config.js'
import { configLines } from '../../src/config/problems.js'
import { readConfig } from '../../src/config/read.js'
import { SyncError } from '../../src/errors.js'

export const PARSERS = configParsers()

/** The configuration of these texts, which are called a.yaml, b.yaml and so on. */
export function configOf(...texts: readonly string[]): Config {
  return readConfig(
    texts.map((text, index) => ({ file: `${'abcdefgh'[index] ?? ''}.yaml`, text })),
    PARSERS,
  )
}

/** The job of these lines, which are one mapping in braces. */
export function jobOf(keys: string, before = ''): Job {
  const [job] = configOf(
    `${before}\njobs:\n  j: { source: /dev/a, destination: "kvm2:/dev/b", ${keys} }`,
  ).jobs
  if (job === undefined) throw new Error('no job')
  return job
}

/** What is wrong, a line each, without places. */
export function wrongs(act: () => unknown): string[] {
  return linesOf(act).map((line) => line.replace(/^[^:]*:\d+:\d+: /, ''))
}

export function linesOf(act: () => unknown): string[] {
  return configLines(refusalOf(act))
}

export function refusalOf(act: () => unknown): SyncError {
  try {
    act()
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('nothing was refused')
}

/** The error that a promise rejects with. */
export async function rejectionOf(promise: Promise<unknown>): Promise<SyncError> {
  try {
    await promise
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('nothing was refused')
}

/** A directory of its own, gone at the end of the block. */
export class TemporaryDirectory implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'blocksync-config-'))

  put(name: string, text: string | Buffer): string {
    const path = join(this.path, name)
    writeFileSync(path, text, { mode: 0o644 })
    return path
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
