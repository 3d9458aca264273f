// A guest is thawed whatever happens: with a virsh that notes what it was asked, real processes and real signals.

import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

import { buildSync } from 'esbuild'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'

import { errnoOf, SyncError } from '../../src/errors.js'
import type { Host } from '../../src/host/host.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import { cutQuiesced, QUIESCE_LIMIT_MS, type QuiesceSpec } from '../../src/snapshot/quiesce.js'
import type { Cut, SnapshotMethod } from '../../src/snapshot/snapshot.js'
import { useHosts } from '../host/ways.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { childrenOf, isRunning, until } from '../support/processes.js'
import { FakeVirsh } from './fake-virsh.js'
import { localHost } from './worlds.js'

const OWN_PATH = process.env['PATH'] ?? ''
const WEB: QuiesceSpec = { kind: 'libvirt', domain: 'web', uri: null }
const REQUEST = { disks: ['/dev/null'], job: 'web', owner: '0123abcd', attempt: 'a1' }
const CUT: Cut = {
  kind: 'one-instant',
  takenAtMs: 1,
  spreadMs: 0,
  quiesced: 'no',
  disks: [{ original: '/dev/null', path: '/dev/zero' }],
  warnings: [],
}
/** From the freeze on; a little more than the limit for a busy machine. */
const THAWED_WITHIN_MS = QUIESCE_LIMIT_MS + 1000

function cutting(work: () => Promise<unknown> = () => Promise.resolve()): SnapshotMethod {
  const cut = async (): Promise<Cut> => {
    await work()
    return CUT
  }
  return { ...openSnapshots({ kind: 'reflink' }), cut }
}

/** Processes of this machine that have `text` in their words: the watches of one test have its directory in theirs. */
function processesWith(text: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text) ? [Number(name)] : []
    } catch {
      // it ended between the listing and the read
      return []
    }
  })
}

describe('a guest that is frozen for a cut', () => {
  const scratch = useScratch()
  const hosts = useHosts()
  let virsh: FakeVirsh
  let tmp: string
  let host: Host
  let number = 0

  beforeEach(async () => {
    number += 1
    virsh = await FakeVirsh.make(scratch().path(`virsh-${number}`))
    tmp = virsh.directory
    vi.stubEnv('PATH', virsh.path)
    vi.stubEnv('TMPDIR', tmp)
    host = localHost(scratch())
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    // the watch of a thaw that fails tries for a while
    for (const pid of leftOver()) process.kill(pid, 'SIGKILL')
  })
  const leftOver = (): number[] => processesWith(`${tmp}/blocksync-thaw-`)
  const pipes = (): string[] => readdirSync(tmp).filter((name) => name.startsWith('blocksync-thaw-'))

  it('is thawed once, by us, and nothing stays behind', async () => {
    const seen: string[] = []
    const method = cutting(() => Promise.resolve(seen.push(...virsh.asked())))
    const cut = await cutQuiesced(host, { ...WEB, uri: 'test:///x' }, method, REQUEST)
    expect(cut).toEqual({ ...CUT, quiesced: 'yes' })
    expect(seen).toEqual(['freeze by node'])
    expect(virsh.asked()).toEqual(['freeze by node', 'thaw by node'])
    expect(virsh.log()[0]?.what).toBe('test:///x domfsfreeze --domain web')
    await until(() => leftOver().length === 0 && pipes().length === 0, 'the watch ends')
    expect(virsh.asked()).toHaveLength(2)
  })

  it('is thawed where the cut fails, and the failure is that of the cut', async () => {
    const failure = new SyncError('replicate/snapshot', 'no room')
    const cut = cutQuiesced(
      host,
      WEB,
      cutting(() => Promise.reject(failure)),
      REQUEST,
    )
    await expect(cut).rejects.toBe(failure)
    expect(virsh.asked()).toEqual(['freeze by node', 'thaw by node'])
    await until(() => leftOver().length === 0, 'the watch ends')
  })

  it('is thawed by the watch where the cut takes too long, which is said', async () => {
    const slow = cutting(() => until(() => virsh.asked().length === 2, 'the watch thaws'))
    const cut = await cutQuiesced(host, WEB, slow, REQUEST, 1000)
    expect(virsh.asked()).toEqual(['freeze by node', 'thaw by timeout', 'thaw by node'])
    expect(cut.quiesced).toBe('no')
    expect(cut.warnings).toEqual([
      'the guest web was thawed before the snapshot was complete: it took more than 1 s',
    ])
  })

  it('that somebody else thawed was not quiet', async () => {
    const method = cutting(() =>
      host.run({ argv: ['virsh', 'domfsthaw', '--domain', 'web'], timeoutMs: 5000 }),
    )
    const cut = await cutQuiesced(host, WEB, method, REQUEST)
    expect(cut.quiesced).toBe('no')
    expect(cut.warnings).toEqual([
      'the guest web had been thawed by somebody else before the snapshot was complete',
    ])
  })

  it('that has no agent is cut as it is, which is said', async () => {
    const cut = await cutQuiesced(host, { ...WEB, domain: 'bare' }, cutting(), REQUEST)
    expect(cut).toMatchObject({ quiesced: 'no', disks: CUT.disks })
    expect(cut.warnings).toEqual([
      'the guest bare could not be frozen: argument unsupported: QEMU guest agent is not configured',
    ])
    await until(() => leftOver().length === 0, 'nothing was frozen, so nobody watches')
  })

  it('whose freeze does not end is thawed by us and, since it may come later, by the watch', async () => {
    const cut = await cutQuiesced(host, { ...WEB, domain: 'stuck' }, cutting(), REQUEST, 1500)
    expect(cut.quiesced).toBe('no')
    expect(cut.warnings[0]).toMatch(/the guest stuck could not be frozen: virsh did not end within 1.2 s/)
    await until(() => virsh.asked().length === 3, 'the watch thaws')
    expect(virsh.asked()).toEqual(['freeze by node', 'thaw by node', 'thaw by timeout'])
  })

  it('is not frozen where nothing could watch over it', async () => {
    vi.stubEnv('TMPDIR', `${tmp}/missing`)
    const cut = await cutQuiesced(host, WEB, cutting(), REQUEST)
    expect(cut.quiesced).toBe('no')
    expect(cut.warnings[0]).toMatch(/was not frozen, since nothing on this host would thaw it .*missing/)
    expect(virsh.asked()).toEqual([])
  })

  it('is not frozen where there is no snapshot, and not asked where nobody wants it', async () => {
    const none = await cutQuiesced(host, WEB, openSnapshots({ kind: 'none' }), REQUEST)
    expect(none.quiesced).toBe('no')
    expect(none.warnings).toHaveLength(2)
    expect(await cutQuiesced(host, null, cutting(), REQUEST)).toBe(CUT)
    expect(virsh.asked()).toEqual([])
  })

  it('is asked with words that the real virsh takes', needs('virsh'), async () => {
    vi.stubEnv('PATH', OWN_PATH)
    // a guest of libvirt's own for tests, which each connection has anew: so nobody finds it frozen
    const spec: QuiesceSpec = { kind: 'libvirt', domain: 'test', uri: 'test:///default' }
    const cut = await cutQuiesced(host, spec, cutting(), REQUEST)
    expect(cut.warnings).toEqual([
      'the guest test had been thawed by somebody else before the snapshot was complete',
    ])
    const missing = await cutQuiesced(host, { ...spec, domain: 'nobody' }, cutting(), REQUEST)
    expect(missing.warnings[0]).toMatch(
      /^the guest nobody could not be frozen: .*(Domain not found|get domain 'nobody')/,
    )
    await until(() => leftOver().length === 0, 'nothing was frozen, so nobody watches')
  })

  it('may be anything that two programs freeze and thaw', async () => {
    const log = `${tmp}/words`
    const note = (word: string): [string, ...string[]] => ['sh', '-c', 'echo "$1" >>"$2"', 'sh', word, log]
    const spec: QuiesceSpec = { kind: 'command', freeze: note('freeze $(x)'), thaw: note("thaw 'y'") }
    const cut = await cutQuiesced(host, spec, cutting(), REQUEST)
    expect(cut.quiesced).toBe('yes')
    expect(readFileSync(log, 'utf8')).toBe("freeze $(x)\nthaw 'y'\n")
    const failing: QuiesceSpec = { ...spec, thaw: ['false'] }
    const unsure = await cutQuiesced(host, failing, cutting(), REQUEST, 500)
    expect(unsure.quiesced).toBe('no')
    expect(unsure.warnings[0]).toMatch(/its thaw failed: false ended with status 1/)
  })

  it('is thawed at once where the whole service is ended', async () => {
    const method = cutting(async () => {
      for (const pid of leftOver()) signal(pid, 'SIGTERM')
      await until(() => virsh.asked().length === 2, 'the watch thaws')
    })
    const cut = await cutQuiesced(host, WEB, method, REQUEST)
    expect(virsh.asked()).toEqual(['freeze by node', 'thaw by timeout', 'thaw by node'])
    expect(cut.quiesced).toBe('no')
  })

  describe('and nobody is there any more', () => {
    let program = ''
    beforeAll(() => {
      program = scratch().path('freeze-and-hang.mjs')
      buildSync({
        entryPoints: [`${import.meta.dirname}/freeze-and-hang.ts`],
        outfile: program,
        bundle: true,
        platform: 'node',
        format: 'esm',
        target: 'node20',
        logLevel: 'silent',
      })
    })

    it('is thawed in time when this program was killed', async () => {
      const child = scratch().start(process.execPath, program, scratch().path('state-of-child'))
      if (child.stdout === null) throw new Error('a program with pipes')
      await once(createInterface({ input: child.stdout }), 'line')
      expect(virsh.asked()).toEqual(['freeze by node'])
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      await until(() => virsh.asked().length === 2, 'the watch thaws', THAWED_WITHIN_MS)
      const [freeze, thaw] = virsh.log()
      expect(virsh.asked()).toEqual(['freeze by node', 'thaw by timeout'])
      expect((thaw?.atMs ?? Infinity) - (freeze?.atMs ?? 0)).toBeLessThanOrEqual(THAWED_WITHIN_MS)
      await until(() => leftOver().length === 0 && pipes().length === 0, 'the watch ends')
    })

    it('is thawed in time when the agent of its host was killed', async () => {
      const before = childrenOf(process.pid)
      const { host: far } = await hosts.child(scratch().path('state-of-agent'))
      const agents = childrenOf(process.pid).filter((pid) => !before.includes(pid))
      const method = cutting(async () => {
        for (const pid of agents) process.kill(pid, 'SIGKILL')
        await once(far.lost, 'abort')
        throw far.lost.reason
      })
      await expect(cutQuiesced(far, WEB, method, REQUEST)).rejects.toMatchObject({ code: 'host/lost' })
      expect(agents.filter(isRunning)).toEqual([])
      await until(() => virsh.asked().length === 2, 'the watch thaws', THAWED_WITHIN_MS)
      expect(virsh.asked()).toEqual(['freeze by node', 'thaw by timeout'])
    })
  })
})

/** One that is gone already ended with the one that it waited for. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}
