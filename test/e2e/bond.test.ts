// The built program over a long line and a real sshd: a run that writes goes over several channels of one connection, push
// and pull; where the sshd forwards nothing, or the configuration shares connections, it goes on as it is and says nothing.

import { existsSync, readdirSync, readFileSync, readlinkSync, utimesSync } from 'node:fs'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { REMOTE_COMMAND, resultOf, runCli, startCli } from '../support/cli.js'
import { run, useScratch } from '../support/disks.js'
import { servesOf } from '../support/far-sides.js'
import { has } from '../support/needs.js'
import { isRunning, until } from '../support/processes.js'
import { openSlowLine, type SlowLine } from '../support/slow-line.js'
import { type Sshd, sshdSkipReason, startSshd } from '../support/sshd.js'

const MIB = 1 << 20
const SIZE_BYTES = 24 * MIB + 777
/** 24 ms there and back, and what the programs add. */
const ONE_WAY_MS = 12

const reason = sshdSkipReason() ?? (has('ssh') ? null : 'ssh is not installed (openssh-client)')
const scratch = useScratch()
let sshd: Sshd
let refusing: Sshd
const lines: SlowLine[] = []

/** The private directory of a run among the temporary files. */
const PRIVATE = /^blocksync-\d+-\d+-/

/** Sockets of bonds that there are on this machine, but for those at which another test's far end listens. */
function sockets(): string[] {
  const ours = new Set([sshd, refusing].flatMap((daemon) => servesOf(daemon.pid()).flatMap(socketsOf)))
  const listening = readFileSync('/proc/net/unix', 'utf8').split('\n')
  const isOthers = (name: string): boolean => {
    const inode = listening.find((line) => line.endsWith(` /tmp/${name}`))?.split(/\s+/)[6]
    return inode !== undefined && !ours.has(`socket:[${inode}]`)
  }
  return readdirSync('/tmp').filter((name) => name.startsWith('blocksync-bond-') && !isOthers(name))
}

/** What the descriptors of a process are, where they are sockets. */
function socketsOf(pid: number): string[] {
  try {
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    return links.filter((link) => link.startsWith('socket:'))
  } catch {
    return [] // it ended between the listing and the read
  }
}

/** Resolves when none is there that was not there before. */
async function noneIsNew(before: readonly string[]): Promise<void> {
  await until(() => sockets().every((name) => before.includes(name)), 'no socket of a bond is new')
}

/** Makes the far side of `daemon` a long way off. */
async function awayFrom(daemon: Sshd, ...config: string[]): Promise<void> {
  const line = await openSlowLine(daemon.port, ONE_WAY_MS)
  lines.push(line)
  // The first value that ssh sees counts.
  daemon.configure([...config, `  Port ${line.port}`, `  HostKeyAlias [127.0.0.1]:${daemon.port}`])
}

function words({ clientConfigPath }: Sshd): string[] {
  return ['--ssh', 'openssh', '-F', clientConfigPath, '--remote-command', REMOTE_COMMAND, '-v', '--json']
}

describe.skipIf(reason !== null)(`a bond over sshd${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  let source = ''
  beforeAll(async () => {
    source = await scratch().randomFile('source.img', SIZE_BYTES)
    sshd = await startSshd()
    refusing = await startSshd({ config: ['DisableForwarding yes'] })
    await awayFrom(sshd)
    // Here ssh would say what was refused.
    await awayFrom(refusing, '  LogLevel INFO')
  })
  afterAll(async () => {
    for (const line of lines) await line.close()
    await sshd?.stop()
    await refusing?.stop()
  })

  it.each(['push', 'pull'])('a %s goes over several channels, and leaves nothing behind', async (way) => {
    const before = sockets()
    const target = scratch().path(`${way}.img`)
    const operands = way === 'push' ? [source, `far:${target}`] : [`far:${source}`, target]
    const ended = await runCli(scratch(), [...operands, '--create', ...words(sshd)])
    expect([ended.status, ended.stderr]).toEqual([
      0,
      expect.stringMatching(/[45678] of ssh's windows are used/),
    ])
    expect(resultOf(ended).ok).toBe(true)
    await run('cmp', source, target)
    await noneIsNew(before)
  })

  it('a comparison asks for none', async () => {
    const ended = await runCli(scratch(), ['verify', source, `far:${source}`, ...words(sshd)])
    expect(ended.stderr).not.toMatch(/windows/)
  })

  it('goes on with one where the sshd forwards nothing, without a word from ssh', async () => {
    const before = sockets()
    const target = scratch().path('refused.img')
    const ended = await runCli(scratch(), [source, `far:${target}`, '--create', ...words(refusing)])
    expect([ended.status, ended.stderr]).toEqual([0, expect.stringMatching(/\b1 of ssh's windows are used/)])
    expect(ended.stderr).not.toMatch(/channel|forward|prohibited/)
    await run('cmp', source, target)
    await noneIsNew(before)
  })

  it('goes on as it is where connections are shared', async () => {
    await awayFrom(sshd, '  ControlMaster auto', `  ControlPath ${scratch().path('cm')}`)
    try {
      const target = scratch().path('shared.img')
      const ended = await runCli(scratch(), [source, `far:${target}`, '--create', ...words(sshd)])
      expect(ended.status).toBe(0)
      expect(ended.stderr).not.toMatch(/windows/)
      await run('cmp', source, target)
    } finally {
      await awayFrom(sshd)
    }
  })

  it.each(['near', 'far'] as const)('ends, and leaves nothing, when the %s end is killed', async (end) => {
    const before = sockets()
    const target = scratch().path(`${end}.img`)
    const options = [`far:${target}`, '--create', '--bwlimit', '2M', ...words(sshd)]
    // What is killed cannot remove its directory.
    const environment = { ...process.env, TMPDIR: scratch().directory }
    const running = startCli(scratch(), [source, ...options], { environment })
    await running.said(/[45678] of ssh's windows are used/)
    // the far end needs its name no more
    await noneIsNew(before)
    const [serve] = servesOf(sshd.pid())
    if (serve === undefined) throw new Error('no far end')
    process.kill(end === 'near' ? running.pid : serve, 'SIGKILL')
    const ended = await running.ended
    if (end === 'far') expect(ended.status).toBe(8)
    await until(() => !isRunning(serve), 'the far end ends')
    await noneIsNew(before)
    if (end === 'far') return
    const [left, more] = readdirSync(scratch().directory).filter((name) => PRIVATE.test(name))
    expect([left, more]).toEqual([expect.stringMatching(`^blocksync-${running.pid}-`), undefined])
    // what is young stays: another run may look at it from where the process cannot be seen
    const wordsAgain = [source, `far:${target}`, ...words(sshd)]
    await runCli(scratch(), wordsAgain, { environment })
    const path = scratch().path(left ?? '')
    expect(existsSync(path)).toBe(true)
    utimesSync(path, 0, 0)
    const again = await runCli(scratch(), wordsAgain, { environment })
    expect([again.status, existsSync(path)]).toEqual([0, false])
    expect(readdirSync(scratch().directory).filter((name) => PRIVATE.test(name))).toEqual([])
  })
})
