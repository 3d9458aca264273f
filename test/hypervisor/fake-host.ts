// A host that runs nothing: it records what it is asked to run and answers from a list, and keeps files in memory. Refuses
// what no answer was written for.

import { spawn } from 'node:child_process'

import type { FileFacts, Host, HostFacts, ProgramRequest, ProgramResult } from '../../src/host/host.js'
import { NoDisks } from '../support/no-disks.js'

/** What `env LC_ALL=C virsh -q -c URI` is followed by, in one line; null for another program. */
export type Answer = (line: string, request: ProgramRequest, host: FakeHost) => Partial<ProgramResult> | null

const FACTS: HostFacts = {
  hostName: 'host1',
  machineId: 'm1',
  bootId: 'b1',
  nowMs: 0,
  memoryBytes: 8 * 2 ** 30,
  availableMemoryBytes: 4 * 2 ** 30,
  processors: 2,
  blocksyncVersion: '0.1.0',
  isRoot: true,
  stateDirectory: '/var/lib/blocksync',
  clientAddress: null,
}

export class FakeHost extends NoDisks implements Host {
  readonly name = 'host1'
  readonly kind = 'local'
  readonly lost: Host['lost'] = new AbortController().signal
  readonly files = new Map<string, string>()
  readonly paths = new Set<string>()
  readonly ran: string[] = []
  /** What files were there when a program ran, by the line. */
  readonly seen = new Map<string, string>()
  factsNow = FACTS
  readonly #answer: Answer

  constructor(answer: Answer) {
    super()
    this.#answer = answer
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    const line = lineOf(request)
    this.ran.push(line)
    for (const [path, text] of this.files) if (line.includes(path)) this.seen.set(path, text)
    const answer = this.#answer(line, request, this)
    if (answer === null) throw new Error(`nothing was written to answer: ${line}`)
    return await Promise.resolve({ exitStatus: 0, stdout: '', stderrTail: '', ...answer })
  }

  async facts(): Promise<HostFacts> {
    return await Promise.resolve(this.factsNow)
  }

  async look(path: string): Promise<FileFacts | null> {
    const facts: FileFacts = {
      kind: 'file',
      realPath: path,
      sizeBytes: 1,
      allocatedBytes: 1,
      identity: path,
      mode: 0o644,
      modifiedNs: '0',
      changedNs: '0',
      written: null,
      isProtected: false,
    }
    return await Promise.resolve(this.paths.has(path) ? facts : null)
  }

  async writeText(
    path: string,
    text: string,
    options: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
  ): Promise<void> {
    if (options.existing === 'refuse' && this.files.has(path)) throw new Error(`${path} is there`)
    if (options.mode !== 0o600) throw new Error('a definition may have passwords')
    this.files.set(path, text)
    await Promise.resolve()
  }

  async remove(path: string): Promise<void> {
    this.files.delete(path)
    await Promise.resolve()
  }

  space = this.#never('space')
  readText = this.#never('readText')
  makeDirectories = this.#never('makeDirectories')
  makeFile = this.#never('makeFile')
  rename = this.#never('rename')
  protect = this.#never('protect')
  unprotect = this.#never('unprotect')
  openJournal = this.#never('openJournal')
  appendJournal = this.#never('appendJournal')
  readJournal = this.#never('readJournal')
  listJournals = this.#never('listJournals')
  removeJournal = this.#never('removeJournal')
  workDirectory = this.#never('workDirectory')
  close = this.#never('close')

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve()
  }

  #never(what: string): () => Promise<never> {
    return async () => await Promise.reject(new Error(`a driver does not ask for ${what}`))
  }
}

function lineOf({ argv }: ProgramRequest): string {
  const [env, locale, program, ...words] = argv
  if (env !== 'env' || program !== 'virsh')
    return argv.filter((word) => (word !== env && word !== locale) || env !== 'env').join(' ')
  if (locale !== 'LC_ALL=C') throw new Error('virsh has to speak the language that is understood')
  const [quiet, option, , ...command] = words
  if (quiet !== '-q' || option !== '-c') throw new Error(`virsh without its URI: ${words.join(' ')}`)
  return command.join(' ')
}

/** Answers to the commands of a batch, each by the first of these that its words begin with; '' for the rest. */
export function batched(line: string, answers: Readonly<Record<string, string>>): string {
  return line
    .split('; ')
    .map((command) => {
      const mark = /^echo (\S+)$/.exec(command)?.[1]
      if (mark !== undefined) return mark
      return Object.entries(answers).find(([begin]) => command.startsWith(begin))?.[1] ?? ''
    })
    .join('')
}

/** Runs the program for real, as a host of this machine would. */
export async function runHere({ argv, timeoutMs }: ProgramRequest): Promise<ProgramResult> {
  const [program, ...words] = argv
  return await new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.once('error', reject)
    child.once('close', (status) =>
      resolve({ exitStatus: status ?? 137, stdout, stderrTail: stderr.trim().slice(-4096) }),
    )
  })
}
