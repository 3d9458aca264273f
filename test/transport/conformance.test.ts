// One suite for every way to a far end. Far ends are fixtures/far.js in a mode; no protocol is spoken.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { loadNative } from '../../src/native.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import { connectLocal } from '../../src/transport/local.js'
import { connect } from '../../src/transport/open.js'
import { RECEIVE_WINDOW_BYTES } from '../../src/transport/ssh2-window.js'
import {
  STDERR_TAIL_BYTES,
  type Connection,
  type FarSide,
  type TransportOptions,
} from '../../src/transport/transport.js'
import { bytesWrittenBy, childrenOf, isRunning, until } from '../support/processes.js'
import { startSshServer, type EmbeddedSshServer } from '../support/ssh-server.js'
import { sshdSkipReason, startSshd, type Sshd } from '../support/sshd.js'

const FAR_PATH = fileURLToPath(new URL('fixtures/far.js', import.meta.url))
const FAR: FarSide = { kind: 'remote', host: 'far', user: null, port: null, typed: 'far' }
const MIB = 1 << 20

type Kind =
  | 'local'
  | 'local, native'
  | 'openssh'
  | 'openssh, native'
  | 'openssh -e'
  | 'ssh2 to sshd'
  | 'ssh2 to ssh2'

const native = loadNative('auto')
if (native === null) console.warn('skipped: transports with the native core, which is not built')

let sshd: Sshd | null = null
let embedded: EmbeddedSshServer | null = null
let directory = ''
const skipReason = sshdSkipReason()

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-transport-'))
  embedded = await startSshServer({ directory })
  if (skipReason === null) sshd = await startSshd()
})

afterAll(async () => {
  await sshd?.stop()
  await embedded?.stop()
  rmSync(directory, { recursive: true, force: true })
})

function optionsFor(kind: Kind, words: readonly string[]): TransportOptions {
  const options = {
    ...SYNC_DEFAULTS.transport,
    remoteCommand: `${process.execPath} ${FAR_PATH}`,
    serveArguments: words,
  }
  switch (kind) {
    case 'local':
    case 'local, native':
      return options
    case 'openssh':
    case 'openssh, native':
      return { ...options, ssh: 'openssh', configFile: sshd?.clientConfigPath ?? '' }
    case 'openssh -e':
      return { ...options, rsh: ['ssh', '-F', sshd?.clientConfigPath ?? ''] }
    case 'ssh2 to sshd':
      return { ...options, ssh: 'ssh2', configFile: sshd?.clientConfigPath ?? '' }
    case 'ssh2 to ssh2':
      return { ...options, ssh: 'ssh2', configFile: embedded?.clientConfigPath ?? '' }
    default:
      return kind satisfies never
  }
}

async function start(
  kind: Kind,
  words: readonly string[],
  onLine: (line: string) => void = () => {},
): Promise<Connection> {
  const options = optionsFor(kind, words)
  const core = kind.endsWith('native') ? native : null
  return kind.startsWith('local')
    ? await connectLocal(options, onLine, core, FAR_PATH)
    : await connect(FAR, options, onLine, core)
}

/** Starts a mode that prints its process id on stderr; resolves when it has. */
async function startWithPid(
  kind: Kind,
  words: readonly string[],
): Promise<{ connection: Connection; pid: number }> {
  let gotPid: (pid: number) => void = () => {}
  const pidLine = new Promise<number>((resolve) => {
    gotPid = resolve
  })
  const connection = await start(kind, words, (line) => {
    const pid = /^pid (\d+)$/.exec(line)?.[1]
    if (pid !== undefined) gotPid(Number(pid))
  })
  return { connection, pid: await pidLine }
}

async function digestOf(connection: Connection): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of connection.input) {
    const data = chunk as Buffer
    bytes += data.length
    hash.update(data)
  }
  return { bytes, digest: hash.digest('hex') }
}

async function writeAll(connection: Connection, data: Buffer): Promise<void> {
  for (let offset = 0; offset < data.length; offset += MIB) {
    if (!connection.output.write(data.subarray(offset, offset + MIB))) await once(connection.output, 'drain')
  }
}

const KINDS: readonly Kind[] = [
  'local',
  'openssh',
  'openssh -e',
  'ssh2 to sshd',
  'ssh2 to ssh2',
  ...(native === null ? [] : (['local, native', 'openssh, native'] as const)),
]

for (const kind of KINDS) {
  const needsSshd = !kind.startsWith('local') && kind !== 'ssh2 to ssh2'
  const reason = needsSshd ? skipReason : null
  describe.skipIf(reason !== null)(`${kind}${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
    // More than everything on the way can hold, windows of ssh2 included.
    it('echoes 24 MiB unchanged in both directions at once', { timeout: 60_000 }, async () => {
      await using connection = await start(kind, ['echo'])
      const data = randomBytes(24 * MIB)
      const received = digestOf(connection)
      await writeAll(connection, data)
      connection.end()
      expect(await received).toEqual({
        bytes: data.length,
        digest: createHash('sha256').update(data).digest('hex'),
      })
      expect(await connection.exit).toMatchObject({ exitStatus: 0, signal: null })
    })

    it('passes the half close on: the far end answers after the end of its input', async () => {
      await using connection = await start(kind, ['sink'])
      const data = randomBytes(3 * MIB + 17)
      await writeAll(connection, data)
      connection.end()
      const chunks: Buffer[] = []
      for await (const chunk of connection.input) chunks.push(chunk as Buffer)
      const digest = createHash('sha256').update(data).digest('hex')
      expect(Buffer.concat(chunks).toString()).toBe(`${data.length} ${digest}\n`)
      expect((await connection.exit).exitStatus).toBe(0)
    })

    it('reads zero bytes and the end of an empty stream', async () => {
      await using connection = await start(kind, ['echo'])
      connection.end()
      expect((await digestOf(connection)).bytes).toBe(0)
      expect((await connection.exit).exitStatus).toBe(0)
    })

    it('tells the exit status and the last words', async () => {
      const lines: string[] = []
      await using connection = await start(kind, ['exit', '37'], (line) => lines.push(line))
      connection.input.resume()
      expect(await connection.exit).toEqual({ exitStatus: 37, signal: null, stderrTail: 'last words\n' })
      expect(lines).toEqual(['last words'])
    })

    it('hands stderr on in clean, bounded lines and keeps the tail', async () => {
      const lines: string[] = []
      await using connection = await start(kind, ['talk'], (line) => lines.push(line))
      connection.input.resume()
      const { stderrTail } = await connection.exit
      expect(lines.map((line) => line.slice(0, 20))).toEqual([
        'plain line',
        'red ?[31mline',
        'x'.repeat(20),
        'y'.repeat(20),
        'unfinished',
      ])
      expect(lines.every((line) => line.length <= 1024 + '...'.length)).toBe(true)
      expect(stderrTail).toHaveLength(STDERR_TAIL_BYTES)
      expect(stderrTail).toBe('y'.repeat(STDERR_TAIL_BYTES - '\nunfinished'.length) + '\nunfinished')
    })

    it('kill ends it, settles exit and leaves no process', async () => {
      const before = childrenOf(process.pid)
      const { connection, pid } = await startWithPid(kind, ['hang'])
      connection.kill()
      expect(await connection.exit).toHaveProperty('stderrTail')
      await until(() => !isRunning(pid), 'the far program ends')
      await connection[Symbol.asyncDispose]()
      await until(
        () => childrenOf(process.pid).every((child) => before.includes(child) || isEmbeddedChild(child)),
        'no child is left',
      )
    })

    it('kill works in the middle of unread data, and settles a writer that waits', async () => {
      const { connection, pid } = await startWithPid(kind, ['stall'])
      let acknowledged = false
      const settled = new Promise<void>((resolve) => {
        connection.output.write(Buffer.alloc(16 * MIB), () => resolve())
        connection.output.once('drain', () => {
          acknowledged = true
        })
      })
      connection.kill()
      await connection.exit
      await settled
      expect(acknowledged).toBe(false)
      expect(connection.output.destroyed).toBe(true)
      await until(() => !isRunning(pid), 'the far program ends')
      await connection[Symbol.asyncDispose]()
    })

    it('notices that the far program was killed', async () => {
      const { connection, pid } = await startWithPid(kind, ['hang'])
      connection.input.resume()
      process.kill(pid, 'SIGKILL')
      const exit = await connection.exit
      expect(exit.exitStatus).not.toBe(0)
      const error = connection.explain(exit, 'banner-seen')
      expect(error.code).toBe('session/lost')
      expect(error.message).toContain(connection.peerName)
      expect(error.message).toMatch(
        kind.startsWith('openssh') ? /broke, or blocksync there was killed/ : /was killed by SIGKILL/,
      )
      expect(error.hint).toContain('run the same command again')
      await connection[Symbol.asyncDispose]()
    })

    it('a slow reader stops the far end: what is in flight is bounded', { timeout: 30_000 }, async () => {
      // Twice of what may be in flight.
      const totalBytes = 96 * MIB
      const { connection, pid } = await startWithPid(kind, ['count', String(totalBytes)])
      // ssh2 alone would let 2 MiB come: on a long line that is all there is in a round trip.
      const leastBytes = kind.startsWith('ssh2') ? RECEIVE_WINDOW_BYTES / 2 : 0
      // Read a little, then nothing until the far end has written nothing for 300 ms.
      connection.input.once('readable', () => {
        connection.input.read(1)
      })
      let last = 0
      let stillSince = performance.now()
      await until(() => {
        const now = bytesWrittenBy(pid)
        // Its lines on stderr go on.
        if (now - last > 64 << 10) {
          last = now
          stillSince = performance.now()
        }
        return last > leastBytes && performance.now() - stillSince > 300
      }, 'the far end stops writing')
      expect(last).toBeLessThan(48 * MIB)
      expect((await digestOf(connection)).bytes).toBe(totalBytes - 1)
      expect((await connection.exit).exitStatus).toBe(0)
      await connection[Symbol.asyncDispose]()
    })

    it('a far end that does not read stops the writer', async () => {
      const { connection } = await startWithPid(kind, ['stall'])
      const chunk = Buffer.alloc(MIB)
      let acceptedBytes = 0
      const stuck = (async () => {
        while (acceptedBytes < 64 * MIB) {
          await new Promise<void>((resolve) => connection.output.write(chunk, () => resolve()))
          if (connection.output.destroyed) return
          acceptedBytes += chunk.length
        }
      })()
      let last = -1
      await until(() => {
        const still = acceptedBytes === last
        last = acceptedBytes
        return still && acceptedBytes < 64 * MIB
      }, 'the writer waits')
      expect(acceptedBytes).toBeLessThan(16 * MIB)
      await connection[Symbol.asyncDispose]()
      await stuck
    })

    it('an input that nobody reads does not keep dispose from ending', async () => {
      const connection = await start(kind, ['zeros', String(64 * MIB)])
      await connection[Symbol.asyncDispose]()
      await connection[Symbol.asyncDispose]()
      expect(await connection.exit).toHaveProperty('stderrTail')
    })
  })
}

it('local: a child that ignores SIGTERM is killed after the grace', async () => {
  const { connection, pid } = await startWithPid('local', ['deaf'])
  connection.kill()
  expect(await connection.exit).toMatchObject({ exitStatus: null, signal: 'SIGKILL' })
  expect(isRunning(pid)).toBe(false)
})

it('ssh2: names the cipher', async () => {
  await using connection = await start('ssh2 to ssh2', ['hang'])
  expect(connection.cipher).toBe('aes128-gcm@openssh.com')
})

it('ssh2: a network that breaks ends the connection with session/lost', async () => {
  const { connection } = await startWithPid('ssh2 to ssh2', ['hang'])
  connection.input.resume()
  embedded?.breakConnections()
  const exit = await connection.exit
  expect(exit).toMatchObject({ exitStatus: null, signal: null })
  expect(connection.explain(exit, 'banner-seen').message).toContain('the connection to far broke')
  await connection[Symbol.asyncDispose]()
})

it.skipIf(skipReason !== null)(
  'openssh: a further lane has a connection of its own where the configuration shares one',
  async () => {
    sshd?.configure(['  ControlMaster auto', `  ControlPath ${join(directory, 'master')}`])
    try {
      /** The port that the connection comes from, as sshd tells it. */
      const portOf = async (lane: 'first' | 'further'): Promise<string> => {
        const options = { ...optionsFor('openssh', []), remoteCommand: 'echo $SSH_CONNECTION;', lane }
        await using connection = await connect(FAR, options, () => {})
        let text = ''
        for await (const chunk of connection.input) text += String(chunk)
        return text.split(' ')[1] ?? ''
      }
      const { connection: master } = await startWithPid('openssh', ['hang'])
      await using _ = master
      const shared = await portOf('first')
      expect(shared).toMatch(/^\d+$/)
      expect(await portOf('first')).toBe(shared)
      const own = await portOf('further')
      expect(own).toMatch(/^\d+$/)
      expect(own).not.toBe(shared)
    } finally {
      sshd?.configure([])
    }
  },
)

for (const kind of ['openssh', 'ssh2 to sshd'] as const) {
  it.skipIf(skipReason !== null)(
    `${kind}: an sshd that is killed ends the connection with session/lost`,
    async () => {
      const { connection, pid } = await startWithPid(kind, ['hang'])
      connection.input.resume()
      for (const session of sshd?.sessionPids() ?? []) if (session !== pid) process.kill(session, 'SIGKILL')
      const exit = await connection.exit
      const error = connection.explain(exit, 'banner-seen')
      expect(error).toMatchObject({ code: 'session/lost', operand: 'far' })
      expect(error.message).toContain('the connection to far broke')
      await connection[Symbol.asyncDispose]()
      await until(() => !isRunning(pid), 'the far program ends')
    },
  )
}

/** The embedded server runs its commands as children of this process; those are not the transport's. */
function isEmbeddedChild(pid: number): boolean {
  return embedded?.commandPids().includes(pid) ?? false
}
