// `blocksync replicate promote`, `reverse`, `restore` and `drill`: what is asked, what is passed on, what is printed. The engine is the
// test's own.

import { describe, expect, it } from 'vitest'

import type { ReplicateEngine } from '../../src/cli/replicate.js'
import type { UseRequest } from '../../src/cli/replicate-use.js'
import { EXIT, SyncError } from '../../src/errors.js'
import { jsonLines, runWords, type Ran, type Setup } from './fixtures.js'
import { engine, job } from './replicate-fakes.js'

async function use(
  words: readonly string[],
  parts: Parameters<typeof engine>[0] = {},
  setup: Setup = {},
): Promise<Ran> {
  return await runWords(['replicate', ...words], { replicate: engine(parts), ...setup })
}

const facts = {
  generation: 812,
  takenAt: '2026-01-02T03:00:00.000Z',
  ageSeconds: 720,
  consistency: 'crash-consistent',
}
const where = { job: 'web01', id: 'web01.0a1b2c3d', host: 'this host' }

describe('promote', () => {
  type Request = Parameters<ReplicateEngine['promote']>[0]

  function promoting(seen: Request[] = []): Pick<ReplicateEngine, 'promote'> {
    return {
      promote: async (request) => {
        seen.push(request)
        await request.agree(['web01: generation 812'], 'Promote the replica of web01?')
        return {
          ...where,
          was: 'replica',
          newest: facts,
          disks: ['/dev/vg0/web01'],
          definition: '/s/guest.xml',
          commands: [
            ['virsh', 'define', '/s/guest one.xml'],
            ['virsh', 'start', 'web01'],
          ],
        }
      },
    }
  }

  it('works without any configuration, and says what to type', async () => {
    const seen: Request[] = []
    const { status, stdout } = await use(['promote', 'web01', '--yes'], promoting(seen))
    expect([status, stdout.split('\n')]).toEqual([
      EXIT.ok,
      [
        'web01 on this host is promoted: generation 812, taken 2026-01-02 03:00:00 UTC (12 min ago), crash-consistent',
        '  /dev/vg0/web01',
        'to start the guest:',
        "  virsh define '/s/guest one.xml'",
        '  virsh start web01',
        'no attempt writes to it any more; when the old source is back: blocksync replicate reverse web01 (replica web01.0a1b2c3d)',
        '',
      ],
    ])
    expect(seen).toMatchObject([{ config: null, stateDir: null, name: 'web01', sourceAlive: 'refuse' }])
  })

  it('again says so', async () => {
    const promote: ReplicateEngine['promote'] = () =>
      Promise.resolve({
        ...where,
        was: 'promoted',
        newest: facts,
        disks: [],
        definition: null,
        commands: [],
      })
    const { stdout } = await use(['promote', 'web01'], { promote })
    expect(stdout.split('\n').slice(0, 2)).toEqual([
      'web01 on this host was promoted before; nothing was changed',
      'define a guest on these disks to start it; none is known',
    ])
  })

  it('asks, and is refused where nobody agrees', async () => {
    const questions: string[] = []
    const answering =
      (answer: boolean) =>
      (question: string): Promise<boolean> => {
        questions.push(question)
        return Promise.resolve(answer)
      }
    const yes = await use(['promote', 'web01'], promoting(), { ask: answering(true) })
    const no = await use(['promote', 'web01'], promoting(), { ask: answering(false) })
    expect([yes.status, no.status, questions]).toEqual([
      EXIT.ok,
      EXIT.guard,
      ['Promote the replica of web01? [y/N] ', 'Promote the replica of web01? [y/N] '],
    ])
    expect(no.stderr).toBe(
      'web01: generation 812\nblocksync: web01: nobody agreed to it; nothing was done\nType --yes to do it unasked.\n',
    )
    // a program reads it: nobody is asked
    const json = await use(['promote', 'web01', '--json'], promoting(), { ask: answering(true) })
    expect(json.status).toBe(EXIT.guard)
    expect(jsonLines(json.stdout)).toMatchObject([
      { event: 'result', ok: false, job: 'web01', error: { code: 'replicate/refused' } },
    ])
  })

  it('forced passes that on; with --json there is one result', async () => {
    const seen: Request[] = []
    const words = ['promote', 'web01', '--force-source-alive', '--yes', '--json', '--native', 'off']
    const { stdout } = await use(words, { jobs: [job('web01')], ...promoting(seen) })
    expect(jsonLines(stdout)).toMatchObject([{ event: 'result', ok: true, ...where, newest: facts }])
    expect(seen).toMatchObject([{ sourceAlive: 'force', native: 'off', stateDir: '/var/lib/blocksync' }])
    expect(seen[0]?.config?.jobs).toHaveLength(1)
  })

  it('--take-back makes it a replica again', async () => {
    const takeBack: ReplicateEngine['takeBack'] = ({ written }) =>
      Promise.resolve({ ...where, generation: written === 'refuse' ? 812 : null })
    const { stdout } = await use(['promote', 'web01', '--take-back'], { takeBack })
    expect(stdout).toBe('web01 on this host is a replica again, generation 812\n')
    const given = await use(['promote', 'web01', '--take-back', '--discard'], { takeBack })
    expect(given.stdout).toContain('what was written is gone then\n')
  })

  it('that is refused ends with the status of the error', async () => {
    const promote = (): Promise<never> =>
      Promise.reject(
        new SyncError('replicate/refused', 'the source answers', { operand: 'web01', hint: 'Stop it.' }),
      )
    const { status, stderr } = await use(['promote', 'web01'], { promote })
    expect([status, stderr]).toEqual([EXIT.guard, 'blocksync: web01: the source answers\nStop it.\n'])
  })
})

describe('reverse', () => {
  it('says which way it goes now', async () => {
    const forced: string[] = []
    const reverse: ReplicateEngine['reverse'] = ({ notPromoted, onWarning }) => {
      forced.push(notPromoted)
      onWarning('look out')
      return Promise.resolve({
        job: 'web01',
        direction: 'reversed',
        source: 'root@kvm2:/dev/vg0/web01',
        destination: '/dev/vg0/web01',
      })
    }
    const parts = { jobs: [job('web01')], reverse }
    const { stdout, stderr } = await use(['reverse', 'web01'], parts)
    expect([stdout, stderr]).toEqual([
      'web01 is turned round: root@kvm2:/dev/vg0/web01 -> /dev/vg0/web01\n' +
        'the next attempt sends what differs: blocksync replicate run web01 --now\n',
      'blocksync: warning: look out\n',
    ])
    await use(['reverse', 'web01', '--force-not-promoted'], parts)
    expect(forced).toEqual(['refuse', 'force'])
  })
})

describe('restore', () => {
  type Request = Parameters<ReplicateEngine['restore']>[0]

  const restoring = (seen: Request[]): Pick<ReplicateEngine, 'restore'> => ({
    restore: (request) => {
      seen.push(request)
      const { to } = request
      return Promise.resolve({
        ...where,
        restored: facts,
        disks: [{ path: '/dev/vg0/web01', to, bytes: 5 << 20 }],
        dropped: to === null ? [813, 814] : [],
      })
    },
  })

  it('writes a generation out, the newest where none is named', async () => {
    const seen: Request[] = []
    const { stdout } = await use(
      ['restore', 'web01', '--generation', '812', '--to', '/r/a.img'],
      restoring(seen),
    )
    expect(stdout.split('\n')).toEqual([
      'web01 on this host, generation 812, taken 2026-01-02 03:00:00 UTC (12 min ago), crash-consistent, written and checked:',
      '  /dev/vg0/web01 -> /r/a.img (5.00 MiB written)',
      '',
    ])
    await use(['restore', 'web01', '--to', '/r/b.img'], restoring(seen))
    expect(seen.map(({ generation, to }) => [generation, to])).toEqual([
      [812, '/r/a.img'],
      [null, '/r/b.img'],
    ])
  })

  it('in place says what is gone', async () => {
    const { stdout } = await use(['restore', 'web01', '--generation', '812', '--in-place'], restoring([]))
    expect(stdout.split('\n')).toEqual([
      'web01 on this host is back at generation 812, taken 2026-01-02 03:00:00 UTC (12 min ago), crash-consistent',
      '  /dev/vg0/web01',
      'gone: 813, 814',
      '',
    ])
  })
})

describe('drill', () => {
  const drilling = (seen: ('yes' | 'no')[] = []): Pick<ReplicateEngine, 'drill'> => ({
    drill: ({ boot }) => {
      seen.push(boot)
      return Promise.resolve({
        ...where,
        proved: facts,
        disks: [{ path: '/dev/vg0/web01', algorithm: 'xxh3-128', root: 'aa55' }],
        boot: boot === 'yes' ? { line: 'login:', durationMs: 8000 } : null,
        durationMs: 2500,
      })
    },
  })

  it('says what holds, with --boot what the guest said, and with -q nothing', async () => {
    const seen: ('yes' | 'no')[] = []
    const { stdout } = await use(['drill', 'web01', '--boot'], drilling(seen))
    expect(stdout.split('\n')).toEqual([
      'web01 on this host holds: generation 812, taken 2026-01-02 03:00:00 UTC (12 min ago), crash-consistent; read in 2.50 s',
      '  /dev/vg0/web01 aa55 (xxh3-128)',
      'a guest started on it and said after 8.00 s: login:',
      '',
    ])
    expect((await use(['drill', 'web01', '-q'], drilling(seen))).stdout).toBe('')
    expect(seen).toEqual(['yes', 'no'])
  })

  it('that fails is 7, and shows the console line by line', async () => {
    const drill = (): Promise<never> =>
      Promise.reject(new SyncError('replicate/drill', 'it did not come. Its console:\n  one\n  two'))
    const { status, stderr } = await use(['drill', 'web01'], { drill })
    expect([status, stderr]).toEqual([
      EXIT.verification,
      'blocksync: it did not come. Its console:\n  one\n  two\n',
    ])
  })

  it.each([
    ['SIGINT', ['drill', 'web01'], EXIT.sigint],
    ['SIGTERM', ['drill', 'web01'], EXIT.sigterm],
    ['input end', ['drill', 'web01', '--from-daemon'], EXIT.sigterm],
  ] as const)('%s ends it', async (name, words, expected) => {
    const world: { emit?: () => void } = {}
    const drill = async ({ signal }: UseRequest): Promise<never> => {
      const aborted = new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
      )
      world.emit?.()
      return await aborted
    }
    const { status } = await use(
      words,
      { drill },
      { prepare: ({ signals }) => (world.emit = () => void signals.emit(name)) },
    )
    expect(status).toBe(expected)
  })
})
