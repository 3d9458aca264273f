// Two hosts on one machine, each a tree of processes in namespaces of its own with its own libvirtd, sshd, /etc, /var and
// state of the product; `blocksync` on their PATH is this checkout, built. Nothing is made in the machine's own namespaces
// but files in one temporary directory and, when asked for, loop devices; down() takes all of it away.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, readFileSync, statfsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { findProgram } from '../support/needs.js'
import { childrenOf } from '../support/processes.js'
import {
  ADDRESSES,
  HOST_NAMES,
  HOST_PATH,
  NAMES_ON_NET,
  NETWORK_LENGTH,
  SHARED_AT,
  makeHostFiles,
  makeKeys,
  type HostName,
} from './host-files.js'
import { guestImages } from './images.js'
import { ask, must, type Answer, type AskOptions } from './programs.js'

export const ROOT = join(import.meta.dirname, '..', '..')
const MAIN_PATH = join(ROOT, 'dist', 'cli', 'main.js')
const INIT_PATH = join(import.meta.dirname, 'host-init.sh')

/** What the lab runs, and the Debian packages that have it. */
const PROGRAMS: Readonly<Record<string, string>> = {
  libvirtd: 'libvirt-daemon-system',
  virsh: 'libvirt-clients',
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-img': 'qemu-utils',
  busybox: 'busybox-static',
  ip: 'iproute2',
  depmod: 'kmod',
  kill: 'procps',
  sshd: 'openssh-server',
  ssh: 'openssh-client',
  losetup: 'mount',
  chattr: 'e2fsprogs',
  'ocf-tester': 'resource-agents',
  xmllint: 'libxml2-utils',
}

/** libvirtd asks every emulator what it can do when it starts for the first time. */
const UP_TIMEOUT_MS = 60_000
const DOWN_TIMEOUT_MS = 20_000
const RUN_TIMEOUT_MS = 60_000
/** tmpfs, in statfs(2): it has no O_DIRECT, which the guests' disks want. */
const TMPFS_MAGIC = 0x01021994

/** Directories of a host and where they lie outside of it. */
const OWN: ReadonlyArray<readonly [string, string]> = [
  ['/etc', 'etc'],
  ['/root', 'root'],
  ['/srv', 'srv'],
  ['/var/lib', 'var-lib'],
  ['/var/log', 'var-log'],
  ['/var/cache', 'var-cache'],
]

/** A host as its parts: the process that holds its namespaces, seen from outside. */
type Up = Readonly<{ unshare: ChildProcess; pid: number }>

/** A program that runs on a host; `pid` is the program itself, seen from outside. */
export type Running = Readonly<{ child: ChildProcess; pid: number; ended: Promise<Answer> }>

export class LabHosts implements AsyncDisposable {
  readonly directory: string
  readonly #up = new Map<HostName, Up>()

  private constructor(directory: string) {
    this.directory = directory
  }

  /** Both hosts with their daemons answering. Rejects with what they said where one does not come up. */
  static async up(): Promise<LabHosts> {
    if (!existsSync(MAIN_PATH)) throw new Error(`${MAIN_PATH} is missing: npm run build`)
    const missing = Object.keys(PROGRAMS).filter((name) => findProgram(name) === null)
    if (missing.length > 0)
      throw new Error(
        `the lab wants ${missing.join(' ')}: install ${missing.map((name) => PROGRAMS[name]).join(' ')}`,
      )
    const images = await guestImages()
    const isTmpfs = statfsSync(tmpdir()).type === TMPFS_MAGIC
    const hosts = new LabHosts(await mkdtemp(join(isTmpfs ? '/var/tmp' : tmpdir(), 'blocksync-lab-')))
    try {
      await mkdir(join(hosts.directory, 'shared'))
      await makeKeys(hosts.directory)
      await Promise.all(HOST_NAMES.map((host) => makeHostFiles(hosts.#own(host), host, hosts.directory)))
      const said = await Promise.all(HOST_NAMES.map((host) => hosts.#begin(host, images)))
      const cable = ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns']
      await must(['nsenter', '--target', hosts.#pid('A'), '--net', ...cable, hosts.#pid('B')])
      for (const { unshare } of hosts.#up.values()) unshare.stdin?.write('cable\n')
      await Promise.all(said.map((wait) => wait('up')))
    } catch (error) {
      await hosts.down()
      throw error
    }
    return hosts
  }

  /** Runs a program there, as root with that host's environment; resolves with any status. */
  run(host: HostName, argv: readonly string[], options: AskOptions = {}): Promise<Answer> {
    const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS
    // The deadline is held inside: a killed nsenter would leave the program behind.
    const bounded = ['timeout', '--signal=KILL', String(timeoutMs / 1000), ...argv]
    return ask(this.#words(host, bounded), { ...options, timeoutMs: timeoutMs + 5000 })
  }

  /** The same for what has to end with 0; resolves with its stdout. */
  async must(host: HostName, argv: readonly string[], options: AskOptions = {}): Promise<string> {
    const answer = await this.run(host, argv, options)
    if (answer.status === 0) return answer.stdout
    const how = answer.signal ?? `status ${answer.status}`
    throw new Error(`on ${host}: ${argv.join(' ')}: ${how}: ${answer.stderr}${answer.stdout}`)
  }

  virsh(host: HostName, ...words: readonly string[]): Promise<string> {
    return this.must(host, ['virsh', '--quiet', '--connect', 'qemu:///system', ...words])
  }

  /** Starts a program there and resolves when it runs. It ends with the host at the latest. */
  async start(host: HostName, argv: readonly string[]): Promise<Running> {
    const [program = '', ...words] = this.#words(host, argv)
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    const ended = once(child, 'close').then(([status, signal]: unknown[]) => ({
      status: typeof status === 'number' ? status : null,
      signal: typeof signal === 'string' ? signal : null,
      stdout,
      stderr,
    }))
    await once(child, 'spawn')
    return { child, pid: await onlyChild(child), ended }
  }

  address(host: HostName): string {
    return ADDRESSES[host]
  }

  /** Where a file of a host is, seen from outside. */
  outside(host: HostName, path: string): string {
    if (path.startsWith(`${SHARED_AT[host]}/`))
      return join(this.directory, 'shared', path.slice(SHARED_AT[host].length))
    const [inside, own] = OWN.find(([start]) => path.startsWith(`${start}/`)) ?? []
    if (inside === undefined || own === undefined) throw new Error(`${path} is not a host's own`)
    return join(this.#own(host), own, path.slice(inside.length))
  }

  /** Attaches a file of a host to a loop device and names that /dev/lab/NAME there. */
  async loopDevice(host: HostName, file: string, name: string): Promise<string> {
    const words = ['losetup', '--find', '--show', '--direct-io=on', file]
    const device = (await this.must(host, words)).trim()
    appendFileSync(join(this.#own(host), 'loops'), `${device}\n`)
    await this.must(host, ['ln', '-sfn', device, `/dev/lab/${name}`])
    return `/dev/lab/${name}`
  }

  /** Takes the loop devices of a host away, writable again for who gets their numbers next. */
  async detachAll(host: HostName): Promise<void> {
    const path = join(this.#own(host), 'loops')
    const devices = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []
    for (const device of devices) {
      await this.must(host, ['blockdev', '--setrw', device])
      await this.must(host, ['losetup', '--detach', device])
    }
    await rm(path, { force: true })
  }

  /** Ends a daemon by its pid file, and its sockets' waiting clients with it. */
  async stopDaemon(host: HostName, name: 'libvirtd' | 'sshd'): Promise<void> {
    const pid = (await this.must(host, ['cat', `/run/${name}.pid`])).trim()
    await this.must(host, ['kill', '-KILL', pid])
    await this.must(host, ['rm', '-f', `/run/${name}.pid`])
  }

  async startDaemon(host: HostName, name: 'libvirtd' | 'sshd'): Promise<void> {
    const words = name === 'sshd' ? ['/usr/sbin/sshd', '-E', '/var/log/sshd.log'] : ['libvirtd', '-d']
    await this.must(host, words)
    if (name === 'libvirtd') await this.virsh(host, 'version', '--daemon')
  }

  /** Ends both hosts with all that runs there and takes away all that was made. */
  async down(): Promise<void> {
    await Promise.all(Array.from(this.#up.values(), ({ unshare }) => endByStdin(unshare)))
    this.#up.clear()
    // Fenced disks are immutable; where the file system knows no such thing there is nothing to take back.
    await ask(['chattr', '-R', '-f', '-i', this.directory])
    await rm(this.directory, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down()
  }

  #own(host: HostName): string {
    return join(this.directory, host)
  }

  #pid(host: HostName): string {
    const up = this.#up.get(host)
    if (up === undefined) throw new Error(`host ${host} is not up`)
    return String(up.pid)
  }

  #words(host: HostName, argv: readonly string[]): string[] {
    const environment = [`PATH=${HOST_PATH}`, 'HOME=/root', 'USER=root', 'LANG=C.UTF-8', 'TERM=dumb']
    const enter = ['nsenter', '--target', this.#pid(host), '--mount', '--uts', '--net', '--pid', '--ipc']
    return [...enter, '--', 'env', '--ignore-environment', ...environment, ...argv]
  }

  /** Starts the first process of a host; resolves, when it is born, with a way to wait for what it says next. */
  async #begin(host: HostName, images: string): Promise<(word: string) => Promise<void>> {
    const namespaces = ['--mount', '--uts', '--net', '--pid', '--ipc']
    const unshare = spawn(
      'unshare',
      [...namespaces, '--fork', '--kill-child', '--mount-proc', 'bash', INIT_PATH],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: {
          PATH: process.env['PATH'],
          LAB_DIRECTORY: this.#own(host),
          LAB_NAME: NAMES_ON_NET[host],
          LAB_ADDRESS: `${ADDRESSES[host]}/${NETWORK_LENGTH}`,
          LAB_IMAGES: images,
          LAB_NODE: process.execPath,
          LAB_CHECKOUT: ROOT,
          LAB_SHARED: join(this.directory, 'shared'),
          LAB_SHARED_AT: SHARED_AT[host],
        },
      },
    )
    const lines: string[] = []
    const reader = createInterface({ input: unshare.stdout })
    reader.on('line', (line) => lines.push(line))
    unshare.stdin.on('error', () => undefined) // it has ended: whoever waits for a word is told
    const logPath = join(this.#own(host), 'init.log')
    const said = async (word: string): Promise<void> => {
      const deadline = AbortSignal.timeout(UP_TIMEOUT_MS)
      while (!lines.includes(word)) {
        if (unshare.exitCode !== null || unshare.signalCode !== null || deadline.aborted) {
          const log = await readFile(logPath, 'utf8').catch(() => '')
          throw new Error(`host ${host} does not come up: no '${word}': ${log}`)
        }
        await Promise.race([once(reader, 'line', { signal: deadline }), once(reader, 'close')]).catch(
          () => undefined, // the deadline, which the loop sees
        )
      }
    }
    // Before it is born it may fail as well: then down() has to know of it.
    this.#up.set(host, { unshare, pid: await onlyChild(unshare) })
    await said('born')
    return said
  }
}

/** Lets the first process of a host end it in its own order; kills it where that takes too long. */
export async function endByStdin(unshare: ChildProcess): Promise<void> {
  if (unshare.exitCode !== null || unshare.signalCode !== null) return
  const ended = once(unshare, 'exit')
  unshare.stdin?.end()
  const timer = setTimeout(() => unshare.kill('SIGKILL'), DOWN_TIMEOUT_MS)
  await ended
  clearTimeout(timer)
}

/** The process that a program has started, which is the only one it starts. */
export async function onlyChild(parent: ChildProcess): Promise<number> {
  const parentPid = parent.pid
  if (parentPid === undefined) throw new Error('it could not be started')
  for (;;) {
    const path = `/proc/${parentPid}/task/${parentPid}/children`
    const [pid] = existsSync(path)
      ? readFileSync(path, 'utf8').trim().split(' ').filter(Boolean).map(Number)
      : childrenOf(parentPid)
    if (pid !== undefined) return pid
    if (parent.exitCode !== null || parent.signalCode !== null) return parentPid
    await new Promise((resolve) => setImmediate(resolve))
  }
}
