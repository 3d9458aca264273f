// What a test needs of the machine: root, loop devices, mounts, programs. What is missing is printed by name and
// skips the suite; with BLOCKSYNC_TEST_REQUIRE_ALL=1 it fails instead.

import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import { loadNative } from '../../src/native.js'

/** `native` is the built core; `loop` includes root; anything else than the first three is a program on PATH. */
export type Need = 'root' | 'loop' | 'native' | (string & {})

/** Where programs of administrators live that a plain PATH may not name. */
const EXTRA_PROGRAM_DIRECTORIES = ['/usr/sbin', '/sbin', '/usr/local/sbin']

const answers = new Map<Need, string | null>()

/**
 * Options for `describe` or `it`: `describe('on a loop device', needs('loop', 'mkfs.ext4'), () => {...})`.
 * Skips, saying why, where something is missing.
 */
export function needs(...things: readonly Need[]): { skip: boolean } {
  const missing = things.map(whyMissing).filter((reason) => reason !== null)
  if (missing.length === 0) return { skip: false }
  const text = missing.join('; ')
  if (process.env['BLOCKSYNC_TEST_REQUIRE_ALL'] === '1')
    throw new Error(`needed by a test and missing: ${text}`)
  console.warn(`skipped for want of: ${text}`)
  return { skip: true }
}

/** True when all of it is here; prints nothing and skips nothing. */
export function has(...things: readonly Need[]): boolean {
  return things.every((thing) => whyMissing(thing) === null)
}

/** The full path of a program, or null. */
export function findProgram(name: string): string | null {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...EXTRA_PROGRAM_DIRECTORIES]
  for (const directory of directories) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // not in this directory: the next one is asked
    }
  }
  return null
}

function whyMissing(thing: Need): string | null {
  const known = answers.get(thing)
  if (known !== undefined) return known
  const answer = ask(thing)
  answers.set(thing, answer)
  return answer
}

function ask(thing: Need): string | null {
  switch (thing) {
    case 'root':
      return process.getuid?.() === 0 ? null : 'root (not running as root)'
    case 'loop': {
      if (process.getuid?.() !== 0) return 'loop (not running as root)'
      if (!existsSync('/dev/loop-control')) return 'loop (no /dev/loop-control)'
      const losetup = findProgram('losetup')
      if (losetup === null) return 'loop (no losetup)'
      const found = spawnSync(losetup, ['--find'], { timeout: 10_000, encoding: 'utf8' })
      return found.status === 0 ? null : `loop (losetup: ${found.stderr.trim()})`
    }
    case 'native':
      return loadNative('auto') === null ? 'native (not built: npm run build)' : null
    default:
      return findProgram(thing) === null ? `${thing} (no such program)` : null
  }
}
