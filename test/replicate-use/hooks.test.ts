// Hooks of a job, as real programs: what they are told, what they may fail, and that nothing of them is left when they take too long.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import type { HookCommand, HookName, Job } from '../../src/config/config.js'
import { SyncError } from '../../src/errors.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import type { AttemptFacts } from '../../src/replicate/context.js'
import { hookEnvironment, runHook } from '../../src/replicate/hooks.js'
import { useScratch } from '../support/disks.js'
import { farEnough, isRunning, until } from '../support/processes.js'
import { refusal } from '../support/refusal.js'

const scratch = useScratch()
const FACTS: AttemptFacts = {
  job: 'web',
  attempt: '20260102-a',
  phase: 'copy',
  generation: null,
  takenAt: null,
  sentBytes: 0,
  error: null,
}

function jobWith(hooks: Partial<Record<HookName, HookCommand>>): Job {
  return {
    name: 'web',
    place: { file: 'config.yaml', line: 1, column: 1 },
    disks: [
      {
        source: { at: { kind: 'local' }, path: '/dev/vg/web', typed: '/dev/vg/web' },
        destination: { at: { kind: 'local' }, path: '/srv/web.img', typed: 'kvm2:/srv/web.img' },
      },
    ],
    schedule: { kind: 'every', everyMs: 60_000, jitterMs: 0 },
    windows: [],
    snapshot: { kind: 'none' },
    track: 'auto',
    quiesce: null,
    keep: { last: 1, hourly: 0, daily: 0, weekly: 0 },
    lag: { warningMs: null, criticalMs: null },
    verifyEveryMs: null,
    hooks: { pre: null, post: null, onError: null, finally: null, ...hooks },
    notify: [],
    boot: null,
    options: SYNC_DEFAULTS,
  }
}

/** A script of the shell, with words behind it as $1 and so on. */
function shell(script: string, timeoutMs = 10_000, ...words: string[]): HookCommand {
  return { command: ['/bin/sh', '-c', script, 'hook', ...words], timeoutMs }
}

const never = (): AbortSignal => new AbortController().signal

describe('a hook', () => {
  it('is no error where there is none', async () => {
    await expect(runHook(jobWith({}), 'pre', FACTS, never())).resolves.toBeUndefined()
  })

  it('is told the facts of the attempt', async () => {
    const path = scratch().path('facts')
    const job = jobWith({ onError: shell('env | grep ^BLOCKSYNC_ >"$1"', 10_000, path) })
    const error = { code: 'session/lost', message: 'two\nlines', operand: null, hint: null }
    await runHook(job, 'onError', { ...FACTS, sentBytes: 4096, error }, never())
    const told = (await readFile(path, 'utf8')).split('\n')
    expect(told).toEqual(
      expect.arrayContaining([
        'BLOCKSYNC_HOOK=on_error',
        'BLOCKSYNC_JOB=web',
        'BLOCKSYNC_ATTEMPT=20260102-a',
        'BLOCKSYNC_PHASE=copy',
        'BLOCKSYNC_GENERATION=',
        'BLOCKSYNC_SENT_BYTES=4096',
        'BLOCKSYNC_ERROR_CODE=session/lost',
        'BLOCKSYNC_SOURCES=/dev/vg/web',
        'BLOCKSYNC_DESTINATIONS=kvm2:/srv/web.img',
      ]),
    )
    // one line, however the error was written
    expect(
      told.filter((line) => line.startsWith('BLOCKSYNC_ERROR_MESSAGE=two') && line.endsWith('lines')),
    ).toHaveLength(1)
  })

  it('is told what the documentation says', async () => {
    const document = await readFile(
      join(import.meta.dirname, '..', '..', 'docs', 'replicate-config.md'),
      'utf8',
    )
    const section = document.split('### Hooks')[1]?.split('\n### ')[0] ?? ''
    const named = new Set(section.match(/\bBLOCKSYNC_[A-Z_]+/g))
    expect([...named].toSorted()).toEqual(Object.keys(hookEnvironment(jobWith({}), 'pre', FACTS)).toSorted())
  })

  it('fails with its status and its last words, and with what was not done', async () => {
    const pre = await refusal(
      runHook(
        jobWith({ pre: shell('echo no; echo first >&2; echo "pool is full" >&2; exit 3') }),
        'pre',
        FACTS,
        never(),
      ),
    )
    expect(pre.code).toBe('replicate/hook')
    expect(pre.message).toMatch(
      /pre hook of web .*ended with status 3: pool is full; the attempt was not begun/,
    )
    const post = await refusal(runHook(jobWith({ post: shell('kill -9 $$') }), 'post', FACTS, never()))
    expect(post.message).toContain('was killed by SIGKILL')
    const missing = await refusal(
      runHook(jobWith({ post: { command: ['/no/such/hook'], timeoutMs: 1000 } }), 'post', FACTS, never()),
    )
    expect(missing.message).toContain('was not found')
  })

  it('is killed at its deadline with all that it started', async () => {
    const path = scratch().path('pid')
    const pid = await farEnough(path, async (timeoutMs) => {
      const job = jobWith({ finally: shell('sleep 60 & echo $! >"$1"; wait', timeoutMs, path) })
      const error = await refusal(runHook(job, 'finally', FACTS, never()))
      expect(error.message).toContain(`did not end within ${timeoutMs / 1000} s`)
    })
    await until(() => !isRunning(pid), 'it is gone')
  })

  it('ends before its deadline where it leaves a program behind', async () => {
    const path = scratch().path('left')
    const job = jobWith({ post: shell('sleep 60 >/dev/null & echo $! >"$1"', 30_000, path) })
    await runHook(job, 'post', FACTS, never())
    const pid = Number(await readFile(path, 'utf8'))
    expect(isRunning(pid)).toBe(true)
    process.kill(pid, 'SIGKILL')
  })

  it('is ended by the signal only before the attempt; what tells of its end always runs', async () => {
    const interrupted = new SyncError('interrupt/sigterm', 'interrupted')
    const controller = new AbortController()
    const pre = runHook(jobWith({ pre: shell('sleep 60') }), 'pre', FACTS, controller.signal)
    setTimeout(() => controller.abort(interrupted), 100)
    await expect(pre).rejects.toBe(interrupted)
    await expect(runHook(jobWith({ pre: shell('exit 0') }), 'pre', FACTS, controller.signal)).rejects.toBe(
      interrupted,
    )
    const path = scratch().path('finally')
    const job = jobWith({ finally: shell('echo done >"$1"', 10_000, path) })
    await runHook(job, 'finally', FACTS, controller.signal)
    expect(await readFile(path, 'utf8')).toBe('done\n')
  })
})
