// A far end that is started before the engine is loaded: the order, who gets it, and that none is left behind.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { runEarly } from '../../src/cli/early.js'
import type { RunSync } from '../../src/cli/sync.js'
import { SyncError } from '../../src/errors.js'
import { syncOptions, type SyncOptions } from '../../src/options.js'
import type { DiskPair, RunReport } from '../../src/sync/report.js'
import type { Connection } from '../../src/transport/transport.js'

const HERE = import.meta.filename
const DONE: RunReport = { disks: [], error: null }

function pair(source: string): DiskPair {
  const at = { kind: 'remote', host: 'h', user: null, port: null, typed: 'h' } as const
  return {
    source: { path: source, at: { kind: 'local' }, typed: source },
    destination: { path: '/b', at, typed: 'h:/b' },
  }
}

/** Runs with parts that note what happens; the connection notes its end. */
async function notes(
  source: string,
  engine: RunSync,
  { options = syncOptions({}), ssh = 'openssh', fails = null }: Partial<Setting> = {},
): Promise<string[]> {
  const log: string[] = []
  const connection: Connection = {
    peerName: 'h',
    kind: 'openssh',
    cipher: null,
    forward: null,
    input: new PassThrough(),
    output: new PassThrough(),
    exit: Promise.resolve({ exitStatus: 0, signal: null, stderrTail: '' }),
    end: () => undefined,
    kill: () => undefined,
    explain: () => new SyncError('internal', 'not asked for here'),
    [Symbol.asyncDispose]: () => {
      log.push('ended')
      return Promise.resolve()
    },
  }
  const run = runEarly({
    choose: () => Promise.resolve(ssh),
    start: async () => {
      log.push('starting')
      // a program is started with turns of the event loop in between
      await new Promise((resolve) => setImmediate(resolve))
      if (fails !== null) throw fails
      log.push('started')
      return connection
    },
    loadEngine: () => {
      log.push('loaded')
      return Promise.resolve(engine)
    },
  })
  await run([pair(source)], options, {}).then(
    () => log.push('done'),
    (error: Error) => log.push(error.message),
  )
  return log
}

type Setting = { options: SyncOptions; ssh: 'openssh' | 'ssh2'; fails: Error | null }

/** An engine that takes what was started, twice, and tells how that went in its own words. */
const taking: RunSync = async (_pairs, _options, { takeConnection }) => {
  const taken = await takeConnection?.()
  if (taken === undefined) throw new Error('ran without')
  if (takeConnection?.() !== null) throw new Error('two got it')
  if (taken === null) throw new Error('nothing there')
  await taken[Symbol.asyncDispose]()
  return DONE
}

const refusing: RunSync = () => Promise.reject(new Error('refused'))

describe('a far end started before the engine', () => {
  it('is on its way before anything is loaded, and is taken over once', async () => {
    expect(await notes(HERE, taking)).toEqual(['starting', 'started', 'loaded', 'ended', 'done'])
  })

  it('is ended where the engine does not take it', async () => {
    expect(await notes(HERE, refusing)).toEqual(['starting', 'started', 'loaded', 'ended', 'refused'])
  })

  it('that fails is the failure that the engine reports', async () => {
    const fails = new Error('no ssh')
    expect(await notes(HERE, taking, { fails })).toEqual(['starting', 'loaded', 'no ssh'])
    expect(await notes(HERE, refusing, { fails })).toEqual(['starting', 'loaded', 'refused'])
  })

  it.each<[string, string, Partial<Setting>]>([
    ['a source that is not there', '/nonexistent/disk', {}],
    ['--native require', HERE, { options: syncOptions({ native: 'require' }) }],
    ['--digest', HERE, { options: syncOptions({ digest: 'sha256' }) }],
    ['ssh2', HERE, { ssh: 'ssh2' }],
  ])('is left to the engine with %s', async (_what, source, setting) => {
    expect(await notes(source, taking, setting)).toEqual(['loaded', 'ran without'])
  })
})
