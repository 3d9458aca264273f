// The one line that the login shell of the other host is given. Refuses words that a shell would not take literally.

import { SyncError } from '../errors.js'
import { isPlainWord } from '../shell-word.js'
import type { TransportOptions } from './transport.js'

/** `[sudo -n ]<remoteCommand> serve <words>`, or `agent`: `remoteCommand` is the user's own shell text, the words are literal. */
export function remoteCommandLine(options: TransportOptions): string {
  for (const word of options.serveArguments) {
    if (!isPlainWord(word))
      throw new SyncError('internal', `serve argument is not a plain word: ${JSON.stringify(word)}`)
  }
  const words = [options.remoteCommand, options.command ?? 'serve', ...options.serveArguments]
  // -n: a far sudo has no terminal to ask a password on; it must fail at once with a reason.
  if (options.sudo === 'always') words.unshift('sudo', '-n')
  return words.join(' ')
}
