// A host on which LVM is played: lvs, lvcreate and lvremove with the words and answers of LVM 2.03.11 as they were recorded in
// the emulated machine, volumes in memory. Refuses every other program and every option that it does not know.

import type { FileFacts, ProgramRequest, ProgramResult } from '../../src/host/host.js'
import { FakeHost } from '../hypervisor/fake-host.js'

type FakeVolume = {
  layout: 'linear' | 'thin,sparse'
  sizeBytes: number
  origin: string
  pool: string
  byte: number
  isInvalid: boolean
  minor: number
}

const EXTENT_BYTES = 4 << 20
const GROUP_BYTES = 256 << 20
/** What lvs prints before and behind the volumes. */
const HEAD = '  {\n      "report": [\n          {\n              "lv": [\n'
const TAIL = '\n              ]\n          }\n      ]\n  }\n'
const FIELDS =
  'vg_name,lv_name,lv_kernel_major,lv_kernel_minor,lv_layout,lv_size,origin,pool_lv,lv_snapshot_invalid,' +
  'data_percent,lv_health_status,vg_free'

export class FakeLvm extends FakeHost {
  readonly volumes = new Map<string, FakeVolume>()
  /** Links and device-mapper names. */
  readonly links = new Map<string, string>()
  /** Programs that fail from now on with these words. */
  readonly failing = new Map<string, string>()
  /** Says that LVM is not installed. */
  isBare = false
  #minor = 0

  constructor() {
    super(() => null)
    for (const name of ['thick-one', 'thick-two']) this.#add(name, 'linear', 64 << 20, '', '')
    for (const name of ['thin-one', 'thin-two']) this.#add(name, 'thin,sparse', 64 << 20, '', 'pool')
  }

  override async run(request: ProgramRequest): Promise<ProgramResult> {
    this.ran.push(request.argv.join(' '))
    const [program, ...words] = request.argv
    if (this.isBare) return failure(127, `${program}: not found`)
    const said = this.failing.get(program)
    if (said !== undefined) return failure(5, said)
    switch (program) {
      case 'lvs':
        return await Promise.resolve(this.#lvs(words))
      case 'lvcreate':
        return await Promise.resolve(this.#lvcreate(words))
      case 'lvremove':
        return await Promise.resolve(this.#lvremove(words))
      default:
        throw new Error(`nothing was written to answer: ${request.argv.join(' ')}`)
    }
  }

  override async look(path: string): Promise<FileFacts | null> {
    const volume = this.volumes.get(this.#nameOf(path))
    if (volume === undefined && path !== '/dev/vda') return null
    const facts: FileFacts = {
      kind: 'block',
      realPath: volume === undefined ? path : `/dev/dm-${volume.minor}`,
      sizeBytes: volume?.sizeBytes ?? GROUP_BYTES,
      allocatedBytes: 0,
      identity: volume === undefined ? '254:0' : `253:${volume.minor}`,
      mode: 0o660,
      modifiedNs: '0',
      changedNs: '0',
      written: null,
      isProtected: false,
    }
    return await Promise.resolve(facts)
  }

  override async facts(): ReturnType<FakeHost['facts']> {
    return { ...(await super.facts()), nowMs: Date.now() }
  }

  volume(path: string): FakeVolume {
    const volume = this.volumes.get(this.#nameOf(path))
    if (volume === undefined) throw new Error(`no volume at ${path}`)
    return volume
  }

  lose(path: string): void {
    this.volumes.delete(this.#nameOf(path))
  }

  get freeBytes(): number {
    const thick = [...this.volumes.values()].filter(({ layout }) => layout === 'linear')
    return GROUP_BYTES - thick.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  }

  #nameOf(path: string): string {
    return (this.links.get(path) ?? path).replace(/^\/dev\/vg0\//, '')
  }

  #add(name: string, layout: FakeVolume['layout'], sizeBytes: number, origin: string, pool: string): void {
    const byte = this.volumes.get(origin)?.byte ?? 0
    this.volumes.set(name, { layout, sizeBytes, origin, pool, byte, isInvalid: false, minor: this.#minor++ })
  }

  #lvs(words: readonly string[]): ProgramResult {
    const expected = ['--reportformat', 'json', '--units', 'b', '--nosuffix', '--binary', '--options', FIELDS]
    if (words.join(' ') !== expected.join(' '))
      throw new Error(`lvs was not recorded with ${words.join(' ')}`)
    const rows = [...this.volumes].map(([name, { layout, sizeBytes, origin, pool, isInvalid, minor }]) => {
      const isThickSnapshot = origin !== '' && layout === 'linear'
      const invalid = isThickSnapshot ? (isInvalid ? '1' : '0') : '-1'
      const percent = isThickSnapshot ? (isInvalid ? '100.00' : '0.00') : pool === '' ? '' : '25.00'
      return (
        `                  {"vg_name":"vg0", "lv_name":"${name}", "lv_kernel_major":"253", "lv_kernel_minor":"${minor}", ` +
        `"lv_layout":"${layout}", "lv_size":"${sizeBytes}", "origin":"${origin}", "pool_lv":"${pool}", ` +
        `"lv_snapshot_invalid":"${invalid}", "data_percent":"${percent}", "lv_health_status":"", "vg_free":"${this.freeBytes}"}`
      )
    })
    return success(`${HEAD}${rows.join(',\n')}${TAIL}`)
  }

  #lvcreate(words: readonly string[]): ProgramResult {
    const rest = [...words]
    const take = (word: string, parameters: number): string | undefined => {
      const at = rest.indexOf(word)
      return at < 0 ? undefined : rest.splice(at, 1 + parameters).at(-1)
    }
    for (const word of ['--yes', '--snapshot'])
      if (take(word, 0) === undefined) throw new Error(`lvcreate without ${word}`)
    if (take('--permission', 1) !== 'r') throw new Error('a snapshot that can be written')
    const name = take('--name', 1) ?? ''
    const [size, extents] = [take('--size', 1), take('--extents', 1)]
    const [skip, activate] = [take('--setactivationskip', 1), take('--activate', 1)]
    const [target = '', ...unknown] = rest
    if (unknown.length > 0) throw new Error(`lvcreate was not recorded with ${unknown.join(' ')}`)
    const origin = this.volumes.get(target.replace('vg0/', ''))
    if (origin === undefined) return failure(5, `  Failed to find logical volume "${target}"`)
    if (this.volumes.has(name))
      return failure(5, `  Logical Volume "${name}" already exists in volume group "vg0"`)
    // device-mapper's own limit, with what LVM puts behind the name
    if (`vg0-${name.replaceAll('-', '--')}-real`.length > 127 || /_tdata|_tmeta|_mlog|_rimage/.test(name))
      return failure(3, `  Logical volume name "${name}" is invalid.`)
    if (size === undefined && extents === undefined) {
      if (origin.pool === '') return failure(5, '  Please specify either size or extents with snapshots.')
      if (skip !== 'n' || activate !== 'y') throw new Error('a thin snapshot that is not active')
      this.#add(name, 'thin,sparse', origin.sizeBytes, target.replace('vg0/', ''), origin.pool)
      return success(`  Logical volume "${name}" created.\n`)
    }
    const percent = Number(/^(\d+)%ORIGIN$/.exec(extents ?? '')?.[1] ?? Number.NaN)
    const asked = size === undefined ? (origin.sizeBytes * percent) / 100 : Number(/^(\d+)b$/.exec(size)?.[1])
    const count = Math.ceil(asked / EXTENT_BYTES)
    if (!Number.isInteger(count) || (size !== undefined && asked % 512 !== 0))
      throw new Error(`no size: ${size ?? extents}`)
    if (count * EXTENT_BYTES > this.freeBytes) {
      const free = this.freeBytes / EXTENT_BYTES
      return failure(
        5,
        `  Volume group "vg0" has insufficient free space (${free} extents): ${count} required.`,
      )
    }
    this.#add(name, 'linear', count * EXTENT_BYTES, target.replace('vg0/', ''), '')
    return success(`  Logical volume "${name}" created.\n`)
  }

  #lvremove(words: readonly string[]): ProgramResult {
    const [yes, target = '', ...more] = words
    if (yes !== '--yes' || more.length > 0)
      throw new Error(`lvremove was not recorded with ${words.join(' ')}`)
    const name = target.replace('vg0/', '')
    if (!this.volumes.delete(name)) return failure(5, `  Failed to find logical volume "${target}"`)
    return success(`  Logical volume "${name}" successfully removed.\n`)
  }
}

function success(stdout: string): ProgramResult {
  return { exitStatus: 0, stdout, stderrTail: '' }
}

function failure(exitStatus: number, stderr: string): ProgramResult {
  return { exitStatus, stdout: '', stderrTail: stderr.trim() }
}
