// Definitions through the editor: what was asked is changed, nothing else; hostile ones are refused.

import { describe, expect, it } from 'vitest'

import {
  markElement,
  MAX_DEFINITION_BYTES,
  movedMark,
  normalizeDomain,
  retargetDomain,
} from '../../src/hypervisor/domain-xml.js'
import type { DefinitionChanges } from '../../src/hypervisor/driver.js'
import { SyncError } from '../../src/errors.js'
import { MOVED_METADATA, ODD, plain } from './fixtures.js'

const NONE: DefinitionChanges = { disks: new Map(), networks: new Map(), files: new Map() }

/** Lines that are in one text only, with their sign. */
function difference(before: string, after: string): string[] {
  const [old, now] = [before.split('\n'), after.split('\n')]
  return [
    ...old.filter((line) => !now.includes(line)).map((line) => `-${line.trim()}`),
    ...now.filter((line) => !old.includes(line)).map((line) => `+${line.trim()}`),
  ]
}

describe('a definition', () => {
  it('comes out as it went in', () => {
    // libvirt writes entities in text that need none; ours are the same characters
    expect(normalizeDomain(ODD)).toBe(ODD)
    expect(normalizeDomain(plain())).toBe(plain())
    expect(retargetDomain(ODD, NONE)).toBe(ODD)
  })

  it('is the same when it is normalized again, whatever quotes it had', () => {
    const double = plain().replaceAll("'", '"')
    expect(normalizeDomain(double)).toBe(plain())
    const odd = `<domain a="it's" b='say "x"' c="&#10;&#9;&lt;&gt;&amp;"><t>&quot;&apos;&gt;</t><e></e></domain>`
    const once = normalizeDomain(odd)
    expect(once).toContain(`a='it&apos;s' b='say "x"'`)
    expect(once).toContain('&#10;')
    expect(normalizeDomain(once)).toBe(once)
  })
})

describe('retarget', () => {
  it('changes the path of a disk, and only that', () => {
    const disks = new Map([['vda', { kind: 'file' as const, path: "/new/it's & <b>.img" }]])
    const changed = retargetDomain(ODD, { ...NONE, disks })
    expect(difference(ODD, changed)).toEqual([
      `-<source startupPolicy='optional' file='/srv/a &amp; b.img' index='3'>`,
      `+<source startupPolicy='optional' index='3' file='/new/it&apos;s &amp; &lt;b&gt;.img'>`,
    ])
  })

  it('makes a block device of a file', () => {
    const disks = new Map([['vda', { kind: 'block' as const, path: '/dev/vg/web' }]])
    const changed = retargetDomain(plain(), { ...NONE, disks })
    expect(difference(plain(), changed)).toEqual([
      `-<disk type='file' device='disk'>`,
      `-<source file='/srv/web.img'/>`,
      `+<disk type='block' device='disk'>`,
      `+<source dev='/dev/vg/web'/>`,
    ])
  })

  it('makes a file of a network disk and of a volume, without their servers, pools and credentials', () => {
    const disks = new Map([
      ['vdc', { kind: 'file' as const, path: '/c.img' }],
      ['vdd', { kind: 'block' as const, path: '/dev/d' }],
    ])
    const changed = retargetDomain(ODD, { ...NONE, disks })
    expect(changed).toMatch(/<source file='\/c.img'>\s*<\/source>/)
    expect(changed).toContain("<source dev='/dev/d'/>")
    for (const gone of ['mon1', 'username', 'rbd', 'pool=', 'volume=']) expect(changed).not.toContain(gone)
    expect(changed.match(/type='file' device='disk'/g)).toHaveLength(2)
  })

  it('leaves a chain to the image that is moved', () => {
    const disks = new Map([['vdb', { kind: 'file' as const, path: '/b.qcow2' }]])
    const changed = retargetDomain(ODD, { ...NONE, disks })
    expect(changed).not.toContain('/srv/mid.qcow2')
    expect(changed).not.toContain('/dev/vg/base')
    // the one that says that there is none stays
    expect(changed.match(/<backingStore\/>/g)).toHaveLength(1)
  })

  it('changes networks, bridges and nvram', () => {
    const changed = retargetDomain(ODD, {
      disks: new Map(),
      networks: new Map([
        ['default', 'lan'],
        ['br0', 'br7'],
      ]),
      files: new Map([['/var/lib/libvirt/qemu/nvram/web_VARS.fd', '/n/web.fd']]),
    })
    expect(difference(ODD, changed)).toEqual([
      `-<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>`,
      `-<source network='default' portid='9c' bridge='virbr0'/>`,
      `-<source bridge='br0'/>`,
      `+<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/n/web.fd</nvram>`,
      `+<source network='lan'/>`,
      `+<source bridge='br7'/>`,
    ])
  })

  it('changes nvram that is a source of its own', () => {
    const xml = plain().replace('</type>', "</type><nvram type='file'><source file='/v.fd'/></nvram>")
    const changed = retargetDomain(xml, { ...NONE, files: new Map([['/v.fd', '/w.fd']]) })
    expect(changed).toContain("<source file='/w.fd'/>")
  })
})

describe('the mark of a fence', () => {
  it('is read from what libvirt writes', () => {
    expect(movedMark(plain({ metadata: MOVED_METADATA }))).toEqual({
      id: 'm-1',
      guest: 'web',
      autostart: true,
    })
    expect(movedMark(plain())).toBeNull()
    expect(movedMark(ODD)).toBeNull()
  })

  it('survives any name', () => {
    const mark = { id: 'm-2', guest: `a<b>&"c'`, autostart: false }
    const element = markElement(mark).replace('<moved ', '<x:moved xmlns:x="urn:blocksync:moved" ')
    expect(movedMark(plain({ metadata: `<metadata>${element}</metadata>` }))).toEqual(mark)
  })
})

describe('a definition that is none', () => {
  it.each([
    ['nothing', ''],
    ['words', 'error: no domain'],
    ['another element', '<network><name>x</name></network>'],
    ['a foreign domain', "<domain xmlns='urn:other'/>"],
    ['cut', plain().slice(0, 300)],
    ['two roots', '<domain/><domain/>'],
    ['an unknown entity', '<domain>&nope;</domain>'],
    ['a document type', '<!DOCTYPE domain><domain/>'],
    ['entities', '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><domain>&b;</domain>'],
    ['an external entity', '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><domain>&a;</domain>'],
    ['an attribute without quotes', '<domain type=kvm/>'],
    ['an attribute twice', "<domain a='1' a='2'/>"],
    ['control characters', '<domain>\u0001</domain>'],
    ['too much', `<domain>${' '.repeat(MAX_DEFINITION_BYTES)}</domain>`],
  ])('is refused: %s', (_what, xml) => {
    let thrown: unknown = null
    try {
      retargetDomain(xml, NONE)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(SyncError)
    expect((thrown as SyncError).code).toBe('migrate/hypervisor')
  })

  it('does not take long to refuse, or to take, the worst that fits', () => {
    const startedAt = performance.now()
    const deep = 100_000
    expect(
      normalizeDomain(`<domain>${'<a>'.repeat(deep)}${'</a>'.repeat(deep)}</domain>`).length,
    ).toBeGreaterThan(deep)
    expect(() => normalizeDomain(`<domain>${'<'.repeat(1_000_000)}`)).toThrow(/cannot be used/)
    expect(() => normalizeDomain(`<domain>${'<!-- '.repeat(200_000)}`)).toThrow(/cannot be used/)
    expect(performance.now() - startedAt).toBeLessThan(20_000)
  })
})
