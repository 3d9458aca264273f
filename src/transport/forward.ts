// A socket that ssh forwards to the far end, for a bond: the words that ask ssh for it, and the private directory it is
// in. Not asked for where the user's configuration would make an error, or somebody else's connection, of it.

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { errnoOf } from '../errors.js'
import { SOCKET_NAME } from './abandoned.js'
import { bondSocketPath, type Forward } from './transport.js'

export type OpenForward = Forward & Readonly<{ words: readonly string[]; remove: () => void }>

/** Characters that ssh takes literally in -L; it splits at a colon and expands % and $. */
const LITERAL_PATH = /^[A-Za-z0-9_@+=,./-]+$/
/** sun_path of unix(7), less what ssh adds while it makes the socket, and the zero at the end. */
const MAX_SOCKET_PATH_BYTES = 90

/**
 * Makes the directory and the words. `resolved` is what `ssh -G` printed, `prefix` is privatePrefix(). Null where there is to be none: with a control
 * path the forward would be added to a connection of the user's, or outlive this one; with ExitOnForwardFailure a
 * forward that fails would end ssh.
 */
export function openForward(resolved: string | null, prefix: string): OpenForward | null {
  if (resolved === null || !allowsForward(resolved)) return null
  let directory: string
  try {
    directory = mkdtempSync(join(tmpdir(), prefix))
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null // no room for temporary files: the one stream has to do
  }
  const remove = (): void => rmSync(directory, { recursive: true, force: true })
  const localPath = join(directory, SOCKET_NAME)
  if (!LITERAL_PATH.test(localPath) || localPath.length > MAX_SOCKET_PATH_BYTES) {
    remove()
    return null
  }
  const name = randomBytes(16).toString('hex')
  return { localPath, name, words: ['-L', `${localPath}:${bondSocketPath(name)}`], remove }
}

/** Whether the configuration that ssh resolved leaves a forward of ours alone. */
export function allowsForward(resolved: string): boolean {
  return (
    !/^controlpath (?!none$)/m.test(resolved) &&
    !/^exitonforwardfailure yes$/m.test(resolved) &&
    !/^clearallforwardings yes$/m.test(resolved)
  )
}

/** What ssh says when the far side refuses a channel of a forward. */
const REFUSED_CHANNEL = /^channel \d+: open failed: /

/** Whether a line that ssh printed is about a channel of a bond that was refused: no error, the run goes on without. */
export function isAboutForward(line: string): boolean {
  return REFUSED_CHANNEL.test(line)
}
