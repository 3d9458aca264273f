// The value of --bwlimit as text: what it means over a week, how it is written back, and each way to write it wrongly.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { bwlimitText, parseBwlimit, rateWord } from '../../src/cli/timetable.js'
import { SyncError } from '../../src/errors.js'
import { MAX_RATE_SLOTS } from '../../src/rate/schedule.js'
import type { RateSchedule } from '../../src/rate/schedule.js'

const MIB = 1 << 20

/** `Mon 08:00 20M` of every slot of the days that are named. */
function slots(schedule: RateSchedule | null, days: readonly string[]): string[] {
  const names = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
  return (schedule ?? [])
    .map(({ minuteOfWeek, bytesPerSecond }) => {
      const minute = minuteOfWeek % 1440
      const clock = [Math.floor(minute / 60), minute % 60].map((part) => String(part).padStart(2, '0'))
      return `${names[Math.floor(minuteOfWeek / 1440)]} ${clock.join(':')} ${rateWord(bytesPerSecond)}`
    })
    .filter((text) => days.includes(text.slice(0, 3)))
}

describe('parseBwlimit', () => {
  it.each<[string, RateSchedule | null]>([
    ['20M', [{ minuteOfWeek: 0, bytesPerSecond: 20 * MIB }]],
    ['10MB/s', [{ minuteOfWeek: 0, bytesPerSecond: 10_000_000 }]],
    ['0', null],
    ['off', null],
    ['08:00,off 19:00,0', null],
    ['Mon-08:00,1K', [{ minuteOfWeek: 0, bytesPerSecond: 1024 }]],
    ['08:00,1K 09:00,1024', [{ minuteOfWeek: 0, bytesPerSecond: 1024 }]],
    [
      'monday-8:00,1K;tue-0:00,off',
      [
        { minuteOfWeek: 1440 + 480, bytesPerSecond: 1024 },
        { minuteOfWeek: 2880, bytesPerSecond: null },
      ],
    ],
    [
      'SUN-23:59,off  Sun-00:00,5',
      [
        { minuteOfWeek: 0, bytesPerSecond: 5 },
        { minuteOfWeek: 1439, bytesPerSecond: null },
      ],
    ],
  ])('%s', (text, schedule) => {
    expect(parseBwlimit('--bwlimit', text)).toEqual(schedule)
  })

  it('spreads entries without a day over the week, in order, and lets a day have its own', () => {
    const schedule = parseBwlimit('--bwlimit', '19:00,off 08:00,20M Sat-08:00,40M Sun-12:00,1M')
    expect(slots(schedule, ['Mon', 'Sat', 'Sun'])).toEqual([
      'Sun 08:00 20M',
      'Sun 12:00 1M',
      'Sun 19:00 off',
      'Mon 08:00 20M',
      'Mon 19:00 off',
      'Sat 08:00 40M',
      'Sat 19:00 off',
    ])
    expect(schedule).toHaveLength(15)
    // the example of rclone's manual
    expect(slots(parseBwlimit('--bwlimit', 'Mon-00:00,512K 12:00,1M Sun-20:00,off'), ['Sun', 'Mon'])).toEqual(
      ['Sun 12:00 1M', 'Sun 20:00 off', 'Mon 00:00 512K', 'Mon 12:00 1M'],
    )
  })

  it.each<[string, RegExp]>([
    ['', /''.*not a rate/],
    ['fast', /'fast'.*not a rate/],
    ['10M:1M', /'10M:1M' is not TIME,RATE/],
    ['08:00', /'08:00' has a time and no rate/],
    ['20M 19:00,off', /'20M' in '20M 19:00,off' is not TIME,RATE/],
    ['08:00,20M off', /'off' in .* is not TIME,RATE/],
    ['08:00, 20M', /'08:00,' has no rate behind its comma/],
    ['08:00,20M,19:00,off', /more than one comma/],
    ['08:00,fast 19:00,off', /'08:00,fast' has 'fast' where a rate belongs/],
    ['08:00,10Mbit', /'10Mbit' where a rate belongs/],
    ['25:00,20M', /'25:00,20M' has '25:00' where a time from 00:00 to 23:59 belongs/],
    ['24:00,20M', /'24:00' where/],
    ['08:60,20M', /'08:60' where/],
    ['0800,20M', /'0800' where/],
    ['Mond-08:00,20M', /'Mond-08:00,20M' does not begin with a day: 'Mond'/],
    ['-08:00,20M', /does not begin with a day: ''/],
    ['Mon-Fri-08:00,20M', /more than one day/],
    ['08:00,20M 08:00,off', /'08:00,off' is for the same time as '08:00,20M'/],
    ['Mon-08:00,20M monday-8:00,off', /'monday-8:00,off' is for the same time as 'Mon-08:00,20M'/],
    [',', /','/],
    [';;', /';;' is neither/],
    [Array.from({ length: MAX_RATE_SLOTS + 1 }, () => '08:00,1').join(' '), /more than 672 entries/],
    [`08:00,${'1'.repeat(20_000)}`, /more than 672 entries/],
  ])('refuses %.60j', (text, message) => {
    const refused = (): unknown => parseBwlimit('--bwlimit', text)
    expect(refused).toThrow(SyncError)
    expect(refused).toThrow(message)
    expect(refused).toThrow(/nothing was opened/)
    expect(refused).toThrow(expect.objectContaining({ code: 'usage', operand: '--bwlimit' }))
    expect(refused).toThrow(
      expect.objectContaining({ hint: expect.stringMatching(/--bwlimit [28]0M/) as unknown }),
    )
  })
})

describe('bwlimitText', () => {
  it('is short where the days are alike', () => {
    for (const text of ['20M', '1000', '08:00,20M 19:00,off', 'Mon-08:00,5K Fri-19:00,off'])
      expect(bwlimitText(parseBwlimit('--bwlimit', text))).toBe(text)
    expect(bwlimitText(null)).toBe('off')
  })

  it('gives any schedule back when it is read again', () => {
    const entry = fc.record({
      day: fc.constantFrom('', 'Mon-', 'Tue-', 'Sun-', 'Sat-'),
      minute: fc.nat(1439),
      rate: fc.constantFrom('off', '20M', '1', '3K', '1500', '2T'),
    })
    const texts = fc
      .uniqueArray(entry, { minLength: 1, maxLength: 12, selector: ({ day, minute }) => `${day}${minute}` })
      .map((entries) =>
        entries
          .map(
            ({ day, minute, rate }) =>
              `${day}${Math.floor(minute / 60)}:${String(minute % 60).padStart(2, '0')},${rate}`,
          )
          .join(' '),
      )
    fc.assert(
      fc.property(texts, (text) => {
        const schedule = parseBwlimit('--bwlimit', text)
        expect(parseBwlimit('--bwlimit', bwlimitText(schedule))).toEqual(schedule)
      }),
      { seed: 20_250_202, numRuns: 200 },
    )
  })
})
