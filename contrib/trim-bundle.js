// Trims the bundled copy of ssh2 before `npm pack` takes it along; what is left installs anywhere, without a compiler,
// a registry or an install script. Refuses a node_modules that is not there. See docs/decisions/0001-package.md.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SSH2 = join(import.meta.dirname, '..', 'node_modules', 'ssh2')
/** Folders of ssh2 that its users do not need; `crypto` holds only what was compiled for this very Node. */
const LEFT_OUT = ['test', 'examples', 'lib/protocol/crypto/build', 'lib/protocol/crypto/src']

const manifestPath = join(SSH2, 'package.json')
if (!existsSync(manifestPath)) throw new Error(`${manifestPath} is missing: run npm ci first`)

// A bundled package's install script would run on the user's host, where it finds neither compiler nor headers, and the
// optional cpu-features would fail the whole installation. ssh2 works without both, with Node's own ciphers.
const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'))
const { scripts, optionalDependencies, ...rest } = manifest
if (scripts !== undefined || optionalDependencies !== undefined) {
  // Renamed into place, so that a program that starts meanwhile reads the one or the other.
  writeFileSync(`${manifestPath}.new`, `${JSON.stringify(rest, null, 2)}\n`)
  renameSync(`${manifestPath}.new`, manifestPath)
}

// npm has no way to leave a file of a bundled package out but an ignore file inside of the folder.
for (const folder of LEFT_OUT) {
  if (existsSync(join(SSH2, folder))) writeFileSync(join(SSH2, folder, '.npmignore'), '*\n')
}
