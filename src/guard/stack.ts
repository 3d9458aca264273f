// What a disk is made of and what is made of it: its partitions, the mapped and RAID devices and loop devices on them, the
// file behind it. Each is a place where somebody may use the disk's content. Bounded; names only what /sys tells.

import { basename, dirname } from 'node:path'
import { realpath } from 'node:fs/promises'

import type { BigIntStats } from 'node:fs'

import {
  absentAsNull,
  deviceKey,
  nodeKey,
  parseDevice,
  readNames,
  readText,
  statOrNull,
} from '../endpoint/sysfs.js'
import type { DeviceNumber } from '../endpoint/sysfs.js'
import { printable } from '../printable.js'
import type { Survey } from './survey.js'

/** A volume on RAID on partitions on a loop device over a file...: deeper ones are not built. */
const MAX_DEPTH = 8
/** A disk with more partitions and volumes than this is refused by the first of them. */
const MAX_PLACES = 512

/** One place. `says` leads from the disk to it: 'its partition sda1 is held by dm-0 (vg-root), '; empty for the disk. */
export type Place = Readonly<{
  says: string
  /** See nodeKey: 'block:8:1' or 'file:DEV:INO'. */
  key: string
  /** The kernel's name of a device, such as sda1. */
  name: string | null
  /** How it got here; `disk` is the disk itself, `part` a partition of it, `whole` what it is a partition of. */
  kind: 'disk' | 'part' | 'whole' | 'backing' | 'holder' | 'loop'
  /** The place it stands on, or is a partition of; null for the disk and what is below it. */
  on: Place | null
  depth: number
}>

/** The disk and all places above and below it, the disk first. */
export async function stackOf(facts: BigIntStats, survey: Survey): Promise<Place[]> {
  const stack = new Stack(survey)
  await stack.addDisk(facts)
  return stack.places
}

class Stack {
  readonly places: Place[] = []
  readonly #survey: Survey
  readonly #seen = new Set<string>()

  constructor(survey: Survey) {
    this.#survey = survey
  }

  async addDisk(facts: BigIntStats): Promise<void> {
    const key = nodeKey(facts)
    if (!facts.isBlockDevice()) {
      await this.#add({ says: '', key, name: null, kind: 'disk', on: null, depth: 0 })
      return
    }
    const directory = this.#directory(key)
    const name = await this.#nameOf(directory)
    await this.#add({ says: '', key, name, kind: 'disk', on: null, depth: 0 })
    if ((await readText(`${directory}/partition`)) !== null) await this.#addWhole(directory)
    await this.#addBacking(directory, 1)
  }

  /** A place, and what stands on it. */
  async #add(place: Place): Promise<void> {
    if (this.#seen.has(place.key) || place.depth > MAX_DEPTH || this.places.length === MAX_PLACES) return
    this.#seen.add(place.key)
    this.places.push(place)
    const depth = place.depth + 1
    if (place.name !== null) {
      const directory = this.#directory(place.key)
      for (const name of await readNames(directory)) {
        if ((await readText(`${directory}/${name}/partition`)) === null) continue
        const device = parseDevice(await readText(`${directory}/${name}/dev`))
        const says = `${place.says}its partition ${printable(name)} is `
        if (device !== null)
          await this.#add({
            says,
            key: blockKey(device),
            name,
            kind: place.kind === 'disk' ? 'part' : place.kind,
            on: place,
            depth,
          })
      }
      for (const name of await readNames(`${directory}/holders`)) await this.#addHolder(place, name, depth)
    }
    for (const { name, backingKey } of await this.#survey.loopDevices()) {
      const device = backingKey === place.key ? await this.#deviceOf(name) : null
      const says = `${place.says}${place.key.startsWith('file:') ? 'the file' : 'the device'} behind /dev/${name}, `
      if (device !== null)
        await this.#add({ says, key: blockKey(device), name, kind: 'loop', on: place, depth })
    }
  }

  async #addHolder(on: Place, name: string, depth: number): Promise<void> {
    const device = await this.#deviceOf(name)
    if (device === null) return
    const mapped = await readText(`${this.#survey.roots.sys}/class/block/${name}/dm/name`)
    const shown = printable(mapped === null ? name : `${name} (${mapped})`)
    await this.#add({
      says: `${on.says}held by ${shown}, `,
      key: blockKey(device),
      name,
      kind: 'holder',
      on,
      depth,
    })
  }

  /** The disk that this is a partition of: not its other partitions. */
  async #addWhole(directory: string): Promise<void> {
    const real = await absentAsNull(realpath(directory))
    const device = parseDevice(await readText(`${directory}/../dev`))
    if (real === null || device === null) return
    const name = basename(dirname(real))
    const key = blockKey(device)
    this.#seen.add(key)
    const says = `a part of ${printable(name)}, which is `
    const whole: Place = { says, key, name, kind: 'whole', on: null, depth: 1 }
    this.places.push(whole)
    for (const holder of await readNames(`${this.#directory(key)}/holders`))
      await this.#addHolder(whole, holder, 2)
    await this.#addBacking(this.#directory(key), 1)
  }

  /** The file behind a loop device: others may use it by its name, or by another loop device. */
  async #addBacking(directory: string, depth: number): Promise<void> {
    const path = await readText(`${directory}/loop/backing_file`)
    const facts = path === null ? null : await statOrNull(path)
    if (path === null || facts === null) return
    const key = nodeKey(facts)
    const name = facts.isBlockDevice() ? await this.#nameOf(this.#directory(key)) : null
    await this.#add({
      says: `over ${printable(path)}, which is `,
      key,
      name,
      kind: 'backing',
      on: null,
      depth,
    })
  }

  async #deviceOf(name: string): Promise<DeviceNumber | null> {
    return parseDevice(await readText(`${this.#survey.roots.sys}/class/block/${name}/dev`))
  }

  async #nameOf(directory: string): Promise<string> {
    return basename((await absentAsNull(realpath(directory))) ?? directory)
  }

  #directory(key: string): string {
    return `${this.#survey.roots.sys}/dev/block/${key.slice('block:'.length)}`
  }
}

function blockKey(device: DeviceNumber): string {
  return `block:${deviceKey(device)}`
}
