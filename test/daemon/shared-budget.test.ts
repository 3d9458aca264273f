// Two real attempts of one daemon that share its bandwidth: processes of the built program, disks and far ends of this host, and the
// control sockets by which each is told its share. How slow they are is not looked at.

import { EventEmitter } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { configParsers } from '../../src/cli/config-parsers.js'
import { bwlimitText } from '../../src/cli/timetable.js'
import { loadConfig } from '../../src/config/load.js'
import { runDaemon } from '../../src/daemon/daemon.js'
import type { DaemonView } from '../../src/daemon/view.js'
import { loadNative } from '../../src/native.js'
import { setWritable } from '../../src/replicate/access.js'
import { LocalHost } from '../../src/host/local.js'
import { MAIN_PATH } from '../support/cli.js'
import { useScratch } from '../support/disks.js'
import { until } from '../support/processes.js'

const MIB = 1 << 20
const LIMIT_BYTES = 8 * MIB
/** Some four seconds' worth for both. If the first one went on as it began, alone, three would do. */
const DISK_BYTES = 18 * MIB
const NAMES = ['one', 'two']
/** What is sent until a share is told. */
const MOST = 1.15
/** A fifth of a second's worth each may have at its start, of a whole share and of half of one. */
const BURST_SECONDS = 0.3
const LOOK_EVERY_MS = 25

type Look = Readonly<{ atMs: number; sentBytes: number; running: number }>

describe('a budget that real attempts share', () => {
  const scratch = useScratch()

  it('is not exceeded by the sum of them', { timeout: 60_000 }, async () => {
    const parsers = configParsers()
    const stateDir = scratch().path('state')
    const file = scratch().path('config.yaml')
    const destinations: string[] = []
    const jobs: string[] = []
    for (const name of NAMES) {
      const source = await scratch().randomFile(`${name}.img`, DISK_BYTES)
      const destination = scratch().path(`${name}-replica.img`)
      destinations.push(destination)
      jobs.push(`  ${name}: { source: ${source}, destination: ${destination}, every: 1h }`)
    }
    scratch().onClose(async () => {
      await using host = new LocalHost({ stateDir, native: 'auto' })
      for (const path of destinations) await setWritable(host, path)
    })
    await writeFile(file, `bwlimit: 8M\nmax_parallel: 2\njobs:\n${jobs.join('\n')}\n`, { mode: 0o600 })

    const signals = new EventEmitter()
    const lines: string[] = []
    const opened = new Array<DaemonView>()
    const daemon = runDaemon({
      configPaths: [file],
      loadConfig: async (paths) => await loadConfig({ paths }, parsers),
      stateDir,
      program: [process.execPath, MAIN_PATH],
      bwlimitText,
      environment: { PATH: process.env['PATH'] },
      logForm: 'journald',
      write: (line) => lines.push(line.trimEnd()),
      signals,
      native: loadNative('auto'),
      openFront: async (_, view) => {
        opened.push(view)
        return await Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() })
      },
      stopGraceMs: 2000,
    })
    const sent = new Map<string, number>()
    const looks: Look[] = []
    const looking = setInterval(() => {
      const progress = opened[0]?.progress() ?? new Map<string, never>()
      for (const [name, { sentBytes }] of progress) sent.set(name, sentBytes)
      const sentBytes = [...sent.values()].reduce((sum, bytes) => sum + bytes, 0)
      if (sentBytes > (looks.at(-1)?.sentBytes ?? 0))
        looks.push({ atMs: performance.now(), sentBytes, running: progress.size })
    }, LOOK_EVERY_MS)
    try {
      await until(
        () => lines.filter((line) => line.includes('attempt done')).length === 2,
        `both are done; ${lines.join('\n')}`,
        40_000,
      )
    } finally {
      clearInterval(looking)
      const ending = setInterval(() => signals.emit('SIGTERM'), 50)
      await daemon
      clearInterval(ending)
    }
    const [first] = looks
    const last = looks.at(-1)
    if (first === undefined || last === undefined) throw new Error(`nothing was told: ${lines.join('\n')}`)
    expect(looks.filter(({ running }) => running === 2).length).toBeGreaterThan(3)
    expect(last.sentBytes).toBe(NAMES.length * DISK_BYTES)
    const seconds = (last.atMs - first.atMs) / 1000
    const mostBytes = LIMIT_BYTES * (seconds * MOST + BURST_SECONDS)
    expect(last.sentBytes - first.sentBytes, `in ${seconds} s`).toBeLessThan(mostBytes)
    for (const [index, name] of NAMES.entries()) {
      const [source, replica] = [scratch().path(`${name}.img`), destinations[index] ?? '']
      expect((await readFile(replica)).equals(await readFile(source))).toBe(true)
    }
  })
})
