// `blocksync migrate`: what words are refused, what they come to, what is asked and printed, and the statuses. Hosts and
// hypervisors are those of test/migrate-plan/fakes.ts; what runs a plan is the test's own.

import { describe, expect, it } from 'vitest'

import type { MigrateEngine } from '../../src/cli/migrate.js'
import { EXIT, SyncError } from '../../src/errors.js'
import type { Host } from '../../src/host/host.js'
import type { HostOptions } from '../../src/host/open.js'
import type { OpenRequest } from '../../src/hypervisor/open.js'
import type { MigrateContext } from '../../src/migrate/context.js'
import type { CopierSetup } from '../../src/migrate/copier.js'
import { makePlan, type PlanRequest } from '../../src/migrate/make-plan.js'
import type { Plan, PlannedConnection } from '../../src/migrate/plan.js'
import type { RecoverRequest } from '../../src/migrate/recover.js'
import { resultOf, type MigrateReport } from '../../src/migrate/report.js'
import type { MigrationStatus } from '../../src/migrate/status.js'
import type { FarSide } from '../../src/transport/transport.js'
import {
  disk,
  FakeHost,
  fakeDriver,
  guest,
  MIB,
  played,
  type DriverLayout,
  type Layout,
} from '../migrate-plan/fakes.js'
import { jsonLines, runWords, type Ran, type Setup } from './fixtures.js'

const IMAGE = { '/srv/vm/a.img': { sizeBytes: 64 * MIB } }
const EMPTY_IMAGE = { '/srv/vm/a.img': { sizeBytes: 64 * MIB, allocatedBytes: 0 } }
const WITH_CONTENT: Layout = { entries: IMAGE, programs: { blkid: { stdout: 'TYPE=ext4\n' } } }

type Seen = {
  sides: FarSide[]
  options: HostOptions[]
  opened: OpenRequest[]
  requests: PlanRequest[]
  plans: Plan[]
  contexts: MigrateContext[]
  copiers: Omit<CopierSetup, 'run' | 'nowMs'>[]
  recoveries: RecoverRequest[]
  closed: string[]
}

type World = {
  source?: Layout
  destination?: Layout
  sourceDriver?: DriverLayout
  connect?: () => Promise<Host>
  report?: Partial<MigrateReport>
  during?: (context: MigrateContext, seen: Seen) => void | Promise<void>
  statuses?: MigrationStatus[]
  /** In the plan of M1. */
  connection?: PlannedConnection
  /** M1 was put back while the destination could not be asked. */
  unheardOf?: true
}

function reportOf(plan: Plan, changes: Partial<MigrateReport> = {}): MigrateReport {
  return {
    ok: changes.error === undefined || changes.error === null,
    guest: plan.guest.name,
    hypervisor: plan.hypervisor,
    mode: plan.options.mode,
    from: plan.from.host,
    to: plan.to.typed,
    rounds: [{ sentBytes: MIB, wireBytes: MIB, durationMs: 1000, forecastDowntimeMs: 2000 }],
    downtimeMs: 2410,
    downtime: { saveMs: 800, lastPassMs: 400, stateCopyMs: 610, restoreMs: 330, resumeMs: 270 },
    runsOn: 'destination',
    journal: plan.id,
    warnings: [],
    error: null,
    ...changes,
  }
}

function engine(world: World, seen: Seen): MigrateEngine {
  const source = new FakeHost('this host', 'local', { entries: IMAGE, ...world.source })
  const there = new FakeHost('root@host2', 'remote', { entries: EMPTY_IMAGE, ...world.destination })
  for (const host of [source, there]) {
    host.close = () => {
      seen.closed.push(host.name)
      return Promise.resolve()
    }
  }
  const finish = async (plan: Plan, context: MigrateContext): Promise<MigrateReport> => {
    seen.contexts.push(context)
    await world.during?.(context, seen)
    return reportOf(plan, world.report)
  }
  return {
    newId: () => '20260102-aabbcc',
    openHost: async (side, options) => {
      seen.sides.push(side)
      seen.options.push(options)
      if (side.kind === 'local') return source
      return world.connect === undefined ? there : await world.connect()
    },
    openDriver: (host, request) => {
      seen.opened.push(request)
      const own: DriverLayout = host === source ? { guest: guest(), ...world.sourceDriver } : {}
      return Promise.resolve({
        ...fakeDriver(host, own),
        state: (name) => Promise.resolve(name === own.guest?.name ? 'running' : 'absent'),
      })
    },
    makePlan: (request, parts) => {
      seen.requests.push(request)
      return makePlan(request, parts)
    },
    openMigrations: (host) =>
      Promise.resolve(
        host.kind === 'remote' && world.unheardOf !== undefined && seen.recoveries.length === 0
          ? [{ id: 'M1', role: 'destination', uuid: 'aaaa', phase: 'moving, save is done' }]
          : [],
      ),
    leftBehind: () => Promise.resolve(world.unheardOf === undefined ? [] : ['M1']),
    planOf: async (_, id) => {
      if (id === 'M1') return { ...(await played()).plan, connection: world.connection ?? {} }
      throw new SyncError('migrate/unknown', `there is no migration ${id}; nothing was changed`, {
        operand: id,
      })
    },
    copier: (setup) => {
      seen.copiers.push(setup)
      return {
        pass: neverCalled,
        copyFile: neverCalled,
        digest: neverCalled,
        prepare: () => undefined,
        close: () => Promise.resolve(),
      }
    },
    clock: { nowMs: () => 0, wallMs: () => 0, sleep: () => Promise.resolve() },
    migrate: (plan, context) => {
      seen.plans.push(plan)
      return finish(plan, context)
    },
    recover: async (request, context) => {
      seen.recoveries.push(request)
      return await finish((await played()).plan, context)
    },
    resultOf,
    statuses: () => Promise.resolve(world.statuses ?? []),
  }
}

function neverCalled(): Promise<never> {
  return Promise.reject(new Error('nothing is copied here'))
}

async function migrate(
  words: readonly string[],
  world: World = {},
  setup: Setup = {},
): Promise<Ran & { seen: Seen }> {
  const seen: Seen = {
    sides: [],
    options: [],
    opened: [],
    requests: [],
    plans: [],
    contexts: [],
    copiers: [],
    recoveries: [],
    closed: [],
  }
  const ran = await runWords(['migrate', ...words], { migrate: engine(world, seen), ...setup })
  return { ...ran, seen }
}

describe('words that are refused', () => {
  it.each<[string, string]>([
    ['', 'GUEST is missing'],
    ['web', 'HOST is missing'],
    ['web host2 host3', 'one guest and one host'],
    ['web /srv', 'this is a path, not a host'],
    ['web host2 --mode hot', "'--mode <mode>' argument 'hot' is invalid"],
    ['web host2 --map vda', 'is not OLD=NEW'],
    ['web host2 --map vda=x', 'is not an absolute path'],
    ['web host2 --disks vda,', 'takes names of disks'],
    ['web host2 --disks vda --shared vdb,vda', 'both name vda'],
    ['web host2 --create lvm', '--create is file or lvm:GROUP'],
    ['web host2 --create lvm:-x', '--create is file or lvm:GROUP'],
    ['web host2 --max-rounds 0', '--max-rounds is a number'],
    ['web host2 --downtime-target soon', 'is not a time'],
    ['web host2 --mode warm --force-off', '--force-off has no effect with --mode warm'],
    ['web host2 --mode live --max-rounds 3', '--max-rounds has no effect with --mode live'],
    ['web host2 --mode warm --start', '--start has no effect with --mode warm'],
    ['web host2 --hypervisor xen --mode live', 'live is there for libvirt only'],
    ['web host2 --hypervisor xen --connect qemu:///system', '--connect is about libvirt'],
    ['web host2 --plan --yes', '--yes answers what --plan does not ask'],
    ['web host2 --continue M1', 'web would begin one'],
    ['--continue M1 --abort M1', '--abort and --continue are two different wishes'],
    ['--continue M1 --map vda=/x', '--map has no effect'],
    ['--abort M1 --undefine-source', '--undefine-source has no effect'],
    ['--status --bwlimit 1M', '--bwlimit has no effect on --status'],
    ['--continue ../x', 'wants the ID of a migration'],
    ['--continue', 'argument missing'],
    ['web host2 --frobnicate', 'unknown option'],
  ])('%s', async (line, text) => {
    const { status, stderr, seen } = await migrate(line.split(' ').filter((word) => word !== ''))
    expect([status, seen.sides]).toEqual([EXIT.usage, []])
    expect(stderr).toContain(text)
    expect(stderr).toContain('nothing was opened')
  })

  it('a host without ssh options that are for it', async () => {
    const { status, stderr } = await migrate(['web', 'ssh://host2:22', '-p', '23'])
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining('--port says 23')])
  })

  it('the command in the second place', async () => {
    const { status, stderr } = await runWords(['-n', 'migrate', 'host2'])
    expect([status, stderr]).toEqual([
      EXIT.usage,
      expect.stringContaining('migrate has to be the first word'),
    ])
  })
})

describe('options', () => {
  it('come to the request', async () => {
    const line =
      'web root@host2:2 --mode cold --map vda=/data/a.img --map /x=/y --disks vda --disks vdc --shared vdb,vde --create lvm:vg0 --network br0=br1 --max-rounds 3 --downtime-target 2s --shutdown-timeout 1m --force-off --undefine-source --hook hooks --bwlimit 1M -i key -y'
    const { seen } = await migrate(line.replace(':2', '').split(' '))
    expect(seen.requests).toEqual([
      {
        id: '20260102-aabbcc',
        guest: 'web',
        typedHost: 'root@host2',
        login: { host: 'host2', user: 'root', port: null },
        identity: 'key',
        connection: { identity: ['/home/me/key'] },
        uriFromSource: null,
        mode: 'cold',
        chosen: {
          maps: [
            { from: 'vda', to: '/data/a.img' },
            { from: '/x', to: '/y' },
          ],
          networks: [{ from: 'br0', to: 'br1' }],
          disks: ['vda', 'vdc'],
          shared: ['vdb', 'vde'],
        },
        create: { kind: 'lvm', group: 'vg0' },
        definition: null,
        bytesPerSecond: MIB,
        options: {
          maxRounds: 3,
          downtimeTargetMs: 2000,
          shutdownTimeoutMs: 60_000,
          forceOff: 'yes',
          start: 'no',
          undefineSource: 'yes',
          hooksDirectory: '/home/me/hooks',
        },
      },
    ])
  })

  it('reach hosts, drivers and copies', async () => {
    const line =
      'web host2 --connect qemu:///session --dest-connect qemu+ssh://host2/session -z --timeout 9 --native off --state-dir /state --sudo -p 2222'
    const { seen } = await migrate(line.split(' '))
    expect(seen.opened.slice(0, 2)).toEqual([
      { hypervisor: 'auto', uri: 'qemu:///session' },
      { hypervisor: 'libvirt', uri: 'qemu:///session' },
    ])
    expect(seen.requests[0]?.uriFromSource).toBe('qemu+ssh://host2/session')
    const [here, there] = seen.options
    expect([here?.stateDir, here?.native, here?.transport.serveArguments]).toEqual([
      '/state',
      'off',
      ['--native=off', '--state-dir=/state'],
    ])
    expect([
      there?.timeoutMs,
      there?.transport.port,
      there?.transport.sudo,
      there?.transport.serveArguments,
    ]).toEqual([9000, 2222, 'always', ['--native=off', '--state-dir=/state']])
    const { options, far } = seen.copiers[0] ?? {}
    expect([options?.compress, options?.force, far?.host]).toEqual([
      'best',
      ['content', 'direction'],
      'host2',
    ])
  })

  it('--xml is read, and named where it is not there', async () => {
    const world = { source: { entries: { ...IMAGE, '/home/me/web.xml': { text: '<domain/>' } } } }
    const { seen } = await migrate(['web', 'host2', '--xml', 'web.xml'], world)
    expect(seen.requests[0]?.definition).toBe('<domain/>')
    const { status, stderr } = await migrate(['web', 'host2', '--xml', 'none.xml'], world)
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining('none.xml is not there')])
  })
})

describe('--plan', () => {
  it('prints all of it and changes nothing', async () => {
    const { status, stdout, stderr, seen } = await migrate(
      ['web', 'root@host2', '--plan', '--map', 'vda=/data/a.img', '--create', 'file'],
      { destination: { entries: {} } },
    )
    expect([status, stderr, seen.plans]).toEqual([EXIT.ok, '', []])
    expect(stdout.split('\n')).toEqual(
      [
        'web: warm to root@host2 (libvirt, running, 128 MiB of memory, 1 CPU)',
        'disk  kind  what    here                      on root@host2  there',
        'vda   file  copied  /srv/vm/a.img (64.0 MiB)  /data/a.img    made: sparse file and /data',
        'estimate: at most 192 MiB to send, downtime not known',
        '',
        'definition:',
        '  --- web on this host',
        '  +++ web on root@host2',
        '  @@ -1,4 +1,4 @@',
        '   <domain>',
        '     <name>web</name>',
        '  -  <disk path="/srv/vm/a.img"/>',
        '  +  <disk path="/data/a.img" target="vda"/>',
        '   </domain>',
        '',
        'commands:',
        '  root@host2  what is done there              blocksync agent',
        '  here        rounds, while it runs           blocksync sync --disk /srv/vm/a.img=root@host2:/data/a.img',
        '  here        the guest stops here            virsh save web',
        '  here        the last pass                   blocksync sync --disk /srv/vm/a.img=root@host2:/data/a.img',
        '  root@host2  paused, and looked at           virsh restorePaused web',
        '  here        from here on it cannot start here  virsh fence web',
        '  here        nobody writes to what stays     chattr +i /srv/vm/a.img',
        '  root@host2  with the definition below       virsh define web',
        '  root@host2  the guest goes on there         virsh resume web',
        '',
        'nothing stands in its way',
        '',
      ].map((line) => expect.stringMatching(blanksAsOne(line)) as string),
    )
  })

  it('lists what would refuse it, with status 3', async () => {
    const { status, stdout } = await migrate(['web', 'host2', '--plan'], {
      destination: { entries: {}, facts: { isRoot: false } },
    })
    expect(status).toBe(EXIT.guard)
    expect(stdout.split('\n').slice(-6)).toEqual([
      'refused, for 2 reasons:',
      '  /srv/vm/a.img is not there on root@host2',
      '    Write --create file to have it made, sparse, or give another path: --map vda=/path.',
      '  on root@host2 we are not root, so disks cannot be opened and protected',
      '    Log in as root@..., or write --sudo.',
      '',
    ])
  })

  it('as JSON is one plan and one result', async () => {
    const { status, stdout } = await migrate(['web', 'host2', '--plan', '--json'], {
      destination: { entries: {} },
    })
    const [plan, result, ...more] = jsonLines(stdout)
    expect([status, more]).toEqual([EXIT.guard, []])
    expect(Object.keys(plan ?? {})).toEqual([
      'event',
      'id',
      'hypervisor',
      'mode',
      'guest',
      'from',
      'to',
      'options',
      'disks',
      'files',
      'overwrites',
      'definition',
      'persistentDefinition',
      'definitionDiff',
      'commands',
      'estimate',
      'warnings',
      'problems',
    ])
    expect(result).toMatchObject({
      event: 'result',
      ok: false,
      guest: 'web',
      runsOn: 'source',
      journal: null,
      error: {
        code: 'migrate/refused',
        problems: [{ code: 'destination-missing', operand: '/srv/vm/a.img' }],
      },
    })
    const { stdout: good } = await migrate(['web', 'host2', '--plan', '--json'])
    expect(jsonLines(good).at(-1)).toMatchObject({ event: 'result', ok: true })
  })
})

/** Columns may grow with their content. */
function blanksAsOne(line: string): RegExp {
  const escaped = line.trim().replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`)
  return new RegExp(`^ *${escaped.replaceAll(/ +/g, ' +')}$`)
}

describe('a migration', () => {
  it('is planned, run and reported', async () => {
    const { status, stdout, stderr, seen } = await migrate(['web', 'root@host2'], {
      during: ({ onEvent }) => {
        onEvent({ event: 'step', step: 'rounds', state: 'begin', message: null })
        onEvent({ event: 'progress', step: 'rounds', doneBytes: 1, totalBytes: 2, sentBytes: 1 })
        onEvent({
          event: 'round',
          round: 1,
          sentBytes: 3 * MIB,
          wireBytes: 1,
          durationMs: 1200,
          forecastDowntimeMs: 3400,
        })
        onEvent({ event: 'step', step: 'rounds', state: 'done', message: null })
        onEvent({ event: 'warning', message: 'look out' })
      },
    })
    expect(status).toBe(EXIT.ok)
    expect(stdout).toBe(
      'web runs on root@host2; downtime 2.41 s (save 0.80 s, last pass 0.40 s, state copy 0.61 s, restore 0.33 s, resume 0.27 s)\n',
    )
    expect(stderr.split('\n').slice(-5)).toEqual([
      expect.stringContaining('estimate: '),
      'blocksync: rounds',
      'blocksync: round 1: 3.00 MiB sent in 1.20 s; downtime would be about 3.40 s',
      'blocksync: warning: look out',
      '',
    ])
    expect(seen.plans).toHaveLength(1)
  })

  it('uses the connection of the plan first, and then others; and closes what nobody took', async () => {
    const taken: Host[] = []
    const { seen } = await migrate(['web', 'host2'], {
      during: async ({ openDestination }) => {
        taken.push(await openDestination(), await openDestination())
      },
    })
    expect(seen.sides.map(({ kind }) => kind)).toEqual(['local', 'remote', 'remote'])
    expect(taken.map(({ name }) => name)).toEqual(['root@host2', 'root@host2'])
    // whoever runs the plan closes what it took
    expect(seen.closed).toEqual(['this host'])
    const { seen: planned } = await migrate(['web', 'host2', '--plan'])
    expect(planned.closed.toSorted()).toEqual(['root@host2', 'this host'])
  })

  it('asks the hypervisor of each host by the URIs of the plan', async () => {
    const { seen } = await migrate(['web', 'host2'], {
      during: async ({ driverFor, source }) => void (await driverFor(source)),
    })
    expect(seen.opened.at(-1)).toEqual({ hypervisor: 'libvirt', uri: 'qemu:///system' })
  })

  it('tells nothing of its own guest that writes, and all else', async () => {
    const { stderr } = await migrate(['web', 'host2'], {
      during: (_, { copiers }) => {
        const { onWarning } = copiers[0]?.hooks ?? {}
        onWarning?.(
          'the source /srv/vm/a.img is in use: the copy is at best what a crash would leave; pause it',
        )
        onWarning?.('something else')
      },
    })
    expect(stderr).toContain('blocksync: warning: something else\n')
    expect(stderr).not.toContain('crash')
  })

  it('with --json prints the plan, events and one result', async () => {
    const { stdout, stderr } = await migrate(['web', 'host2', '--json'], {
      during: ({ onEvent }) => {
        onEvent({ event: 'step', step: 'save', state: 'begin', message: null })
        onEvent({ event: 'progress', step: 'final', doneBytes: 1, totalBytes: 2, sentBytes: 1 })
      },
    })
    const lines = jsonLines(stdout)
    expect(lines.map(({ event }) => event)).toEqual(['plan', 'step', 'progress', 'result'])
    expect(lines.at(-1)).toMatchObject({
      ok: true,
      runsOn: 'destination',
      downtimeMs: 2410,
      downtime: { saveMs: 800 },
    })
    expect(stderr).toBe('')
  })

  it('with -q prints nothing', async () => {
    const { status, stdout, stderr } = await migrate(['web', 'host2', '-q'])
    expect([status, stdout, stderr]).toEqual([EXIT.ok, '', ''])
  })

  it.each([
    ['migrate/stopped', EXIT.stopped],
    ['migrate/stuck', EXIT.stuck],
  ] as const)('that ends with %s has its status', async (code, expected) => {
    const error = new SyncError(code, 'it stopped', { operand: 'web', hint: 'type this' })
    const { status, stderr, stdout } = await migrate(['web', 'host2', '--json'], {
      report: { error, runsOn: 'source' },
    })
    expect([status, stderr]).toEqual([expected, 'blocksync: web: it stopped\ntype this\n'])
    expect(jsonLines(stdout).at(-1)).toMatchObject({ ok: false, runsOn: 'source', error: { code } })
  })

  it('that is refused lists all reasons and is not run', async () => {
    const { status, stderr, seen } = await migrate(['web', 'host2'], {
      sourceDriver: { guest: guest({ state: 'crashed', disks: [disk({ format: 'vmdk' })] }) },
    })
    expect([status, seen.plans]).toEqual([EXIT.guard, []])
    expect(stderr).toContain('refused, for 2 reasons:\n  vda is vmdk')
    expect(stderr).toContain(
      'blocksync: web cannot be moved to host2: 2 things stand in its way; nothing was changed',
    )
  })
})

describe('content that would be overwritten', () => {
  const world = { destination: WITH_CONTENT }

  it('is refused where nobody can be asked', async () => {
    const { status, stderr, seen } = await migrate(['web', 'host2'], world)
    expect([status, seen.plans]).toEqual([EXIT.guard, []])
    expect(stderr).toContain('vda: /srv/vm/a.img on host2 would be overwritten; on it is ext4\n')
    expect(stderr).toContain('Type --yes to overwrite it')
  })

  it.each([
    [true, EXIT.ok, 1],
    [false, EXIT.guard, 0],
  ])('is asked about: %s', async (answer, expected, runs) => {
    const questions: string[] = []
    const ask = (question: string): Promise<boolean> => {
      questions.push(question)
      return Promise.resolve(answer)
    }
    const { status, seen } = await migrate(['web', 'host2'], world, { ask })
    expect([status, seen.plans.length, questions]).toEqual([expected, runs, ['Overwrite that? [y/N] ']])
  })

  it('is overwritten with --yes, and nobody is asked with --json', async () => {
    expect((await migrate(['web', 'host2', '--yes'], world)).status).toBe(EXIT.ok)
    const ask = (): Promise<boolean> => Promise.reject(new Error('nobody reads this'))
    expect((await migrate(['web', 'host2', '--json'], world, { ask })).status).toBe(EXIT.guard)
  })
})

describe('what cannot be asked', () => {
  it.each([
    ['connect/failed', EXIT.unreachable],
    ['connect/auth', EXIT.unreachable],
  ] as const)('a host: %s', async (code, expected) => {
    const connect = (): Promise<never> => Promise.reject(new SyncError(code, 'no', { operand: 'host2' }))
    const { status, stdout } = await migrate(['web', 'host2', '--json'], { connect })
    expect(status).toBe(expected)
    expect(jsonLines(stdout)).toEqual([
      expect.objectContaining({
        event: 'result',
        ok: false,
        guest: 'web',
        runsOn: null,
        error: expect.objectContaining({ code }) as object,
      }),
    ])
  })

  it('a guest that is not there: no connection is made', async () => {
    const { status, stderr, seen } = await migrate(['nobody', 'host2'])
    expect([status, seen.sides.length]).toEqual([EXIT.usage, 1])
    expect(stderr).toBe('blocksync: there is no guest nobody\nThere is web.\n')
  })
})

describe('a migration that was begun', () => {
  it.each(['continue', 'abort', 'unfence'] as const)('--%s takes it up by its plan', async (kind) => {
    const { status, seen } = await migrate([`--${kind}`, 'M1', '-p', '2222', '--yes'])
    expect([status, seen.recoveries]).toEqual([EXIT.ok, [{ kind, id: 'M1', yes: 'yes' }]])
    expect(seen.sides.at(-1)?.kind).toBe('local')
    expect(seen.copiers[0]?.far).toMatchObject({ host: 'host2', user: 'root' })
  })

  it('is reached as it was when it began, unless something else is typed', async () => {
    const connection = { port: 2222, identity: ['/root/.ssh/move'], rsh: ['ssh', '-v'], nonsense: 'x' }
    const { seen } = await migrate(['--continue', 'M1'], { connection })
    expect(seen.copiers[0]?.options.transport).toMatchObject({
      port: 2222,
      identities: ['/root/.ssh/move'],
      rsh: ['ssh', '-v'],
    })
    const typed = await migrate(['--abort', 'M1', '-p', '2223'], { connection })
    expect(typed.seen.copiers[0]?.options.transport.port).toBe(2223)
  })

  it('keeps how the destination is reached in its plan', async () => {
    const { seen } = await migrate(['web', 'host2', '-p', '2222', '-i', 'keys/move'])
    expect(seen.plans[0]?.connection).toEqual({ port: 2222, identity: ['/home/me/keys/move'] })
  })

  it('and was put back while the destination could not be asked is cleaned up before the next one', async () => {
    const { status, stderr, seen } = await migrate(['web', 'host2'], { unheardOf: true })
    expect([status, seen.recoveries]).toEqual([EXIT.ok, [{ kind: 'abort', id: 'M1', yes: 'no' }]])
    expect(stderr).toContain('cleaning up on root@host2 after the migration M1, which was put back')
    expect(seen.plans).toHaveLength(1)
  })

  it('and was put back is only told of by a plan', async () => {
    const { status, stdout, seen } = await migrate(['web', 'host2', '--plan'], { unheardOf: true })
    expect([status, seen.recoveries]).toEqual([EXIT.guard, []])
    expect(stdout).toContain('has not heard of it yet')
  })

  it('and is not there is migrate/unknown', async () => {
    const { status, stdout } = await migrate(['--continue', 'M2', '--json'])
    expect(status).toBe(EXIT.usage)
    expect(jsonLines(stdout)).toEqual([
      expect.objectContaining({
        ok: false,
        runsOn: null,
        journal: 'M2',
        error: expect.objectContaining({ code: 'migrate/unknown' }) as object,
      }),
    ])
  })

  const one: MigrationStatus = {
    id: 'M1',
    role: 'source',
    phase: 'moving',
    guest: 'web',
    uuid: 'aaaa',
    mode: 'warm',
    from: 'host1',
    to: 'host2',
    step: 'save',
    stepState: 'done',
    beganMs: 1,
    lastMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    runsOn: null,
    left: 'nothing',
    isFenced: false,
    hasGo: false,
    commands: ['blocksync migrate --continue M1', 'blocksync migrate --abort M1'],
    problem: null,
  }

  it('is shown by --status, with what can be typed', async () => {
    const other: MigrationStatus = { ...one, id: 'M0', role: 'destination', phase: 'moved', commands: [] }
    const broken: MigrationStatus = { ...one, id: 'M9', problem: 'it cannot be read' }
    const { status, stdout } = await migrate(['--status'], { statuses: [one, other, broken] })
    expect([status, stdout.split('\n')]).toEqual([
      EXIT.ok,
      [
        'M1  web to host2  warm  moving, after save, 2026-01-02 03:04:05 UTC',
        '  blocksync migrate --continue M1',
        '  blocksync migrate --abort M1',
        'M0  web from host1  warm  moved, 2026-01-02 03:04:05 UTC',
        'M9  source  it cannot be read',
        '',
      ],
    ])
  })

  it('is shown alone by --status ID, or is not there', async () => {
    const world = { statuses: [one, { ...one, id: 'M2' }] }
    const { stdout } = await migrate(['--status', 'M2', '--json'], world)
    expect(jsonLines(stdout)).toEqual([{ event: 'status', migrations: [{ ...one, id: 'M2' }] }])
    const { status, stderr } = await migrate(['--status', 'M3'], world)
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining('there is no migration M3 here')])
    expect((await migrate(['--status'])).stdout).toBe('no migration was begun here\n')
  })
})

describe('help', () => {
  it.each([
    ['migrate', '--help'],
    ['help', 'migrate'],
  ])('%s %s', async (...words) => {
    const { status, stdout } = await runWords(words)
    expect(status).toBe(EXIT.ok)
    expect(stdout).toContain('Usage: blocksync migrate GUEST [user@]HOST [options]')
    for (const option of ['--mode', '--plan', '--dest-connect', '--unfence', '--compress'])
      expect(stdout).toContain(option)
  })
})
