// Which ciphers the system's ssh is told to prefer: the list it would use anyway goes in, and the same list comes out with
// AES-GCM in front where this processor has instructions for it. Refuses to add a cipher, and to overrule one named with -e.

import { open, type FileHandle } from 'node:fs/promises'

import { errnoOf } from '../errors.js'
import { run, type Argv } from '../exec.js'

/** OpenSSH's own first choice, made for processors without AES instructions: it takes 1.7 times as long as AES-GCM with them. */
const DEFAULT_FIRST = 'chacha20-poly1305@openssh.com'
/** As OpenSSH orders them. */
const FAST = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'] as const

/** `ssh -G` takes 5 ms; where the configuration makes it run slow programs, the order is not worth the wait. */
const SSH_G_TIMEOUT_MS = 1000
/** It prints some 4 KiB. */
const MAX_SSH_G_BYTES = 256 << 10
/** The first processor's entry has about 1.5 KiB; the whole file grows, and slows, with their number. */
const CPUINFO_BYTES = 8192

/** Options of ssh without a value: any of them may stand in one word before `-c`. */
const NAMES_CIPHERS = /^-[46AaCfGgKkMNnqsTtVvXxYy]*c|ciphers/i

/**
 * The words to put before those of an ssh command line: `-o Ciphers=...`, or none. `resolved` is what resolveSsh says of it,
 * `ownWords` are what the user wrote into the command (-e).
 */
export async function cipherWords(
  resolved: string | null,
  ownWords: readonly string[],
): Promise<readonly string[]> {
  if (ownWords.some((word) => NAMES_CIPHERS.test(word)) || !(await hasAesInstructions())) return []
  const listed = resolved === null ? null : (/^ciphers (\S+)$/m.exec(resolved)?.[1] ?? null)
  const ordered = listed === null ? null : fastFirst(listed)
  return ordered === null ? [] : ['-o', `Ciphers=${ordered}`]
}

/**
 * A comma-separated list of ciphers with AES-GCM moved to the front, or null where it is to stay: where something else
 * than OpenSSH's own first choice comes first, somebody chose, and without both AES-GCM ciphers somebody took one out.
 */
export function fastFirst(list: string): string | null {
  const names = list.split(',')
  if (names[0] !== DEFAULT_FIRST || !FAST.every((name) => names.includes(name))) return null
  return [...FAST, ...names.filter((name) => !FAST.some((fast) => fast === name))].join(',')
}

/** Whether a text as /proc/cpuinfo names AES instructions (`flags` on x86, `Features` on ARM). */
export function namesAes(cpuinfo: string): boolean {
  return /^(?:flags|features)\s*:.*\baes\b/im.test(cpuinfo)
}

/**
 * What `ssh -G` prints for `argv`, an ssh command line, or null. Never rejects: whatever goes wrong here goes wrong in ssh
 * itself, which says so.
 */
export async function resolveSsh([program, ...words]: Argv): Promise<string | null> {
  try {
    const { exitStatus, stdout } = await run({
      argv: [program, '-G', ...words],
      timeoutMs: SSH_G_TIMEOUT_MS,
      errorCode: 'connect/failed',
      operand: program,
      maxOutputBytes: MAX_SSH_G_BYTES,
    })
    return exitStatus === 0 ? stdout : null
  } catch {
    // Not there, too old for -G, too slow: ssh is called all the same, as without us.
    return null
  }
}

async function hasAesInstructions(): Promise<boolean> {
  let file: FileHandle
  try {
    file = await open('/proc/cpuinfo')
  } catch (error) {
    // Another system than Linux, or a /proc that is closed to us.
    if (errnoOf(error) !== null) return false
    throw error
  }
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(CPUINFO_BYTES), 0, CPUINFO_BYTES, 0)
    return namesAes(buffer.toString('latin1', 0, bytesRead))
  } finally {
    await file.close()
  }
}
