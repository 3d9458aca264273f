// The status page in a headless Chromium: what it shows, what it says when nobody answers, and what it must not run or ask for.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { openHttp } from '../../src/daemon/http.js'
import type { HttpServer } from '../../src/daemon/http.js'
import type { AttemptRecord } from '../../src/replicate/job-state.js'
import { CHROMIUM, openBrowser } from '../support/chromium.js'
import type { Browser, Page } from '../support/chromium.js'
import { needs } from '../support/needs.js'
import { ago, attempt, jobStatusOf, logTo, shown } from './shown.js'
import type { LogLine, Shown } from './shown.js'

const WIDE = { width: 1280, height: 900, scheme: 'light' } as const
const PHONE = { width: 390, height: 844, scheme: 'dark' } as const

/** If any of it were taken for HTML or for a script, the page would have an image, or a title of theirs. */
const HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'

/** Every quarter of an hour one attempt; those of the numbers given failed. 1 is the newest. */
function attempts(count: number, failed: readonly number[], nowMs: number): AttemptRecord[] {
  return Array.from({ length: count }, (_, index) => {
    const number = count - index
    const isFailed = failed.includes(number)
    const begun = number * 900 - 300
    return attempt({
      attempt: `a${number}`,
      startedAt: ago(begun, nowMs),
      endedAt: ago(begun - 60, nowMs),
      outcome: isFailed ? 'failed' : 'done',
      generation: isFailed ? null : 1000 - number,
      takenAt: isFailed ? null : ago(begun - 1, nowMs),
      error: isFailed
        ? { code: 'connect/refused', message: `kvm2 ${HOSTILE}`, operand: null, hint: null }
        : null,
    })
  })
}

describe('the status page', needs(CHROMIUM), () => {
  let browser: Browser
  let page: Page
  let view: Shown
  let server: HttpServer
  let lines: LogLine[]
  let nowMs = 0
  const origin = (): string => `http://127.0.0.1:${server.port}/`
  const rowOf = (name: string): string =>
    `[...document.querySelectorAll('#jobs > tbody')].find((body) => body.querySelector('.job').innerText === ${JSON.stringify(name)})`

  beforeAll(async () => {
    browser = await openBrowser()
  })
  afterAll(async () => {
    await browser[Symbol.asyncDispose]()
  })
  beforeEach(async () => {
    nowMs = Date.now()
    lines = []
    view = shown()
    view.nowMs = nowMs
    server = await openHttp({ kind: 'tcp', host: '127.0.0.1', port: 0 }, view, logTo(lines))
    page = await browser.page()
    await page.show(WIDE)
    return async () => {
      await server[Symbol.asyncDispose]()
    }
  })

  /** What nobody complained about, and what was asked for only here. */
  function expectQuiet(): void {
    expect(page.complaints).toEqual([])
    expect(page.requests.filter((url) => !url.startsWith(origin()) && !url.startsWith('data:'))).toEqual([])
    expect(lines).toEqual([])
  }

  it('says that there is no job, and shows one as soon as there is', async () => {
    await page.open(origin())
    await page.until("document.getElementById('none').hidden === false")
    view.jobs = [jobStatusOf()]
    await page.until("document.querySelector('.job')?.innerText === 'web01'")
    expect(await page.ask("document.getElementById('none').hidden")).toBe(true)
    expectQuiet()
  })

  it('shows jobs in words, those that need somebody first', async () => {
    const failed = jobStatusOf({
      name: 'files',
      state: 'failed',
      lagSeconds: 98_100,
      lagLevel: 'critical',
      lastError: { code: 'guard/mounted', message: 'it is mounted' },
    })
    const late = jobStatusOf({ name: 'db', lagSeconds: 2000, lagLevel: 'warning' })
    view.jobs = [jobStatusOf({ nextRun: ago(-832, nowMs) }), late, failed]
    await page.open(origin())
    await page.until("document.querySelectorAll('#jobs > tbody').length === 3")
    const names = await page.ask("[...document.querySelectorAll('.job')].map((head) => head.innerText)")
    expect(names).toEqual(['files', 'db', 'web01'])
    const files = String(await page.ask(`${rowOf('files')}.innerText`))
    expect(files).toMatch(/failed[^]*1 d 3 h[^]*critical[^]*guard\/mounted: it is mounted/)
    expect(await page.ask(`${rowOf('db')}.innerText`)).toMatch(/idle[^]*33 min 20 s[^]*warning/)
    expect(await page.ask(`${rowOf('web01')}.innerText`)).toMatch(
      /idle[^]*1 min 8 s[^]*17[^]*in 13 min 52 s[^]*44.0 MiB/,
    )
    expect(await page.ask("document.getElementById('summary').innerText")).toMatch(
      /1 critical\s+1 to be looked at\s+1 fine/,
    )
    expect(await page.ask('document.title')).toBe('(1 critical) kvm1 – blocksync replicate')
    expectQuiet()
  })

  it('shows what others wrote as text, wherever it stands', async () => {
    const lastError = { code: 'host/program', message: HOSTILE }
    const paused = { since: ago(90, nowMs), reason: HOSTILE }
    view.jobs = [
      jobStatusOf({
        name: HOSTILE,
        source: HOSTILE,
        destination: HOSTILE,
        state: 'failed',
        lastError,
        paused,
      }),
    ]
    view.histories.set(HOSTILE, attempts(5, [1, 2], nowMs))
    await page.open(origin())
    await page.until("document.querySelectorAll('.attempts tbody tr').length === 5")
    expect(await page.ask("document.querySelector('.job').innerText")).toBe(HOSTILE)
    expect(await page.ask("document.querySelector('.why').innerText")).toBe(`host/program: ${HOSTILE}`)
    expect(await page.ask("document.querySelector('.facts').innerText.split('<img').length")).toBe(4)
    expect(await page.ask("document.querySelector('.attempts .message').innerText")).toContain(HOSTILE)
    // the second of them failed with the same words
    expect(await page.ask("[...document.querySelectorAll('.attempts .message')][1].innerText")).toBe(
      'the same',
    )
    expect(await page.ask("document.querySelector('svg').getAttribute('aria-label')")).toContain(HOSTILE)
    expect(
      await page.ask("document.querySelectorAll('img').length + document.querySelectorAll('script').length"),
    ).toBe(1)
    expect(await page.ask('document.title')).toContain('kvm1')
    expectQuiet()
  })

  it('would not run a script that got into it', async () => {
    await page.open(origin())
    await page.ask(
      "new Promise((resolve) => { document.addEventListener('securitypolicyviolation', resolve, { once: true }); document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">') })",
    )
    expect(await page.ask('document.title')).not.toBe('1')
    expect(page.complaints.join()).toMatch(/Content Security Policy/)
  })

  it('moves the bar with the attempt, and takes it away at its end', async () => {
    const progress = { doneBytes: 1 << 20, totalBytes: 4 << 20, sentBytes: 1 << 19 }
    view.jobs = [jobStatusOf({ state: 'running', progress })]
    await page.open(origin())
    await page.until("document.querySelector('[role=progressbar]')?.ariaValueNow === '25'")
    expect(await page.ask("document.querySelector('tr.running').innerText")).toBe(
      '25 %: 1.00 MiB of 4.00 MiB, 512 KiB sent',
    )
    view.jobs = [jobStatusOf({ state: 'running', progress: { ...progress, doneBytes: 3 << 20 } })]
    await page.until("document.querySelector('[role=progressbar]').ariaValueNow === '75'")
    view.jobs = [jobStatusOf()]
    await page.until("document.querySelector('tr.running').hidden")
    expectQuiet()
  })

  it('draws the lag, marks what failed, and draws anew when an attempt has ended', async () => {
    view.jobs = [jobStatusOf()]
    view.histories.set('web01', attempts(40, [3, 4], nowMs))
    await page.open(origin())
    await page.until("document.querySelector('svg .lag') !== null")
    expect(await page.ask("document.querySelectorAll('svg .fail').length")).toBe(2)
    expect(await page.ask("document.querySelector('svg').getAttribute('aria-label')")).toBe(
      'Lag of web01 over the last 1 d: now 9 min 59 s, at most 45 min 59 s, 2 attempts without a generation',
    )
    // a tooth each: a corner at its top and one at its foot
    const corners = String(await page.ask("document.querySelector('svg .lag').getAttribute('d')")).split(
      /[ML]/,
    )
    expect(corners.length).toBe(1 + 2 * 38)
    const asked = page.requests.filter((url) => url.includes('history.json')).length
    expect(asked).toBe(1)
    view.histories.set('web01', attempts(40, [], nowMs))
    view.jobs = [jobStatusOf({ last: attempt({ attempt: 'a-next' }) })]
    await page.until("document.querySelectorAll('svg .fail').length === 0")
    await page.ask(
      "[...document.querySelectorAll('.spans button')].find((b) => b.innerText === '1 h').click()",
    )
    await page.until("document.querySelector('svg').getAttribute('aria-label').includes('last 1 h: now')")
    expectQuiet()
  })

  it('says since when nobody answers, and goes on when somebody does', async () => {
    view.jobs = [jobStatusOf()]
    await page.open(origin())
    await page.until("document.querySelector('.job') !== null")
    const port = server.port ?? 0
    await server[Symbol.asyncDispose]()
    await page.until("document.getElementById('gone').hidden === false")
    expect(await page.ask("document.getElementById('gone').innerText")).toMatch(
      /^No answer from the daemon since \d\d:\d\d:\d\d \(not reached\)\. What is shown is as it was then\.$/,
    )
    expect(await page.ask("getComputedStyle(document.getElementById('jobs')).opacity")).toBe('0.7')
    server = await openHttp({ kind: 'tcp', host: '127.0.0.1', port }, view, logTo(lines))
    await page.until("document.getElementById('gone').hidden")
    expect(await page.ask("document.body.classList.contains('stale')")).toBe(false)
  })

  it('opens a job by the keyboard, keeps the focus when rows move, and says what is open', async () => {
    view.jobs = ['a', 'b', 'c', 'd'].map((name) => jobStatusOf({ name }))
    await page.open(origin())
    await page.until("document.querySelectorAll('.job').length === 4")
    for (const key of ['Tab', 'Tab', 'Enter'] as const) await page.press(key)
    await page.until(`${rowOf('b')}.querySelector('.detail') !== null`)
    expect(await page.ask('document.activeElement.innerText + document.activeElement.ariaExpanded')).toBe(
      'btrue',
    )
    view.jobs = view.jobs.map((job) => (job.name === 'd' ? { ...job, state: 'failed' as const } : job))
    await page.until("document.querySelector('.job').innerText === 'd'")
    expect(await page.ask('document.activeElement.innerText')).toBe('b')
    await page.press('Enter')
    await page.until(`${rowOf('b')}.querySelector('.detail') === null`)
    expectQuiet()
  })

  it.each([1, 3, 50])('fits on a phone with %i jobs, in the dark too', async (count) => {
    view.jobs = Array.from({ length: count }, (_, index) =>
      jobStatusOf({ name: `vm-${index}-${'x'.repeat(50)}` }),
    )
    for (const { name } of view.jobs) view.histories.set(name, attempts(12, [1], nowMs))
    await page.show(PHONE)
    await page.open(origin())
    await page.until(`document.querySelectorAll('.job').length === ${count}`)
    await page.ask(
      "[...document.querySelectorAll('.job button[aria-expanded=false]')].slice(0, 3).forEach((b) => b.click())",
    )
    await page.until("document.querySelector('svg .lag') !== null")
    expect(await page.ask('document.documentElement.scrollWidth')).toBe(PHONE.width)
    expect(await page.ask('getComputedStyle(document.body).backgroundColor')).toBe('rgb(20, 22, 26)')
    expectQuiet()
  })
})
