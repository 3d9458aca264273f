// Two hosts with Xen as emulated machines, on a network of their own in namespaces. Programs there are run over ssh from
// inside those namespaces. down() ends all of it; the image is kept, what they wrote is not.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'

import { until } from '../../support/processes.js'
import { makeKeys } from '../host-files.js'
import { ROOT, endByStdin, onlyChild } from '../hosts.js'
import { guestImages } from '../images.js'
import { ask, must, type Answer, type AskOptions } from '../programs.js'
import { xenImage } from './image.js'

export type XenHostName = 1 | 2

const CAGE_INIT_PATH = join(import.meta.dirname, 'cage-init.sh')
/** Two machines boot Xen and Debian under emulation: 15 s on an idle processor. */
const UP_TIMEOUT_MS = 240_000
/** One ssh takes a second or two there. */
const RUN_TIMEOUT_MS = 120_000
const VOLUME_GROUP_SIZE = '4G'

export class XenHosts implements AsyncDisposable {
  readonly directory: string
  #unshare: ChildProcess | null = null
  #pid = 0

  private constructor(directory: string) {
    this.directory = directory
  }

  /** Both hosts with Xen's tools, a volume group vg0, and `blocksync` on their PATH. */
  static async up(): Promise<XenHosts> {
    const image = await xenImage()
    const hosts = new XenHosts(await mkdtemp(join(tmpdir(), 'blocksync-lab-')))
    try {
      await hosts.#makeJob(await guestImages())
      await hosts.#begin(image)
      for (const host of [1, 2] as const) {
        const isUp = (): boolean => hosts.#consoleOf(host).includes('LAB-UP')
        await until(isUp, `Xen host ${host} is up: ${join(hosts.directory, `console${host}`)}`, UP_TIMEOUT_MS)
      }
    } catch (error) {
      const consoles = ([1, 2] as const).map((host) => hosts.#consoleOf(host).slice(-1000))
      await hosts.down()
      throw new Error(`the Xen hosts do not come up: ${consoles.join('\n---\n')}`, { cause: error })
    }
    return hosts
  }

  address(host: XenHostName): string {
    return `10.78.0.${host}`
  }

  /** Runs a program there; resolves with any status. */
  run(host: XenHostName, argv: readonly string[], options: AskOptions = {}): Promise<Answer> {
    const enter = ['nsenter', '--target', String(this.#pid), '--mount', '--net', '--pid']
    const files = [
      '-i',
      join(this.directory, 'user_key'),
      '-o',
      `UserKnownHostsFile=${this.directory}/known_hosts`,
    ]
    const ssh = ['ssh', '-q', '-F', 'none', ...files, `root@${this.address(host)}`]
    const line = argv.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
    return ask([...enter, '--', ...ssh, line], { timeoutMs: RUN_TIMEOUT_MS, ...options })
  }

  async must(host: XenHostName, argv: readonly string[], options: AskOptions = {}): Promise<string> {
    const answer = await this.run(host, argv, options)
    if (answer.status === 0) return answer.stdout
    const how = answer.signal ?? `status ${answer.status}`
    throw new Error(`on ${host}: ${argv.join(' ')}: ${how}: ${answer.stderr}${answer.stdout}`)
  }

  /** Writes a file there. */
  async write(host: XenHostName, path: string, text: string): Promise<void> {
    await this.must(host, ['tee', path], { input: text })
  }

  async down(): Promise<void> {
    if (this.#unshare !== null) await endByStdin(this.#unshare)
    this.#unshare = null
    await rm(this.directory, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down()
  }

  #consoleOf(host: XenHostName): string {
    const path = join(this.directory, `console${host}`)
    return existsSync(path) ? readFileSync(path, 'latin1') : ''
  }

  /** The tar that both hosts unpack when they start. */
  async #makeJob(guest: string): Promise<void> {
    await makeKeys(this.directory)
    const hostKey = readFileSync(join(this.directory, 'host_key.pub'), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ')
    await writeFile(join(this.directory, 'known_hosts'), `10.78.0.1,10.78.0.2 ${hostKey}\n`)
    const job = join(this.directory, 'job')
    const product = join(job, 'product')
    await mkdir(product, { recursive: true })
    // What an installed package has: itself, and what it depends on.
    const listed = await ask(['npm', 'ls', '--omit=dev', '--all', '--parseable'], { cwd: ROOT })
    const modules = listed.stdout.split('\n').filter((path) => path.includes('/node_modules/'))
    const own = ['package.json', 'dist', join('native', 'prebuilds')].map((name) => join(ROOT, name))
    for (const path of [...own, ...modules])
      await cp(path, join(product, relative(ROOT, path)), {
        recursive: true,
        filter: (name) => !name.endsWith('.map'),
      })
    await cp(join(import.meta.dirname, 'host-init.sh'), join(job, 'host-init.sh'))
    await cp(guest, join(job, 'guest'), { recursive: true })
    for (const name of ['user_key', 'user_key.pub', 'host_key', 'host_key.pub'])
      await cp(join(this.directory, name), join(job, name))
    const tar = join(this.directory, 'job.tar')
    await must(['tar', '--create', '--file', tar, '--directory', job, '.'])
    await rm(job, { recursive: true })
    for (const number of [1, 2])
      await must(['truncate', '--size', VOLUME_GROUP_SIZE, join(this.directory, `volumes${number}`)])
  }

  async #begin(image: string): Promise<void> {
    const namespaces = [
      '--mount',
      '--uts',
      '--net',
      '--pid',
      '--ipc',
      '--fork',
      '--kill-child',
      '--mount-proc',
    ]
    const unshare = spawn('unshare', [...namespaces, 'bash', CAGE_INIT_PATH], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'], LAB_IMAGE: image, LAB_WORK: this.directory },
    })
    this.#unshare = unshare
    unshare.stdin.on('error', () => undefined) // it has ended, which the wait for its consoles tells
    const [line] = (await Promise.race([
      once(createInterface({ input: unshare.stdout }), 'line'),
      once(unshare, 'exit'),
    ])) as unknown[]
    if (line !== 'born') throw new Error(readFileSync(join(this.directory, 'cage.log'), 'utf8'))
    this.#pid = await onlyChild(unshare)
  }
}
