// A bad line and a bad far side get a clear answer and lose nothing: one row for each thing that goes wrong between the two
// ends, with its exit status, a piece of what is said, and how far it got.

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { link, truncate } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { fifo } from '../endpoint/obstacles.js'
import { farEnd, startCli } from '../support/cli.js'
import { run, type Scratch, useScratch } from '../support/disks.js'
import { useFarSides, type Way, ways } from '../support/far-sides.js'
import { has } from '../support/needs.js'
import { freePort, knownHostLine, makeKey, sshdSkipReason } from '../support/sshd.js'
import { check, refused, relayed, type Row, source, target } from './fault-rows.js'

const MIB = 1 << 20

const scratch = useScratch()
const far = useFarSides()
let made = 0

const LINE_ROWS: readonly Row[] = [
  {
    name: 'versions that do not overlap',
    arrange: (on) => refused(on, farEnd('version'), 'far'),
    status: 4,
    says: /2-2 here, 7-9 on far.*9\.9\.9[^]*Install the same version/,
  },
  {
    name: 'garbage instead of a banner',
    arrange: (on) => refused(on, farEnd('garbage'), 'far'),
    status: 4,
    says: /did not start the blocksync protocol/,
  },
  {
    name: 'a far end that ends at once',
    arrange: (on) => refused(on, farEnd('silent-end'), 'far'),
    status: 4,
    says: /full of eels/,
  },
  {
    name: 'a frame too large',
    arrange: (on) => refused(on, farEnd('oversize'), 'far'),
    status: 8,
    says: /4294967295 bytes, limit/,
  },
  {
    name: 'noise of the shell before the banner',
    arrange: async (on) => ({ words: [await source(on), `far:${await target(on)}`, ...farEnd('noise')] }),
    status: 0,
    says: /warning: far printed \d+ bytes before the protocol began.*Welcome to host2/,
  },
  {
    name: 'a corrupted header on the way to the destination',
    arrange: (on) => relayed(on, { on: 'up:data:3', act: 'corrupt' }),
    status: 8,
    says: /broke the protocol.*reserved byte/,
    partial: true,
  },
  {
    name: 'a corrupted header on the way from the destination',
    arrange: (on) => relayed(on, { on: 'down:credit:1', act: 'corrupt' }),
    status: 8,
    says: /broke the protocol.*reserved byte/,
    partial: true,
  },
  {
    name: 'a frame too large in the middle',
    arrange: (on) => relayed(on, { on: 'up:data:2', act: 'oversize' }),
    status: 8,
    says: /data frame of 4294967295 bytes/,
    partial: true,
  },
  {
    name: 'a corrupted header, pulling',
    arrange: (on) => relayed(on, { on: 'down:data:3', act: 'corrupt' }, undefined, 'pull'),
    status: 8,
    says: /broke the protocol.*reserved byte/,
    partial: true,
  },
  {
    name: 'source shorter than announced',
    arrange: (on) => relayed(on, { on: 'up:data:1', act: 'hold' }, ({ source: path }) => truncate(path, MIB)),
    status: 5,
    says: /source shorter than announced/,
    partial: true,
  },
  {
    name: 'source shorter than announced, pulling',
    arrange: (on) =>
      relayed(on, { on: 'down:data:1', act: 'hold' }, ({ source: path }) => truncate(path, MIB), 'pull'),
    status: 5,
    says: /source shorter than announced/,
    partial: true,
  },
  {
    name: 'far process killed',
    arrange: (on) =>
      relayed(on, { on: 'up:data:3', act: 'hold' }, async ({ farPid }) => {
        process.kill(farPid, 'SIGKILL')
        await Promise.resolve()
      }),
    status: 8,
    says: /killed by SIGKILL.*137[^]*run the same command again/,
    partial: true,
  },
  {
    name: 'far process ended by SIGTERM',
    arrange: (on) =>
      relayed(on, { on: 'up:data:3', act: 'hold' }, async ({ farPid }) => {
        process.kill(farPid, 'SIGTERM')
        await Promise.resolve()
      }),
    status: 143,
    says: /far end was ended by SIGTERM/,
    partial: true,
  },
  {
    name: 'nobody reads stdout',
    arrange: (on) =>
      relayed(on, { on: 'up:data:1', act: 'hold' }, async (_disks, { child }) => {
        child.stdout?.destroy()
        await Promise.resolve()
      }),
    status: 0,
    says: /^$/,
  },
]

describe('a bad line', () => {
  it.each(LINE_ROWS)('$name', async (row) => check(row, scratch()))
})

describe.each(ways('openssh', 'ssh2'))('bad input over %s', (way: Way) => {
  const withoutCommand = (): readonly string[] => far.words(way).slice(0, -2)
  /** The configuration with lines of `Host far` before it. */
  const configured = (on: Scratch, lines: readonly string[]): readonly string[] => {
    const path = on.path(`ssh_config-${made++}`)
    const own = readFileSync(far.sshd().clientConfigPath, 'utf8')
    writeFileSync(path, ['Host *', ...lines, '', own].join('\n'))
    return far.words(way).map((word) => (word === far.sshd().clientConfigPath ? path : word))
  }
  const knownHosts = (on: Scratch, line: string): readonly string[] => {
    const path = on.path(`known_hosts-${made++}`)
    writeFileSync(path, line)
    return configured(on, [`  UserKnownHostsFile ${path}`])
  }

  const rows: readonly Row[] = [
    {
      name: 'unknown host',
      arrange: (on) => refused(on, far.words(way), 'nobody.invalid'),
      status: 4,
      says: /nobody\.invalid/,
    },
    {
      name: 'nothing listens there',
      arrange: async (on) => refused(on, configured(on, [`  Port ${await freePort()}`]), 'far'),
      status: 4,
      says: /far: .*(refused|nothing answered)/i,
    },
    {
      name: 'unknown host key',
      arrange: (on) => refused(on, knownHosts(on, ''), 'far'),
      status: 4,
      says: /host key .*not known[^]*ssh far once/,
    },
    {
      name: 'changed host key',
      arrange: (on) => {
        const key = on.path(`other-key-${made++}`)
        makeKey(key, 'ed25519')
        return refused(on, knownHosts(on, knownHostLine(`[127.0.0.1]:${far.sshd().port}`, key)), 'far')
      },
      status: 4,
      says: /host key[^]*ssh-keygen -R/,
    },
    {
      name: 'authentication refused',
      arrange: (on) =>
        refused(
          on,
          configured(on, [
            `  IdentityFile ${far.sshd().strangerPath}`,
            '  IdentityAgent none',
            '  User nobody',
          ]),
          'far',
        ),
      status: 4,
      says: /(authentication|no key that was offered)[^]*-i/,
    },
    {
      name: 'no blocksync there',
      arrange: (on) => refused(on, [...withoutCommand(), '--remote-command', 'no-such-blocksync'], 'far'),
      status: 4,
      says: /'no-such-blocksync' could not be run[^]*npm install[^]*--remote-command/,
    },
    {
      name: 'a missing destination',
      arrange: async (on) => ({
        words: [await source(on), `far:${on.path('absent')}`, ...far.words(way)],
        untouched: [on.path('absent')],
      }),
      status: 3,
      says: /absent[^]*--create/,
    },
    {
      name: 'a missing source, pulling',
      arrange: async (on) => {
        const destination = await target(on)
        return {
          words: [`far:${on.path('absent')}`, destination, ...far.words(way)],
          untouched: [destination],
        }
      },
      status: 5,
      says: /absent/,
    },
    {
      name: 'the same file, over ssh to this machine',
      arrange: async (on) => {
        const path = await source(on)
        await link(path, `${path}.hard`)
        return { words: [path, `far:${path}.hard`, ...far.words(way)], untouched: [path] }
      },
      status: 3,
      says: /same disk/,
    },
    {
      name: 'unequal sizes',
      arrange: async (on) => ({
        words: [await on.sparseFile(`s-${made++}`, 7), `far:${await target(on)}`, ...far.words(way)],
      }),
      status: 3,
      says: /larger than the source/,
    },
    {
      name: 'no space left there',
      here: has('root'),
      arrange: async (on) => {
        const directory = await on.mount(`full-${made++}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=4M')
        return {
          words: [
            await on.randomFile(`s-${made++}.img`, 16 * MIB),
            `far:${join(directory, 'copy.img')}`,
            '--create',
            ...far.words(way),
          ],
        }
      },
      status: 6,
      says: /no room[^]*no space left/,
      partial: true,
    },
  ]
  it.each(rows.filter(({ here }) => here !== false))('$name', async (row) => check(row, scratch()))
})

it.skipIf(sshdSkipReason() !== null)(
  'a banner that comes late is waited for, and an interrupt ends the wait',
  async () => {
    const on = scratch()
    const path = await fifo(on)
    const arranged = await refused(
      on,
      [
        '-e',
        `${process.execPath} ${join(import.meta.dirname, '../support/fixtures/relay.js')}`,
        '--remote-command',
        `cat ${path} #`,
      ],
      'far',
    )
    const running = startCli(on, arranged.words)
    // The far side opens the fifo and says nothing; our own end of it proves that it got there.
    const writer = on.start('sh', '-c', `exec 3>${path}; echo open; read line`)
    if (writer.stdout === null) throw new Error('no stdout')
    await once(writer.stdout, 'data')
    running.child.kill('SIGINT')
    expect((await running.ended).status).toBe(130)
    await run('true')
  },
)
