// What an attempt refuses, what it says, and what it does about what somebody else did to a replica.

import { expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { runAttempt } from '../../src/replicate/attempt.js'
import type { AttemptContext, AttemptFacts } from '../../src/replicate/context.js'
import type { ReplicaRecord } from '../../src/replicate/record.js'
import { changeJobState, lockJob, openJobState, readHistory } from '../../src/replicate/state-file.js'
import { fakeContext } from './fakes.js'
import { PATHS, Scenario } from './scenario.js'

const KEEP = { last: 3, hourly: 0, daily: 0, weekly: 0 }
const FAR = { kind: 'remote', host: 'kvm2', user: null, port: 2222, typed: 'kvm2' } as const

async function ready(count: number): Promise<Scenario> {
  const scenario = new Scenario('undo', KEEP)
  for (let done = 0; done < count; done += 1) {
    scenario.live()
    await scenario.attempt()
  }
  scenario.live()
  return scenario
}

function changeRecord({ world }: Scenario, change: (record: ReplicaRecord) => ReplicaRecord): void {
  for (const [path, text] of world.texts)
    if (path.endsWith('replica.json'))
      world.texts.set(path, JSON.stringify(change(JSON.parse(text) as ReplicaRecord)))
}

async function run(scenario: Scenario, over: Partial<AttemptContext> = {}): ReturnType<typeof runAttempt> {
  const context = fakeContext(scenario.world, scenario.stateDir, 'extra')
  return await runAttempt(scenario.job, { ...context, ...over })
}

it('refuses a job that is paused, whoever asks', async () => {
  using scenario = await ready(1)
  await changeJobState(scenario.stateDir, 'web', (state) => ({
    ...state,
    paused: { since: '2026-01-01T00:00:00.000Z', reason: 'disk swap' },
  }))
  const calls = scenario.world.calls
  for (const trigger of ['regular', 'now'] as const)
    await expect(run(scenario, { trigger })).rejects.toMatchObject({
      code: 'replicate/paused',
      message: expect.stringContaining('disk swap') as unknown,
    })
  expect(scenario.world.calls).toBe(calls)
  expect((await readHistory(scenario.stateDir, 'web', 9)).length).toBe(1)
})

it('refuses to begin outside its windows, but where a person asks', async () => {
  using scenario = await ready(1)
  const now = new Date(scenario.world.nowMs)
  const minute = now.getHours() * 60 + now.getMinutes()
  const job = {
    ...scenario.job,
    windows: [{ days: [(now.getDay() + 3) % 7], fromMinute: minute, toMinute: minute + 1 }],
  }
  const context = fakeContext(scenario.world, scenario.stateDir, 'extra')
  await expect(runAttempt(job, context)).rejects.toMatchObject({ code: 'replicate/paused' })
  expect(await runAttempt(job, { ...context, trigger: 'now' })).toMatchObject({
    outcome: 'done',
    generation: 2,
  })
})

it('does not overlap itself, and counts what it skipped', async () => {
  using scenario = await ready(1)
  {
    await using _lock = await lockJob(scenario.stateDir, 'web')
    await expect(run(scenario)).rejects.toMatchObject({ code: 'replicate/busy' })
  }
  const context = fakeContext(scenario.world, scenario.stateDir, 'extra')
  const held = async (
    side: Parameters<AttemptContext['openHost']>[0],
  ): ReturnType<AttemptContext['openHost']> => ({
    ...(await context.openHost(side)),
    takeLock: async () => Promise.reject(new SyncError('replicate/busy', 'a drill has it')),
  })
  await expect(run(scenario, { openHost: held })).rejects.toMatchObject({ code: 'replicate/busy' })
  expect(await openJobState(scenario.stateDir, 'web')).toMatchObject({
    running: null,
    failures: 0,
    totals: { attempts: 1, failures: 0, skipped: 2 },
  })
})

it('refuses a replica that was promoted, and one of other disks', async () => {
  using scenario = await ready(2)
  const before = JSON.stringify([...scenario.world.disks])
  // the world cannot make anything of these records either
  scenario.world.check = () => undefined
  changeRecord(scenario, (record) => ({ ...record, state: 'promoted' }))
  expect(await run(scenario)).toMatchObject({ outcome: 'failed', error: { code: 'replicate/promoted' } })
  expect(await openJobState(scenario.stateDir, 'web')).toMatchObject({ retryAt: null, failures: 1 })
  changeRecord(scenario, (record) => ({
    ...record,
    state: 'good',
    disks: record.disks.map((disk) => ({ ...disk, path: `${disk.path}x` })),
  }))
  expect(await run(scenario)).toMatchObject({ error: { code: 'replicate/record' } })
  for (const path of scenario.world.texts.keys())
    if (path.endsWith('replica.json')) scenario.world.texts.set(path, '{"version":1}')
  expect(await run(scenario)).toMatchObject({ error: { code: 'replicate/record' } })
  expect(JSON.stringify([...scenario.world.disks])).toBe(before)
  expect(scenario.world.violations).toEqual([])
})

it('takes back at once what did not fit, and does not try again before the next regular time', async () => {
  using scenario = await ready(2)
  const { world } = scenario
  for (const bytes of world.source.values()) bytes.fill(7)
  const before = PATHS.map((path) => [...world.disk(path).bytes])
  world.isFull = 'undo'
  const record = await run(scenario)
  expect(record).toMatchObject({ outcome: 'failed', error: { code: 'destination/undo-space' } })
  expect(PATHS.map((path) => world.disk(path).bytes)).toEqual(before)
  expect(world.record()?.state).toBe('good')
  expect(await openJobState(scenario.stateDir, 'web')).toMatchObject({
    retryAt: null,
    newest: { generation: 2 },
  })
  expect(world.snapshots.size).toBe(0)
})

it('tries soon again what may pass by itself, later each time', async () => {
  using scenario = await ready(1)
  const waits: number[] = []
  for (let count = 0; count < 3; count += 1) {
    scenario.world.faults.set(scenario.world.calls + 30, 'link drops before')
    const record = await run(scenario)
    expect(record.outcome).toBe('failed')
    const { retryAt } = await openJobState(scenario.stateDir, 'web')
    waits.push(Date.parse(retryAt ?? '') - Date.parse(record.endedAt))
    scenario.world.revive()
  }
  expect(waits).toEqual([5_000, 10_000, 20_000])
})

it('goes on where somebody else wrote to the replica, and says which generations that cost', async () => {
  using scenario = await ready(3)
  const { world } = scenario
  const last = world.disk(PATHS[0]).groups.at(-1)
  if (last !== undefined) world.setState(last, 'void')
  world.disk(PATHS[0]).bytes[0] = 1
  // until an attempt looks, nobody can know: the check of the world would rightly complain
  world.check = () => undefined
  const record = await run(scenario)
  expect(record).toMatchObject({ outcome: 'done', generation: 4 })
  expect(record.warnings.join()).toContain('3 of 3 generations were lost')
  expect(world.record()?.generations.map(({ number }) => number)).toEqual([4])
  expect(world.disk(PATHS[0]).bytes).toEqual(world.source.get('/s/disk0'))
  scenario.live()
  const next = await scenario.attempt()
  expect(next).toMatchObject({ record: { outcome: 'done', generation: 5, warnings: [] } })
  expect(world.disk(PATHS[0]).groups).toHaveLength(1)
})

it('makes anew a disk that is gone', async () => {
  using scenario = await ready(2)
  const { world } = scenario
  world.disks.delete(PATHS[1])
  world.check = () => undefined
  const record = await run(scenario)
  expect(record).toMatchObject({ outcome: 'done', generation: 3 })
  expect(record.warnings.join()).toContain(`${PATHS[1]} on kvm2 is gone`)
  expect(world.disk(PATHS[1]).bytes).toEqual(world.source.get('/s/disk1'))
})

it('runs its hooks in order, tells them what came of it, and ends before anything where the first fails', async () => {
  using scenario = await ready(1)
  const told: string[] = []
  const facts: AttemptFacts[] = []
  const context = fakeContext(scenario.world, scenario.stateDir, 'extra')
  const hooksThat = (failing: string): AttemptContext['hooks'] => ({
    ...context.hooks,
    runHook: async (name, about) => {
      told.push(name)
      facts.push(about)
      if (name === failing) throw new SyncError('replicate/hook', `${name} failed`)
      await Promise.resolve()
    },
  })
  const { calls } = scenario.world
  const failed = await run(scenario, { hooks: hooksThat('pre') })
  expect(failed).toMatchObject({ outcome: 'failed', error: { code: 'replicate/hook' } })
  expect(scenario.world.calls).toBe(calls)
  expect(told.splice(0)).toEqual(['pre', 'onError', 'finally'])
  const done = await run(scenario, { hooks: hooksThat('post') })
  expect(done).toMatchObject({ outcome: 'done', warnings: ['post failed'] })
  expect(told).toEqual(['pre', 'post', 'finally'])
  expect(facts.at(-1)).toMatchObject({ generation: 2, phase: 'keep', error: null })
  expect(facts[1]).toMatchObject({ generation: null, phase: null, error: { code: 'replicate/hook' } })
})

it('reads the other way round once it is reversed, and keeps what had been the source until then', async () => {
  using scenario = await ready(2)
  const { world } = scenario
  // the guest now runs at what was the destination; what was the source has old content that nobody else has
  await changeJobState(scenario.stateDir, 'web', (state) => ({ ...state, direction: 'reversed' }))
  world.texts.clear()
  const job = {
    ...scenario.job,
    disks: PATHS.map((path, index) => ({
      source: { at: FAR, path, typed: path },
      destination: { at: { kind: 'local' } as const, path: `/s/disk${index}`, typed: `/s/disk${index}` },
    })),
  }
  const reversed = {
    ...job,
    disks: job.disks.map(({ source, destination }) => ({ source: destination, destination: source })),
  }
  const context = fakeContext(world, scenario.stateDir, 'turned')
  const asked: unknown[] = []
  const sources = PATHS.map((path) => [...world.disk(path).bytes])
  // in this world what is written is in `disks`, and what is read in `source`: they change places too
  const old = [...world.source].map(([path, bytes]): [string, number[]] => [path, [...bytes]])
  world.disks.clear()
  for (const [path, bytes] of old)
    world.disks.set(path, {
      bytes: [...bytes],
      isProtected: false,
      mode: 0o600,
      fileSystem: 'ext4',
      groups: [],
    })
  world.source.clear()
  PATHS.forEach((path, index) => world.source.set(path, [...(sources[index] ?? [])]))
  const options: AttemptContext = {
    ...context,
    runSync: async (pairs, given, hooks) => {
      const { force, undo, create, resume } = given
      asked.push({ turned: pairs[0]?.turned, force, undo: undo?.keep, create, resume })
      expect(pairs[0]?.source).toMatchObject({ at: FAR, standsFor: PATHS[0] })
      const report = await context.runSync(pairs, given, hooks)
      return asked.length === 1 ? { ...report, error: new SyncError('destination/no-space', 'full') } : report
    },
  }
  expect(await runAttempt(reversed, options)).toMatchObject({ outcome: 'failed' })
  expect([...world.disks].map(([path, { bytes }]) => [path, bytes])).toEqual(old)
  expect(await runAttempt(reversed, { ...options, newId: () => 'again' })).toMatchObject({
    outcome: 'done',
    generation: 1,
  })
  const wish = { turned: 'on-purpose', force: [], undo: 'chain', create: 'never', resume: 'no' }
  expect(asked).toEqual([wish, wish])
  expect(world.record()).toMatchObject({
    id: 'web.aaaaaaaa.reversed',
    base: 'generation',
    source: { address: 'kvm2', port: 2222 },
  })
  expect(await runAttempt(reversed, { ...options, newId: () => 'third' })).toMatchObject({ generation: 2 })
  expect(asked.at(-1)).toMatchObject({ turned: undefined, force: [], undo: 'chain' })
})

it('saves the definition of the guest with each generation, and goes on without it', async () => {
  using scenario = await ready(0)
  const { world } = scenario
  const job = { ...scenario.job, quiesce: { kind: 'libvirt', domain: 'web', uri: null } as const }
  const context = fakeContext(world, scenario.stateDir, 'one')
  let answer = { exitStatus: 0, stdout: '<domain>1</domain>', stderrTail: '' }
  const openHost: AttemptContext['openHost'] = async (side) => {
    const host = await context.openHost(side)
    return {
      ...host,
      run: async (request) => (request.argv[0] === 'virsh' ? Promise.resolve(answer) : host.run(request)),
    }
  }
  expect(await runAttempt(job, { ...context, openHost })).toMatchObject({ outcome: 'done', warnings: [] })
  const path = world.record()?.guest?.definition ?? ''
  expect(path).toContain('guest-1.xml')
  expect(world.texts.get(path)).toBe('<domain>1</domain>')
  scenario.live()
  answer = { exitStatus: 1, stdout: '', stderrTail: 'error: failed to get domain' }
  const second = await runAttempt(job, { ...context, openHost, newId: () => 'two' })
  expect(second.outcome).toBe('done')
  expect(second.warnings.join()).toContain('failed to get domain')
  expect(world.record()?.guest?.definition).toBe(path)
  scenario.live()
  answer = { exitStatus: 0, stdout: '<domain>3</domain>', stderrTail: '' }
  await runAttempt(job, { ...context, openHost, newId: () => 'three' })
  expect([...world.texts.keys()].filter((each) => each.endsWith('.xml'))).toEqual([
    world.record()?.guest?.definition,
  ])
})
