// docs/protocol.md against the program: limits, frame types, error codes. A number in prose goes stale unnoticed.

import { readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import * as digester from '../../src/digest/digester.js'
import { exitStatusOf, isErrorCode } from '../../src/errors.js'
import * as options from '../../src/options.js'
import * as root from '../../src/digest/root.js'
import * as geometry from '../../src/sync/geometry.js'
import * as channel from '../../src/wire/channel.js'
import * as differing from '../../src/wire/differing.js'
import * as frame from '../../src/wire/frame.js'
import * as handshake from '../../src/wire/handshake.js'
import * as keepalive from '../../src/wire/keepalive.js'

const TEXT = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8')
const ERRORS = readFileSync(new URL('../../src/errors.ts', import.meta.url), 'utf8')

const MODULES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'wire/frame.ts': frame,
  'wire/channel.ts': channel,
  'wire/handshake.ts': handshake,
  'wire/keepalive.ts': keepalive,
  'wire/differing.ts': differing,
  'options.ts': options,
  'digest/digester.ts': digester,
  'digest/root.ts': root,
  'sync/geometry.ts': geometry,
}

/** Rows of the tables in one section, cells without their backticks. */
function rows(section: string): string[][] {
  const from = TEXT.indexOf(`\n## ${section}\n`)
  const text = TEXT.slice(from, TEXT.indexOf('\n## ', from + 4))
  return [...text.matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) =>
    row.split(' | ').map((cell) => cell.replaceAll('`', '')),
  )
}

describe('docs/protocol.md', () => {
  it('names every limit with its value', () => {
    const limits = rows('Limits').slice(1)
    for (const [name = '', value = '', file = ''] of limits)
      expect([name, MODULES[file]?.[name]]).toEqual([name, Number(value)])
    const named = new Set(limits.map(([name]) => name))
    for (const file of ['wire/frame.ts', 'wire/channel.ts', 'wire/handshake.ts', 'wire/keepalive.ts']) {
      const constants = Object.entries(MODULES[file] ?? {}).filter(
        ([name, value]) => typeof value === 'number' && name !== 'MAX_FRAME_BYTES',
      )
      expect(constants.length).toBeGreaterThan(0)
      for (const [name] of constants) expect([name, named.has(name)]).toEqual([name, true])
    }
  })

  it('names every frame type with its number and whether it is credited', () => {
    const types = rows('Frames').filter(([type = '']) => /^\d+$/.test(type))
    const expected = Object.entries(frame.FRAME).map(([name, type]) => [
      String(type),
      name,
      frame.isCredited(type) ? 'yes' : 'no',
    ])
    expect(types.map(([type, name, , credited]) => [type, name, credited])).toEqual(expected)
  })

  it('names every error code with its exit status', () => {
    const documented = rows('Errors').slice(1)
    const codes = new Set<string>()
    for (const [cell = '', statuses = ''] of documented) {
      const listed = statuses.split(', ').map(Number)
      for (const [index, code] of cell.split(', ').entries()) {
        codes.add(code)
        expect([code, isErrorCode(code) ? exitStatusOf(code) : null]).toEqual([
          code,
          listed[listed.length === 1 ? 0 : index],
        ])
      }
    }
    const table = ERRORS.slice(
      ERRORS.indexOf('EXIT_STATUS_OF = {'),
      ERRORS.indexOf('} as const', ERRORS.indexOf('EXIT_STATUS_OF = {')),
    )
    const known = [...table.matchAll(/^ {2}'?([a-z/-]+)'?: EXIT/gm)].map(([, code = '']) => code)
    expect(known.length).toBeGreaterThan(30)
    expect(known.filter((code) => !codes.has(code))).toEqual([])
  })
})
