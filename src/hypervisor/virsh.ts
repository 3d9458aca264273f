// Commands for virsh go in, on one host and one URI, and what it printed comes out. Several commands go to one process, since
// each process costs more than what it asks. Refuses, as migrate/daemon, where nothing answers.

import { randomUUID } from 'node:crypto'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host, ProgramResult } from '../host/host.js'
import { printable } from '../printable.js'
import { shellWord } from '../shell-word.js'

/** A daemon that takes longer for a question hangs. */
export const ASK_TIMEOUT_MS = 30_000
/** Starting a guest waits for QEMU and for the networks and disks of it. */
export const ACT_TIMEOUT_MS = 120_000
/** Definitions of all guests of a large host at once. */
const MAX_OUTPUT_BYTES = 64 << 20
/** Linux takes 128 KiB as one argument of a program. */
const MAX_BATCH_BYTES = 120_000
/** As a shell says that a program was not found. */
const NOT_FOUND = 127

export type VirshWords = readonly string[]

/** What the commands of a batch printed, in their order; nothing for one that failed. `errors` is empty when none did. */
export type BatchResult = Readonly<{ outputs: readonly string[]; errors: string }>

/** A command line of virsh with messages that are the same in all languages. */
export function virshArgv(uri: string, words: VirshWords): Argv {
  return ['env', 'LC_ALL=C', 'virsh', '-q', '-c', uri, ...words]
}

/** Words of one command in the syntax of virsh's own parser, which knows quotes as a shell does. */
export function virshLine(words: VirshWords): string {
  return words.map(shellWord).join(' ')
}

export class Virsh {
  readonly host: Host
  readonly uri: string
  #scratch: Promise<string> | null = null

  constructor(host: Host, uri: string) {
    this.host = host
    this.uri = uri
  }

  /** Resolves with any exit status of virsh. Rejects with migrate/daemon when libvirt cannot be asked at all. */
  async run(words: VirshWords, timeoutMs: number): Promise<ProgramResult> {
    return await this.#checked(virshArgv(this.uri, words), timeoutMs)
  }

  /** Runs one command that must succeed. `what` says in the error what was not done. */
  async act(words: VirshWords, timeoutMs: number, what: string): Promise<string> {
    const result = await this.run(words, timeoutMs)
    if (result.exitStatus !== 0) throw this.failure(what, result.stderrTail, words)
    return result.stdout
  }

  /** Runs all commands in one process, also those after one that failed. */
  async batch(commands: readonly VirshWords[], timeoutMs: number): Promise<BatchResult> {
    // Nobody can have it in a definition or a name.
    const mark = randomUUID()
    const line = commands.flatMap((words) => [virshLine(words), `echo ${mark}`]).join('; ')
    if (Buffer.byteLength(line) > MAX_BATCH_BYTES)
      throw new SyncError('migrate/hypervisor', 'these are too many questions for one call of virsh')
    const { stdout, stderrTail } = await this.#checked(virshArgv(this.uri, [line]), timeoutMs)
    const outputs = stdout.split(mark)
    if (outputs.length !== commands.length + 1)
      throw this.failure('not all commands were run', stderrTail, commands[0] ?? [])
    return { outputs: outputs.slice(0, -1), errors: stderrTail }
  }

  /**
   * Gives a text to `use` as a file that only this user can read, and removes it afterwards. In memory, where a flush
   * takes no time; definitions may have passwords.
   */
  async withFile<T>(text: string, use: (path: string) => Promise<T>): Promise<T> {
    this.#scratch ??= this.host.facts().then(({ isRoot }) => (isRoot ? '/run' : '/tmp'))
    const path = `${await this.#scratch}/blocksync-${randomUUID()}.xml`
    await this.host.writeText(path, text, { mode: 0o600, existing: 'refuse' })
    try {
      return await use(path)
    } finally {
      await this.host.remove(path)
    }
  }

  failure(what: string, stderrTail: string, words: VirshWords): SyncError {
    const why = lastError(stderrTail)
    return new SyncError('migrate/hypervisor', `${printable(what)}: ${why === '' ? 'virsh failed' : why}`, {
      operand: this.host.name,
      hint: `Ask there: virsh -c ${this.uri} ${printable(virshLine(words))}`,
    })
  }

  async #checked(argv: Argv, timeoutMs: number): Promise<ProgramResult> {
    const result = await this.host.run({ argv, timeoutMs, maxOutputBytes: MAX_OUTPUT_BYTES })
    const isMissing = result.exitStatus === NOT_FOUND
    if (!isMissing && !result.stderrTail.includes('failed to connect to the hypervisor')) return result
    const why = isMissing ? 'virsh is not there' : lastError(result.stderrTail)
    throw new SyncError(
      'migrate/daemon',
      `libvirt on ${this.host.name} cannot be asked at ${this.uri}: ${why}`,
      {
        operand: this.host.name,
        hint: `Look there with: virsh -c ${this.uri} version`,
      },
    )
  }
}

/** The last thing that virsh complains of, without its prefix: the first lines say only which command it was. */
function lastError(stderrTail: string): string {
  const lines = stderrTail.split('\n').filter((line) => line.startsWith('error: '))
  return printable((lines.at(-1) ?? stderrTail.trim()).replace(/^error: /, ''))
}
