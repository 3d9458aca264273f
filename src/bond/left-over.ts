// Sockets that a far end left in /tmp because it was killed while it listened. Those of this user go where nobody answers
// at them any more; a young one stays, since between its name and its listening nobody answers either.

import type { Stats } from 'node:fs'
import { lstat, readdir, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { basename, dirname, join } from 'node:path'

import { errnoOf, unlessDenied } from '../errors.js'
import { bondSocketPath } from '../transport/transport.js'

/** Longer than anybody listens for streams. */
const MIN_AGE_MS = 60_000
/** Looked at in one run; the next one sees to the others. */
const MAX_LOOKED_AT = 32

/** Takes away what nobody listens at; resolves with how many that were. What cannot be looked at, or taken away, stays. */
export async function removeLeftOver(nowMs: number): Promise<number> {
  const directory = dirname(bondSocketPath(''))
  const prefix = basename(bondSocketPath(''))
  // others look through the same directory
  const names = await unlessDenied(readdir(directory))
  const ours = (names ?? []).filter((name) => name.startsWith(prefix)).slice(0, MAX_LOOKED_AT)
  const removed = await Promise.all(
    ours.map(async (name) => {
      const path = join(directory, name)
      const found = await unlessDenied(lstat(path))
      if (found === null || !isOurs(found) || nowMs - found.mtimeMs < MIN_AGE_MS) return 0
      if (!(await refuses(path))) return 0
      return (await unlessDenied(unlink(path).then(() => 1))) ?? 0
    }),
  )
  return removed.reduce<number>((sum, one) => sum + one, 0)
}

/** Under sudo they belong to the user who logged in; see listen.ts. */
function isOurs(found: Stats): boolean {
  const uids = [process.getuid?.(), Number(process.env['SUDO_UID'] ?? NaN)]
  return found.isSocket() && uids.includes(found.uid)
}

/** True where nobody listens; a connection that is taken says nothing and goes. */
async function refuses(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error) => resolve(errnoOf(error) === 'ECONNREFUSED'))
  })
}
