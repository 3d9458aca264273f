// Lints small wrong programs with the project's own configuration and expects the finding: a forgotten `await` on a
// flush loses data, so that the linter sees it is not left to hope.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '..', '..')
const LINT_TIMEOUT_MS = 30_000

type Finding = { code: string; filename: string; labels: { span: { line: number } }[] }

/** Each program, and the rule that must find it; null is a right program. The findings are expected in `line` 3. */
const PROGRAMS: readonly { name: string; rule: string | null; line: string }[] = [
  { name: 'sync-not-awaited', rule: 'no-floating-promises', line: '  handle.sync()' },
  { name: 'sync-voided', rule: 'no-floating-promises', line: '  void handle.sync()' },
  { name: 'write-not-awaited', rule: 'no-floating-promises', line: '  handle.write(Buffer.alloc(1))' },
  {
    name: 'datasync-in-callback',
    rule: 'no-misused-promises',
    line: '  [1].forEach(async () => await handle.datasync())',
  },
  { name: 'await-of-nothing', rule: 'await-thenable', line: '  await handle.fd' },
  { name: 'any', rule: 'no-explicit-any', line: '  await handle.write(null as any)' },
  { name: 'awaited', rule: null, line: '  await handle.sync()' },
]

let directory = ''
let findings: Finding[] = []

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-lint-'))
  // The types of node come from the project; the rules need them to see a promise.
  const compilerOptions = { rootDir: '.', typeRoots: [join(ROOT, 'node_modules', '@types')] }
  const options = { extends: join(ROOT, 'tsconfig.json'), compilerOptions, include: ['*.ts'] }
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(options))
  for (const { name, line } of PROGRAMS) {
    const head = `import type { FileHandle } from 'node:fs/promises'\nexport async function run(handle: FileHandle): Promise<void> {`
    writeFileSync(join(directory, `${name}.ts`), `${head}\n${line}\n  await handle.close()\n}\n`)
  }
  writeFileSync(join(directory, 'exported-default.ts'), 'export default 1\n')
  writeFileSync(
    join(directory, 'cycle-a.ts'),
    `import { b } from './cycle-b.js'\nexport const a = (): number => b()\n`,
  )
  writeFileSync(
    join(directory, 'cycle-b.ts'),
    `import { a } from './cycle-a.js'\nexport const b = (): number => a()\n`,
  )
  const lint = join(ROOT, 'node_modules', 'oxlint', 'bin', 'oxlint')
  const argv = [lint, '--type-aware', '--config', join(ROOT, '.oxlintrc.json'), '--format=json', directory]
  const run = spawnSync(process.execPath, argv, { cwd: ROOT, timeout: LINT_TIMEOUT_MS, encoding: 'utf8' })
  expect(run.status, run.stdout + run.stderr).toBe(1)
  findings = (JSON.parse(run.stdout) as { diagnostics: Finding[] }).diagnostics
})

afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** The rules that found something in one file, without their plugin's name. */
function rulesFor(file: string): string[] {
  return findings
    .filter(({ filename }) => basename(filename) === file)
    .map(({ code }) => /\((.*)\)/.exec(code)?.[1] ?? code)
}

describe('the linter', () => {
  it.each(PROGRAMS)('$name: $rule', ({ name, rule }) => {
    expect(rulesFor(`${name}.ts`)).toEqual(rule === null ? [] : [rule])
  })

  it('refuses default exports and import cycles', () => {
    expect(rulesFor('exported-default.ts')).toEqual(['no-default-export'])
    expect([...rulesFor('cycle-a.ts'), ...rulesFor('cycle-b.ts')]).toContain('no-cycle')
  })
})
