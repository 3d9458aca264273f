// A made-up host for the guards: /proc, /sys and /run as directories of files, so that there are volumes, guests and
// mounts here that the machine of the test has not got.

import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { BigIntStats } from 'node:fs'

import type { Roots } from '../../src/guard/survey.js'

export class Tree {
  readonly roots: Roots
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
    this.roots = {
      proc: join(directory, 'proc'),
      sys: join(directory, 'sys'),
      run: join(directory, 'run'),
    }
  }

  /** A file below the tree: `text('proc/swaps', ...)`. */
  async text(path: string, text: string): Promise<void> {
    const full = join(this.#directory, path)
    await mkdir(dirname(full), { recursive: true })
    await writeFile(full, text)
  }

  async link(path: string, target: string): Promise<void> {
    const full = join(this.#directory, path)
    await mkdir(dirname(full), { recursive: true })
    await symlink(target, full)
  }

  /** A whole device such as sda or dm-0, with its partitions; what stands on each is `holders`. */
  async device(name: string, number: string, details: Details = {}): Promise<void> {
    await this.#node(`sys/devices/${name}`, name, number, details)
    for (const [part, about] of Object.entries(details.parts ?? {})) {
      const directory = `sys/devices/${name}/${part}`
      await this.#node(directory, part, about.number, about)
      await this.text(`${directory}/partition`, `${/\d+$/.exec(part)?.[0] ?? '1'}\n`)
    }
  }

  async #node(directory: string, name: string, number: string, details: Details): Promise<void> {
    await this.text(`${directory}/dev`, `${number}\n`)
    for (const holder of details.holders ?? []) await this.link(`${directory}/holders/${holder}`, '..')
    if (details.mapped !== undefined) await this.text(`${directory}/dm/name`, `${details.mapped}\n`)
    if (details.backing !== undefined)
      await this.text(`${directory}/loop/backing_file`, `${details.backing}\n`)
    await this.link(`sys/dev/block/${number}`, join(this.#directory, directory))
    await this.link(`sys/class/block/${name}`, join(this.#directory, directory))
    await this.link(`sys/block/${name}`, join(this.#directory, directory))
  }

  /** A process with these words, and mounts of its own where `mounts` is given. */
  async process(pid: number, words: readonly string[], details: ProcessDetails = {}): Promise<void> {
    await this.text(`proc/${pid}/cmdline`, words.map((word) => `${word}\0`).join(''))
    await this.text(`proc/${pid}/stat`, `${pid} (a (b) c) S 1 ${'0 '.repeat(17)}6000 0`)
    if (details.mounts !== undefined) {
      await this.text(`proc/${pid}/mountinfo`, details.mounts)
      await this.link(`proc/${pid}/ns/mnt`, `mnt:[${pid}]`)
    }
    for (const [fd, { path, flags }] of Object.entries(details.open ?? {})) {
      await this.link(`proc/${pid}/fd/${fd}`, path)
      await this.text(`proc/${pid}/fdinfo/${fd}`, `pos:\t0\nflags:\t${flags}\nmnt_id:\t27\n`)
    }
  }
}

type Details = {
  holders?: string[]
  mapped?: string
  backing?: string
  parts?: Record<string, Details & { number: string }>
}

type ProcessDetails = { mounts?: string; open?: Record<string, { path: string; flags: string }> }

/** What stat would say about the block device with this number. */
export function blockFacts(major: number, minor: number): BigIntStats {
  const rdev = (BigInt(major) << 8n) | BigInt(minor)
  return { rdev, dev: 5n, ino: 1n, isBlockDevice: () => true } as BigIntStats
}

/** A row of mountinfo. */
export function mountRow(number: string, point: string, type = 'ext4', source = 'x', options = 'rw'): string {
  return `36 35 ${number} / ${point} rw,relatime shared:1 - ${type} ${source} ${options}\n`
}
