// The commands of replicate as they are wired, over two files of this host: from the first generation to a promotion and back. Files
// that are immutable are given back before they are removed.

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { newAttemptId, replicateEngine } from '../../src/cli/replicate-engine.js'
import { EXIT } from '../../src/errors.js'
import { jsonLines, runWords, type Ran } from './fixtures.js'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-replicate-'))
  for (const name of ['src', 'dst', 'state']) mkdirSync(join(directory, name), { mode: 0o700 })
  writeFileSync(join(directory, 'src/a.img'), Buffer.alloc(64 << 10, 1))
  write('config.yaml', {})
})

afterEach(() => {
  for (const name of ['src', 'dst']) {
    for (const file of readdirSync(join(directory, name)))
      spawnSync('chattr', ['-i', join(directory, name, file)], { timeout: 10_000 })
  }
  rmSync(directory, { recursive: true, force: true })
})

function write(file: string, more: Record<string, unknown>): void {
  const job = {
    source: join(directory, 'src/a.img'),
    destination: join(directory, 'dst/a.img'),
    snapshot: 'none',
    keep: { last: 3 },
    ...more,
  }
  const text = JSON.stringify({ state_dir: join(directory, 'state'), jobs: { web: job } })
  writeFileSync(join(directory, file), text, { mode: 0o600 })
}

async function replicate(...words: string[]): Promise<Ran> {
  const [command = '', ...rest] = words
  const place = ['--config', join(directory, 'config.yaml')]
  return await runWords(['replicate', command, ...rest, ...place], { replicate: replicateEngine })
}

function content(path: string): Buffer {
  return readFileSync(join(directory, path))
}

describe('replicate, wired', () => {
  it('runs, shows, pauses, restores, drills, promotes and reverses', { timeout: 60_000 }, async () => {
    expect((await replicate('run', 'web', '-q')).stderr).toBe('')
    const first = content('src/a.img')
    writeFileSync(join(directory, 'src/a.img'), Buffer.alloc(64 << 10, 2))
    const second = await replicate('run', 'web')
    expect([second.status, second.stdout]).toEqual([
      EXIT.ok,
      expect.stringMatching(/^web: generation 2, taken /),
    ])
    expect(content('dst/a.img').equals(content('src/a.img'))).toBe(true)

    const [status] = jsonLines((await replicate('status', '--json')).stdout)
    expect(status).toMatchObject({
      jobs: [{ name: 'web', state: 'idle', generation: 2 }],
      replicas: [{ job: 'web', state: 'good', generation: 2, generations: 2 }],
    })
    expect((await replicate('history', 'web')).stdout.split('\n')).toHaveLength(3)

    expect((await replicate('pause', 'web', '--reason', 'x')).stdout).toBe('web is paused\n')
    expect((await replicate('run', 'web', '--now')).stderr).toContain('replicate resume web')
    expect((await replicate('resume', 'web')).status).toBe(EXIT.ok)

    const to = join(directory, 'old.img')
    expect((await replicate('restore', 'web', '--generation', '1', '--to', to)).stderr).toBe('')
    expect(content('old.img').equals(first)).toBe(true)
    expect((await replicate('drill', 'web')).stdout).toContain('holds: generation 2')
    expect((await replicate('drill', 'web', '--boot')).status).toBe(EXIT.usage)

    expect((await replicate('promote', 'web', '--yes')).stderr).toContain('--force-source-alive')
    expect((await replicate('promote', 'web', '--yes', '--force-source-alive')).status).toBe(EXIT.ok)
    const refused = await replicate('run', 'web', '--json')
    expect([refused.status, jsonLines(refused.stdout).at(-1)]).toMatchObject([
      EXIT.guard,
      { event: 'result', ok: false, error: { code: 'replicate/promoted' } },
    ])
    writeFileSync(join(directory, 'dst/a.img'), Buffer.alloc(64 << 10, 3))
    expect((await replicate('reverse', 'web', '--yes')).status).toBe(EXIT.ok)
    // who reversed it is told nothing of guards: only, as each time, that there is no snapshot
    const reversed = await replicate('run', 'web', '--json')
    expect(reversed.status).toBe(EXIT.ok)
    const warnings = jsonLines(reversed.stdout).filter(({ event }) => event === 'warning')
    expect(warnings).toMatchObject([{ message: expect.stringContaining('without a snapshot') as string }])
    expect(content('src/a.img').equals(content('dst/a.img'))).toBe(true)
    expect(content('src/a.img')[0]).toBe(3)
  })

  it('keeps to windows, and tells people of a change where no daemon does', { timeout: 30_000 }, async () => {
    const told = join(directory, 'told')
    const yesterday = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getDay() + 4) % 7] ?? ''
    write('config.yaml', { windows: [`${yesterday} 03:00-03:01`] })
    const closed = await replicate('run', 'web')
    expect([closed.status, closed.stderr]).toEqual([
      EXIT.guard,
      expect.stringContaining('its next window opens at'),
    ])
    write('config.yaml', {
      destination: join(directory, 'nowhere/a.img'),
      notify: [{ command: ['/bin/sh', '-c', `echo "$BLOCKSYNC_STATE" >> ${told}`] }],
    })
    expect((await replicate('run', 'web')).status).not.toBe(EXIT.ok)
    expect((await replicate('run', 'web')).status).not.toBe(EXIT.ok)
    expect(content('told').toString()).toBe('failing\n')
  })

  it('gives attempts names that are fit for snapshots, in the order of time', () => {
    expect(newAttemptId(new Date('2026-01-02T03:04:05Z'))).toMatch(/^20260102-030405-[0-9a-f]{8}$/)
  })
})
