// What a migration and its recoveries do and refuse, case by case: hooks, interruptions, disks that grow, second ones, ends,
// giving back by hand, and going back to where the guest came from.

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { resultOf } from '../../src/migrate/report.js'
import { migrate } from '../../src/migrate/run.js'
import { migrationsOf, openMigrations } from '../../src/migrate/status.js'
import { contextOf, FakeHost } from './fakes.js'
import { ID, planOf, Scenario, type Ended } from './scenario.js'
import { isRunningOn } from './world.js'

function reportOf(ended: Ended): Extract<Ended, { kind: 'report' }>['report'] {
  if (ended.kind !== 'report') throw new Error(`it ended as ${JSON.stringify(ended)}`)
  return ended.report
}

function refusalOf(ended: Ended): SyncError {
  if (ended.kind !== 'refused') throw new Error(`it ended as ${JSON.stringify(ended)}`)
  return ended.error
}

/** The call of a migration that goes well whose name is that. */
async function callOf(name: string, procedure: 'warm' | 'cold' | 'off' | 'live' = 'warm'): Promise<number> {
  const dry = new Scenario(procedure)
  await dry.migrate()
  const at = dry.world.trace.indexOf(name)
  expect(at, name).toBeGreaterThan(0)
  return at
}

describe('a report', () => {
  it('has the fields of the JSON result, with a downtime in parts', async () => {
    const scenario = new Scenario('warm')
    const report = reportOf(await scenario.migrate())
    const result = resultOf(report)
    expect(Object.keys(result)).toEqual([
      'event',
      'ok',
      'guest',
      'hypervisor',
      'mode',
      'from',
      'to',
      'rounds',
      'downtimeMs',
      'downtime',
      'runsOn',
      'journal',
      'warnings',
    ])
    expect(result).toMatchObject({
      event: 'result',
      ok: true,
      guest: 'web',
      mode: 'warm',
      runsOn: 'destination',
      journal: ID,
    })
    expect(report.rounds).toHaveLength(1)
    expect(report.rounds[0]).toMatchObject({ sentBytes: 8192, durationMs: expect.any(Number) as number })
    const { saveMs, lastPassMs, stateCopyMs, restoreMs, resumeMs } = report.downtime ?? {}
    expect(
      Math.min(saveMs ?? 0, lastPassMs ?? 0, stateCopyMs ?? 0, restoreMs ?? 0, resumeMs ?? 0),
    ).toBeGreaterThan(0)
    expect(report.downtimeMs).toBeGreaterThanOrEqual(
      (saveMs ?? 0) + Math.max(lastPassMs ?? 0, stateCopyMs ?? 0),
    )
  })

  it('says of a guest that is off that it runs nowhere, and starts it where that was asked for', async () => {
    expect(reportOf(await new Scenario('off').migrate())).toMatchObject({
      runsOn: 'nowhere',
      downtimeMs: null,
    })
    const started = new Scenario('off', { start: 'yes' })
    expect(reportOf(await started.migrate())).toMatchObject({ runsOn: 'destination' })
    expect(isRunningOn(started.world.destination)).toBe(true)
  })

  it('says where the guest is, what is certain and what to type when nobody can know', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('destination: append destination go '), 'link drops after')
    const { error, runsOn } = reportOf(await scenario.migrate())
    expect(error).toMatchObject({ code: 'migrate/stuck', exitStatus: 10 })
    expect(runsOn).toBe('nowhere')
    expect(error?.message).toMatch(
      /its memory is saved in \/state.*this host is fenced.*whether host2 was told to run it cannot be known/,
    )
    expect(error?.hint).toMatch(
      new RegExp(`--continue ${ID}.*lost for good: blocksync migrate --unfence ${ID} --yes`),
    )
  })

  it('keeps a guest paused that somebody had paused', async () => {
    const scenario = new Scenario('warm', { guestState: 'paused' })
    expect(reportOf(await scenario.migrate()).error).toBeNull()
    expect(scenario.world.destination.guests.get('web')?.state).toBe('paused')
  })
})

describe('before anything is changed', () => {
  it('refuses a plan with problems, and lists them all', async () => {
    const scenario = new Scenario('warm')
    const problems = ['one', 'two'].map((text) => ({ code: 'x', text, hint: `do ${text}.`, operand: 'web' }))
    const { context } = contextOf(scenario.world)
    await expect(migrate({ ...scenario.plan, problems }, context)).rejects.toMatchObject({
      code: 'migrate/refused',
      message: expect.stringContaining('one; two') as string,
      hint: 'do one. do two.',
    })
    expect(scenario.world.trace).toEqual([])
  })

  it('refuses a second migration of the guest while one is open, and names that', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(60, 'killed before')
    await scenario.migrate()
    const { context } = contextOf(scenario.world)
    const second = migrate(planOf('warm', { id: '20260102-def' }), context)
    await expect(second).rejects.toMatchObject({
      code: 'migrate/busy',
      message: expect.stringContaining(ID) as string,
    })
    expect([...scenario.world.source.journals.keys()]).toEqual([`${ID} source`])
  })

  it('says that the destination does not answer, and leaves no journal', async () => {
    const scenario = new Scenario('warm')
    scenario.world.cutLink()
    expect(refusalOf(await scenario.migrate()).code).toBe('connect/refused')
    expect(scenario.world.source.journals.size).toBe(0)
  })

  it('refuses what is unknown and what is over', async () => {
    const scenario = new Scenario('warm')
    expect(refusalOf(await scenario.recover('continue')).code).toBe('migrate/unknown')
    await scenario.migrate()
    for (const kind of ['continue', 'abort'] as const)
      expect(refusalOf(await scenario.recover(kind)).code).toBe('migrate/ended')
  })

  it('refuses to take back what was handed over', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('destination: resume'), 'killed before')
    await scenario.migrate()
    const error = refusalOf(await scenario.recover('abort'))
    expect(error).toMatchObject({ code: 'migrate/refused', exitStatus: 3 })
    expect(error.hint).toContain(`--continue ${ID}`)
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })
})

describe('on the way', () => {
  it.each(['rounds', 'save', 'restore'] as const)(
    'puts everything back when it is interrupted in %s',
    async (name) => {
      const scenario = new Scenario('warm')
      const contexts = contextOf(scenario.world)
      const { context, interrupt, events } = contexts
      const onEvent: typeof context.onEvent = (event) => {
        events.push(event)
        if (event.event === 'step' && event.step === name && event.state === 'begin')
          interrupt.abort(new SyncError('interrupt/sigint', 'interrupted'))
      }
      const report = await migrate(scenario.plan, { ...context, onEvent })
      expect(report.error).toMatchObject({ exitStatus: 9, code: 'migrate/stopped' })
      expect(report.error?.message).toContain('web runs on this host as before')
      expect(scenario.problemsAtEnd()).toEqual([])
    },
  )

  it('is not interrupted behind the handover', async () => {
    const scenario = new Scenario('warm')
    const { context, interrupt } = contextOf(scenario.world)
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event === 'step' && event.step === 'go' && event.state === 'begin')
        interrupt.abort(new Error('late'))
    }
    expect(await migrate(scenario.plan, { ...context, onEvent })).toMatchObject({
      ok: true,
      runsOn: 'destination',
    })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it.each([
    ['/a/vda.img', 'destination'],
    ['/dev/vg/vdb', 'source'],
  ] as const)('follows a file that grows, and gives up on a device: %s', async (path, runsOn) => {
    const scenario = new Scenario('warm')
    const { world } = scenario
    const { context } = contextOf(world)
    let isGrown = false
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event !== 'progress' || isGrown) return
      isGrown = true
      world.source.file(path).sizeBytes += 4096
    }
    const report = await migrate(scenario.plan, { ...context, onEvent })
    expect(report.runsOn).toBe(runsOn)
    expect(report.error?.exitStatus ?? 0).toBe(runsOn === 'source' ? 9 : 0)
    if (runsOn === 'destination')
      expect(world.destination.file('/b/vda.img').sizeBytes).toBe((1 << 20) + 4096)
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('pulls the plug of a guest that does not shut down only where that was asked for', async () => {
    for (const forceOff of ['no', 'yes'] as const) {
      const scenario = new Scenario('cold', { forceOff })
      const { context } = contextOf(scenario.world)
      const driverFor: typeof context.driverFor = async (host) => {
        const driver = await context.driverFor(host)
        Object.assign(driver, { ignoresShutdown: true })
        return driver
      }
      const report = await migrate(scenario.plan, { ...context, driverFor })
      expect(report.error?.code ?? 'none').toBe(forceOff === 'yes' ? 'none' : 'migrate/shutdown')
      expect(report.runsOn).toBe(forceOff === 'yes' ? 'destination' : 'source')
      expect(scenario.problemsAtEnd()).toEqual([])
    }
  })

  it('holds the disks between the save and the fence', async () => {
    const scenario = new Scenario('warm')
    const { context } = contextOf(scenario.world)
    const held: string[] = []
    const hold = async (paths: readonly string[]): Promise<AsyncDisposable> => {
      await Promise.resolve()
      held.push(`${paths.join(' ')} from ${scenario.world.trace.at(-1) ?? ''}`)
      return {
        [Symbol.asyncDispose]: async () => {
          await Promise.resolve()
          held.push(`until ${scenario.world.trace.at(-1) ?? ''}`)
        },
      }
    }
    await migrate(scenario.plan, { ...context, hold })
    expect(held).toEqual([
      '/a/vda.img /dev/vg/vdb from source: look /dev/vg/vdb',
      'until destination: append destination intent fence',
    ])
  })

  it('starts nothing where somebody wrote to a disk of the saved guest', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('source: append source intent final'), 'killed after')
    await scenario.migrate()
    scenario.world.foreignWrite(scenario.world.source, '/a/vda.img')
    for (const kind of ['continue', 'abort'] as const) {
      const report = reportOf(await scenario.recover(kind))
      expect(report.error).toMatchObject({ code: 'migrate/stuck', exitStatus: 10 })
      expect(report.error?.message).toContain('does not fit its disk vda')
    }
    expect(scenario.world.source.guests.size + scenario.world.destination.guests.size).toBe(0)
    expect(scenario.world.violations).toEqual([])
  })

  it('tells apart by digest what was touched and not changed', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('source: append source intent fence'), 'killed after')
    await scenario.migrate()
    scenario.world.nowMs += 60_000
    scenario.world.source.file('/a/vda.img').version = scenario.world.nowMs
    expect(reportOf(await scenario.recover('abort'))).toMatchObject({ ok: true, runsOn: 'source' })
    expect(scenario.world.trace).toContain('source: digest /a/vda.img')
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('goes on in the words of status 10 where the journal here is full behind FENCED', async () => {
    const scenario = new Scenario('warm')
    const { context, host } = contextOf(scenario.world)
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event === 'step' && event.step === 'fence' && event.state === 'done')
        scenario.world.source.isFull = true
    }
    const report = await migrate(scenario.plan, { ...context, onEvent })
    expect(report.error).toMatchObject({ exitStatus: 10 })
    expect(report.error?.message).toContain('no space is left for the journal')
    await host.close()
    scenario.mend()
    // it was closed at the destination before, so it can only go back
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: false, runsOn: 'source' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })
})

describe('hooks', () => {
  async function withHooks(status: number, names: readonly string[], cut: string | null = null) {
    const scenario = new Scenario('warm', { hooksDirectory: '/hooks' })
    const { source } = scenario.world
    for (const name of names) source.files.set(`/hooks/${name}`, scenario.world.newFile('file', 10, 0o755))
    const { context, host } = contextOf(scenario.world)
    host.hookStatus = status
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event === 'step' && event.step === cut && event.state === 'begin') source.hasDaemon = false
    }
    return { scenario, host, report: await migrate(scenario.plan, { ...context, onEvent }) }
  }

  it('run with the facts of the migration', async () => {
    const { host, report } = await withHooks(0, ['before-save', 'after-restore', 'on-failure'])
    expect(report.ok).toBe(true)
    expect(host.hooksRun.map(({ program }) => program)).toEqual([
      '/hooks/before-save',
      '/hooks/after-restore',
    ])
    expect(host.hooksRun[1]?.environment).toMatchObject({
      BLOCKSYNC_HOOK: 'after-restore',
      BLOCKSYNC_GUEST: 'web',
      BLOCKSYNC_TO: 'host2',
      BLOCKSYNC_RUNS_ON: 'destination',
      BLOCKSYNC_MIGRATION: ID,
    })
  })

  it('stop it, as before-save, and on-failure hears of it', async () => {
    const { scenario, host, report } = await withHooks(3, ['before-save', 'on-failure'])
    expect(report.error).toMatchObject({ code: 'migrate/stopped', exitStatus: 9 })
    expect(report.error?.message).toContain('/hooks/before-save ended with status 3: no way')
    expect(host.hooksRun.at(-1)).toMatchObject({
      program: '/hooks/on-failure',
      environment: { BLOCKSYNC_RUNS_ON: 'source' },
    })
    expect(report.warnings.join()).toContain('on-failure ended with status 3')
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('only warn, as after-restore; one that is no program stops it', async () => {
    const { report } = await withHooks(3, ['after-restore'])
    expect(report).toMatchObject({ ok: true, warnings: [expect.stringContaining('after-restore') as string] })
    const scenario = new Scenario('warm', { hooksDirectory: '/hooks' })
    scenario.world.source.files.set('/hooks/before-save', scenario.world.newFile('file', 10, 0o644))
    expect(reportOf(await scenario.migrate()).error?.message).toContain('is no executable file')
    expect(scenario.problemsAtEnd()).toEqual([])
  })
})

describe('status', () => {
  it('tells how far it is and what to type', async () => {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('source: append source done fence'), 'killed after')
    await scenario.migrate()
    const host = new FakeHost(scenario.world, scenario.world.source)
    expect(await migrationsOf(host)).toMatchObject([
      {
        id: ID,
        role: 'source',
        phase: 'handed-over',
        guest: 'web',
        mode: 'warm',
        step: 'fence',
        stepState: 'done',
        isFenced: true,
        left: 'nothing',
        commands: [`blocksync migrate --continue ${ID}`, `blocksync migrate --abort ${ID}`],
      },
    ])
    expect(await openMigrations(host)).toMatchObject([{ id: ID, uuid: 'u1' }])
    await scenario.recover('continue')
    const after = new FakeHost(scenario.world, scenario.world.source)
    expect(await migrationsOf(after)).toMatchObject([
      { phase: 'moved', runsOn: 'destination', commands: [`blocksync migrate --unfence ${ID}`] },
    ])
    expect(await openMigrations(after)).toEqual([])
  })

  it('lists a journal that it cannot read as that', async () => {
    const { world } = new Scenario('warm')
    world.source.journals.set('x source', { lines: [{ type: 'begin', version: 9 }], heldBy: null })
    expect(await migrationsOf(new FakeHost(world, world.source))).toMatchObject([
      { id: 'x', phase: 'unreadable', commands: [] },
    ])
  })
})

describe('--unfence', () => {
  async function lost(): Promise<Scenario> {
    const scenario = new Scenario('warm')
    scenario.world.faults.set(await callOf('source: append source done fence'), 'killed after')
    await scenario.migrate()
    return scenario
  }

  it('is refused before a fence, and while the destination has the guest', async () => {
    const open = new Scenario('warm')
    open.world.faults.set(60, 'killed before')
    await open.migrate()
    expect(refusalOf(await open.recover('unfence', 'yes')).code).toBe('migrate/refused')
    const moved = new Scenario('warm')
    await moved.migrate()
    const error = refusalOf(await moved.recover('unfence', 'yes'))
    expect(error).toMatchObject({
      code: 'migrate/refused',
      message: expect.stringContaining('it is there (running)') as string,
    })
    expect(moved.problemsAtEnd()).toEqual([])
  })

  it('of a destination that cannot be asked wants --yes, and gives the guest back with its memory', async () => {
    const scenario = await lost()
    scenario.world.cutLink()
    const refusal = refusalOf(await scenario.recover('unfence'))
    expect(refusal.code).toBe('migrate/refused')
    expect(refusal.hint).toContain('--yes')
    expect(scenario.world.source.guests.size).toBe(0)
    expect(reportOf(await scenario.recover('unfence', 'yes'))).toMatchObject({ ok: true, runsOn: 'source' })
    expect(isRunningOn(scenario.world.source)).toBe(true)
    scenario.mend()
    // the destination comes back: it has no leave, and never gets it
    expect(reportOf(await scenario.recover('abort'))).toMatchObject({ ok: true, runsOn: 'source' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('of a destination without leave is an abort', async () => {
    const scenario = await lost()
    expect(reportOf(await scenario.recover('unfence'))).toMatchObject({ ok: true, runsOn: 'source' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('of a migration after which the guest came back and moved again is refused, and not offered', async () => {
    const scenario = new Scenario('warm')
    await scenario.migrate()
    const { source, destination } = scenario.world
    // as if nothing were to be found there: what protects the disks is that a later journal knows better
    destination.guests.clear()
    destination.definitions.clear()
    const lines = source.journals.get(`${ID} source`)?.lines ?? []
    const later = lines.map((line) => ('at' in line ? { ...line, at: Number(line['at']) + 1000 } : line))
    source.journals.set('later source', { lines: later, heldBy: null })
    expect(refusalOf(await scenario.recover('unfence', 'yes'))).toMatchObject({
      code: 'migrate/ended',
      message: expect.stringContaining('moved again since, by the migration later') as string,
    })
    expect(source.file('/a/vda.img').protectedBy).not.toBeNull()
    const all = await migrationsOf(new FakeHost(scenario.world, source))
    expect(all.map(({ id, commands }) => [id, commands.length])).toEqual([
      ['later', 1],
      [ID, 0],
    ])
  })

  it('of a guest that the destination has no more gives back the definition and the disks', async () => {
    const scenario = new Scenario('warm')
    await scenario.migrate()
    const { source, destination } = scenario.world
    destination.guests.clear()
    destination.definitions.clear()
    expect(refusalOf(await scenario.recover('unfence')).code).toBe('migrate/refused')
    expect(reportOf(await scenario.recover('unfence', 'yes'))).toMatchObject({ ok: true, runsOn: 'nowhere' })
    expect(source.definitions.get('web')).toMatchObject({ autostart: true, movedBy: null })
    expect(source.file('/a/vda.img').protectedBy).toBeNull()
    // what the destination had may be newer
    expect(destination.files.has('/b/vda.img')).toBe(true)
    expect(refusalOf(await scenario.recover('unfence', 'yes')).code).toBe('migrate/ended')
  })
})

describe('back to where it came from', () => {
  /** Before it moves, the guest had moved here from there. */
  function withOldFence(scenario: Scenario): void {
    const { destination } = scenario.world
    const plan = scenario.plan
    destination.files.set('/b', scenario.world.newFile('directory', 0))
    const old = { ...scenario.world.newFile('file', 1 << 20), protectedBy: 'old' }
    destination.files.set('/b/vda.img', old)
    destination.files.set('/dev/vg2/vdb', { ...scenario.world.newFile('block', 1 << 20), protectedBy: 'old' })
    const disks = ['/b/vda.img', '/dev/vg2/vdb']
    destination.definitions.set('web.moved-old', {
      name: 'web.moved-old',
      uuid: 'u1',
      autostart: false,
      disks,
      movedBy: 'old',
    })
    const protections = disks.map((path, index) => ({
      by: index === 0 ? 'immutable' : 'device',
      path,
      why: null,
      before: 'writable',
      tag: 'old',
    }))
    const guest = { ...plan.guest, persistentDefinition: plan.destinationPersistentDefinition }
    const fence = {
      id: 'old',
      guest: 'web',
      uuid: 'u1',
      renamedTo: 'web.moved-old',
      autostart: true,
      kept: {},
    }
    destination.journals.set('old source', {
      heldBy: null,
      lines: [
        { at: 1, type: 'begin', version: 1, bootId: 'x', plan: { ...plan, id: 'old', guest } },
        { at: 2, type: 'intent', step: 'fence', bootId: 'x' },
        { at: 3, type: 'done', step: 'fence', facts: { fence, protections, stamps: {} } },
        { at: 4, type: 'ended', how: 'moved', runsOn: 'destination', left: 'nothing' },
      ],
    })
    for (const disk of plan.disks) Object.assign(disk, { creation: { kind: 'present' } })
  }

  it('lifts the fence that was left there', async () => {
    const scenario = new Scenario('warm')
    withOldFence(scenario)
    expect(reportOf(await scenario.migrate())).toMatchObject({ ok: true, runsOn: 'destination' })
    expect([...scenario.world.destination.definitions.keys()]).toEqual(['web'])
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('puts it up again when it is taken back', async () => {
    const scenario = new Scenario('warm')
    withOldFence(scenario)
    const { context } = contextOf(scenario.world)
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event === 'step' && event.step === 'check' && event.state === 'done')
        throw new SyncError('migrate/stopped', 'enough')
    }
    const report = await migrate(scenario.plan, { ...context, onEvent })
    expect(report.error?.exitStatus).toBe(9)
    const { destination, source } = scenario.world
    expect(isRunningOn(source)).toBe(true)
    expect([...destination.definitions.values()]).toMatchObject([
      { name: 'web.moved-old', movedBy: 'old', autostart: false },
    ])
    expect(destination.file('/b/vda.img').protectedBy).toBe('old')
    expect(destination.file('/dev/vg2/vdb').protectedBy).toBe('old')
    expect(scenario.world.violations).toEqual([])
  })
})
