// A migration in the world of fakes.ts: its plan, a run of it that may be cut short, recoveries, and what has to hold at
// the end.

import { toSyncError, type SyncError } from '../../src/errors.js'
import type { MigrateMode } from '../../src/hypervisor/driver.js'
import type { Procedure } from '../../src/migrate/journal.js'
import type { MigrateOptions, Plan } from '../../src/migrate/plan.js'
import { recover, type RecoverRequest } from '../../src/migrate/recover.js'
import type { MigrateReport } from '../../src/migrate/report.js'
import { migrate } from '../../src/migrate/run.js'
import { contextOf, definitionText, guestOf, type Contexts } from './fakes.js'
import { diskPaths, isRunningOn, World } from './world.js'

export const ID = '20260101-abc'

/** `killed`: the controller did not live to tell. */
export type Ended = Readonly<
  { kind: 'report'; report: MigrateReport } | { kind: 'refused'; error: SyncError } | { kind: 'killed' }
>

export type ScenarioOptions = Partial<MigrateOptions> & {
  id?: string
  guestState?: 'running' | 'paused' | 'off'
}

export function planOf(procedure: Procedure, options: ScenarioOptions = {}): Plan {
  const { id = ID, guestState, ...given } = options
  const mode: MigrateMode = procedure === 'off' ? 'cold' : procedure
  const guest = guestOf(
    'web',
    'u1',
    'source',
    guestState ?? (procedure === 'off' ? 'off' : 'running'),
    diskPaths('source'),
  )
  const [fileHere = '', blockHere = ''] = diskPaths('source')
  const [fileThere = '', blockThere = ''] = diskPaths('destination')
  const common = { fate: 'copied', format: 'raw', sizeBytes: 1 << 20, allocatedBytes: 1 << 20 } as const
  const warm = mode === 'warm'
  return {
    version: 1,
    id,
    hypervisor: 'libvirt',
    guest,
    options: {
      mode,
      maxRounds: 3,
      downtimeTargetMs: 5000,
      shutdownTimeoutMs: 1000,
      forceOff: 'no',
      start: 'no',
      undefineSource: 'no',
      hooksDirectory: null,
      ...given,
    },
    from: { host: 'host1', machineId: 'm1', uri: null },
    to: {
      host: 'host2',
      typed: 'host2',
      machineId: 'm2',
      uri: 'qemu:///system',
      uriFromSource: 'qemu+ssh://host2/system',
    },
    disks: [
      {
        ...common,
        target: 'vda',
        kind: 'file',
        sourcePath: fileHere,
        destinationPath: fileThere,
        destinationKind: 'file',
        creation: { kind: 'file', directories: ['/b'] },
      },
      {
        ...common,
        target: 'vdb',
        kind: 'block',
        sourcePath: blockHere,
        destinationPath: blockThere,
        destinationKind: 'block',
        creation: { kind: 'lvm', group: 'vg2', volume: 'vdb' },
      },
    ],
    files:
      mode === 'live'
        ? []
        : [{ kind: 'nvram', sourcePath: '/n/web.fd', destinationPath: '/n/web.fd', sizeBytes: 100 }],
    sourceStatePath: warm ? `/state/migrate/${id}/source.d/state` : null,
    destinationStatePath: warm ? `/state/migrate/${id}/destination.d/state` : null,
    destinationDefinition: definitionText('web', 'u1', 'destination'),
    destinationPersistentDefinition: definitionText('web', 'u1', 'destination'),
    definitionDiff: '',
    commands: [],
    estimate: { bytes: 1, durationMs: null, downtimeMs: null },
    problems: [],
    warnings: [],
  }
}

export class Scenario {
  readonly world: World
  readonly plan: Plan
  readonly procedure: Procedure
  /** What every controller was given, the latest last. */
  readonly controllers: Contexts[] = []

  constructor(procedure: Procedure, options: ScenarioOptions = {}) {
    this.world = new World(procedure !== 'live')
    this.procedure = procedure
    this.plan = planOf(procedure, options)
    const { source, destination } = this.world
    source.files.set('/a/vda.img', { ...this.world.newFile('file', 1 << 20), allocatedBytes: 1 << 20 })
    source.files.set('/dev/vg/vdb', this.world.newFile('block', 1 << 20))
    source.files.set('/n/web.fd', this.world.newFile('file', 100))
    destination.files.set('/n', this.world.newFile('directory', 0))
    destination.files.set('/', this.world.newFile('directory', 0))
    const disks = diskPaths('source')
    source.definitions.set('web', { name: 'web', uuid: 'u1', autostart: true, disks, movedBy: null })
    const { state } = this.plan.guest
    if (state === 'running' || state === 'paused') source.guests.set('web', { state, memory: 0, disks })
  }

  get wasRunning(): boolean {
    return this.plan.guest.state === 'running'
  }

  async #ended(act: (contexts: Contexts) => Promise<MigrateReport>): Promise<Ended> {
    const contexts = contextOf(this.world)
    this.controllers.push(contexts)
    this.world.revive()
    const done = act(contexts).then(
      (report): Ended => ({ kind: 'report', report }),
      (thrown: unknown): Ended => {
        const error = toSyncError(thrown)
        if (error.code === 'internal') throw thrown
        return { kind: 'refused', error }
      },
    )
    const ended = await Promise.race([done, this.world.whenKilled.then((): Ended => ({ kind: 'killed' }))])
    await contexts.host.close()
    if (ended.kind === 'report' && ended.report.error?.code === 'internal') throw ended.report.error
    return ended
  }

  async migrate(): Promise<Ended> {
    return await this.#ended(async ({ context }) => migrate(this.plan, context))
  }

  async recover(kind: RecoverRequest['kind'], yes: 'yes' | 'no' = 'no'): Promise<Ended> {
    return await this.#ended(async ({ context }) => recover({ kind, id: this.plan.id, yes }, context))
  }

  /** Whatever was broken works again. What was at work without its controller may still be at work. */
  mend(): void {
    const { world } = this
    world.linkIsUp = true
    world.source.hasDaemon = true
    world.destination.hasDaemon = true
    world.source.isFull = false
    world.failing = null
    world.boot(world.source)
    world.boot(world.destination)
    // a session that nobody has any more ends by itself
    if (world.faults.size > 0) world.faults.clear()
  }

  /** It is over: what has to hold then, as a list of what does not. */
  problemsAtEnd(): string[] {
    const { world } = this
    const { source, destination, violations } = world
    const problems = [...violations]
    const here = source.guests.get('web')
    const there = destination.guests.get('web')
    const where = world.hasAll(destination) && !world.hasAll(source) ? 'destination' : 'either'
    if (this.wasRunning) {
      const running = [here, there].filter((guest) => guest?.state === 'running')
      if (running.length !== 1) problems.push(`${running.length} guests run`)
      const memory = running[0]?.memory ?? -1
      if (memory !== world.highest) problems.push(`it has ${memory} of ${world.highest} in memory`)
      if (where === 'destination' && !isRunningOn(destination))
        problems.push('the newest disks are not those that run')
    }
    if (there !== undefined && here !== undefined) problems.push('it is in memory on both')
    const isMoved = destination.definitions.has('web')
    if (isMoved) this.#movedProblems(problems)
    else this.#backProblems(problems)
    return problems
  }

  #movedProblems(problems: string[]): void {
    const { source, destination } = this.world
    const definition = destination.definitions.get('web')
    if (definition?.autostart !== true) problems.push('autostart was lost')
    if (source.definitions.has('web')) problems.push('the source still has its definition')
    if ([...source.definitions.values()].some(({ autostart }) => autostart))
      problems.push('the source would start it')
    for (const path of diskPaths('source')) {
      const file = source.files.get(path)
      if (file !== undefined && file.protectedBy === null) problems.push(`${path} is not protected`)
    }
    for (const machine of [source, destination])
      for (const path of machine.files.keys())
        if (path.startsWith('/state/')) problems.push(`${path} is left on the ${machine.role}`)
  }

  #backProblems(problems: string[]): void {
    const { source, destination } = this.world
    const definition = source.definitions.get('web')
    if (definition === undefined || !definition.autostart) problems.push('the definition was not put back')
    if (source.definitions.size !== 1) problems.push('there are two definitions')
    for (const path of diskPaths('source')) {
      const file = source.files.get(path)
      if (file === undefined) problems.push(`${path} is not there`)
      else if (file.protectedBy !== null) problems.push(`${path} is still protected`)
    }
    if (destination.guests.size > 0) problems.push('it is in memory at the destination')
    const journal = destination.journals.get(`${this.plan.id} destination`)
    if (
      journal !== undefined &&
      journal.lines.length > 0 &&
      !journal.lines.some(({ type }) => type === 'aborted')
    )
      problems.push('the destination could still be told to go')
    const warned = this.controllers.flatMap(({ events }) =>
      events.map((each) => ('message' in each ? each.message : '')),
    )
    const isTold = (path: string): boolean =>
      warned.some((text) => text?.startsWith(`${path} on host2 was made`))
    const left = [...destination.files.keys()].filter(
      (path) => path !== '/' && path !== '/n' && !isTold(path),
    )
    if (left.length > 0) problems.push(`left at the destination: ${left.join(' ')}`)
    for (const path of source.files.keys()) if (path.startsWith('/state/')) problems.push(`${path} is left`)
  }
}
