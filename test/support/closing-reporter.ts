// Sees every test result; prints the name of each skipped test and one plain closing line.
// With BLOCKSYNC_TEST_REQUIRE_ALL=1 it refuses a skip: the run fails.

import type { Reporter, TestModule } from 'vitest/node'

/** The part of a test result that is counted. */
export type Outcome = Readonly<{ name: string; state: 'passed' | 'failed' | 'skipped' | 'pending' }>

/**
 * The closing lines of a run and whether its skips make it a failure. `requireAll`: nothing may be skipped.
 * `otherErrors` is the number of failures outside of tests (a file that did not load, an unhandled rejection).
 */
export function closing(
  outcomes: readonly Outcome[],
  otherErrors: number,
  requireAll: 'required' | 'optional',
): { lines: string[]; failed: boolean } {
  const skipped = outcomes.filter(({ state }) => state === 'skipped' || state === 'pending')
  const passedCount = outcomes.filter(({ state }) => state === 'passed').length
  const refusedCount = requireAll === 'required' ? skipped.length : 0
  const failedCount = outcomes.filter(({ state }) => state === 'failed').length + otherErrors + refusedCount
  const skippedCount = skipped.length - refusedCount
  const word = requireAll === 'required' ? 'skipped, but required' : 'skipped'
  const lines = skipped.map(({ name }) => `${word}: ${name}`)
  lines.push(
    `${passedCount} passed, ${failedCount} failed` + (skippedCount > 0 ? `, ${skippedCount} skipped` : ''),
  )
  return { lines, failed: failedCount > 0 || passedCount === 0 }
}

export class ClosingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const outcomes: Outcome[] = []
    let otherErrors = unhandledErrors.length
    for (const module of modules) {
      otherErrors += module.errors().length
      for (const test of module.children.allTests()) {
        outcomes.push({ name: `${module.relativeModuleId} > ${test.fullName}`, state: test.result().state })
      }
      for (const suite of module.children.allSuites()) otherErrors += suite.errors().length
    }
    const requireAll = process.env['BLOCKSYNC_TEST_REQUIRE_ALL'] === '1' ? 'required' : 'optional'
    const { lines, failed } = closing(outcomes, otherErrors, requireAll)
    // After the default reporter's own summary, so that the closing line is the last one.
    process.once('exit', () => {
      console.log(lines.join('\n'))
    })
    if (failed) process.exitCode = 1
  }
}
