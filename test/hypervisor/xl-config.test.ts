// Configurations of xl: what is read from them, what an edit leaves alone, and which are refused with what reason.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { MAX_CONFIG_BYTES, quoted, XlConfig, xlLine } from '../../src/hypervisor/xl-config.js'
import { HVM, PROGRAMS, PV, PVH, XM } from './xen-fixtures.js'

const texts = (config: XlConfig, key: string): readonly string[] => config.list(key).map(({ text }) => text)

/** A text of an object that is compared. */
const like: unknown = expect.stringMatching(/xl create -n/)

describe('reading a configuration', () => {
  it('knows strings with both quotes and escapes, numbers, lists over lines, comments', () => {
    const config = XlConfig.parse(PV, 'web.cfg')
    expect(config.string('name')).toBe('web')
    expect(config.number('memory')).toBe(96)
    expect(config.string('extra')).toBe(`console=hvc0 root=/dev/xvda1 motd='it''s "quoted"'`)
    expect(texts(config, 'disk')).toEqual([
      'phy:/dev/vg0/web-root,xvda,w',
      'format=raw, vdev=xvdb, access=rw, target=/srv/xen/web data,1.img',
      ',,hdc:cdrom,r',
    ])
    expect(texts(config, 'vif')).toEqual(['mac=00:16:3e:11:22:33,bridge=xenbr0', ''])
    expect(config.string('on_crash')).toBe('destroy')
    expect(config.string('on_reboot')).toBe('restart')
    expect(config.has('uuid')).toBe(false)
    expect(config.string('disk')).toBeNull()
  })

  it.each([PVH, HVM, XM])('knows the other kinds too (%#)', (text) => {
    const config = XlConfig.parse(text, 'x.cfg')
    expect(config.string('name')).toMatch(/^(pod|win|old)$/)
    expect(config.number('memory')).toBeGreaterThan(100)
    expect(texts(config, 'disk').length).toBeGreaterThan(0)
  })

  it('takes the last of several, and goes on with +=', () => {
    const config = XlConfig.parse(
      `name="a"\nname="b"\ndisk=["1"]\ndisk += [ "2",\n ]\nextra="x"\nextra+=" y"\n`,
      'x',
    )
    expect(config.string('name')).toBe('b')
    expect(texts(config, 'disk')).toEqual(['1', '2'])
    expect(config.string('extra')).toBe('x y')
    expect(texts(XlConfig.parse('disk=["1"]\ndisk=["2"]', 'x'), 'disk')).toEqual(['2'])
  })

  it('knows nested lists, hexadecimal numbers, empty lists, a comment at the end without a line end', () => {
    const config = XlConfig.parse(`a = [ [ "x", 1 ], 'y' ]\nb = 0x1f\nc = []\nd = [\n\n]\n# end`, 'x')
    expect(texts(config, 'a')).toEqual(['y'])
    expect(config.number('b')).toBe(31)
    expect(texts(config, 'c')).toEqual([])
    expect(texts(config, 'd')).toEqual([])
  })

  it.each(PROGRAMS)('refuses %j', (text, reason) => {
    expect(() => XlConfig.parse(text, 'x.cfg')).toThrow(reason)
    expect(() => XlConfig.parse(text, 'x.cfg')).toThrow(
      expect.objectContaining({
        code: 'migrate/hypervisor',
        operand: 'x.cfg',
        hint: like,
      }),
    )
  })

  it('refuses what is far too long or too deep', () => {
    expect(() => XlConfig.parse(' '.repeat(MAX_CONFIG_BYTES + 1), 'x')).toThrow(/has more than/)
    expect(() => XlConfig.parse(`a = ${'['.repeat(9)}${']'.repeat(9)}`, 'x')).toThrow(
      /lists more than 8 deep/,
    )
  })
})

describe('editing a configuration', () => {
  /** A text that xl reads, beside the strings that are in its list `disk`. */
  const blanks = fc.constantFrom('', ' ', '\t', '  ')
  const gaps = fc.constantFrom('', ' ', '\n', '  # a comment, with "quotes]\n', '\n\n\t')
  const plain = fc.string({ unit: fc.constantFrom(...Array.from('abz09/,=:.-_ #[]\'"\\;é')), maxLength: 20 })
  const quotedText = fc.tuple(plain, fc.constantFrom("'" as const, '"' as const))
  const line = fc.oneof(
    fc
      .tuple(
        fc
          .stringMatching(/^[e-z][_0-9a-z]{0,8}$/)
          .filter((key) => !/^(for|if|else|elif|from|import|print|try|while|with|exec|vif)$/.test(key)),
        blanks,
        quotedText,
      )
      .map(([key, blank, [text, quote]]) => `${blank}${key}${blank}=${blank}${quoted(text, quote)}`),
    fc.constantFrom('', '# only a comment', 'memory = 512 ; vcpus=2', '\t'),
  )
  const config = fc
    .record({
      before: fc.array(line, { maxLength: 4 }),
      disks: fc.array(fc.record({ said: quotedText, gap: gaps, after: gaps }), {
        minLength: 1,
        maxLength: 4,
      }),
      last: fc.constantFrom('', ','),
      after: fc.array(line, { maxLength: 4 }),
    })
    .map(({ before, disks, last, after }) => {
      const items = disks.map(({ said: [text, quote], gap, after: behind }) => ({
        text,
        written: quoted(text, quote),
        gap,
        behind,
      }))
      const list = items.map(({ gap, written, behind }) => `${gap}${written}${behind}`).join(',')
      return { text: [...before, `disk = [${list}${last} ]`, ...after].join('\n'), items }
    })

  it('without edits gives every byte back, and finds what is in it', () => {
    fc.assert(
      fc.property(config, ({ text, items }) => {
        const parsed = XlConfig.parse(text, 'x')
        expect(parsed.edit([])).toBe(text)
        expect(texts(parsed, 'disk')).toEqual(items.map((item) => item.text))
        expect(parsed.edit(parsed.list('disk').map((at) => ({ at, text: at.text })))).toBe(text)
      }),
    )
  })

  it('changes the one place, and what is read there is what was written', () => {
    fc.assert(
      fc.property(config, fc.nat(), plain, ({ text, items }, pick, replacement) => {
        const parsed = XlConfig.parse(text, 'x')
        const index = pick % items.length
        const at = parsed.list('disk')[index]
        if (at === undefined) throw new Error('not found')
        const edited = parsed.edit([{ at, text: replacement }])
        expect(edited.startsWith(text.slice(0, at.start))).toBe(true)
        expect(edited.endsWith(text.slice(at.end))).toBe(true)
        const expected = items.map((item, each) => (each === index ? replacement : item.text))
        expect(texts(XlConfig.parse(edited, 'x'), 'disk')).toEqual(expected)
      }),
    )
  })

  it('writes a number where one was, a string where there is more, and no control characters', () => {
    const parsed = XlConfig.parse('memory = 5 # MiB\n', 'x')
    const at = parsed.list('memory')[0]
    if (at === undefined) throw new Error('not found')
    expect(parsed.edit([{ at, text: '6' }])).toBe('memory = 6 # MiB\n')
    expect(parsed.edit([{ at, text: 'a "b"' }])).toBe('memory = "a \\"b\\"" # MiB\n')
    expect(xlLine('uuid', 'a')).toBe('uuid = "a"\n')
    expect(() => xlLine('name', 'a\nb')).toThrow(expect.objectContaining({ code: 'migrate/hypervisor' }))
    expect(() =>
      parsed.edit([
        { at, text: '6' },
        { at, text: '7' },
      ]),
    ).toThrow(RangeError)
  })
})
