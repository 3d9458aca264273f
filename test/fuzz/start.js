// Makes one program of the fuzzer and runs it: `npm run fuzz`, see main.ts.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'

import { build } from 'esbuild'

const ROOT = join(import.meta.dirname, '..', '..')
// one level below the package, as src/ is, so that its version and its dependencies are found
mkdirSync(join(ROOT, 'dist-tools'), { recursive: true })
const outfile = join(ROOT, 'dist-tools', `fuzz-${process.pid}.mjs`)
try {
  await build({
    entryPoints: [join(import.meta.dirname, 'main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    packages: 'external',
    sourcemap: 'inline',
  })
  const words = ['--enable-source-maps', outfile, ...process.argv.slice(2)]
  process.exitCode = spawnSync(process.execPath, words, { stdio: 'inherit' }).status ?? 1
} finally {
  rmSync(outfile, { force: true })
}
