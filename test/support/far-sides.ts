// The ways to a far side that end-to-end tests go through: a local child, a real OpenSSH sshd through the system's ssh,
// and the same sshd through the ssh2 library. All reach this machine; paths are the same at both ends.

import { readFileSync } from 'node:fs'
import { afterAll, beforeAll } from 'vitest'

import { REMOTE_COMMAND } from './cli.js'
import { has } from './needs.js'
import { descendantsOf } from './processes.js'
import { sshdSkipReason, type Sshd, startSshd } from './sshd.js'

export type Way = 'local' | 'openssh' | 'ssh2'

export type Direction = 'push' | 'pull'

/** The directions that a run can have: between two disks of this machine it is a push, whatever is typed. */
export function directions(way: Way): readonly Direction[] {
  return way === 'local' ? ['push'] : ['push', 'pull']
}

export type FarSides = Readonly<{
  /** How a path is named over there. */
  path: (way: Way, path: string) => string
  /** Options of a run that goes there. */
  words: (way: Way) => readonly string[]
  sshd: () => Sshd
  /** Ids of the blocksync processes that sshd runs now. */
  servePids: () => number[]
}>

/** The ways that can be gone here; the missing ones are printed (and fail where nothing may be missing). */
export function ways(...wanted: readonly Way[]): readonly Way[] {
  const reason = sshdSkipReason() ?? (has('ssh') ? null : 'ssh is not installed (openssh-client)')
  if (reason === null) return wanted
  if (process.env['BLOCKSYNC_TEST_REQUIRE_ALL'] === '1')
    throw new Error(`needed by a test and missing: ${reason}`)
  console.warn(`skipped over ssh: ${reason}`)
  return wanted.filter((way) => way === 'local')
}

/** An sshd for all tests of the file. */
export function useFarSides(): FarSides {
  let sshd: Sshd | null = null
  beforeAll(async () => {
    if (sshdSkipReason() === null) sshd = await startSshd()
  })
  afterAll(async () => {
    await sshd?.stop()
    sshd = null
  })
  const started = (): Sshd => {
    if (sshd === null) throw new Error('no sshd here')
    return sshd
  }
  return {
    path: (way, path) => (way === 'local' ? path : `far:${path}`),
    words: (way) =>
      way === 'local'
        ? []
        : ['--ssh', way, '-F', started().clientConfigPath, '--remote-command', REMOTE_COMMAND],
    sshd: started,
    servePids: () => descendantsOf(started().pid()).filter(isServe),
  }
}

/** Ids of the blocksync processes that `pid` started for the far side of a run. */
export function servesOf(pid: number): number[] {
  return descendantsOf(pid).filter(isServe)
}

function isServe(pid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return words.includes('serve') && (words[0] ?? '').endsWith('node')
  } catch {
    // It ended between the listing and the read.
    return false
  }
}
