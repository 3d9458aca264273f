// What a forced command of authorized_keys says (`serve --restrict-to PATH... [--read-only|--write-only]`) and what the
// client's own command line may add to it. Refuses a restriction that is not plain, and commands that are not serve.

import { SyncError } from '../errors.js'
import type { Restriction } from '../guard/restrict.js'

/** What a client may choose though its key is restricted: it changes how fast this end is, and nothing else. */
const HARMLESS = /^--native=(auto|require|off)$/

/** The restriction among the words of serve, null where there is none, and all other words. Rejects with `usage`. */
export function takeRestriction(words: readonly string[]): {
  restriction: Restriction | null
  rest: readonly string[]
} {
  const paths: string[] = []
  const only = new Set<'read' | 'write'>()
  const rest: string[] = []
  let isRestricted = false
  let takesPaths = false
  for (const word of words) {
    const isPath: boolean = takesPaths && !word.startsWith('-')
    takesPaths = isPath || word === '--restrict-to'
    isRestricted ||= takesPaths
    if (isPath) paths.push(checkedPath(word))
    else if (word.startsWith('--restrict-to=')) {
      isRestricted = true
      paths.push(checkedPath(word.slice('--restrict-to='.length)))
    } else if (word === '--read-only') only.add('read')
    else if (word === '--write-only') only.add('write')
    else if (word !== '--restrict-to') rest.push(word)
  }
  const [one = null] = only
  if (only.size > 1)
    throw usage('--read-only', 'is the opposite of --write-only', 'Leave out both to allow both.')
  if (isRestricted && paths.length === 0)
    throw usage('--restrict-to', 'needs a path', 'Write for example --restrict-to /dev/vg0 /srv/images')
  if (!isRestricted && one !== null)
    throw usage(
      `--${one}-only`,
      'says how --restrict-to is meant, which is missing',
      'Add --restrict-to PATH.',
    )
  return { restriction: isRestricted ? { paths, only: one } : null, rest }
}

/**
 * Of the command line that the client asked for (SSH_ORIGINAL_COMMAND of sshd), the words of serve that it may choose,
 * and those that are left out. Nobody asked for anything where it is null. Rejects with `usage` where it is not serve.
 */
export function askedWords(command: string | null): { honoured: string[]; ignored: string[] } {
  if (command === null) return { honoured: [], ignored: [] }
  const words = command.split(/\s+/).filter((word) => word !== '')
  const serveAt = words.lastIndexOf('serve')
  if (serveAt === -1) {
    throw new SyncError(
      'usage',
      'the key that was used runs blocksync serve and nothing else; nothing was run',
      {
        hint: 'Use another key for other commands; authorized_keys on that host says what this one may do.',
      },
    )
  }
  const asked = words.slice(serveAt + 1)
  return {
    honoured: asked.filter((word) => HARMLESS.test(word)),
    ignored: asked.filter((word) => !HARMLESS.test(word)),
  }
}

function checkedPath(path: string): string {
  const isPlain = path.startsWith('/') && !path.split('/').some((part) => part === '.' || part === '..')
  if (!isPlain)
    throw usage(
      '--restrict-to',
      `takes absolute paths without . and .., not '${path}'`,
      'Write the whole path.',
    )
  return path.replace(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '')
}

function usage(option: string, what: string, hint: string): SyncError {
  return new SyncError('usage', `${option} ${what}; nothing was opened`, { operand: option, hint })
}
