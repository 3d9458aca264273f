// The text of one YAML 1.2 file in, plain values with the place of each out. Refuses what the format forbids, what most
// readers of YAML take in different ways (keys twice, tags, merge keys), and aliases and nesting without end.

import { isAlias, isMap, isScalar, isSeq, LineCounter } from 'yaml'
import type { Document, ParsedNode, YAMLError } from 'yaml'

import { printable } from '../printable.js'
import type { Place } from './config.js'
import type { Problem } from './problems.js'
import { parseYaml, TooDeep } from './yaml-parse.js'

/** A configuration is four levels deep; programs that walk through it are not made for thousands. */
const MAX_DEPTH = 32
/** Also those that aliases repeat. A job has some twenty. */
const MAX_VALUES = 100_000
/** What a file that is no YAML at all would tell in thousands of lines. */
const MAX_PROBLEMS = 20

export type Path = readonly (string | number)[]

/** `key`: where the name of the value stands; `value`: where the value does. */
export type At = 'key' | 'value'

export class YamlFile {
  readonly file: string
  /** Objects, lists, texts, true, false, null, and whole numbers; numbers of any other form are texts. */
  readonly value: unknown
  /** What was wrong with the file itself; then there is no value. */
  readonly problems: readonly Problem[]
  readonly #lines = new LineCounter()
  readonly #offsets = new Map<string, Readonly<{ key: number; value: number }>>()
  readonly #anchors = new Map<string, ParsedNode>()
  /** Nodes that are being walked: an alias to one of them has no end. */
  readonly #open = new Set<unknown>()
  readonly #found: Problem[] = []
  #values = 0

  constructor(file: string, text: string) {
    this.file = file
    const document = this.#parse(text)
    const value = this.#plain(document?.contents ?? null, '', 0)
    this.problems = this.#found
    this.value = this.#found.length > 0 ? null : value
  }

  /** Where it stands, or, where it does not, the nearest that it would be in. */
  placeOf(path: Path, at: At): Place {
    for (let length = path.length; length > 0; length -= 1) {
      const offsets = this.#offsets.get(keyOf(path.slice(0, length)))
      // of what is missing, the name of that in which it is missing is the place
      if (offsets !== undefined) return this.#placeAt(length === path.length ? offsets[at] : offsets.key)
    }
    return { file: this.file, line: 1, column: 1 }
  }

  #parse(text: string): Document.Parsed | null {
    try {
      const { document, secondAt } = parseYaml(text, this.#lines)
      if (secondAt !== null)
        this.#add(secondAt, 'a second document begins here, and a file of configuration is one')
      if (document === null) return null
      const { explicit, version } = document.directives.yaml
      if (explicit === true && version !== '1.2')
        this.#add(0, `this is said to be YAML ${version}, and 1.2 is read here`)
      for (const problem of [...document.errors, ...document.warnings].slice(0, MAX_PROBLEMS))
        this.#add(problem.pos[0], yamlText(problem))
      return this.#found.length > 0 ? null : document
    } catch (thrown) {
      if (!(thrown instanceof TooDeep)) throw thrown
      this.#add(thrown.offset, thrown.message)
      return null
    }
  }

  #plain(node: ParsedNode | null, at: string, depth: number): unknown {
    this.#values += 1
    if (this.#values > MAX_VALUES || depth > MAX_DEPTH) {
      const what =
        depth > MAX_DEPTH
          ? `more than ${MAX_DEPTH} levels deep`
          : `more than ${MAX_VALUES} values, with its aliases`
      this.#stop(node, `this is ${what}`)
      return null
    }
    if (node === null) return null
    if (isAlias(node)) return this.#aliased(node.source, node.range[0], at, depth)
    if (node.tag !== undefined) this.#add(node.range[0], TAG_TEXT)
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node)
    if (isScalar(node)) return scalarOf(node)
    this.#open.add(node)
    const value = isSeq(node)
      ? node.items.map((item, index) => this.#entry(item, item, within(at, index), depth))
      : isMap(node)
        ? this.#object(node.items, at, depth)
        : null
    this.#open.delete(node)
    return value
  }

  #object(
    items: readonly Readonly<{ key: ParsedNode; value: ParsedNode | null }>[],
    at: string,
    depth: number,
  ): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    for (const { key, value } of items) {
      const name = isScalar(key) && typeof key.value === 'string' ? key.value : ''
      if (name === '') this.#add(key.range[0], 'a key is a plain word')
      else if (name === '__proto__') this.#add(key.range[0], '__proto__ is no name')
      else if (name === '<<')
        this.#add(
          key.range[0],
          'merge keys (<<) are not part of YAML 1.2; what jobs share belongs into defaults',
        )
      else if (Object.hasOwn(object, name)) this.#add(key.range[0], `${shown(name)} is here twice`)
      else object[name] = this.#entry(key, value, within(at, name), depth)
    }
    return object
  }

  #entry(key: ParsedNode, value: ParsedNode | null, at: string, depth: number): unknown {
    const keyOffset = key.range[0]
    // one that is empty has its place behind the key, maybe lines later
    const isEmpty = value === null || (isScalar(value) && value.source === '')
    this.#offsets.set(at, { key: keyOffset, value: isEmpty ? keyOffset : value.range[0] })
    return this.#plain(value, at, depth + 1)
  }

  #aliased(name: string, offset: number, at: string, depth: number): unknown {
    const target = this.#anchors.get(name)
    if (target === undefined || this.#open.has(target)) {
      this.#add(
        offset,
        target === undefined ? `there is no &${shown(name)} before this` : `*${shown(name)} is in itself`,
      )
      return null
    }
    return this.#plain(target, at, depth + 1)
  }

  /** The same may be found by each alias to it. */
  #stop(node: ParsedNode | null, text: string): void {
    if (this.#found.length === 0) this.#add(node?.range[0] ?? 0, text)
  }

  #add(offset: number, text: string): void {
    if (this.#found.length < MAX_PROBLEMS) this.#found.push({ place: this.#placeAt(offset), text })
  }

  #placeAt(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset)
    return { file: this.file, line: Math.max(1, line), column: Math.max(1, col) }
  }
}

/** `jobs.web01.disks[0].source`, for people. */
export function pathName(path: Path): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : (index === 0 ? '' : '.') + shown(part)))
    .join('')
}

/**
 * What a plain word is in the core schema of YAML 1.2, but that a number is only what people write as one: of 0x10, 1e3, .inf
 * and 1.5 the text is what was meant, or is refused. What stands in quotes is text.
 */
function scalarOf({ value, type }: Readonly<{ value: unknown; type?: string }>): unknown {
  const text = String(value)
  if (type !== 'PLAIN') return text
  switch (text) {
    case '':
    case '~':
    case 'null':
    case 'Null':
    case 'NULL':
      return null
    case 'true':
    case 'True':
    case 'TRUE':
      return true
    case 'false':
    case 'False':
    case 'FALSE':
      return false
    default:
      return /^-?[0-9]{1,15}$/.test(text) ? Number(text) : text
  }
}

const TAG_TEXT = 'a tag (!) means nothing here'

function yamlText({ code, message }: YAMLError): string {
  switch (code) {
    case 'TAB_AS_INDENT':
      return 'a tab: YAML is indented with spaces'
    case 'TAG_RESOLVE_FAILED':
      return TAG_TEXT
    default:
      return `this is no YAML: ${shown(message.split('\n')[0] ?? '', 120)}`
  }
}

function keyOf(path: Path): string {
  return path.reduce<string>(within, '')
}

/** Numbers are those of lists, and cannot be taken for a key of that name. */
function within(at: string, part: string | number): string {
  return typeof part === 'number' ? `${at}\n#${part}` : `${at}\n${JSON.stringify(part)}`
}

/** Enough to find it, and always on one line. */
function shown(text: string, length = 40): string {
  return printable(text.length <= length ? text : `${text.slice(0, length)}...`)
}
