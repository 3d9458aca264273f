// A job of `replicate` from host A to host B of the lab: its disk on an xfs of A, where every snapshot that the job cuts is kept,
// so that each generation can be compared with what the source was. Refuses a generation whose snapshot was not kept.

import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { ReplicaRecord } from '../../src/replicate/record.js'
import type { JobState } from '../../src/replicate/job-state.js'
import { ADDRESSES } from './host-files.js'
import type { LabHosts, Running } from './hosts.js'
import { must, type Answer } from './programs.js'

export const JOB = 'disk'
const MIB = 1 << 20
/** Where the source lies on A, and its snapshots beside it. */
const DATA = '/srv/data'
const SOURCE = `${DATA}/disk.img`
const KEPT = `${DATA}/kept`
const SNAPSHOTS = `${DATA}/snapshots`
export const REPLICA = '/srv/replica/disk.img'
const RESTORED = '/srv/replica/restored.img'
const COMMAND_TIMEOUT_MS = 120_000

/** Cuts the disk, and keeps the same once more under the attempt's name; removes what it is told, or all of it. */
const CUT = `#!/bin/sh
set -e
cp --reflink=always ${SOURCE} ${SNAPSHOTS}/$BLOCKSYNC_ATTEMPT
cp --reflink=always ${SNAPSHOTS}/$BLOCKSYNC_ATTEMPT ${KEPT}/$BLOCKSYNC_ATTEMPT
echo ${SNAPSHOTS}/$BLOCKSYNC_ATTEMPT
`
const UNCUT = `#!/bin/sh
set -e
if [ -n "$BLOCKSYNC_ORPHANS" ]; then rm -f ${SNAPSHOTS}/*; exit; fi
printf '%s\\n' "$BLOCKSYNC_SNAPSHOTS" | while read -r path; do rm -f "$path"; done
`

/** A `post` hook: keeps what was cut by reflink, as long as it has its name; there is one at a time. */
const KEEP = `#!/bin/sh
set -e
for clone in ${DATA}/.blocksync-snap-*+0.img; do
  cp --reflink=always "$clone" ${SNAPSHOTS}/.$BLOCKSYNC_ATTEMPT
  mv ${SNAPSHOTS}/.$BLOCKSYNC_ATTEMPT ${KEPT}/$BLOCKSYNC_ATTEMPT
done
`

export type ReplicaSetup = Readonly<{
  diskMiB: number
  everySeconds: number
  /** 'command' keeps every snapshot; 'reflink' and 'none' are the product's own ways. */
  snapshot: 'command' | 'reflink' | 'none'
  keepLast: number
}>

export class ReplicaLab implements AsyncDisposable {
  readonly hosts: LabHosts
  readonly setup: ReplicaSetup

  private constructor(hosts: LabHosts, setup: ReplicaSetup) {
    this.hosts = hosts
    this.setup = setup
  }

  static async make(hosts: LabHosts, setup: ReplicaSetup): Promise<ReplicaLab> {
    const image = hosts.outside('A', '/srv/xfs.img')
    await writeFile(image, '')
    // kept snapshots share what did not change
    await truncate(image, Math.max(1024, setup.diskMiB * 6) * MIB)
    await must(['mkfs.xfs', '-q', '-m', 'reflink=1', image])
    const device = await hosts.loopDevice('A', '/srv/xfs.img', 'xfs')
    await hosts.must('A', ['mkdir', '-p', DATA])
    await hosts.must('A', ['mount', '-o', 'noatime', device, DATA])
    await hosts.must('A', ['mkdir', '-p', KEPT, SNAPSHOTS])
    await hosts.must('A', ['sh', '-c', `head -c ${setup.diskMiB * MIB} /dev/urandom > ${SOURCE}`])
    await mkdir(hosts.outside('B', '/srv/replica'), { recursive: true })
    for (const [name, text] of [
      ['cut', CUT],
      ['uncut', UNCUT],
      ['keep', KEEP],
    ] as const)
      await writeFile(hosts.outside('A', `/srv/${name}`), text, { mode: 0o755 })
    await mkdir(hosts.outside('A', '/etc/blocksync'), { recursive: true })
    const lab = new ReplicaLab(hosts, setup)
    await lab.configure('')
    return lab
  }

  /** Writes the configuration; `more` are further lines of the job. */
  async configure(more: string): Promise<void> {
    const { everySeconds, snapshot, keepLast } = this.setup
    const cut =
      snapshot !== 'command'
        ? `snapshot: ${snapshot}`
        : `snapshot: { command: { create: [/srv/cut], remove: [/srv/uncut] } }`
    const text = `jobs:
  ${JOB}:
    source: ${SOURCE}
    destination: root@${ADDRESSES.B}:${REPLICA}
    ${cut}
    every: ${everySeconds}s
    keep: { last: ${keepLast} }
    rsh: ssh -o ConnectTimeout=5 -o ServerAliveInterval=2 -o ServerAliveCountMax=3
    timeout: 5s
${more}`
    await writeFile(this.hosts.outside('A', '/etc/blocksync/config.yaml'), text, { mode: 0o644 })
  }

  /** With snapshots of reflink: has each one kept that became a generation, but for those whose attempt is struck right behind that. */
  async keepEach(): Promise<void> {
    await this.configure('    hooks: { post: [/srv/keep] }\n')
  }

  /** Whether there is something to compare a generation with. */
  isKept(attempt: string): Promise<boolean> {
    return this.hosts.run('A', ['test', '-e', `${KEPT}/${attempt}`]).then(({ status }) => status === 0)
  }

  /** `blocksync replicate WORDS` on A, to its end. */
  replicate(...words: readonly string[]): Promise<Answer> {
    return this.hosts.run('A', ['blocksync', 'replicate', ...words], { timeoutMs: COMMAND_TIMEOUT_MS })
  }

  /** The same on B, which has no configuration. */
  replicateThere(...words: readonly string[]): Promise<Answer> {
    return this.hosts.run('B', ['blocksync', 'replicate', ...words], { timeoutMs: COMMAND_TIMEOUT_MS })
  }

  /** Digests of the disk on A and of its replica on B, as they are now. */
  async contents(): Promise<readonly [string, string]> {
    const [source, replica] = await Promise.all([
      this.hosts.must('A', ['sha256sum', SOURCE]),
      this.hosts.must('B', ['sha256sum', REPLICA]),
    ])
    return [source.slice(0, 64), replica.slice(0, 64)]
  }

  /** Overwrites 64 KiB of a disk, as a guest that runs there would. */
  async change(host: 'A' | 'B', atMiB: number): Promise<void> {
    const path = host === 'A' ? SOURCE : REPLICA
    const words = [
      'if=/dev/urandom',
      `of=${path}`,
      'bs=64K',
      'count=1',
      `seek=${atMiB * 16}`,
      'conv=notrunc,fsync',
    ]
    await this.hosts.must(host, ['dd', 'status=none', ...words])
  }

  daemon(): Promise<Running> {
    return this.hosts.start('A', ['blocksync', 'replicate', 'daemon', '--log', 'json'])
  }

  scribble(bytesPerSecond: number): Promise<Running> {
    const script = '/run/lab/checkout/test/lab/scribble.js'
    return this.hosts.start('A', ['node', script, SOURCE, String(bytesPerSecond)])
  }

  /** The record of the replica, as it is on B's disk now; null before the first attempt. */
  record(): ReplicaRecord | null {
    const directory = this.hosts.outside('B', '/var/lib/blocksync/replica')
    if (!existsSync(directory)) return null
    const [id] = readdirSync(directory).filter((name) => name.startsWith(`${JOB}.`))
    const path = join(directory, id ?? '', 'replica.json')
    return id !== undefined && existsSync(path)
      ? (JSON.parse(readFileSync(path, 'utf8')) as ReplicaRecord)
      : null
  }

  state(): JobState | null {
    const path = this.hosts.outside('A', `/var/lib/blocksync/replicate/${JOB}/state.json`)
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as JobState) : null
  }

  /** Writes a generation out on B and compares it with the snapshot that it was made of. Rejects where they differ. */
  async expectRestores(number: number): Promise<void> {
    const generation = this.record()?.generations.find((one) => one.number === number)
    if (generation === undefined) throw new Error(`there is no generation ${number}`)
    const restored = this.hosts.outside('B', RESTORED)
    await rm(restored, { force: true })
    const answer = await this.replicate(
      'restore',
      JOB,
      '--generation',
      String(number),
      '--to',
      RESTORED,
      '--yes',
    )
    if (answer.status !== 0)
      throw new Error(
        `generation ${number} is not restored: ${answer.status}: ${answer.stderr}${answer.stdout}`,
      )
    const [is, was] = await Promise.all([
      digestOf(restored),
      this.hosts.must('A', ['sha256sum', `${KEPT}/${generation.attempt}`]),
    ])
    if (!was.startsWith(is))
      throw new Error(`generation ${number} is not what was cut by ${generation.attempt}`)
    await rm(restored, { force: true })
  }

  /** Snapshots that are there now. */
  async snapshots(): Promise<string[]> {
    const words = ['find', DATA, '-name', '.blocksync-snap-*', '-o', '-path', `${SNAPSHOTS}/*`]
    return (await this.hosts.must('A', words)).split('\n').filter(Boolean)
  }

  /** Forgets the snapshots that were kept but for those of the generations that there are. */
  async forgetOld(): Promise<void> {
    const attempts = new Set(this.record()?.generations.map(({ attempt }) => attempt))
    const names = (await this.hosts.must('A', ['ls', KEPT])).split('\n').filter(Boolean)
    // the one that is being cut now is not in the record yet
    const old = names.filter((name) => !attempts.has(name)).slice(0, -4)
    if (old.length > 0) await this.hosts.must('A', ['rm', '-f', ...old.map((name) => `${KEPT}/${name}`)])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts.run('A', ['umount', '--lazy', DATA])
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Processes of a host whose command line has `word` in it: pids as seen there. */
export async function processesOf(hosts: LabHosts, host: 'A' | 'B', word: string): Promise<number[]> {
  const { stdout } = await hosts.run(host, ['pgrep', '-f', '--', word])
  return stdout.split('\n').filter(Boolean).map(Number)
}
