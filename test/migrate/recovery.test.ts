// Recoveries in states that take more than one fault: a line that was written though it seemed not to be, a host that came
// back, a person who did something meanwhile.

import { describe, expect, it } from 'vitest'

import { migrate } from '../../src/migrate/run.js'
import { contextOf } from './fakes.js'
import { ID, Scenario, type Ended } from './scenario.js'
import { isRunningOn, type Fault } from './world.js'

function reportOf(ended: Ended): Extract<Ended, { kind: 'report' }>['report'] {
  if (ended.kind !== 'report') throw new Error(`it ended as ${JSON.stringify(ended)}`)
  return ended.report
}

/** A warm migration with that fault at its call of that name. */
async function cutAt(
  name: string,
  fault: Fault = 'killed after',
  closes: string | null = null,
): Promise<Scenario> {
  const dry = new Scenario('warm')
  dry.world.closes = closes
  await dry.migrate()
  const at = dry.world.trace.indexOf(name)
  expect(at, name).toBeGreaterThan(0)
  const scenario = new Scenario('warm')
  scenario.world.closes = closes
  scenario.world.faults.set(at, fault)
  if (fault.startsWith('killed')) expect((await scenario.migrate()).kind).toBe('killed')
  return scenario
}

function typesThere(scenario: Scenario): unknown[] {
  return (scenario.world.destination.journals.get(`${ID} destination`)?.lines ?? []).map(({ type }) => type)
}

describe('go', () => {
  it('counts where its append failed and the line is there all the same', async () => {
    const scenario = await cutAt('destination: append destination go ', 'fails after')
    // and no try to go on comes further, so nothing but a person is left
    const { context, host } = contextOf(scenario.world)
    const onEvent: typeof context.onEvent = (event) => {
      if (event.event === 'step' && event.step === 'go' && event.state === 'failed')
        scenario.world.failing = 'source: append source intent go'
    }
    const report = await migrate(scenario.plan, { ...context, onEvent })
    await host.close()
    expect(report.error).toMatchObject({ exitStatus: 10 })
    expect(typesThere(scenario)).toContain('go')
    expect(typesThere(scenario)).not.toContain('aborted')
    expect(isRunningOn(scenario.world.source)).toBe(false)
    scenario.mend()
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('is not taken back where the guest there cannot be ended', async () => {
    const scenario = await cutAt('source: append source done fence')
    const { world } = scenario
    const from = world.calls
    await (async () => {
      const dry = await cutAt('source: append source done fence')
      await dry.recover('abort')
      const at = dry.world.trace.indexOf('destination: destroy')
      expect(at).toBeGreaterThan(from)
      world.faults.set(at, 'fails before')
    })()
    expect(reportOf(await scenario.recover('abort')).error).toMatchObject({ exitStatus: 10 })
    expect(isRunningOn(world.source)).toBe(false)
    expect(reportOf(await scenario.recover('abort'))).toMatchObject({ ok: true, runsOn: 'source' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('is not given where the disks here were written to behind the fence', async () => {
    const scenario = await cutAt('source: append source done fence')
    const { source } = scenario.world
    for (const path of ['/a/vda.img', '/dev/vg/vdb']) source.file(path).protectedBy = null
    scenario.world.foreignWrite(source, '/a/vda.img')
    await scenario.recover('continue')
    expect(typesThere(scenario)).not.toContain('go')
    expect(scenario.world.violations).toEqual([])
    expect(scenario.world.destination.guests.size + scenario.world.source.guests.size).toBe(0)
  })
})

describe('a volume that the fence has deactivated', () => {
  const VOLUME = '/dev/vg/vdb'

  async function fenced(): Promise<Scenario> {
    const scenario = await cutAt('source: append source done fence', 'killed after', VOLUME)
    const { source } = scenario.world
    expect([source.files.has(VOLUME), source.closed.has(VOLUME)]).toEqual([false, true])
    return scenario
  }

  it('is as it was, as long as it stays so: the migration goes on', async () => {
    const scenario = await fenced()
    const { world } = scenario
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(world.source.closed.has(VOLUME)).toBe(true)
    expect(world.trace.filter((call) => call.includes('digest'))).toEqual([])
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it.each(['abort', 'unfence'] as const)(
    'is active again after --%s, and the guest goes on',
    async (kind) => {
      const scenario = await fenced()
      expect(reportOf(await scenario.recover(kind))).toMatchObject({ ok: true, runsOn: 'source' })
      expect(scenario.world.source.closed.size).toBe(0)
      expect(scenario.problemsAtEnd()).toEqual([])
    },
  )

  it('of a fence that was only begun is activated again for the last pass, and then deactivated', async () => {
    for (const name of ['source: protect /a/vda.img', `source: protect ${VOLUME}`]) {
      const scenario = await cutAt(name, 'killed after', VOLUME)
      const { world } = scenario
      const from = world.trace.length
      expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
      const calls = world.trace.slice(from)
      expect(calls.indexOf('source: pass vdb')).toBeGreaterThan(calls.indexOf(`source: unprotect ${VOLUME}`))
      expect(world.source.closed.has(VOLUME)).toBe(true)
      expect(scenario.problemsAtEnd()).toEqual([])
    }
  })

  it('is deactivated again where somebody has activated it, and has to have the content it had', async () => {
    for (const written of ['no', 'yes'] as const) {
      const scenario = await fenced()
      const { world } = scenario
      const file = world.source.closed.get(VOLUME)
      if (file === undefined) throw new Error('it is deactivated')
      world.source.closed.delete(VOLUME)
      world.source.files.set(VOLUME, { ...file, inode: 1, protectedBy: null })
      if (written === 'yes') world.foreignWrite(world.source, VOLUME)
      await scenario.recover('continue')
      expect(typesThere(scenario).includes('go')).toBe(written === 'no')
      expect(world.source.closed.has(VOLUME)).toBe(written === 'no')
      expect(world.violations).toEqual([])
    }
  })
})

describe('--continue', () => {
  it.each([
    'source: save',
    'source: append source done save',
    'source: pass vdb',
    'destination: restorePaused',
    'destination: append destination done check',
    'source: fence',
    'source: protect /dev/vg/vdb',
    'source: append source done fence',
    'destination: append destination go ',
    'destination: resume',
  ])('brings it to its end from %s', async (name) => {
    const scenario = await cutAt(name)
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })
})

describe('a guest that somebody started', () => {
  it('on the source, after it was saved, stays there', async () => {
    for (const kind of ['continue', 'abort'] as const) {
      const scenario = await cutAt('source: append source done final')
      const { source } = scenario.world
      const definition = source.definitions.get('web')
      if (definition === undefined) throw new Error('it has a definition')
      scenario.world.bootGuest(source, definition)
      const report = reportOf(await scenario.recover(kind))
      expect(report.runsOn).toBe('source')
      expect(report.error?.exitStatus ?? 0).toBe(kind === 'continue' ? 9 : 0)
      expect(scenario.problemsAtEnd()).toEqual([])
    }
  })

  it('at the destination, behind the fence, is where it belongs', async () => {
    const scenario = await cutAt('source: append source done fence')
    const guest = scenario.world.destination.guests.get('web')
    if (guest === undefined) throw new Error('it is paused there')
    guest.state = 'running'
    scenario.world.check('resumed by hand')
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('at the destination, without a fence, stops everything', async () => {
    const scenario = await cutAt('destination: append destination done check')
    const guest = scenario.world.destination.guests.get('web')
    if (guest === undefined) throw new Error('it is paused there')
    guest.state = 'running'
    const report = reportOf(await scenario.recover('abort'))
    expect(report).toMatchObject({ runsOn: 'destination', error: { exitStatus: 10 } })
    expect(scenario.world.source.guests.size).toBe(0)
  })
})

describe('a host that went down', () => {
  it('the destination, behind go: restored where it never ran', async () => {
    const scenario = await cutAt('source: append source done go')
    const { world } = scenario
    // its disks are files: their stamps outlive a boot
    world.destination.file('/dev/vg2/vdb').kind = 'file'
    const again = await cutAt('source: append source done go')
    expect(again.world.destination.guests.get('web')?.state).toBe('paused')
    world.destination.guests.clear()
    const from = world.trace.length
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(world.trace.slice(from).filter((name) => /restorePaused|start/.test(name))).toHaveLength(1)
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('the destination, after the guest ran there: started from its disks, not from old memory', async () => {
    const scenario = await cutAt('destination: resume')
    const { world } = scenario
    world.tick()
    world.crash(world.destination)
    world.boot(world.destination)
    // autostart was on its way, too
    world.destination.guests.clear()
    const from = world.trace.length
    expect(reportOf(await scenario.recover('continue'))).toMatchObject({ ok: true, runsOn: 'destination' })
    expect(world.trace.slice(from)).toContain('destination: start')
    expect(world.trace.slice(from)).not.toContain('destination: restorePaused')
    expect(scenario.problemsAtEnd()).toEqual([])
  })

  it('the source, while it saved: started from its disks, since nobody knows what of the file was flushed', async () => {
    const scenario = await cutAt('source: save')
    const { world } = scenario
    const definition = world.source.definitions.get('web')
    if (definition === undefined) throw new Error('it has a definition')
    world.source.definitions.set('web', { ...definition, autostart: false })
    world.crash(world.source)
    world.boot(world.source)
    const report = reportOf(await scenario.recover('continue'))
    expect(report).toMatchObject({ runsOn: 'source', error: { exitStatus: 9 } })
    expect(report.warnings.join()).toContain('went down while web was being saved')
    expect(world.trace).not.toContain('source: restorePaused')
    expect(isRunningOn(world.source)).toBe(true)
    expect(world.violations).toEqual([])
  })

  it('the destination, and forgot everything: the guest goes on here, and nothing of it is touched there', async () => {
    const scenario = await cutAt('source: append source done final')
    const { world } = scenario
    world.destination.journals.clear()
    const report = reportOf(await scenario.recover('continue'))
    expect(report).toMatchObject({ runsOn: 'source', error: { exitStatus: 9 } })
    expect(report.warnings.join()).toContain('knows nothing of this migration any more')
    expect(world.destination.files.has('/b/vda.img')).toBe(true)
    // behind FENCED nobody can tell
    const fenced = await cutAt('source: append source done fence')
    fenced.world.destination.journals.clear()
    for (const kind of ['continue', 'abort'] as const)
      expect(reportOf(await fenced.recover(kind)).error).toMatchObject({ exitStatus: 10 })
    expect(isRunningOn(fenced.world.source) || isRunningOn(fenced.world.destination)).toBe(false)
  })
})
