// Compiles the guard into a directory of its own and runs test/guard/fixtures/far.js with it: real processes on both
// sides of a gate.

import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const ROOT = join(import.meta.dirname, '..', '..')
const COMPILE_TIMEOUT_MS = 60_000
const RUN_TIMEOUT_MS = 30_000

export type Far = Readonly<{
  child: ChildProcess
  pid: number
  /** The next line it prints; rejects where it ended. */
  line: () => Promise<string>
  tell: (text: string) => void
  /** Its exit status or the signal that ended it, and what it had to complain about. */
  ended: Promise<{ status: number | NodeJS.Signals | null; stderr: string }>
}>

export type FarProcesses = Disposable & { start: (mode: string) => Far }

/** Disposing it kills what it started and removes what it wrote. */
export function farProcesses(): FarProcesses {
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-gate-'))
  const dist = join(directory, 'dist')
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}')
  writeFileSync(
    join(directory, 'tsconfig.json'),
    JSON.stringify({
      extends: join(ROOT, 'tsconfig.json'),
      compilerOptions: {
        rootDir: join(ROOT, 'src'),
        outDir: dist,
        typeRoots: [join(ROOT, 'node_modules/@types')],
        declaration: false,
        sourceMap: false,
      },
      include: [],
      files: [join(ROOT, 'src/guard/gate.ts'), join(ROOT, 'src/guard/membership.ts')],
    }),
  )
  const compiled = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', directory], {
    encoding: 'utf8',
    timeout: COMPILE_TIMEOUT_MS,
  })
  if (!existsSync(join(dist, 'guard/gate.js'))) {
    rmSync(directory, { recursive: true, force: true })
    throw new Error(`tsc made nothing: ${compiled.stdout}${compiled.stderr}`)
  }
  const children = new Set<ChildProcess>()
  return {
    start: (mode) => {
      const far = start([join(import.meta.dirname, 'fixtures', 'far.js'), mode, dist])
      children.add(far.child)
      return far
    },
    [Symbol.dispose]: () => {
      for (const child of children) child.kill('SIGKILL')
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function start(words: readonly string[]): Far {
  const child = spawn(process.execPath, words, {
    env: { ...process.env, NODE_OPTIONS: '' },
    timeout: RUN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  // It may be gone when it is told something; the test sees that from what it does not answer.
  child.stdin.on('error', () => undefined)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    child,
    pid: child.pid ?? 0,
    line: async () => {
      const next: IteratorResult<string, unknown> = await lines.next()
      if (next.done === true) throw new Error(`it ended: ${stderr}`)
      return next.value
    },
    tell: (text) => child.stdin.write(`${text}\n`),
    ended: new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status, signal) => resolve({ status: status ?? signal, stderr }))
    }),
  }
}
