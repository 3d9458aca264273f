// The files that define Xen guests pass through here: found below /etc/xen and in /etc/xen/auto, written, taken away, fenced by
// another name. Refuses to write over the file of another guest.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { Fence, Guest } from './driver.js'
import { MAX_CONFIG_BYTES, XlConfig } from './xl-config.js'

export const XEN_DIRECTORY = '/etc/xen'
export const AUTO_DIRECTORY = '/etc/xen/auto'
const CONFIG_MODE = 0o644
/** A listing, a link, a sync of small files. */
const PROGRAM_TIMEOUT_MS = 60_000
/** More files than a host has guests; what is beyond is not looked at, so it is refused. */
const MAX_FILES = 1024
const MARKER = /^blocksync-moved-([A-Za-z0-9._-]{1,128})\.json$/
/** What a fence keeps, by what it is: renamed definitions, and links that were removed. */
const RENAMED = 'renamed:'
const UNLINKED = 'unlinked:'

/** A file that defines a guest; `config` is null where xl cannot read it, and `refusal` says why. */
export type XenFile = Readonly<
  {
    path: string
    text: string
    name: string
    uuid: string
  } & ({ config: XlConfig; refusal: null } | { config: null; refusal: SyncError })
>

export type XenFiles = Readonly<{
  files: readonly XenFile[]
  /** Entries of /etc/xen/auto: where each leads to, and null for one that leads nowhere. */
  links: readonly Readonly<{ path: string; realPath: string | null }>[]
}>

export class XenDefinitions {
  readonly #host: Host

  constructor(host: Host) {
    this.#host = host
  }

  /** Every definition that is there: files named *.cfg in /etc/xen, and what /etc/xen/auto leads to. */
  async read(): Promise<XenFiles> {
    const [names, autoNames] = await Promise.all([this.#names(XEN_DIRECTORY), this.#names(AUTO_DIRECTORY)])
    const links = await Promise.all(
      autoNames.map(async (name) => {
        const path = posix.join(AUTO_DIRECTORY, name)
        const facts = await this.#host.look(path)
        return { path, realPath: facts === null || facts.kind !== 'file' ? null : facts.realPath }
      }),
    )
    const paths = new Set(
      names.filter((name) => name.endsWith('.cfg')).map((name) => posix.join(XEN_DIRECTORY, name)),
    )
    for (const { realPath } of links) if (realPath !== null) paths.add(realPath)
    const files = await Promise.all(
      Array.from(paths)
        .toSorted()
        .map((path) => this.#file(path)),
    )
    return { files: files.filter((file) => file !== null), links }
  }

  /**
   * Makes /etc/xen/NAME.cfg of it, takes fences of the same guest away, and sets or removes the link in /etc/xen/auto.
   * Rejects with migrate/hypervisor where the file is another guest's.
   */
  async define(definition: string, name: string, autostart: boolean): Promise<string> {
    const path = definitionPath(name)
    const config = XlConfig.parse(definition, path)
    const there = await this.#file(path)
    if (there !== null && there.name !== name)
      throw new SyncError(
        'migrate/hypervisor',
        `${path} on ${this.#host.name} defines another guest (${printable(there.name)}); it was not replaced`,
        {
          operand: path,
          hint: `Rename that file first: mv ${path} ${XEN_DIRECTORY}/${there.name}.cfg`,
        },
      )
    await this.#host.writeText(path, definition, { mode: CONFIG_MODE, existing: 'replace' })
    await this.#forget(name, config.string('uuid') ?? '')
    const { links } = await this.read()
    const mine = links.filter((link) => link.realPath === path)
    if (autostart && mine.length === 0)
      await this.#link(path, posix.join(AUTO_DIRECTORY, posix.basename(path)))
    if (!autostart) for (const link of mine) await this.#host.remove(link.path)
    return path
  }

  /** Takes away every file that defines it, and the links to those. */
  async undefine(name: string): Promise<void> {
    const { files, links } = await this.read()
    for (const file of files.filter((each) => each.name === name)) {
      // the link first: without it the file alone starts nothing
      for (const link of links.filter((each) => each.realPath === file.path))
        if (link.path !== file.path) await this.#host.remove(link.path)
      await this.#host.remove(file.path)
    }
  }

  /**
   * Renames every file that defines the guest to PATH.moved-ID and removes what leads to it in /etc/xen/auto. What is about to
   * be done is written down first, so the same again goes on where it was left.
   */
  async fence(guest: Guest, id: string): Promise<Fence> {
    const marker = markerPath(id)
    const begun = await this.#readMarker(marker)
    const fence = begun ?? (await this.#planFence(guest, id))
    const changes = changesOf(fence)
    if (changes.renamed.length === 0 && changes.unlinked.length === 0) return fence
    if (begun === null)
      await this.#host.writeText(marker, `${JSON.stringify(fence)}\n`, {
        mode: CONFIG_MODE,
        existing: 'refuse',
      })
    for (const { from } of changes.unlinked) await this.#host.remove(from)
    for (const { from, to } of changes.renamed)
      if ((await this.#host.look(from)) !== null) await this.#host.rename(from, to)
    return fence
  }

  async unfence(fence: Fence): Promise<void> {
    const { renamed, unlinked } = changesOf(fence)
    // The renamed file is what is the matter; where it is away already, its old name is there.
    for (const { from, to } of renamed)
      if ((await this.#host.look(to)) !== null) await this.#host.rename(to, from)
    for (const { from, to } of unlinked) await this.#link(to, from)
    await this.#host.remove(markerPath(fence.id))
  }

  async fences(): Promise<readonly Fence[]> {
    const ids = (await this.#names(XEN_DIRECTORY)).flatMap((name) => MARKER.exec(name)?.[1] ?? [])
    const fences = await Promise.all(ids.map((id) => this.#readMarker(markerPath(id))))
    return fences.filter((fence) => fence !== null)
  }

  async #planFence(guest: Guest, id: string): Promise<Fence> {
    const { files, links } = await this.read()
    const mine = files.filter((file) => file.name === guest.name)
    const kept: Record<string, string> = {}
    for (const { path } of mine) kept[`${RENAMED}${path}`] = movedPath(path, id)
    const paths = new Set(mine.map((file) => file.path))
    for (const { path, realPath } of links)
      if (realPath !== null && paths.has(realPath) && path !== realPath) kept[`${UNLINKED}${path}`] = realPath
    const renamedTo = mine[0] === undefined ? null : movedPath(mine[0].path, id)
    return { id, guest: guest.name, uuid: guest.uuid, renamedTo, autostart: guest.autostart, kept }
  }

  /** Fences of a guest that came back: its old definitions are of no use any more. */
  async #forget(name: string, uuid: string): Promise<void> {
    for (const fence of await this.fences()) {
      if (fence.guest !== name && (uuid === '' || fence.uuid !== uuid)) continue
      for (const { to } of changesOf(fence).renamed) await this.#host.remove(to)
      await this.#host.remove(markerPath(fence.id))
    }
  }

  async #readMarker(path: string): Promise<Fence | null> {
    const text = await this.#host.readText(path, MAX_CONFIG_BYTES)
    if (text === null) return null
    const fence = parseFence(text)
    if (fence !== null) return fence
    throw new SyncError(
      'migrate/hypervisor',
      `${path} on ${this.#host.name} is no note of a guest that moved away`,
      {
        operand: path,
        hint: `Look at it, and remove it if it is of no use: rm ${path}`,
      },
    )
  }

  /** Null where nothing is there. A file that cannot be read as a text is no reason not to know the others. */
  async #file(path: string): Promise<XenFile | null> {
    const fallback = posix.basename(path).replace(/\.cfg$/, '')
    let text: string | null = ''
    try {
      text = await this.#host.readText(path, MAX_CONFIG_BYTES)
      if (text === null) return null
      const config = XlConfig.parse(text, path)
      return {
        path,
        text,
        config,
        refusal: null,
        name: config.string('name') ?? fallback,
        uuid: config.string('uuid') ?? '',
      }
    } catch (thrown) {
      if (!(thrown instanceof SyncError) || thrown.code === 'host/lost') throw thrown
      return { path, text: text ?? '', config: null, refusal: thrown, name: fallback, uuid: '' }
    }
  }

  /** The names in a directory, none where it is not there. */
  async #names(directory: string): Promise<readonly string[]> {
    if ((await this.#host.look(directory)) === null) return []
    const { exitStatus, stdout, stderrTail } = await this.#host.run({
      argv: ['ls', '-1A', directory],
      timeoutMs: PROGRAM_TIMEOUT_MS,
    })
    const names = stdout.split('\n').filter((name) => name !== '')
    if (exitStatus === 0 && names.length <= MAX_FILES) return names
    const why = exitStatus === 0 ? `more than ${MAX_FILES} files are in it` : printable(stderrTail)
    throw new SyncError(
      'migrate/hypervisor',
      `${directory} on ${this.#host.name} could not be listed: ${why}`,
      {
        operand: directory,
        hint: `Try it there by hand: ls -1A ${directory}`,
      },
    )
  }

  async #link(target: string, path: string): Promise<void> {
    await this.#host.makeDirectories(posix.dirname(path))
    const requests = [
      ['ln', '-sfn', target, path],
      ['sync', posix.dirname(path)],
    ] as const
    for (const argv of requests) {
      const { exitStatus, stderrTail } = await this.#host.run({ argv, timeoutMs: PROGRAM_TIMEOUT_MS })
      if (exitStatus !== 0)
        throw new SyncError(
          'migrate/hypervisor',
          `${path} on ${this.#host.name} could not be made: ${printable(stderrTail)}`,
          {
            operand: path,
            hint: `Try it there by hand: ${argv.join(' ')}`,
          },
        )
    }
  }
}

/** Where the definition of a guest is written. Throws migrate/hypervisor for a name that is no file name. */
export function definitionPath(name: string): string {
  if (/^[^/.][^/]{0,200}$/.test(name) && name === printable(name))
    return posix.join(XEN_DIRECTORY, `${name}.cfg`)
  throw new SyncError(
    'migrate/hypervisor',
    `the guest's name ${printable(name)} is no file name below ${XEN_DIRECTORY}`,
    {
      operand: printable(name),
      hint: 'Rename it first (xl rename, and name= in its configuration).',
    },
  )
}

/** Every file in /etc/xen/auto is started at boot, whatever its name: one that is there itself has to leave it. */
function movedPath(path: string, id: string): string {
  const directory = posix.dirname(path) === AUTO_DIRECTORY ? XEN_DIRECTORY : posix.dirname(path)
  return posix.join(directory, `${posix.basename(path)}.moved-${id}`)
}

function markerPath(id: string): string {
  return posix.join(XEN_DIRECTORY, `blocksync-moved-${id}.json`)
}

type Change = Readonly<{ from: string; to: string }>

function changesOf({ kept }: Fence): Readonly<{ renamed: readonly Change[]; unlinked: readonly Change[] }> {
  const of = (kind: string): readonly Change[] =>
    Object.entries(kept).flatMap(([key, to]) =>
      key.startsWith(kind) ? [{ from: key.slice(kind.length), to }] : [],
    )
  return { renamed: of(RENAMED), unlinked: of(UNLINKED) }
}

function parseFence(text: string): Fence | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null
    throw thrown
  }
  if (typeof value !== 'object' || value === null) return null
  const { id, guest, uuid, renamedTo, autostart, kept } = Object.fromEntries(
    Object.entries(value),
  ) as Partial<Record<keyof Fence, unknown>>
  if (
    typeof id !== 'string' ||
    typeof guest !== 'string' ||
    typeof uuid !== 'string' ||
    typeof autostart !== 'boolean'
  )
    return null
  if ((typeof renamedTo !== 'string' && renamedTo !== null) || typeof kept !== 'object' || kept === null)
    return null
  const entries = Object.entries(kept).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  )
  return { id, guest, uuid, renamedTo, autostart, kept: Object.fromEntries(entries) }
}
