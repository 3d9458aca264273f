// One migration on its way from flags to the engine: hosts, drivers and options for it, opened and let go of together.
// Refuses what cannot be asked, with the error of whoever could not be.

import path from 'node:path'

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { HostOptions } from '../host/open.js'
import type { MigrateContext } from '../migrate/context.js'
import { destinationUris } from '../migrate/live-uri.js'
import type { Planned, PlanRequest } from '../migrate/make-plan.js'
import type { Plan } from '../migrate/plan.js'
import type { RecoverRequest } from '../migrate/recover.js'
import type { MigrateReport } from '../migrate/report.js'
import { syncOptions, type SyncOptions } from '../options.js'
import { rateAt } from '../rate/schedule.js'
import type { RunHooks } from '../sync/report.js'
import type { RemoteSide } from '../transport/transport.js'
import type { CommandContext } from './context.js'
import { connectionWords } from './migrate-connection.js'
import type { MigrateEngine } from './migrate.js'
import type { MigrateAsked } from './migrate-asked.js'
import { MIGRATE_DEFAULTS, type MigrateFlags } from './migrate-flags.js'
import { MigrateView } from './migrate-view.js'
import { printingOf } from './printing.js'
import { connectionOf } from './settings.js'
import { runSignal, type RunSignal } from './signals.js'
import { stateArguments } from './state-flags.js'

/** A definition that is larger is another file. */
const MAX_DEFINITION_BYTES = 1 << 20
/** The engine's word about a source that is written to, which the disk of a running guest always is. */
const OWN_GUEST_WRITES = 'at best what a crash would leave'

type Force = SyncOptions['force']

export class Migration implements AsyncDisposable {
  readonly #engine: MigrateEngine
  readonly #context: CommandContext
  readonly #flags: MigrateFlags
  readonly #far: RemoteSide
  readonly #source: Host
  readonly #interruption: RunSignal
  readonly #view: MigrateView
  readonly #quiet: 'yes' | 'no'
  /** The connection that the plan was made over: the run's first one. */
  #destination: Host | null = null

  private constructor(
    far: RemoteSide,
    flags: MigrateFlags,
    engine: MigrateEngine,
    context: CommandContext,
    source: Host,
  ) {
    this.#far = far
    this.#flags = flags
    this.#engine = engine
    this.#context = context
    this.#source = source
    const { output, environment, nowMs, signals, exit } = context
    const printing = printingOf(flags, output.canRedraw(environment) ? 'possible' : 'impossible')
    this.#quiet = printing.verbosity === 'quiet' ? 'yes' : 'no'
    this.#view = new MigrateView(printing, output, nowMs)
    this.#interruption = runSignal(signals, (text) => output.note(text), exit)
  }

  /** Opens this host only. */
  static async open(
    far: RemoteSide,
    flags: MigrateFlags,
    engine: MigrateEngine,
    context: CommandContext,
  ): Promise<Migration> {
    const source = await engine.openHost({ kind: 'local' }, Migration.hostOptions(flags, null))
    return new Migration(far, flags, engine, context, source)
  }

  /** How a host is opened. `far` is null for this one. */
  static hostOptions(flags: MigrateFlags, far: RemoteSide | null): HostOptions {
    const { native, transport, timeoutMs, stateDir } = Migration.#optionsFor(flags, far, [])
    return { stateDir, native, transport, timeoutMs }
  }

  /** Aborted by an interrupt. */
  get signal(): AbortSignal {
    return this.#interruption.signal
  }

  /** Connects, and plans. Changes nothing on either host. */
  async plan(
    asked: Extract<MigrateAsked, { kind: 'plan' | 'migrate' }>,
    flags: MigrateFlags,
  ): Promise<Planned> {
    const source = this.#source
    const definition = flags.xml === undefined ? null : await this.#definition(flags.xml)
    const uris = destinationUris(flags.destConnect ?? null)
    const sourceDriver = await this.#engine.openDriver(source, {
      hypervisor: flags.hypervisor ?? 'auto',
      uri: flags.connect ?? null,
    })
    // who mistyped a name is told before a connection is made
    if ((await sourceDriver.state(asked.guest)) === 'absent') await sourceDriver.describe(asked.guest)
    const destination = await this.#connect()
    this.#destination = destination
    const destinationDriver = await this.#engine.openDriver(destination, {
      hypervisor: sourceDriver.kind,
      uri: uris.there,
    })
    this.signal.throwIfAborted()
    const { clock, openMigrations, leftBehind } = this.#engine
    return await this.#engine.makePlan(this.#request(asked, definition, uris.fromHere), {
      source,
      destination,
      sourceDriver,
      destinationDriver,
      openMigrations,
      leftBehind,
      clock,
    })
  }

  async run({ plan, cameFromThere }: Planned): Promise<MigrateReport> {
    // a guest that runs from a disk proves that this one is the newer; so does one that came from there
    const isNewer = plan.guest.state !== 'off' || cameFromThere === 'yes'
    const force: Force = isNewer ? ['content', 'direction'] : ['content']
    return await this.#shown(() => this.#engine.migrate(plan, this.#runContext(plan, force)))
  }

  async takeUp(request: RecoverRequest, plan: Plan): Promise<MigrateReport> {
    return await this.#shown(() =>
      this.#engine.recover(request, this.#runContext(plan, ['content', 'direction'])),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#interruption[Symbol.dispose]()
    await this.#destination?.close()
    await this.#source.close()
  }

  async #shown(run: () => Promise<MigrateReport>): Promise<MigrateReport> {
    try {
      return await run()
    } finally {
      this.#view.end()
    }
  }

  #request(
    { guest, typedHost }: Extract<MigrateAsked, { kind: 'plan' | 'migrate' }>,
    definition: string | null,
    uriFromSource: string | null,
  ): PlanRequest {
    const flags = this.#flags
    const { host, user, port } = this.#far
    return {
      id: this.#engine.newId(),
      guest,
      typedHost,
      login: { host, user, port: port ?? flags.port ?? null },
      identity: flags.identity?.[0] ?? null,
      connection: connectionWords(flags, this.#context.names.cwd),
      uriFromSource,
      mode: flags.mode ?? 'auto',
      chosen: {
        maps: flags.map ?? [],
        networks: flags.network ?? [],
        disks: flags.disks ?? null,
        shared: flags.shared ?? [],
      },
      create: flags.create ?? { kind: 'none' },
      definition,
      bytesPerSecond: this.#rateNow(),
      options: {
        maxRounds: flags.maxRounds ?? MIGRATE_DEFAULTS.maxRounds,
        downtimeTargetMs: flags.downtimeTarget ?? MIGRATE_DEFAULTS.downtimeTargetMs,
        shutdownTimeoutMs: flags.shutdownTimeout ?? MIGRATE_DEFAULTS.shutdownTimeoutMs,
        forceOff: flags.forceOff === true ? 'yes' : 'no',
        start: flags.start === true ? 'yes' : 'no',
        undefineSource: flags.undefineSource === true ? 'yes' : 'no',
        hooksDirectory: flags.hook === undefined ? null : path.resolve(this.#context.names.cwd, flags.hook),
      },
    }
  }

  #runContext(plan: Plan, force: Force): MigrateContext {
    const { copier, clock, openDriver } = this.#engine
    const { output } = this.#context
    const say = (text: string): void => {
      if (this.#quiet === 'no') output.note(text)
    }
    const hooks: RunHooks = {
      onNote: (text) => say(`blocksync: ${text}`),
      onWarning: (text) => {
        if (!text.includes(OWN_GUEST_WRITES)) say(`blocksync: warning: ${text}`)
      },
      onWaiting: (text) => say(`blocksync: ${text}`),
      onStderrLine: (line) => say(`remote: ${line}`),
    }
    return {
      source: this.#source,
      openDestination: async () => {
        const first = this.#destination
        this.#destination = null
        return first !== null && !first.lost.aborted ? first : await this.#connect()
      },
      driverFor: async (host) =>
        await openDriver(host, {
          hypervisor: plan.hypervisor,
          uri: host.kind === 'local' ? plan.from.uri : plan.to.uri,
        }),
      copier: copier({
        far: this.#far,
        options: Migration.#optionsFor(this.#flags, this.#far, force),
        hooks,
      }),
      clock,
      bandwidthBytes: this.#rateNow(),
      onEvent: (event) => this.#view.show(event),
      signal: this.signal,
    }
  }

  async #connect(): Promise<Host> {
    return await this.#engine.openHost(this.#far, {
      ...Migration.hostOptions(this.#flags, this.#far),
      onStderrLine: (line) => {
        if (this.#quiet === 'no') this.#context.output.note(`remote: ${line}`)
      },
      signal: this.signal,
    })
  }

  async #definition(file: string): Promise<string> {
    const text = await this.#source.readText(
      path.resolve(this.#context.names.cwd, file),
      MAX_DEFINITION_BYTES,
    )
    if (text !== null) return text
    throw new SyncError('usage', `${file} is not there; nothing was opened`, {
      operand: '--xml',
      hint: 'Give a file with a definition: virsh dumpxml GUEST > FILE',
    })
  }

  #rateNow(): number | null {
    const schedule = this.#flags.bwlimit?.schedule ?? null
    return schedule === null ? null : rateAt(schedule, this.#engine.clock.wallMs())
  }

  static #optionsFor(flags: MigrateFlags, far: RemoteSide | null, force: Force): SyncOptions {
    const connection = connectionOf(far === null ? { ...nativeOf(flags) } : flags, far)
    return syncOptions({
      force,
      stateDir: flags.stateDir ?? null,
      bwlimit: flags.bwlimit?.schedule ?? null,
      ...(flags.compress === undefined ? {} : { compress: flags.compress }),
      ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
      ...connection,
      transport: {
        ...connection.transport,
        serveArguments: [...connection.transport.serveArguments, ...stateArguments(flags, far)],
      },
    })
  }
}

/** Of the connection only this is about this host, too. */
function nativeOf({ native }: MigrateFlags): Pick<MigrateFlags, 'native'> {
  return native === undefined ? {} : { native }
}
