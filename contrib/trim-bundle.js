// Trims the bundled copies of libraries before `npm pack` takes them along; what is left installs anywhere, without a
// compiler, a registry or an install script. Refuses a node_modules that is not there. See docs/decisions/0001-package.md.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const MODULES = join(import.meta.dirname, '..', 'node_modules')
const SSH2 = join(MODULES, 'ssh2')
/** Folders that nothing of ours imports; `crypto` of ssh2 holds only what was compiled for this very Node. */
const LEFT_OUT = {
  ssh2: ['test', 'examples', 'lib/protocol/crypto/build', 'lib/protocol/crypto/src'],
  yaml: ['browser'],
  zod: ['src', 'v3', 'mini', 'v4-mini', 'v4/mini', 'locales'],
}
/** Types, and the same once more for require(): left out of these. */
const MODULES_ALONE = ['zod/v4/classic', 'zod/v4/core', 'zod/v4/locales']
const NO_TWINS = '*.cjs\n*.d.ts\n*.d.cts\n*.map\n'

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
for (const [name, folders] of Object.entries(LEFT_OUT)) {
  for (const folder of folders) {
    const path = join(MODULES, name, folder)
    if (existsSync(path)) writeFileSync(join(path, '.npmignore'), '*\n')
  }
}
for (const folder of MODULES_ALONE) writeFileSync(join(MODULES, folder, '.npmignore'), NO_TWINS)
