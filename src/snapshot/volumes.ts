// Volumes of LVM and snapshots of them: what lvs says of a host goes in, lvcreate and lvremove go out. Both kinds of volumes
// pass here (lvm.ts, lvm-thin.ts). Refuses disks that are no volume, and removes only what has the name of the job.

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host } from '../host/host.js'
import { isObject } from '../json.js'
import { all, alsoSaying, lastWords, NOT_FOUND, runFor, snapshotFailure } from './failures.js'
import { isOfJob, snapshotName } from './names.js'
import type { Cut, CutDisk, CutRequest, SnapshotMethod } from './snapshot.js'

/** A volume as lvs reports it. */
export type Volume = Readonly<{
  group: string
  name: string
  /** MAJOR:MINOR of the active device; null where it is not active. */
  device: string | null
  /** 'linear', 'thin', 'sparse'..., as lvm(8) has them. */
  layout: readonly string[]
  sizeBytes: number
  /** The volume that it is a snapshot of, in the same group; '' for others. */
  origin: string
  /** Of a thin volume; '' for others. */
  pool: string
  /** Of a thick snapshot: it ran full, and its content is gone. Null where that says nothing. */
  isInvalid: boolean | null
  /** How full a snapshot, a pool or a thin volume is; null where that says nothing. */
  dataPercent: number | null
  /** '' is well; else 'failed', 'out_of_data', 'partial'... */
  health: string
  groupFreeBytes: number
}>

/** What thick and thin snapshots differ in. */
export type VolumeKind = Readonly<{
  kind: 'lvm' | 'lvm-thin'
  /** Why no snapshot of this kind can be made of a volume, and what to write instead; null where one can. */
  refusal: (volume: Volume) => Readonly<{ why: string; hint: string }> | null
  lvcreateWords: (volume: Volume) => readonly string[]
  /** What to do when no snapshot has room, and when one was spoilt. */
  roomHint: string
  spoiltHint: string
  /** Why what was read of a snapshot may not be what it was; null where it is. */
  spoiltBy: (snapshot: Volume) => string | null
}>

/** LVM keeps its lists under a lock, and asks udev to be done: a busy host takes its time. */
const LVM_TIMEOUT_MS = 120_000
const FIELDS = [
  'vg_name',
  'lv_name',
  'lv_kernel_major',
  'lv_kernel_minor',
  'lv_layout',
  'lv_size',
  'origin',
  'pool_lv',
  'lv_snapshot_invalid',
  'data_percent',
  'lv_health_status',
  'vg_free',
] as const
const LVS: Argv = [
  'lvs',
  '--reportformat',
  'json',
  '--units',
  'b',
  '--nosuffix',
  '--binary',
  '--options',
  FIELDS.join(),
]

export class VolumeSnapshots implements SnapshotMethod {
  readonly kind: VolumeKind['kind']
  readonly #of: VolumeKind

  constructor(of: VolumeKind) {
    this.kind = of.kind
    this.#of = of
  }

  async cut(host: Host, request: CutRequest): Promise<Cut> {
    const volumes = await listVolumes(host, request)
    const origins: Volume[] = []
    for (const disk of request.disks) origins.push(await this.#originOf(disk, host, volumes))
    const takenAtMs = (await host.facts()).nowMs
    const begun = performance.now()
    const tried: string[] = []
    try {
      for (const [index, origin] of origins.entries()) {
        const name = snapshotName(request, index)
        // also one that fails may leave something: a program that was killed for its time does
        tried.push(`${origin.group}/${name}`)
        await this.#create(host, request.disks[index] ?? '', origin, name)
      }
    } catch (error) {
      await removeAll(host, request, tried).catch((left: unknown) => {
        throw alsoSaying(error, left)
      })
      throw error
    }
    const spreadMs = origins.length === 1 ? 0 : Math.ceil(performance.now() - begun)
    const disks = origins.map(({ group }, index): CutDisk => {
      return { original: request.disks[index] ?? '', path: `/dev/${group}/${snapshotName(request, index)}` }
    })
    const kind = disks.length === 1 ? 'one-instant' : 'near'
    return { kind, takenAtMs, spreadMs, quiesced: 'no', disks, warnings: [] }
  }

  async check(host: Host, request: CutRequest, cut: Cut): Promise<void> {
    const volumes = await listVolumes(host, request)
    for (const { original, path } of cut.disks) {
      const snapshot = volumes.find((volume) => `/dev/${nameOf(volume)}` === path)
      if (snapshot === undefined)
        throw snapshotFailure(
          `the snapshot ${path} of ${original} on ${host.name} is gone; what was read of it is not used`,
          original,
          'Did somebody remove it? The next attempt takes a new one.',
        )
      const why = this.#of.spoiltBy(snapshot)
      if (why !== null)
        throw snapshotFailure(
          `the snapshot ${path} of ${original} on ${host.name} ${why}; what was read of it is not used`,
          original,
          this.#of.spoiltHint,
        )
    }
  }

  async remove(host: Host, request: CutRequest, { disks }: Cut): Promise<void> {
    const names = disks.map(({ path }) => path.replace(/^\/dev\//, ''))
    const other = names.find((name) => !isOfJob(name.split('/')[1] ?? '', request))
    // nothing is removed by a path alone: it might be the disk's
    if (other !== undefined) throw new TypeError(`${other} is no snapshot of the job ${request.job}`)
    await removeAll(host, request, names)
  }

  async removeOrphans(host: Host, request: CutRequest): Promise<readonly string[]> {
    const volumes = await listVolumes(host, request)
    const origins = new Set<string>()
    for (const disk of request.disks) {
      const origin = await volumeAt(disk, host, volumes)
      if (origin !== null) origins.add(nameOf(origin))
    }
    const orphans = volumes
      .filter(({ name, group, origin }) => isOfJob(name, request) && origins.has(`${group}/${origin}`))
      .map(nameOf)
    await all(orphans.map((name) => () => removeVolume(host, request, name)))
    return orphans
  }

  async #originOf(disk: string, host: Host, volumes: readonly Volume[]): Promise<Volume> {
    const origin = await volumeAt(disk, host, volumes)
    if (origin === null) {
      const isThere = (await host.look(disk)) !== null
      throw snapshotFailure(
        isThere
          ? `${disk} on ${host.name} is no volume of LVM; no snapshot was taken`
          : `nothing is at ${disk} on ${host.name}; no snapshot was taken`,
        disk,
        isThere
          ? 'For an image file write: snapshot: reflink'
          : 'Is the volume active? lvs shows all there are.',
      )
    }
    const refused = this.#of.refusal(origin)
    if (refused !== null)
      throw snapshotFailure(
        `${disk} on ${host.name} ${refused.why}; no snapshot was taken`,
        disk,
        refused.hint,
      )
    return origin
  }

  async #create(host: Host, disk: string, origin: Volume, name: string): Promise<void> {
    const words = ['--snapshot', '--permission', 'r', '--name', name, ...this.#of.lvcreateWords(origin)]
    const argv: Argv = ['lvcreate', '--yes', ...words, nameOf(origin)]
    const result = await runFor(disk, host, { argv, timeoutMs: LVM_TIMEOUT_MS })
    if (result.exitStatus === 0) return
    const why = lastWords(result, 'lvcreate')
    const isFull = /insufficient free space|insufficient suitable|free extents/i.test(result.stderrTail)
    const free = isFull ? await freeBytesOf(host, origin.group, disk) : null
    throw snapshotFailure(
      free === null
        ? `no snapshot of ${disk} could be taken on ${host.name}: ${why}`
        : `the group ${origin.group} on ${host.name} has no room for a snapshot of ${disk}: ${sizeText(free)} are free`,
      disk,
      free === null ? `Try it there: ${argv.join(' ')}` : this.#of.roomHint,
    )
  }
}

function nameOf({ group, name }: Pick<Volume, 'group' | 'name'>): string {
  return `${group}/${name}`
}

/** By the number of the device: so a link, a /dev/mapper name and /dev/GROUP/VOLUME are all the same. */
async function volumeAt(disk: string, host: Host, volumes: readonly Volume[]): Promise<Volume | null> {
  const facts = await host.look(disk)
  if (facts?.kind !== 'block') return null
  return volumes.find(({ device }) => device === facts.identity) ?? null
}

/** Those that are not there any more are no failure. */
async function removeAll(host: Host, request: CutRequest, names: readonly string[]): Promise<void> {
  const there = new Set((await listVolumes(host, request)).map(nameOf))
  await all(names.filter((name) => there.has(name)).map((name) => () => removeVolume(host, request, name)))
}

async function removeVolume(host: Host, { disks, job }: CutRequest, name: string): Promise<void> {
  const argv: Argv = ['lvremove', '--yes', name]
  const operand = disks[0] ?? job
  const result = await runFor(operand, host, { argv, timeoutMs: LVM_TIMEOUT_MS })
  if (result.exitStatus === 0) return
  throw snapshotFailure(
    `the snapshot ${name} on ${host.name} could not be removed: ${lastWords(result, 'lvremove')}`,
    operand,
    `See who has it open: lsof /dev/${name}; then: ${argv.join(' ')}`,
  )
}

async function freeBytesOf(host: Host, group: string, operand: string): Promise<number | null> {
  const volumes = await listVolumes(host, { disks: [operand], job: '' })
  return volumes.find((volume) => volume.group === group)?.groupFreeBytes ?? null
}

/** All visible volumes of a host. Rejects with replicate/snapshot where LVM is not there or cannot tell. */
export async function listVolumes(
  host: Host,
  { disks, job }: Pick<CutRequest, 'disks' | 'job'>,
): Promise<readonly Volume[]> {
  const operand = disks[0] ?? job
  const result = await runFor(operand, host, { argv: LVS, timeoutMs: LVM_TIMEOUT_MS })
  if (result.exitStatus === NOT_FOUND)
    throw snapshotFailure(
      `LVM is not installed on ${host.name}; no snapshot was taken`,
      operand,
      `Install lvm2 there, or write another kind of snapshot.`,
    )
  if (result.exitStatus !== 0)
    throw snapshotFailure(
      `LVM on ${host.name} does not answer: ${lastWords(result, 'lvs')}`,
      operand,
      'Try it there: lvs',
    )
  try {
    return volumesIn(result.stdout)
  } catch (error) {
    if (error instanceof SyncError) throw error
    throw snapshotFailure(
      `lvs on ${host.name} says what cannot be read: ${String(error)}`,
      operand,
      'lvs of LVM 2.02.158 and later is known to work.',
      error,
    )
  }
}

/** `{"report":[{"lv":[{...},...]}]}` of lvmreport(7). Throws a SyntaxError for anything else. */
export function volumesIn(json: string): readonly Volume[] {
  const answer: unknown = JSON.parse(json)
  const reports: unknown = isObject(answer) ? answer['report'] : null
  if (!Array.isArray(reports)) throw new SyntaxError('no report')
  return reports.flatMap((report: unknown) => {
    const rows: unknown = isObject(report) ? report['lv'] : null
    if (!Array.isArray(rows)) throw new SyntaxError('a report without volumes')
    return rows.map(volumeIn)
  })
}

function volumeIn(row: unknown): Volume {
  const field = (name: (typeof FIELDS)[number]): string => {
    const value = isObject(row) ? row[name] : undefined
    if (typeof value !== 'string') throw new SyntaxError(`a volume without ${name}`)
    return value
  }
  const bytes = (name: 'lv_size' | 'vg_free'): number => {
    const value = Number(field(name))
    if (!Number.isSafeInteger(value) || value < 0) throw new SyntaxError(`${name} is no number of bytes`)
    return value
  }
  const [major, minor] = [Number(field('lv_kernel_major')), Number(field('lv_kernel_minor'))]
  const percent = field('data_percent')
  const invalid = field('lv_snapshot_invalid')
  return {
    group: field('vg_name'),
    name: field('lv_name'),
    // -1 is said of both where it is not active
    device: major >= 0 && minor >= 0 ? `${major}:${minor}` : null,
    layout: field('lv_layout').split(','),
    sizeBytes: bytes('lv_size'),
    origin: field('origin'),
    pool: field('pool_lv'),
    isInvalid: invalid === '' || invalid === '-1' ? null : invalid === '1',
    dataPercent: percent === '' ? null : Number(percent),
    health: field('lv_health_status'),
    groupFreeBytes: bytes('vg_free'),
  }
}

function sizeText(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`
}
