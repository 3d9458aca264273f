// Asks libvirt about its guests: one call of virsh for all that it knows of one. Refuses a guest that is not there, with the
// names of those that are.

import type { Document } from '@xmldom/xmldom'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import {
  attributeOf,
  descend,
  movedMark,
  normalizeDomain,
  parseDomain,
  rootOf,
  textOf,
} from './domain-xml.js'
import type { Driver, Guest, GuestDisk, GuestFile, GuestProblem, GuestState } from './driver.js'
import {
  disksOf,
  emulatedTpm,
  machineOf,
  memoryBytesOf,
  nicsOf,
  nvramPath,
  problemsOf,
  stateOf,
  targetsWithUnknownChain,
  tpmPath,
  vcpusOf,
} from './libvirt-guest.js'
import { ASK_TIMEOUT_MS, type Virsh } from './virsh.js'

/** Guests that one call asks for: each takes 80 bytes of its argument, and some 10 KiB of its output. */
const GUESTS_A_CALL = 200
/** More names than this are no help to anybody. */
const MAX_HINTED_NAMES = 10

/** See Driver.state. */
export async function stateIn(virsh: Virsh, domain: string): Promise<GuestState> {
  const { stdout } = await virsh.run(['domstats', '--state', '--raw', '--domain', domain], ASK_TIMEOUT_MS)
  const state = parseStates(stdout)[0]?.state
  if (state !== undefined) return state
  // What failed says nothing: whether it is there does.
  const there = await names(virsh)
  if (!there.some(({ name, uuid }) => name === domain || uuid === domain)) return 'absent'
  throw new SyncError('migrate/hypervisor', `libvirt does not say the state of ${printable(domain)}`, {
    operand: virsh.host.name,
    hint: `Ask there: virsh -c ${virsh.uri} domstats --state`,
  })
}

function parseStates(text: string): { name: string; state: GuestState }[] {
  const found = text.matchAll(/^Domain: '(.*)'\n\s*state\.state=(\d+)\n\s*state\.reason=(\d+)/gm)
  return Array.from(found, ([, name = '', state, reason]) => ({
    name,
    state: stateOf(Number(state), Number(reason)),
  }))
}

/** Every guest there is, by both of its names. */
export async function names(virsh: Virsh): Promise<{ uuid: string; name: string }[]> {
  const words = ['list', '--all', '--uuid', '--name']
  return parseNames(await virsh.act(words, ASK_TIMEOUT_MS, 'the guests cannot be listed'))
}

/** Lines of `virsh list --uuid --name`; a name may have blanks. */
export function parseNames(text: string): { uuid: string; name: string }[] {
  const lines = text.matchAll(/^\s*([0-9a-f]{8}-[0-9a-f-]{27}) +(.+?)\s*$/gm)
  return Array.from(lines, ([, uuid = '', name = '']) => ({ uuid, name }))
}

/** See Driver.list. */
export async function listGuests(virsh: Virsh): ReturnType<Driver['list']> {
  const all = await names(virsh)
  const states = parseStates(
    all.length === 0 ? '' : (await virsh.run(['domstats', '--state', '--raw'], ASK_TIMEOUT_MS)).stdout,
  )
  const listed: { name: string; uuid: string; state: GuestState; disks: string[] }[] = []
  for (let from = 0; from < all.length; from += GUESTS_A_CALL) {
    const some = all.slice(from, from + GUESTS_A_CALL)
    const { outputs } = await virsh.batch(
      some.map(({ uuid }) => ['dumpxml', '--domain', uuid]),
      ASK_TIMEOUT_MS,
    )
    for (const [index, { name, uuid }] of some.entries()) {
      const xml = outputs[index]?.trim() ?? ''
      // It went away between the two questions.
      if (xml === '') continue
      const disks = disksOf(parseDomain(xml)).flatMap(({ source }) => ('path' in source ? [source.path] : []))
      const state = states.find((each) => each.name === name)?.state ?? 'absent'
      listed.push({ name, uuid, state, disks: disks.filter((path) => path !== '') })
    }
  }
  return listed
}

/** See Driver.describe. */
export async function describeGuest(virsh: Virsh, domain: string): Promise<Guest> {
  const of = ['--domain', domain]
  const lists = ['--persistent', '--autostart', '--with-managed-save']
  const { outputs, errors } = await virsh.batch(
    [
      ['dumpxml', ...of, '--security-info'],
      ['dumpxml', ...of, '--security-info', '--migratable'],
      ['dumpxml', ...of, '--security-info', '--inactive'],
      ['domstats', '--state', '--raw', ...of],
      ['snapshot-list', ...of, '--name'],
      ['checkpoint-list', ...of, '--name'],
      ...lists.map((filter) => ['list', '--all', '--uuid', filter]),
    ],
    ASK_TIMEOUT_MS,
  )
  const [xml, migratable, inactive, stats, snapshots, checkpoints, ...found] = outputs.map((each) =>
    each.trim(),
  )
  if (xml === undefined || xml === '') throw await notThere(virsh, domain, errors)
  const document = parseDomain(xml)
  const root = rootOf(document)
  const uuid = textOf(descend(root, 'uuid')) ?? ''
  const [isPersistent = false, autostart = false, hasSavedMemory = false] = found.map((list) =>
    list.includes(uuid),
  )
  const state = parseStates(stats ?? '')[0]?.state ?? 'absent'
  const isInMemory = state !== 'off' && state !== 'crashed' && state !== 'absent'
  // Not every libvirt driver has that form.
  const running = migratable === undefined || migratable === '' ? xml : migratable
  const { disks, problems } = await withPaths(virsh, document)
  const tpm = await tpmFile(virsh, document)
  const hostCpu = await hostCpuOf(virsh, document)
  const nvram = nvramPath(document)
  return {
    name: textOf(descend(root, 'name')) ?? '',
    uuid,
    state,
    isPersistent,
    autostart,
    memoryBytes: memoryBytesOf(document),
    vcpus: vcpusOf(document),
    machine: machineOf(document),
    disks,
    nics: nicsOf(document),
    files: [...(nvram === null ? [] : [{ kind: 'nvram' as const, path: nvram }]), ...tpm.files],
    definition: normalizeDomain(isInMemory ? running : (inactive ?? xml)),
    persistentDefinition: isPersistent ? normalizeDomain(inactive ?? xml) : null,
    definitionPath: null,
    problems: [
      ...movedProblems(inactive ?? ''),
      ...problemsOf(document),
      ...problems,
      ...tpm.problems,
      ...stateProblems(stats ?? '', hasSavedMemory),
      ...bookProblems(lines(snapshots), lines(checkpoints)),
    ],
    ...(hostCpu === null ? {} : { hostCpu }),
  }
}

/** What Guest.hostCpu says; null for a guest with a processor of its own. */
async function hostCpuOf(virsh: Virsh, document: Document): Promise<string | null> {
  if (attributeOf(descend(rootOf(document), 'cpu'), 'mode') !== 'host-passthrough') return null
  const { exitStatus, stdout } = await virsh.run(['capabilities'], ASK_TIMEOUT_MS)
  // Without it the two are not compared.
  return exitStatus === 0 ? (/<host>[\s\S]*?(<cpu>[\s\S]*?<\/cpu>)/.exec(stdout)?.[1] ?? null) : null
}

async function notThere(virsh: Virsh, domain: string, errors: string): Promise<SyncError> {
  const all = await names(virsh)
  if (all.some(({ name, uuid }) => name === domain || uuid === domain))
    return virsh.failure(`${domain} cannot be read`, errors, ['dumpxml', '--domain', domain])
  const shown = all.slice(0, MAX_HINTED_NAMES).map(({ name }) => printable(name))
  const more = all.length > shown.length ? ` and ${all.length - shown.length} more` : ''
  return new SyncError('migrate/guest', `there is no guest ${printable(domain)} on ${virsh.host.name}`, {
    operand: domain,
    hint:
      all.length === 0
        ? `libvirt has no guests there at ${virsh.uri}.`
        : `These are there: ${shown.join(', ')}${more}.`,
  })
}

function lines(text: string | undefined): string[] {
  return (text ?? '').split('\n').filter((line) => line.trim() !== '')
}

function movedProblems(inactive: string): GuestProblem[] {
  const mark = inactive === '' ? null : movedMark(inactive)
  if (mark === null) return []
  const id = printable(mark.id)
  return [
    {
      code: 'moved',
      text: `it moved away from here with migration ${id}; this is what is left of it`,
      hint: `See where it is: blocksync migrate --status. To have it back here on purpose: blocksync migrate --unfence ${id}`,
      modes: ['warm', 'cold', 'live'],
    },
  ]
}

function stateProblems(stats: string, hasSavedMemory: boolean): GuestProblem[] {
  const problems: GuestProblem[] = []
  if (/state\.state=7$/m.test(stats))
    problems.push({
      code: 'asleep',
      text: 'the guest put itself to sleep (suspend to memory), and cannot be saved like that',
      hint: 'Wake it first: virsh dompmwakeup GUEST',
      modes: ['warm', 'live', 'cold'],
    })
  if (hasSavedMemory)
    problems.push({
      code: 'managed-save',
      text: 'its memory is in a managed save of libvirt, which is not moved',
      hint: 'Start it (virsh start GUEST), or throw the saved memory away: virsh managedsave-remove GUEST',
      modes: ['warm', 'cold', 'live'],
    })
  return problems
}

function bookProblems(snapshots: readonly string[], checkpoints: readonly string[]): GuestProblem[] {
  const problems: GuestProblem[] = []
  if (snapshots.length > 0)
    problems.push({
      code: 'snapshots',
      text: `it has ${snapshots.length} snapshots, which cannot move with it`,
      hint: 'Delete them: virsh snapshot-delete GUEST NAME (with --metadata where their content has to stay)',
      modes: ['warm', 'cold', 'live'],
    })
  if (checkpoints.length > 0)
    problems.push({
      code: 'checkpoints',
      text: `it has ${checkpoints.length} checkpoints: libvirt on the other host will not know them, and the next backup is a full one`,
      hint: 'Delete them (virsh checkpoint-delete GUEST NAME) if nothing needs them.',
      modes: [],
    })
  return problems
}

type Paths = Readonly<{ disks: GuestDisk[]; problems: GuestProblem[] }>

/** The disks with what the definition leaves open: paths of volumes, and chains of images that nobody opened yet. */
async function withPaths(virsh: Virsh, document: Document): Promise<Paths> {
  const disks = await withVolumes(virsh, disksOf(document))
  const unknown = targetsWithUnknownChain(document)
  const problems: GuestProblem[] = []
  const complete = await Promise.all(
    disks.map(async (disk) => {
      const path = 'path' in disk.source ? disk.source.path : ''
      if (path === '' || !unknown.includes(disk.target)) return disk
      const backing = await chainOf(virsh, path, disk.format)
      if (backing !== null) return { ...disk, backing }
      problems.push({
        code: 'backing-unknown',
        text: `whether ${printable(path)} rests on another image could not be found out`,
        hint: `Look there with: qemu-img info --backing-chain ${printable(path)} (package qemu-utils)`,
        modes: ['warm', 'cold', 'live'],
      })
      return disk
    }),
  )
  return { disks: complete, problems }
}

async function withVolumes(virsh: Virsh, disks: readonly GuestDisk[]): Promise<GuestDisk[]> {
  const volumes = disks.flatMap(({ source }) => (source.kind === 'volume' ? [source] : []))
  if (volumes.length === 0) return [...disks]
  const { outputs } = await virsh.batch(
    volumes.map(({ pool, volume }) => ['vol-path', '--pool', pool, '--vol', volume]),
    ASK_TIMEOUT_MS,
  )
  const paths = new Map(volumes.map((source, index) => [source, outputs[index]?.trim() ?? '']))
  return disks.map((disk) =>
    disk.source.kind === 'volume'
      ? { ...disk, source: { ...disk.source, path: paths.get(disk.source) ?? '' } }
      : disk,
  )
}

/** Backing files of an image, nearest first; null where nobody can tell. `-U`: a guest may have it open. */
async function chainOf(virsh: Virsh, path: string, format: string): Promise<string[] | null> {
  const { exitStatus, stdout } = await virsh.host.run({
    // As an option and not behind --: a path may begin with anything but is absolute.
    argv: ['qemu-img', 'info', '--backing-chain', '--output=json', '-U', '-f', format, path],
    timeoutMs: ASK_TIMEOUT_MS,
  })
  if (exitStatus !== 0) return null
  try {
    const chain: unknown = JSON.parse(stdout)
    if (!Array.isArray(chain)) return null
    return chain.slice(1).map((image: unknown) => {
      const name: unknown =
        typeof image === 'object' && image !== null && 'filename' in image ? image.filename : null
      return typeof name === 'string' ? name : '?'
    })
  } catch {
    // Another version prints something else: then it is not known.
    return null
  }
}

async function tpmFile(
  virsh: Virsh,
  document: Document,
): Promise<{ files: GuestFile[]; problems: GuestProblem[] }> {
  const path = tpmPath(document)
  if (path === null || emulatedTpm(document) === null) return { files: [], problems: [] }
  if ((await virsh.host.look(path)) !== null) return { files: [{ kind: 'tpm', path }], problems: [] }
  return {
    files: [],
    problems: [
      {
        code: 'tpm-state',
        text: `the state of its TPM is not at ${printable(path)}`,
        hint: 'A guest that was never started has none yet: start it once. Else look where swtpm keeps it.',
        modes: ['warm', 'cold', 'live'],
      },
    ],
  }
}
