// Xen guests by xl: what the interface Driver asks passes through here to xl, to /etc/xen and back. Refuses to restore or to
// start beside a guest of the same name, and never takes a guest for gone that xl still lists.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type {
  DefinitionChanges,
  Driver,
  DriverFacts,
  Fence,
  Guest,
  GuestState,
  HostProblem,
} from './driver.js'
import { checkXenHost } from './xen-check.js'
import { definitionPath, XenDefinitions, XEN_DIRECTORY } from './xen-definitions.js'
import { describeXenGuest, listXenGuests } from './xen-describe.js'
import { retargeted } from './xen-guest.js'
import type { XenDomain } from './xen-output.js'
import { xenWords } from './xen-words.js'
import { ACTION_TIMEOUT_MS, SAVE_TIMEOUT_MS, Xl } from './xen-xl.js'

/** How long a domain takes to vanish when its end was asked for: its back ends close first. */
const GONE_TIMEOUT_MS = 60_000
/** A guest that shut itself down is taken away by the xl that started it, within a moment. */
const GONE_AFTER_STOP_MS = 5000
/** A state file of many GiB on a slow disk. */
const FLUSH_TIMEOUT_MS = 3_600_000
const PRIVATE_MODE = 0o600
/** Where the configuration of a guest without a file is while xl reads it; gone at the next boot in any case. */
const RUN_DIRECTORY = '/run'

/** The driver of a host with Xen's own tool stack (xl). Nothing is asked before the first call. */
export function xenDriver(host: Host): Driver {
  return new XenDriver(host)
}

class XenDriver implements Driver {
  readonly kind = 'xen'
  readonly host: Host
  readonly live = null
  readonly #xl: Xl
  readonly #definitions: XenDefinitions

  constructor(host: Host) {
    this.host = host
    this.#xl = new Xl(host)
    this.#definitions = new XenDefinitions(host)
  }

  async facts(): Promise<DriverFacts> {
    const { version, freeMemoryBytes } = await this.#xl.info()
    return { version, hypervisor: `Xen ${version}`, uri: null, freeMemoryBytes }
  }

  async describe(guest: string): Promise<Guest> {
    return await describeXenGuest(guest, this.host, this.#xl, this.#definitions)
  }

  async state(guest: string): Promise<GuestState> {
    const domain = await this.#xl.find(guest)
    if (domain !== null) return domain.state
    const { files } = await this.#definitions.read()
    return files.some(({ name, uuid }) => name === guest || (uuid !== '' && uuid === guest.toLowerCase()))
      ? 'off'
      : 'absent'
  }

  async list(): Promise<
    readonly Readonly<{ name: string; uuid: string; state: GuestState; disks: readonly string[] }>[]
  > {
    return await listXenGuests(this.#xl, this.#definitions)
  }

  retarget(definition: string, changes: DefinitionChanges): string {
    return retargeted(definition, changes)
  }

  async checkFor(
    guest: Guest,
    definition: string,
    _changes: DefinitionChanges,
  ): Promise<readonly HostProblem[]> {
    const [info, domains, found] = await Promise.all([
      this.#xl.info(),
      this.#xl.domains(),
      this.#definitions.read(),
    ])
    return await checkXenHost({ host: this.host, guest, definition, info, domains, found })
  }

  async pause(guest: string): Promise<void> {
    await this.#simple('pause', guest, 'could not be paused')
  }

  async resume(guest: string): Promise<void> {
    await this.#simple('unpause', guest, 'could not be resumed')
  }

  async save(guest: string, statePath: string): Promise<void> {
    const word = await this.#xl.word(guest)
    const action = {
      argv: ['xl', 'save', word, statePath],
      timeoutMs: SAVE_TIMEOUT_MS,
      failure: `${printable(guest)} could not be saved`,
      operand: printable(guest),
    } as const
    const result = await this.#xl.attempt(action)
    if (result.exitStatus !== 0) throw await this.#notSaved(guest, statePath, this.#xl.failed(action, result))
    const left = await this.#xl.settled(guest, GONE_TIMEOUT_MS, (now) => now === null)
    if (left !== null)
      throw new SyncError(
        'migrate/hypervisor',
        `${printable(guest)} was saved on ${this.host.name}, and xl still lists it (${left.state})`,
        {
          operand: printable(guest),
          hint: `Look at it: xl list ${left.id}; its state is in ${printable(statePath)}`,
        },
      )
    await this.#flush(statePath)
  }

  async restorePaused(statePath: string, guest: Guest, definition: string): Promise<void> {
    await this.#refuseIfThere(guest.name)
    const path = `${statePath}.cfg`
    await this.host.writeText(path, definition, { mode: PRIVATE_MODE, existing: 'replace' })
    const action = {
      argv: ['xl', 'restore', '-p', path, statePath],
      timeoutMs: SAVE_TIMEOUT_MS,
      failure: `${printable(guest.name)} could not be restored`,
      operand: printable(guest.name),
      leavesBehind: true,
    } as const
    try {
      await this.#create(guest.name, action)
    } finally {
      await this.host.remove(path)
    }
  }

  async shutdown(guest: string, timeoutMs: number): Promise<void> {
    const domain = await this.#xl.find(guest)
    if (domain === null) return
    const word = await this.#xl.word(guest)
    const until = performance.now() + timeoutMs
    // -F: a guest without PV drivers gets the ACPI button instead
    await this.#xl.act({
      argv: ['xl', 'shutdown', '-F', word],
      timeoutMs: ACTION_TIMEOUT_MS,
      failure: `${printable(guest)} could not be asked to shut down`,
      operand: printable(guest),
    })
    const left = Math.max(0, until - performance.now())
    const stopped = await this.#xl.settled(
      guest,
      left,
      (now) => now?.state !== 'running' && now?.state !== 'paused',
    )
    // One that stopped is on its way out, or is kept as it is (on_poweroff="preserve").
    const isOn = (now: XenDomain | null): boolean =>
      now !== null && now.id === domain.id && now.state === 'stopping'
    const restarts = stopped?.isRestarting === true
    const after = await this.#xl.settled(
      guest,
      GONE_AFTER_STOP_MS,
      (now) => !isOn(now) && !(restarts && now === null),
    )
    if (after === null && !restarts) return
    if (after !== null && isOn(after) && !restarts) return await this.destroy(guest)
    const isAnother = restarts || after?.id !== domain.id
    const what = isAnother
      ? 'started again instead'
      : `is still ${after?.state ?? 'there'} after ${Math.round(timeoutMs / 1000)} s`
    throw new SyncError(
      'migrate/shutdown',
      `${printable(guest)} was asked to shut down on ${this.host.name} and ${what}`,
      {
        operand: printable(guest),
        hint: `Shut it down from inside; or pull its plug: --force-off (xl destroy ${word})`,
      },
    )
  }

  async destroy(guest: string): Promise<void> {
    const domain = await this.#xl.find(guest)
    if (domain === null) return
    const action = {
      argv: ['xl', 'destroy', String(domain.id)],
      timeoutMs: ACTION_TIMEOUT_MS,
      failure: `${printable(guest)} could not be destroyed`,
      operand: printable(guest),
    } as const
    const result = await this.#xl.attempt(action)
    // it may have ended by itself meanwhile; whether it is there is what counts
    const left = await this.#xl.settled(
      guest,
      result.exitStatus === 0 ? GONE_TIMEOUT_MS : 0,
      (now) => now?.id !== domain.id,
    )
    if (left?.id === domain.id) throw this.#xl.failed(action, result)
  }

  async start(guest: string, definition: string | null): Promise<void> {
    await this.#refuseIfThere(guest)
    const path =
      definition === null
        ? await this.#persistentPath(guest)
        : posix.join(RUN_DIRECTORY, `blocksync-${posix.basename(definitionPath(guest))}`)
    if (definition !== null)
      await this.host.writeText(path, definition, { mode: PRIVATE_MODE, existing: 'replace' })
    const action = {
      argv: ['xl', 'create', '-q', path],
      timeoutMs: SAVE_TIMEOUT_MS,
      failure: `${printable(guest)} could not be started`,
      operand: printable(guest),
      leavesBehind: true,
    } as const
    try {
      await this.#create(guest, action)
    } finally {
      if (definition !== null) await this.host.remove(path)
    }
  }

  async define(
    definition: string,
    { name, autostart }: Readonly<{ name: string; autostart: boolean }>,
  ): Promise<void> {
    await this.#definitions.define(definition, name, autostart)
  }

  async undefine(guest: string): Promise<void> {
    await this.#definitions.undefine(guest)
  }

  async fence(guest: Guest, id: string): Promise<Fence> {
    return await this.#definitions.fence(guest, id)
  }

  async unfence(fence: Fence): Promise<void> {
    await this.#definitions.unfence(fence)
  }

  async fences(): Promise<readonly Readonly<{ id: string; guest: string; uuid: string }>[]> {
    return (await this.#definitions.fences()).map(({ id, guest, uuid }) => ({ id, guest, uuid }))
  }

  words(action: Parameters<Driver['words']>[0], guest: string): readonly (readonly string[])[] {
    return xenWords(action, guest)
  }

  async #simple(verb: 'pause' | 'unpause', guest: string, what: string): Promise<void> {
    const word = await this.#xl.word(guest)
    await this.#xl.act({
      argv: ['xl', verb, word],
      timeoutMs: ACTION_TIMEOUT_MS,
      failure: `${printable(guest)} ${what}`,
      operand: printable(guest),
    })
  }

  /** The failure of a save, with what became of the guest. Half a state is of no use, and takes as much room as its memory. */
  async #notSaved(guest: string, statePath: string, failure: SyncError): Promise<SyncError> {
    const runs = (now: XenDomain | null): boolean => now?.state === 'running' || now?.state === 'paused'
    const domain = await this.#xl.settled(guest, GONE_TIMEOUT_MS, (now) => now === null || runs(now))
    if (runs(domain)) await this.host.remove(statePath)
    const what = runs(domain)
      ? `it is ${domain?.state ?? ''} as before`
      : `it does not run now (xl list: ${domain?.state ?? 'absent'})`
    const { operand, hint } = failure
    return new SyncError('migrate/hypervisor', `${failure.message}; ${what}`, {
      ...(operand === null ? {} : { operand }),
      ...(hint === null ? {} : { hint }),
      cause: failure,
    })
  }

  /** Makes a domain; what a failure leaves of it is ended, since none of this name was there before. */
  async #create(guest: string, action: Parameters<Xl['act']>[0]): Promise<void> {
    const result = await this.#xl.attempt(action)
    if (result.exitStatus === 0) return
    await this.destroy(guest)
    throw this.#xl.failed(action, result)
  }

  async #refuseIfThere(name: string): Promise<void> {
    const there = await this.#xl.find(name)
    if (there === null) return
    throw new SyncError(
      'migrate/hypervisor',
      `a guest named ${printable(name)} is ${there.state} on ${this.host.name} already; nothing was started`,
      {
        operand: printable(name),
        hint: `Look at it: xl list ${there.id}`,
      },
    )
  }

  async #persistentPath(guest: string): Promise<string> {
    const { files } = await this.#definitions.read()
    const mine = files.find(({ name }) => name === guest)
    if (mine !== undefined) return mine.path
    throw new SyncError(
      'migrate/guest',
      `${printable(guest)} has no configuration in ${XEN_DIRECTORY} on ${this.host.name}`,
      {
        operand: printable(guest),
        hint: `Put it into ${XEN_DIRECTORY}/${guest}.cfg, or start it with: xl create FILE`,
      },
    )
  }

  /** The file and its name in the directory: sync(1) calls fsync for each path. */
  async #flush(path: string): Promise<void> {
    await this.#xl.act({
      argv: ['sync', path, posix.dirname(path)],
      timeoutMs: FLUSH_TIMEOUT_MS,
      failure: `the saved state ${printable(path)} could not be flushed`,
      operand: printable(path),
    })
  }
}
