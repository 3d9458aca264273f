// Reads every source file's first line, length and imports; refuses an import against the rule of docs/architecture.md.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

import { describe, expect, it } from 'vitest'

const SRC = join(import.meta.dirname, '..', 'src')
const MAX_LINES = 330

/** What has no concrete kind behind it: everything may use these. */
const COMMON = [
  'bond/piece',
  'errors',
  'options',
  'exec',
  'json',
  'native',
  'printable',
  'shell-word',
  'version',
  'within',
  'codec/codec',
  'digest/digester',
  'endpoint/endpoint',
  'endpoint/sysfs',
  'guard/guard-name',
  'state/fields',
  'state/record',
  'transport/transport',
]
/** What a folder may import besides COMMON and itself; cli, index and other root files compose and may import anything. */
const MAY_IMPORT: Record<string, RegExp> = {
  bond: /^$/,
  codec: /^$/,
  digest: /^$/,
  endpoint: /^$/,
  transport: /^state\/process$/,
  wire: /^$/,
  guard: /^state\//,
  state: /^endpoint\/stable$/,
  undo: /^$/,
  rate: /^$/,
  track: /^digest\/zero$/,
  sync: /^(codec|digest|endpoint|transport)\/open$|^codec\/compressor$|^digest\/(root|zero)$|^(bond|wire|guard|state|undo|rate|track)\//,
  host: /^state\/|^undo\/|^guard\/|^(endpoint|digest|transport)\/open$|^wire\/keepalive$|^sync\/(disk-root|open-disk|undo-disk)$/,
  hypervisor: /^host\/host$/,
  migrate: /^sync\/|^(host|hypervisor|endpoint|transport)\/open$|^host\/host$|^hypervisor\/driver$/,
  config: /^rate\/schedule$|^sync\/report$/,
  snapshot: /^host\/host$/,
  replicate:
    /^sync\/|^guard\/|^state\/|^undo\/|^track\/|^host\/(host|open)$|^snapshot\/(snapshot|open|quiesce)$|^config\/config$|^hypervisor\/domain-xml$|^rate\/schedule$|^(endpoint|transport)\/open$/,
  daemon: /^replicate\/|^config\/config$|^rate\/|^state\//,
}
/** Concrete kinds: only the `open` of their folder imports them. */
const KINDS =
  /^(codec\/(zstd|brotli)|digest\/(xxh3|xxh64x2|sha256)|endpoint\/(file|nbd)|transport\/(local|openssh|ssh2)|host\/remote|hypervisor\/(libvirt|xen)|snapshot\/(lvm|lvm-thin|reflink|none|command))$/

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => path.slice(0, -'.ts'.length))

/** Relative imports of one file, static and dynamic, types too, as paths from src/ without their ending. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, `${file}.ts`), 'utf8')
  const specifiers = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']*)\.js'/g)
  return Array.from(specifiers, (match) => normalize(join(dirname(file), match[1] ?? '')))
}

function isAllowed(file: string, imported: string): boolean {
  if (KINDS.test(imported) && file !== `${dirname(imported)}/open`) return false
  const allowed = MAY_IMPORT[dirname(file)]
  if (allowed === undefined || COMMON.includes(imported) || dirname(imported) === dirname(file)) return true
  return allowed.test(imported)
}

describe('the structure of src', () => {
  it('keeps the import rule', () => {
    expect(files.length).toBeGreaterThan(10)
    const pairs = files.flatMap((file) => importsOf(file).map((imported) => [file, imported] as const))
    expect(pairs.filter(([file, imported]) => !isAllowed(file, imported))).toEqual([])
    expect(pairs.map(([, imported]) => imported).filter((imported) => !files.includes(imported))).toEqual([])
  })

  it('has the cases that the rule is for', () => {
    expect(isAllowed('sync/destination', 'endpoint/file')).toBe(false)
    expect(isAllowed('wire/channel', 'sync/sync')).toBe(false)
    expect(isAllowed('endpoint/file', 'digest/plain')).toBe(false)
    expect(isAllowed('transport/ssh2', 'cli/words')).toBe(false)
    expect(isAllowed('transport/ssh2', 'transport/openssh')).toBe(false)
    expect(isAllowed('cli/sync', 'sync/sync')).toBe(true)
    expect(isAllowed('sync/sync', 'migrate/run')).toBe(false)
    expect(isAllowed('hypervisor/virsh', 'migrate/plan')).toBe(false)
    expect(isAllowed('migrate/run', 'hypervisor/libvirt')).toBe(false)
    expect(isAllowed('migrate/run', 'host/remote')).toBe(false)
    expect(isAllowed('migrate/run', 'hypervisor/driver')).toBe(true)
  })

  it.each(files)('%s opens with what passes through it and is not too long', (file) => {
    const lines = readFileSync(join(SRC, `${file}.ts`), 'utf8').split('\n')
    expect(lines[lines[0]?.startsWith('#!') ? 1 : 0]).toMatch(/^\/\/ \S/)
    expect(lines.length).toBeLessThanOrEqual(MAX_LINES)
  })
})
