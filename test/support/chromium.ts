// A headless Chromium that a test drives over a pipe (the DevTools protocol, messages that end in a zero byte). It resolves no name
// and is gone, with its directory, when it is disposed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

import { findProgram } from './needs.js'

/** The package is chromium-headless-shell. */
export const CHROMIUM = 'chromium-headless-shell'

const ANSWER_MS = 20_000
const CONDITION_MS = 15_000

type Message = Readonly<{
  id?: number
  method?: string
  sessionId?: string
  params?: Record<string, unknown>
  result?: Record<string, unknown>
  error?: Readonly<{ message: string }>
}>

export type Viewport = Readonly<{ width: number; height: number; scheme: 'light' | 'dark' }>

export type Page = Readonly<{
  /** What the console was told as an error or warning, and what was thrown and not caught. */
  complaints: string[]
  /** Of every request that the page made. */
  requests: string[]
  show: (viewport: Viewport) => Promise<void>
  open: (url: string) => Promise<void>
  /** The value of an expression; a promise is waited for. */
  ask: (expression: string) => Promise<unknown>
  /** Resolves when the expression is true; asked anew with each change of the document. */
  until: (expression: string) => Promise<void>
  press: (key: 'Tab' | 'Enter') => Promise<void>
  /** A PNG of the whole page. */
  picture: () => Promise<Buffer>
}>

export type Browser = AsyncDisposable & Readonly<{ page: () => Promise<Page> }>

/** Starts it. Rejects where it does not answer in time. */
export async function openBrowser(): Promise<Browser> {
  const program = findProgram(CHROMIUM)
  if (program === null) throw new Error(`${CHROMIUM} is missing`)
  const directory = await mkdtemp(join(tmpdir(), 'blocksync-chromium-'))
  const child = spawn(
    program,
    [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--hide-scrollbars',
      '--remote-debugging-pipe',
      '--lang=en-GB',
      `--user-data-dir=${directory}`,
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      'about:blank',
    ],
    {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, HOME: directory, TZ: 'UTC' },
    },
  )
  const exited = once(child, 'exit')
  const call = speak(child.stdio[3] as Writable, child.stdio[4] as Readable)
  return {
    page: () => openPage(call),
    async [Symbol.asyncDispose]() {
      // it ends its helpers, which else write into the directory while it is removed
      await call.send('Browser.close').catch(() => child.kill('SIGKILL'))
      await exited
      await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

type Listener = (method: string, params: Record<string, unknown>) => void
type Call = Readonly<{
  send: (method: string, params?: object, sessionId?: string) => Promise<Record<string, unknown>>
  listen: (sessionId: string, listener: Listener) => void
}>

function speak(out: Writable, input: Readable): Call {
  const waiting = new Map<number, (message: Message) => void>()
  const listeners = new Map<string, Listener>()
  let nextId = 1
  let rest = Buffer.alloc(0)
  // a browser that is gone ends both; whoever waits is told by its deadline
  out.on('error', () => undefined)
  input.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      const message = JSON.parse(rest.subarray(0, end).toString('utf8')) as Message
      rest = rest.subarray(end + 1)
      if (message.id !== undefined) waiting.get(message.id)?.(message)
      else listeners.get(message.sessionId ?? '')?.(message.method ?? '', message.params ?? {})
    }
  })
  return {
    listen: (sessionId, listener) => {
      listeners.set(sessionId, listener)
    },
    send: async (method, params = {}, sessionId) => {
      const id = nextId++
      const answered = new Promise<Message>((resolve, reject) => {
        const limit = setTimeout(() => reject(new Error(`${method}: no answer of the browser`)), ANSWER_MS)
        waiting.set(id, (message) => {
          clearTimeout(limit)
          waiting.delete(id)
          resolve(message)
        })
      })
      out.write(
        `${JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) })}\0`,
      )
      const { result, error } = await answered
      if (error !== undefined) throw new Error(`${method}: ${error.message}`)
      return result ?? {}
    },
  }
}

async function openPage({ send, listen }: Call): Promise<Page> {
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true })
  const session = String(sessionId)
  const complaints: string[] = []
  const requests: string[] = []
  const loads: (() => void)[] = []
  listen(session, (method, params) => {
    if (method === 'Runtime.exceptionThrown') complaints.push(JSON.stringify(params['exceptionDetails']))
    if (method === 'Runtime.consoleAPICalled') complaints.push(JSON.stringify(params['args']))
    if (method === 'Log.entryAdded') complaints.push(JSON.stringify(params['entry']))
    if (method === 'Network.requestWillBeSent')
      requests.push(String((params['request'] as Record<string, unknown>)['url']))
    if (method === 'Page.loadEventFired') for (const loaded of loads.splice(0)) loaded()
  })
  for (const domain of ['Runtime', 'Log', 'Network', 'Page']) await send(`${domain}.enable`, {}, session)

  async function ask(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await send(
      'Runtime.evaluate',
      { expression, awaitPromise: true, returnByValue: true },
      session,
    )
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`)
    return (result as Record<string, unknown>)['value']
  }

  return {
    complaints,
    requests,
    ask,
    async show({ width, height, scheme }) {
      const metrics = { width, height, deviceScaleFactor: 1, mobile: false }
      await send('Emulation.setDeviceMetricsOverride', metrics, session)
      const features = [{ name: 'prefers-color-scheme', value: scheme }]
      await send('Emulation.setEmulatedMedia', { features }, session)
    },
    async open(url) {
      const loaded = new Promise<void>((resolve) => loads.push(resolve))
      await send('Page.navigate', { url }, session)
      await loaded
    },
    async until(expression) {
      const isMet = await ask(`new Promise((resolve) => {
        const check = () => { if (${expression}) { end(true) } }
        const end = (value) => { observer.disconnect(); clearTimeout(limit); resolve(value) }
        const observer = new MutationObserver(check)
        const limit = setTimeout(() => end(false), ${CONDITION_MS})
        observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true })
        check()
      })`)
      if (isMet !== true) {
        const text = String(await ask('document.body.innerText'))
        throw new Error(`not so within ${CONDITION_MS} ms: ${expression}\n${text}`)
      }
    },
    async press(key) {
      const code = { Tab: 9, Enter: 13 }[key]
      const text = key === 'Enter' ? { text: '\r' } : {}
      for (const type of ['keyDown', 'keyUp'])
        await send(
          'Input.dispatchKeyEvent',
          { type, key, code: key, windowsVirtualKeyCode: code, ...(type === 'keyDown' ? text : {}) },
          session,
        )
    },
    async picture() {
      const { data } = await send(
        'Page.captureScreenshot',
        { format: 'png', captureBeyondViewport: true },
        session,
      )
      return Buffer.from(String(data), 'base64')
    },
  }
}
