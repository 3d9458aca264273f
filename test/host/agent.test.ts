// The agent against what is not a controller, and against ends of all kinds: of the controller, of the connection, of its
// own process, with a program running. A lock lasts until what could still act has ended, and not longer.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { MAX_REQUEST_BYTES, MAX_UNDER_WAY } from '../../src/host/agent-protocol.js'
import { LocalHost } from '../../src/host/local.js'
import { openHost } from '../../src/host/open.js'
import { openRemoteHost } from '../../src/host/remote.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import { connectLocal } from '../../src/transport/local.js'
import { MAIN_PATH, REMOTE_COMMAND } from '../support/cli.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { childrenOf, isRunning, until } from '../support/processes.js'
import { sshdSkipReason, startSshd } from '../support/sshd.js'
import { useAgents, useHosts } from './ways.js'

const scratch = useScratch()
const hosts = useHosts()
const agents = useAgents()
const HELLO = 'BLOCKSYNC controller 1-1 program=test timeout=20000\n'
const NAME = { id: 'm1', role: 'destination' } as const

/** A program that says its pid in a file and runs until there is another one beside it; a minute where that never comes. */
function waiter(pidPath: string): readonly [string, ...string[]] {
  const [pid, end] = [pidPath, `${pidPath}.end`].map((path) => JSON.stringify(path))
  const script = `const fs = require('node:fs'); fs.writeFileSync(${pid}, String(process.pid)); setTimeout(() => process.exit(1), 60_000); setInterval(() => fs.existsSync(${end}) && process.exit(0), 10)`
  return [process.execPath, '-e', script]
}

/** Has a waiter end. */
function letEnd(pidPath: string): void {
  writeFileSync(`${pidPath}.end`, '')
}

/** A program that says its pid in a file and runs for so long. */
function sleeper(pidPath: string, ms: number): readonly [string, ...string[]] {
  const script = `require('node:fs').writeFileSync(${JSON.stringify(pidPath)}, String(process.pid)); setTimeout(() => {}, ${ms})`
  return [process.execPath, '-e', script]
}

async function pidIn(path: string): Promise<number> {
  await until(() => existsSync(path) && readFileSync(path, 'utf8') !== '', `a pid in ${path}`)
  return Number(readFileSync(path, 'utf8'))
}

/** What an agent says and how it ends, given these bytes. */
async function talk(
  bytes: string,
  end = false,
): Promise<{ status: number | null; lines: string[]; stderr: string }> {
  const agent = agents(scratch().path('talk'))
  const ended = once(agent, 'close')
  let stdout = ''
  let stderr = ''
  agent.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  agent.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  agent.stdin.write(bytes)
  if (end) agent.stdin.end()
  const [status] = (await ended) as [number | null]
  return { status, lines: stdout.trimEnd().split('\n').slice(1), stderr }
}

describe('hostile lines', () => {
  it.each([
    ['no JSON', 'hello\n'],
    ['no object', '[1]\n'],
    ['no id', '{"op":"facts","args":[]}\n'],
    ['an id that is none', '{"id":-1,"op":"facts","args":[]}\n'],
    ['no operation', '{"id":1,"op":7,"args":[]}\n'],
    ['a ping that is none', '{"ping":7}\n'],
    [
      'the same id twice',
      '{"id":1,"op":"run","args":[{"argv":["sleep","0.2"],"timeoutMs":9000}]}\n'.repeat(2),
    ],
    [
      'too many at once',
      Array.from(
        { length: MAX_UNDER_WAY + 1 },
        (_, id) => `{"id":${id},"op":"run","args":[{"argv":["sleep","0.2"],"timeoutMs":9000}]}\n`,
      ).join(''),
    ],
  ])('%s: it ends with 8 and says why', async (_, lines) => {
    const { status, stderr } = await talk(HELLO + lines)
    expect([status, stderr]).toEqual([8, expect.stringMatching(/understood|JSON|too many/)])
  })

  it('that are too long end it before they are whole', async () => {
    const { status, stderr } = await talk(`${HELLO}{"id":1,"op":"${'x'.repeat(MAX_REQUEST_BYTES)}`)
    expect([status, stderr]).toEqual([8, expect.stringContaining('too many bytes')])
  })

  it('instead of a banner end it', async () => {
    const { status, stderr } = await talk('x'.repeat(100_000))
    expect([status, stderr]).toEqual([4, expect.stringContaining('did not start')])
    const version = await talk('BLOCKSYNC controller 7-9 program=9.9.9\n')
    expect([version.status, version.stderr]).toEqual([4, expect.stringContaining('9.9.9')])
    expect((await talk('', true)).status).toBe(8)
  })

  it('that are requests of the wrong kind are answered with an error, and the next one is served', async () => {
    const wrong = [
      ['nope', '[]'],
      ['constructor', '[]'],
      ['close', '[]'],
      ['look', '[]'],
      ['look', '[1]'],
      ['look', '["/a","/b"]'],
      ['look', '{"0":"/a"}'],
      ['run', '[{"argv":[],"timeoutMs":1}]'],
      ['run', '[{"argv":["true"]}]'],
      ['run', '[{"argv":["true"],"timeoutMs":1.5}]'],
      ['run', '[{"argv":["true"],"timeoutMs":1,"environment":{"A":1}}]'],
      ['makeFile', '["/tmp/x",-1,0]'],
      ['openJournal', '[{"id":"a","role":"both"},"create",0]'],
      ['appendJournal', '[{"id":"a","role":"source"},[]]'],
      ['writeText', '["/tmp/x","y",{"mode":0,"existing":"maybe"}]'],
    ]
    const lines = wrong.map(([op, args], id) => `{"id":${id},"op":"${op}","args":${args}}\n`)
    const { status, lines: said } = await talk(
      `${HELLO}${lines.join('')}{"id":99,"op":"listJournals","args":[]}\n{"ping":"p"}\n`,
      true,
    )
    const answers = said.map((line) => JSON.parse(line) as { id?: number; error?: { code: string } })
    const codes = new Map(answers.map(({ id, error }) => [id, error?.code]))
    expect(status).toBe(0)
    for (const [id, [op]] of wrong.entries())
      expect([op, codes.get(id)]).toEqual([op, id < 3 ? 'connect/capability' : 'internal'])
    expect(answers).toContainEqual({ id: 99, value: [] })
    expect(answers).toContainEqual({ pong: 'p' })
  })
})

describe('a far end that is no honest agent', () => {
  const lie = async (script: string): Promise<unknown> => {
    const path = await scratch().file(`far-${Math.random()}.cjs`, Buffer.from(script))
    const connection = await connectLocal(SYNC_DEFAULTS.transport, () => undefined, null, path)
    await using host = await openRemoteHost(connection, 'liar', 20_000, null)
    return await host.look('/x').catch((error: unknown) => error)
  }
  const answering = (text: string): string =>
    `process.stdout.write('motd\\nBLOCKSYNC agent 1-1 program=1\\n');` +
    `process.stdin.once('data', () => process.stdout.write(${JSON.stringify(text)}))`

  it.each([
    '{"id":1,"value":7}\n',
    '{"id":1,"value":{"kind":"file"}}\n',
    '{"id":7,"value":null}\n',
    '{"id":1,"error":"no"}\n',
    'garbage\n',
    '{}\n',
  ])('is lost after %j', async (text) => {
    expect(await lie(answering(text))).toMatchObject({ code: 'host/lost', exitStatus: 8 })
  })

  it('cannot say with which code we end, nor move the cursor', async () => {
    const error = (code: string): string =>
      answering(`{"id":1,"error":{"code":"${code}","message":"\\u001b[2J","operand":null,"hint":null}}\n`)
    expect(await lie(error('interrupt/sigint'))).toMatchObject({ code: 'internal', message: 'liar: ?[2J' })
    expect(await lie(error('host/lost'))).toMatchObject({ code: 'internal' })
    expect(await lie(error('host/file'))).toMatchObject({ code: 'host/file', operand: 'liar' })
  })

  it('is explained where it never was one', async () => {
    await expect(lie('console.log("Welcome"); process.exitCode = 3')).rejects.toMatchObject({
      code: 'connect/failed',
    })
    await expect(
      lie('process.stdout.write("x".repeat(70000)); setInterval(() => {}, 1000)'),
    ).rejects.toMatchObject({
      code: 'connect/garbage',
    })
  })
})

describe('an end with a program running', () => {
  it('of the controller: the lock is held until the program ends, then free, and the agent goes', async () => {
    const stateDir = scratch().path('killed-controller')
    const pidPath = scratch().path('killed-controller.pid')
    const agent = agents(stateDir)
    const ended = once(agent, 'close')
    agent.stdout.resume()
    agent.stdin.write(`${HELLO}{"id":1,"op":"openJournal","args":[${JSON.stringify(NAME)},"create",0]}\n`)
    const run = { argv: waiter(pidPath), timeoutMs: 50_000 }
    agent.stdin.write(`{"id":2,"op":"run","args":[${JSON.stringify(run)}]}\n`)
    const pid = await pidIn(pidPath)
    // what the kernel does with the pipes of a controller that is killed
    agent.stdin.destroy()
    agent.stdout.destroy()
    await using next = new LocalHost({ stateDir, native: 'auto' })
    await expect(next.openJournal(NAME, 'continue', 0)).rejects.toMatchObject({ code: 'migrate/busy' })
    const waiting = next.openJournal(NAME, 'continue', 20_000)
    letEnd(pidPath)
    expect(await waiting).toEqual([])
    expect(isRunning(pid)).toBe(false)
    expect(await ended).toEqual([0, null])
  })

  it('of the agent by SIGKILL: the program holds the lock alone', async () => {
    const stateDir = scratch().path('killed-agent')
    const { host, connection } = await hosts.child(stateDir)
    await host.openJournal(NAME, 'create', 0)
    await host.appendJournal(NAME, { a: 1 })
    const pidPath = scratch().path('killed-agent.pid')
    const running = host.run({ argv: waiter(pidPath), timeoutMs: 50_000 }).catch((error: unknown) => error)
    const pid = await pidIn(pidPath)
    process.kill(agentOf(pid), 'SIGKILL')
    expect(await running).toMatchObject({
      code: 'host/lost',
      message: expect.stringContaining('SIGKILL') as string,
    })
    expect(host.lost.reason).toMatchObject({ code: 'host/lost' })
    await connection.exit
    await using next = new LocalHost({ stateDir, native: 'auto' })
    await expect(next.openJournal(NAME, 'continue', 0)).rejects.toMatchObject({ code: 'migrate/busy' })
    const waiting = next.openJournal(NAME, 'continue', 20_000)
    letEnd(pidPath)
    expect(await waiting).toEqual([{ a: 1 }])
    expect(isRunning(pid)).toBe(false)
  })

  it('of a whole controller by SIGKILL, its own journal and program', async () => {
    const stateDir = scratch().path('killed-local')
    const pidPath = scratch().path('killed-local.pid')
    const local = new URL('../../dist/host/local.js', import.meta.url).href
    const script = await scratch().file(
      'controller.mjs',
      Buffer.from(
        `const { LocalHost } = await import(${JSON.stringify(local)})
         const host = new LocalHost({ stateDir: ${JSON.stringify(stateDir)}, native: process.argv[2] })
         await host.openJournal(${JSON.stringify(NAME)}, 'create', 0)
         await host.run({ argv: ${JSON.stringify(waiter(pidPath))}, timeoutMs: 50000 })`,
      ),
    )
    const controller = spawn(process.execPath, [script, 'off'], { stdio: 'inherit' })
    const pid = await pidIn(pidPath)
    controller.kill('SIGKILL')
    await once(controller, 'exit')
    await using next = new LocalHost({ stateDir, native: 'off' })
    await expect(next.openJournal(NAME, 'continue', 0)).rejects.toMatchObject({ code: 'migrate/busy' })
    const waiting = next.openJournal(NAME, 'continue', 20_000)
    letEnd(pidPath)
    expect(await waiting).toEqual([])
    expect(isRunning(pid)).toBe(false)
  })

  it('of the program: what it left behind on purpose does not hold the lock, other things do', async () => {
    const stateDir = scratch().path('left-behind')
    const name = { id: 'm2', role: 'source' } as const
    const leave = (pidPath: string): readonly [string, ...string[]] => [
      process.execPath,
      '-e',
      // node closes what it does not pass on: a shell does not
      `const c = require('node:child_process').spawnSync('sh', ['-c', 'sleep 1000 >/dev/null 2>&1 & echo $! > ${pidPath}'], { stdio: ['ignore', 'ignore', 'ignore', 3] }); process.exitCode = c.status ?? 9`,
    ]
    const first = new LocalHost({ stateDir, native: 'auto' })
    await first.openJournal(name, 'create', 0)
    const asked = {
      argv: ['sh', '-c', `sleep 1000 >/dev/null 2>&1 & echo $! > ${stateDir}/a`],
      timeoutMs: 9000,
    } as const
    expect(await first.run({ ...asked, leavesBehind: true })).toMatchObject({ exitStatus: 0 })
    await first.close()
    await using second = new LocalHost({ stateDir, native: 'auto' })
    await second.openJournal(name, 'continue', 0)
    expect(await second.run({ argv: leave(`${stateDir}/b`), timeoutMs: 9000 })).toMatchObject({
      exitStatus: 0,
    })
    await second.close()
    await using third = new LocalHost({ stateDir, native: 'auto' })
    await expect(third.openJournal(name, 'continue', 0)).rejects.toMatchObject({ code: 'migrate/busy' })
    process.kill(await pidIn(`${stateDir}/b`), 'SIGKILL')
    expect(await third.openJournal(name, 'continue', 9000)).toEqual([])
    process.kill(await pidIn(`${stateDir}/a`), 'SIGKILL')
  })

  it('by SIGTERM: the program ends first, then the agent with 143', async () => {
    const agent = agents(scratch().path('terminated'))
    agent.stdout.resume()
    const ended = once(agent, 'close')
    const pidPath = scratch().path('terminated.pid')
    const run = { argv: sleeper(pidPath, 1500), timeoutMs: 20_000 }
    agent.stdin.write(`${HELLO}{"id":2,"op":"run","args":[${JSON.stringify(run)}]}\n`)
    const pid = await pidIn(pidPath)
    agent.kill('SIGTERM')
    expect(await ended).toEqual([143, null])
    expect(isRunning(pid)).toBe(false)
  })

  it('of nothing: a wait for a lock ends with the controller', async () => {
    const stateDir = scratch().path('waiting')
    await using holder = new LocalHost({ stateDir, native: 'auto' })
    await holder.openJournal(NAME, 'create', 0)
    const agent = agents(stateDir)
    agent.stdout.resume()
    const ended = once(agent, 'close')
    agent.stdin.write(
      `${HELLO}{"id":1,"op":"openJournal","args":[${JSON.stringify(NAME)},"continue",600000]}\n`,
    )
    await until(() => childrenOf(agent.pid ?? -1).length > 0, 'the agent waits for the lock')
    agent.stdin.end()
    expect(await ended).toEqual([0, null])
  })
})

describe('a dead link', () => {
  it('is noticed by the agent', async () => {
    const agent = agents(scratch().path('silent-controller'))
    agent.stdout.resume()
    const ended = once(agent, 'close')
    agent.stdin.write('BLOCKSYNC controller 1-1 program=test timeout=1000\n')
    expect(await ended).toEqual([8, null])
  })

  it('is noticed by the controller, and one that only says nothing is not dead', async () => {
    const { host } = await hosts.child(scratch().path('silent-agent'), 1500)
    const pidPath = scratch().path('silent-agent.pid')
    expect(await host.run({ argv: sleeper(pidPath, 3500), timeoutMs: 20_000 })).toMatchObject({
      exitStatus: 0,
    })
    const nextPath = scratch().path('silent-agent-2.pid')
    const running = host.run({ argv: waiter(nextPath), timeoutMs: 50_000 }).catch((error: unknown) => error)
    const agent = agentOf(await pidIn(nextPath))
    process.kill(agent, 'SIGSTOP')
    try {
      expect(await running).toMatchObject({
        code: 'host/lost',
        message: expect.stringContaining('heard') as string,
      })
      await expect(host.look('/')).rejects.toMatchObject({ code: 'host/lost' })
      expect(host.lost.aborted).toBe(true)
    } finally {
      letEnd(nextPath)
      process.kill(agent, 'SIGCONT')
    }
  })
})

describe('a key that may only serve', needs('ssh'), () => {
  it.skipIf(sshdSkipReason() !== null)('cannot start an agent', async () => {
    const allowed = scratch().path('allowed')
    const sshd = await startSshd({
      forceCommand: `${process.execPath} ${MAIN_PATH} serve --restrict-to ${allowed}`,
    })
    try {
      for (const [remoteCommand, code] of [
        [REMOTE_COMMAND, 'connect/failed'],
        [`${REMOTE_COMMAND} serve ;`, 'connect/capability'],
      ]) {
        const opened = openHost(
          { kind: 'remote', host: 'far', user: null, port: null, typed: 'far' },
          {
            stateDir: null,
            native: 'auto',
            timeoutMs: 5000,
            transport: {
              ...SYNC_DEFAULTS.transport,
              ssh: 'openssh',
              configFile: sshd.clientConfigPath,
              remoteCommand: remoteCommand ?? '',
            },
          },
        )
        await expect(opened).rejects.toMatchObject({ code, exitStatus: 4 })
      }
    } finally {
      await sshd.stop()
    }
  })
})

/** The agent that started a program: its parent. */
function agentOf(pid: number): number {
  const parent = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  expect(readFileSync(join('/proc', String(parent), 'cmdline'), 'utf8').split('\0')).toContain('agent')
  return parent
}
