// Guests of libvirt on one host, by virsh: what it is asked for and what becomes of it. Refuses nothing that libvirt allows,
// and says with its words what it refused.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { descend, parseDomain, retargetDomain, rootOf, textOf } from './domain-xml.js'
import type {
  DefinitionChanges,
  Driver,
  DriverFacts,
  Fence,
  Guest,
  GuestState,
  HostProblem,
} from './driver.js'
import { checkFor } from './libvirt-check.js'
import { describeGuest, listGuests, names, parseNames, stateIn } from './libvirt-describe.js'
import { barrierWords, fenceGuest, fencesHere, isFenced, unfenceGuest } from './libvirt-fence.js'
import { abortJob, downtimeOf, liveWords, migrateLive } from './libvirt-live.js'
import { saveGuest, saveWords } from './libvirt-save.js'
import { ACT_TIMEOUT_MS, ASK_TIMEOUT_MS, Virsh, virshArgv, type VirshWords } from './virsh.js'

/** All of a guest's memory is read; 1 TiB at 300 MiB/s takes an hour. */
const RESTORE_TIMEOUT_MS = 3_600_000
/** libvirt asks QEMU to end and, after 15 s, kills it; a process that hangs in the kernel takes longer. */
const DESTROY_TIMEOUT_MS = 60_000
/** How long one wait for the event lasts before the state is asked again: the event may have come before anybody listened. */
const EVENT_SLICE_S = 2
/** Least time between two questions where waiting for the event failed at once. */
const POLL_MS = 500
/** Since this version undefining can leave the state of a TPM. */
const KEEP_TPM_VERSION = [8, 9, 0]

/** The driver for one host; `uri` as virsh takes it ('qemu:///system'). Asks nothing yet. */
export function libvirtDriver(host: Host, uri: string): Driver {
  return new LibvirtDriver(new Virsh(host, uri))
}

class LibvirtDriver implements Driver {
  readonly kind = 'libvirt'
  readonly host: Host
  readonly live: Driver['live']
  readonly #virsh: Virsh

  constructor(virsh: Virsh) {
    this.host = virsh.host
    this.#virsh = virsh
    this.live = {
      migrate: async (request, onProgress, signal) => {
        const guest = await this.#address(request.guest)
        await migrateLive(virsh, { ...request, guest }, onProgress, signal)
      },
      abort: async (guest) => await abortJob(virsh, await this.#address(guest)),
      downtimeMs: async (guest) => await downtimeOf(virsh, await this.#address(guest)),
    }
  }

  async facts(): Promise<DriverFacts> {
    const words = ['version', '--daemon']
    const said = await this.#virsh.act(words, ASK_TIMEOUT_MS, 'libvirt does not say its version')
    const version =
      /^Running against daemon: (\S+)$/m.exec(said) ?? /^Using library: libvirt (\S+)$/m.exec(said)
    const hypervisor = /^Running hypervisor: (.+)$/m.exec(said)
    return {
      version: version?.[1] ?? '',
      hypervisor: hypervisor?.[1] ?? '',
      uri: this.#virsh.uri,
      freeMemoryBytes: (await this.host.facts()).availableMemoryBytes,
    }
  }

  async describe(guest: string): Promise<Guest> {
    return await describeGuest(this.#virsh, await this.#address(guest))
  }

  async state(guest: string): Promise<GuestState> {
    return await stateIn(this.#virsh, await this.#address(guest))
  }

  async list(): ReturnType<Driver['list']> {
    return await listGuests(this.#virsh)
  }

  retarget(definition: string, changes: DefinitionChanges): string {
    return retargetDomain(definition, changes)
  }

  async checkFor(
    guest: Guest,
    definition: string,
    changes: DefinitionChanges,
  ): Promise<readonly HostProblem[]> {
    return await checkFor(this.#virsh, guest, definition, changes)
  }

  async pause(guest: string): Promise<void> {
    await this.#act(['suspend', '--domain', await this.#address(guest)], `${guest} was not paused`)
  }

  async resume(guest: string): Promise<void> {
    await this.#act(['resume', '--domain', await this.#address(guest)], `${guest} was not resumed`)
  }

  async save(guest: string, statePath: string): Promise<void> {
    await saveGuest(this.#virsh, await this.#address(guest), statePath)
  }

  /**
   * The definition has to be of the same machine as the saved one: libvirt compares the two and refuses what a guest would
   * see change. That is why `describe` gives the migratable definition of a guest that runs, the very text that a saved
   * state has inside: the live one has been filled in by QEMU (CPU features) and may be refused.
   */
  async restorePaused(statePath: string, guest: Guest, definition: string): Promise<void> {
    await this.#inPlaceOfFence(guest.uuid, async () => {
      await this.#virsh.withFile(definition, async (path) => {
        const words = ['restore', '--file', statePath, '--xml', path, '--paused']
        await this.#virsh.act(words, RESTORE_TIMEOUT_MS, `${guest.name} was not restored from ${statePath}`)
      })
    })
  }

  /**
   * A guest that comes back to a host that it left finds its own fence there, a definition with its UUID, and libvirt
   * refuses it: then the fence goes, and it is tried again. Asked only after a failure: it is part of the downtime.
   */
  async #inPlaceOfFence(uuid: string | null, act: () => Promise<void>): Promise<void> {
    try {
      await act()
    } catch (thrown) {
      const isHypervisor = thrown instanceof SyncError && thrown.code === 'migrate/hypervisor'
      if (uuid === null || !isHypervisor || !(await isFenced(this.#virsh, uuid))) throw thrown
      await this.undefine(uuid)
      await act()
    }
  }

  async shutdown(guest: string, timeoutMs: number): Promise<void> {
    const domain = await this.#address(guest)
    const endsAt = Date.now() + timeoutMs
    // Only QEMU has the choice; without a word about it the agent in the guest would be asked first.
    const mode = this.#virsh.uri.startsWith('qemu') ? ['--mode', 'acpi'] : []
    await this.#act(['shutdown', '--domain', domain, ...mode], `${guest} was not asked to shut down`)
    for (;;) {
      const state = await stateIn(this.#virsh, domain)
      if (state === 'off' || state === 'absent') return
      if (Date.now() >= endsAt)
        throw new SyncError(
          'migrate/shutdown',
          `${printable(guest)} did not shut down within ${timeoutMs / 1000} s`,
          {
            operand: guest,
            hint: 'Shut it down from within, or ask for --force-off, which is as pulling the plug.',
          },
        )
      await this.#lifecycleEvent(domain, endsAt)
    }
  }

  /** Returns at the next event in the life of a guest, or when there was none for a while. */
  async #lifecycleEvent(domain: string, endsAt: number): Promise<void> {
    const startedAt = Date.now()
    const seconds = Math.max(1, Math.min(EVENT_SLICE_S, Math.ceil((endsAt - startedAt) / 1000)))
    const words = ['event', '--domain', domain, '--event', 'lifecycle', '--timeout', `${seconds}`]
    // Also a wait without an event, and one for a guest that is gone, ends with a status: the state is what counts.
    const { exitStatus } = await this.#virsh.run(words, ASK_TIMEOUT_MS)
    const leftMs = POLL_MS - (Date.now() - startedAt)
    if (exitStatus !== 0 && leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs))
  }

  async destroy(guest: string): Promise<void> {
    const domain = await this.#address(guest)
    const words = ['destroy', '--domain', domain]
    const { exitStatus, stderrTail } = await this.#virsh.run(words, DESTROY_TIMEOUT_MS)
    if (exitStatus === 0) return
    const state = await stateIn(this.#virsh, domain)
    if (state === 'off' || state === 'absent') return
    throw this.#virsh.failure(`${guest} was not ended`, stderrTail, words)
  }

  async start(guest: string, definition: string | null): Promise<void> {
    const what = `${guest} was not started`
    if (definition === null) {
      await this.#act(['start', '--domain', await this.#address(guest)], what)
      return
    }
    // Never in place of a fence: what this starts runs at once.
    await this.#virsh.withFile(definition, async (path) => await this.#act(['create', '--file', path], what))
  }

  async define(definition: string, options: Readonly<{ name: string; autostart: boolean }>): Promise<void> {
    const { name, autostart } = options
    await this.#inPlaceOfFence(uuidOf(definition), async () => {
      await this.#virsh.withFile(definition, async (path) => {
        const words = ['define', '--file', path]
        const { errors } = await this.#virsh.batch(
          [words, ['autostart', '--domain', name, ...(autostart ? [] : ['--disable'])]],
          ACT_TIMEOUT_MS,
        )
        if (errors !== '') throw this.#virsh.failure(`${name} was not defined`, errors, words)
      })
    })
  }

  async undefine(guest: string): Promise<void> {
    const domain = await this.#address(guest)
    const { outputs } = await this.#virsh.batch(
      [
        ['list', '--all', '--persistent', '--uuid', '--name'],
        ['dumpxml', '--domain', domain, '--inactive'],
        ['version', '--daemon'],
      ],
      ASK_TIMEOUT_MS,
    )
    const [persistent = '', xml = '', version = ''] = outputs
    const isThere = parseNames(persistent).some(({ name, uuid }) => name === domain || uuid === domain)
    if (!isThere) return
    const keep = [
      ...(/<nvram\b/.test(xml) ? ['--keep-nvram'] : []),
      ...(/<tpm\b/.test(xml) && keepsTpm(version) ? ['--keep-tpm'] : []),
    ]
    await this.#act(['undefine', '--domain', domain, ...keep], `the definition of ${guest} was not removed`)
  }

  async fence(guest: Guest, id: string): Promise<Fence> {
    return await fenceGuest(this.#virsh, guest, id)
  }

  async unfence(fence: Fence): Promise<void> {
    await unfenceGuest(this.#virsh, fence)
  }

  async fences(): ReturnType<Driver['fences']> {
    return await fencesHere(this.#virsh)
  }

  words(action: Parameters<Driver['words']>[0], guest: string): readonly (readonly string[])[] {
    return commandsOf(action, guest).map((words) => virshArgv(this.#virsh.uri, words))
  }

  async #act(words: VirshWords, what: string): Promise<void> {
    await this.#virsh.act(words, ACT_TIMEOUT_MS, what)
  }

  /**
   * What virsh takes for that guest and no other. It takes a number for the id of a running guest before it looks for a
   * name, so a guest that is called by a number is addressed by its UUID.
   */
  async #address(guest: string): Promise<string> {
    if (!/^\d+$/.test(guest)) return guest
    // No name of a guest has a slash: libvirt will say that it does not know it.
    return (await names(this.#virsh)).find(({ name }) => name === guest)?.uuid ?? `no-guest/${guest}`
  }
}

function uuidOf(definition: string): string | null {
  return textOf(descend(rootOf(parseDomain(definition)), 'uuid'))
}

function keepsTpm(said: string): boolean {
  const [, ...numbers] = /^Running against daemon: (\d+)\.(\d+)\.(\d+)/m.exec(said) ?? []
  for (const [index, least] of KEEP_TPM_VERSION.entries()) {
    const difference = Number(numbers[index] ?? 0) - least
    if (difference !== 0) return difference > 0
  }
  return true
}

/** The commands of an action for a plan: names for files that are made when it runs are in angle brackets. */
function commandsOf(action: Parameters<Driver['words']>[0], guest: string): VirshWords[] {
  switch (action) {
    case 'save':
      return [saveWords(guest, '<state>')]
    case 'restorePaused':
      return [['restore', '--file', '<state>', '--xml', '<definition>', '--paused']]
    case 'resume':
      return [['resume', '--domain', guest]]
    case 'shutdown':
      return [['shutdown', '--domain', guest, '--mode', 'acpi']]
    case 'start':
      return [['start', '--domain', guest]]
    case 'define':
      return [
        ['define', '--file', '<definition>'],
        ['autostart', '--domain', guest],
      ]
    case 'undefine':
      return [['undefine', '--domain', guest]]
    case 'fence':
      return [
        ['attach-disk', '--domain', guest, '--config', ...barrierWords('<id>')],
        ['domrename', '--domain', guest, '--new-name', `${guest}.moved-<id>`],
        ['autostart', '--domain', `${guest}.moved-<id>`, '--disable'],
      ]
    case 'live':
      return [
        liveWords(
          { guest, destinationUri: '<uri>', copied: ['<disks>'], bandwidthBytes: null },
          '<definition>',
          null,
        ),
      ]
    default:
      return action satisfies never
  }
}
