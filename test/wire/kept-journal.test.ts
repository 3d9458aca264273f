// What an `opened` frame says of an undo journal: comes back, is made harmless, and is refused where it is not what it should be.

import { describe, expect, it } from 'vitest'

import { decodeJournal, journalFields } from '../../src/wire/kept-journal.js'
import { expectRefused } from './expect.js'

const JOURNAL = {
  group: '0123456789abcdef'.repeat(2),
  path: '/var/lib/blocksync/undo/x',
  freeBytes: 7,
  continues: true,
}

function sent(value: unknown): unknown {
  return (JSON.parse(JSON.stringify({ undo: value })) as { undo?: unknown }).undo
}

describe('the undo journal in an opened frame', () => {
  it('comes back, and is absent where there is none', () => {
    expect(decodeJournal((journalFields(JOURNAL) as { undo: unknown }).undo)).toEqual(JOURNAL)
    expect(journalFields(null)).toEqual({})
    expect(decodeJournal(undefined)).toBeNull()
  })

  it('shows nothing of a far host that moves the cursor', () => {
    expect(decodeJournal({ ...JOURNAL, path: '/a\u001b[2J' })?.path).not.toContain('\u001b')
  })

  it.each([
    ['a list', []],
    ['null', null],
    ['no group', { ...JOURNAL, group: undefined }],
    ['a group that is no hex', { ...JOURNAL, group: 'x'.repeat(32) }],
    ['a path that is too long', { ...JOURNAL, path: 'x'.repeat(501) }],
    ['less than nothing free', { ...JOURNAL, freeBytes: -1 }],
    ['a word for a flag', { ...JOURNAL, continues: 'yes' }],
  ])('is refused: %s', (_name, value) => {
    expectRefused('session/protocol', () => decodeJournal(sent(value)))
  })
})
