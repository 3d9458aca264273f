// Everything that a host says about a Xen guest comes together here: what runs, its file, the defaults of xl. Rejects for a
// guest that is neither running nor defined, with the names there are.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { Guest, GuestDisk, GuestProblem, GuestState } from './driver.js'
import { readXlConf, savedByXendomains } from './xen-check.js'
import {
  AUTO_DIRECTORY,
  definitionPath,
  type XenDefinitions,
  type XenFile,
  type XenFiles,
} from './xen-definitions.js'
import {
  absolutePath,
  differencesOf,
  disksOf,
  guestDisk,
  machineOf,
  memoryBytesOf,
  nicsOf,
  pinned,
  problemsOf,
  sourceOf,
  vcpusOf,
} from './xen-guest.js'
import { configOfLive } from './xen-live-config.js'
import { asArray, asObject, type LiveGuest, type XenDomain, type XenInfo } from './xen-output.js'
import type { Xl } from './xen-xl.js'
import { XlConfig } from './xl-config.js'

const QEMU_IMG_TIMEOUT_MS = 60_000
/** Names that a hint lists. */
const MAX_NAMES = 20
const ALL_MODES = ['warm', 'cold', 'live'] as const

/** Driver.describe. */
export async function describeXenGuest(
  asked: string,
  host: Host,
  xl: Xl,
  definitions: XenDefinitions,
): Promise<Guest> {
  const [domains, found, conf] = await Promise.all([xl.domains(), definitions.read(), readXlConf(host)])
  const domain =
    domains.find(({ name }) => name === asked) ??
    domains.find(({ uuid }) => uuid === asked.toLowerCase()) ??
    null
  const file = fileOf(domain?.name ?? asked, found, domain === null ? asked.toLowerCase() : null)
  if (domain === null && file === null) throw unknownGuest(asked, host, domains, found)
  const [live, info] = domain === null ? [null, null] : await Promise.all([liveOf(domain, xl), xl.info()])
  const name = domain?.name ?? file?.name ?? asked
  const common = [...leftovers(name, domain, domains, found), ...(await savedProblem(name, host))]
  const refusal = file === null ? null : refusalOf(file)
  if (file !== null && refusal !== null) return unreadable(file, refusal, domain, live, common)
  const told = file === null && live !== null ? configOfLive(live) : null
  const config = file?.config ?? XlConfig.parse(told?.text ?? '', name)
  const disks = await Promise.all(disksOf(config).map(async ({ disk }) => await lookAtDisk(disk, host)))
  const problems = [
    ...common,
    ...problemsOf(config),
    ...disks.flatMap(({ problem }) => problem ?? []),
    ...(file !== null && live !== null ? differencesOf(config, live, file.path) : []),
    ...(told === null || told.unknown.length === 0 ? [] : [untold(name, told.unknown)]),
  ]
  return {
    name,
    uuid: domain?.uuid ?? config.string('uuid') ?? '',
    state: domain?.state ?? 'off',
    isPersistent: file !== null,
    autostart: file !== null && found.links.some(({ realPath }) => realPath === file.path),
    memoryBytes: live === null ? memoryBytesOf(config) : live.targetMemoryKib * 1024,
    vcpus: vcpusOf(config),
    machine: live?.type ?? machineOf(config),
    disks: disks.map(({ disk }) => disk),
    nics: nicsOf(config, conf.bridge),
    files: [],
    definition: live === null || file === null ? config.text : pinned(config, live),
    persistentDefinition: file?.text ?? null,
    definitionPath: file?.path ?? null,
    problems,
    ...(info === null ? {} : platformOf(info)),
  }
}

/** Driver.list. */
export async function listXenGuests(
  xl: Xl,
  definitions: XenDefinitions,
): Promise<readonly Readonly<{ name: string; uuid: string; state: GuestState; disks: readonly string[] }>[]> {
  const [domains, live, { files }] = await Promise.all([xl.domains(), xl.live(), definitions.read()])
  const running = domains.map(({ name, uuid, state, id }) => ({
    name,
    uuid,
    state,
    disks: (live.find((each) => each.id === id)?.disks ?? []).flatMap(({ path }) =>
      path.startsWith('/') ? [path] : [],
    ),
  }))
  const names = new Set(running.map(({ name }) => name))
  const off = files.filter(({ name }) => !names.has(name))
  return [
    ...running,
    ...off.map(({ name, uuid, config }) => ({
      name,
      uuid,
      state: 'off' as const,
      disks: config === null ? [] : pathsOf(config),
    })),
  ]
}

function pathsOf(config: XlConfig): readonly string[] {
  try {
    return disksOf(config).flatMap(({ disk }) => absolutePath(disk) ?? [])
  } catch (thrown) {
    // a disk that was not understood is told where that guest is described
    if (thrown instanceof SyncError) return []
    throw thrown
  }
}

/** /etc/xen/NAME.cfg where it is there, else the first file that names it. */
function fileOf(name: string, { files }: XenFiles, uuid: string | null): XenFile | null {
  const mine = files.filter((file) => file.name === name || (uuid !== null && file.uuid === uuid))
  return mine.find(({ path }) => path.endsWith(`/${name}.cfg`)) ?? mine[0] ?? null
}

/** Why a file says nothing of a guest: xl does not read it, or a disk of it was not understood. */
function refusalOf({ config, refusal }: XenFile): SyncError | null {
  if (config === null) return refusal
  try {
    disksOf(config)
    return null
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
}

async function liveOf(domain: XenDomain, xl: Xl): Promise<LiveGuest | null> {
  return (await xl.live()).find(({ id }) => id === domain.id) ?? null
}

function platformOf({ version, cpuFeatures }: XenInfo): Pick<Guest, 'platform'> {
  return { platform: { version, cpuFeatures } }
}

async function lookAtDisk(
  disk: ReturnType<typeof disksOf>[number]['disk'],
  host: Host,
): Promise<Readonly<{ disk: GuestDisk; problem: GuestProblem | null }>> {
  const path = absolutePath(disk)
  const facts = path === null ? null : await host.look(path)
  const source = sourceOf(disk, () => (facts === null ? null : facts.kind === 'block'))
  const plain = guestDisk(disk, source, [])
  if (source.kind !== 'file' || disk.format === 'raw') return { disk: plain, problem: null }
  if (disk.format !== 'qcow2')
    return {
      disk: plain,
      problem: formatProblem(disk.vdev, `is of the format ${disk.format}, which may need other files`),
    }
  const result = await host.run({
    argv: ['qemu-img', 'info', '-U', '--backing-chain', '--output=json', '--', source.path],
    timeoutMs: QEMU_IMG_TIMEOUT_MS,
  })
  const backing = result.exitStatus === 0 ? backingOf(result.stdout) : null
  if (backing !== null) return { disk: guestDisk(disk, source, backing), problem: null }
  return {
    disk: plain,
    problem: formatProblem(
      disk.vdev,
      `is a qcow2 image, and qemu-img could not tell whether it needs others: ${printable(result.stderrTail).slice(-200)}`,
    ),
  }
}

function formatProblem(target: string, text: string): GuestProblem {
  return {
    code: 'format',
    text: `its disk ${target} ${text}`,
    hint: 'Install qemu-utils there; or make the disk a raw one: qemu-img convert -O raw.',
    modes: ALL_MODES,
  }
}

/** The files below the first one, nearest first, of `qemu-img info --backing-chain`; null where it is not that. */
function backingOf(text: string): readonly string[] | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null
    throw thrown
  }
  const names = asArray(parsed).map((each) => asObject(each)['filename'])
  if (names.length === 0 || !names.every((name) => typeof name === 'string')) return null
  return names.slice(1)
}

/** What other programs left of a guest of this name, and files that contradict each other. */
function leftovers(
  name: string,
  domain: XenDomain | null,
  domains: readonly XenDomain[],
  { files }: XenFiles,
): readonly GuestProblem[] {
  const problems: GuestProblem[] = []
  for (const other of domains)
    if (
      other.name === `${name}--incoming` ||
      other.name === `${name}--migratedaway` ||
      other.name === `migrating-${name}`
    )
      problems.push({
        code: 'leftover',
        text: `a migration with xl is under way, or left ${printable(other.name)} behind`,
        hint: `Wait for it; or if it is a leftover: xl destroy ${other.id}`,
        modes: ALL_MODES,
      })
  if (domain?.state === 'saving')
    problems.push({
      code: 'saving',
      text: 'it is suspended: a save is under way, or was killed',
      hint: `Wait for it; if nothing saves it (ps -C xl), only a new start helps: xl destroy ${domain.id}`,
      modes: ALL_MODES,
    })
  const mine = files.filter((file) => file.name === name)
  if (mine.length > 1)
    problems.push({
      code: 'two-definitions',
      text: `it has more than one definition: ${printable(mine.map(({ path }) => path).join(', '))}`,
      hint: 'Keep one of them in /etc/xen; name the others without .cfg.',
      modes: ALL_MODES,
    })
  try {
    definitionPath(name)
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    problems.push({ code: 'name', text: thrown.message, hint: thrown.hint ?? '', modes: ALL_MODES })
  }
  return problems
}

async function savedProblem(name: string, host: Host): Promise<readonly GuestProblem[]> {
  const path = savedByXendomains(name)
  if (name.includes('/') || (await host.look(path)) === null) return []
  return [
    {
      code: 'managed-save',
      text: `xendomains saved it to ${printable(path)}, and would restore that at the next start of the host`,
      hint: `Restore it (xl restore ${path}), or remove that file.`,
      modes: ALL_MODES,
    },
  ]
}

function untold(name: string, unknown: readonly string[]): GuestProblem {
  return {
    code: 'definition',
    text: `it has no file in /etc/xen, and what runs has parts that are not known here: ${printable(unknown.join(', '))}`,
    hint: `Write its configuration to /etc/xen/${printable(name)}.cfg.`,
    modes: ALL_MODES,
  }
}

/** A guest with a file that xl does not read: nothing is known of it but what runs. */
function unreadable(
  file: XenFile,
  refusal: SyncError,
  domain: XenDomain | null,
  live: LiveGuest | null,
  problems: readonly GuestProblem[],
): Guest {
  return {
    name: domain?.name ?? file.name,
    uuid: domain?.uuid ?? '',
    state: domain?.state ?? 'off',
    isPersistent: true,
    autostart: file.path.startsWith(`${AUTO_DIRECTORY}/`),
    memoryBytes: (live?.targetMemoryKib ?? 0) * 1024,
    vcpus: live?.maxVcpus ?? 1,
    machine: live?.type ?? 'pv',
    disks: [],
    nics: [],
    files: [],
    definition: file.text,
    persistentDefinition: file.text,
    definitionPath: file.path,
    problems: [
      ...problems,
      { code: 'definition', text: refusal.message, hint: refusal.hint ?? '', modes: ALL_MODES },
    ],
  }
}

function unknownGuest(
  asked: string,
  host: Host,
  domains: readonly XenDomain[],
  { files }: XenFiles,
): SyncError {
  const names = Array.from(
    new Set([...domains.map(({ name }) => name), ...files.map(({ name }) => name)]),
  ).toSorted()
  const shown = printable(names.slice(0, MAX_NAMES).join(', '))
  return new SyncError('migrate/guest', `there is no guest ${printable(asked)} on ${host.name}`, {
    operand: printable(asked),
    hint:
      names.length === 0
        ? 'No guest runs there, and none is defined in /etc/xen.'
        : `There are: ${shown}${names.length > MAX_NAMES ? '...' : ''}`,
  })
}
