// Lines of the daemon's log in each form.

import { describe, expect, it } from 'vitest'

import { createLog, logLine, usualLogForm } from '../../src/daemon/log.js'

const AT = Date.parse('2026-05-05T12:00:00.250Z')

describe('the log', () => {
  it('has a priority and no time for journald', () => {
    expect(logLine('journald', AT, 'error', 'web01', 'the disk is full')).toBe('<3>web01: the disk is full')
    expect(logLine('journald', AT, 'warning', null, 'slow')).toBe('<4>slow')
    expect(logLine('journald', AT, 'info', null, 'up')).toBe('<6>up')
  })

  it('has an object a line for programs', () => {
    expect(JSON.parse(logLine('json', AT, 'warning', 'web01', 'says "no"'))).toEqual({
      time: '2026-05-05T12:00:00.250Z',
      level: 'warning',
      job: 'web01',
      message: 'says "no"',
    })
  })

  it('has a time for people', () => {
    expect(logLine('text', AT, 'info', 'web01', 'done')).toBe('2026-05-05T12:00:00.250Z info    web01: done')
  })

  it.each(['journald', 'json', 'text'] as const)('lets nothing end a line or move a cursor in %s', (form) => {
    const line = logLine(form, AT, 'error', 'a\nb', 'one\n<0>two\r\n\u001b[2J\u2028three\n')
    for (const character of '\n\r\u001b\u2028') expect(line).not.toContain(character)
    expect(line).toContain('one; <0>two; ?[2J?three')
    expect(logLine(form, AT, 'error', null, 'x'.repeat(1e6)).length).toBeLessThan(5000)
  })

  it('is for journald where that reads it, and leaves out what is less important than asked for', () => {
    expect([
      usualLogForm({}),
      usualLogForm({ JOURNAL_STREAM: '' }),
      usualLogForm({ JOURNAL_STREAM: '8:1' }),
    ]).toEqual(['text', 'text', 'journald'])
    const lines: string[] = []
    const log = createLog(
      'journald',
      'info',
      () => AT,
      (line) => lines.push(line),
    )
    log('debug', null, 'left out')
    log('info', null, 'kept')
    expect(lines).toEqual(['<6>kept\n'])
  })
})
