// Before each test file: a state directory of its own, so that no test ever writes to the machine's. What is started by
// a test gets it in its environment; the sshd of the tests (sshd.ts) passes it on.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterAll } from 'vitest'

const directory = mkdtempSync(join(tmpdir(), 'blocksync-state-'))
process.env['BLOCKSYNC_STATE_DIR'] = directory

afterAll(() => rmSync(directory, { recursive: true, force: true }))
