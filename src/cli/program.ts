// The command line as a whole: words in, an exit status out. Every failure ends here, is printed once, and with --json
// is also the one `result` line. What commander refuses is a usage error like any other (exit status 2).

import { Command, CommanderError, Option } from 'commander'
import type { HelpConfiguration } from 'commander'

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { CommandContext } from './context.js'
import type { DigestFlags } from './digest.js'
import { doctorCommand } from './doctor.js'
import type { DoctorFlags } from './doctor.js'
import { addForceFlags } from './force-flags.js'
import { addConnectionFlags, addNativeFlag, addSyncFlags, bareCompress } from './flags.js'
import type { SyncFlags } from './flags.js'
import { DESCRIPTION, EXAMPLES, EXIT_STATUSES, USAGE } from './help.js'
import type { MigrateFlags } from './migrate-flags.js'
import { failedResult } from './result.js'
import { addStateFlag } from './state-flags.js'
import type { StatusFlags } from './status.js'
import { syncCommand } from './sync.js'
import { addUndoFlags } from './undo-flags.js'
import type { UndoFlags } from './undo.js'
import { addDigestFlags, bareVerify } from './verify-flags.js'
import { versionLines } from './version.js'

const TRY_HELP = 'Try blocksync --help.'

/** The descriptions name the choices and defaults themselves, shorter than commander would. */
const HELP_FORM: HelpConfiguration = {
  helpWidth: 100,
  visibleArguments: () => [],
  optionDescription: (option) => option.description,
}

/** Thrown out of commander's parsing when --version is seen. */
class VersionRequest extends Error {}

/**
 * Runs one command line (`words` without node and script); resolves with the exit status when all text is printed.
 * Never rejects.
 */
export async function runProgram(words: readonly string[], context: CommandContext): Promise<number> {
  const { output } = context
  let status: number
  try {
    status = await dispatch(words, context)
  } catch (thrown) {
    const error = withHint(toSyncError(thrown))
    output.error(error)
    if (words[0] === 'check') status = (await import('./check.js')).unknownLine(error, context)
    else {
      if (wantsJson(words)) output.json(failedResult(error))
      status = error.exitStatus
    }
  }
  await output.flush()
  return status
}

async function dispatch(words: readonly string[], context: CommandContext): Promise<number> {
  const { output } = context
  let status: number = EXIT.ok
  const helpLines: string[] = []
  // `help` and `help COMMAND`, as people type it, are the command's --help
  const asked = words[0] === 'help' ? [...words.slice(1), '--help'] : [...words]
  const program = commandTree({
    print: (text) => helpLines.push(...text.trimEnd().split('\n')),
    sync: async (operands, flags) => {
      status = await syncCommand({ kind: 'sync', operands, flags }, context)
    },
    verify: async (operands, flags) => {
      const { receipt } = flags
      const [disk = '', ...others] = operands
      // one disk alone can be compared with nothing but a receipt
      if (receipt === undefined || others.length > 0 || flags.disk !== undefined) {
        status = await syncCommand({ kind: 'verify', operands, flags }, context)
      } else {
        const { verifyReceiptCommand } = await import('./digest.js')
        status = await verifyReceiptCommand(disk, receipt, flags, context)
      }
    },
    digest: async (disk, flags) => {
      const { digestCommand } = await import('./digest.js')
      status = await digestCommand(disk, flags, context)
    },
    doctor: async (host, flags) => {
      status = await doctorCommand(host, flags, context)
    },
    status: async (disks, flags) => {
      const { statusCommand } = await import('./status.js')
      status = await statusCommand(disks, flags, context)
    },
    undo: async (disk, flags) => {
      const { undoCommand } = await import('./undo.js')
      status = await undoCommand(disk, flags, context)
    },
    bwlimit: async (rate, pid) => {
      const { bwlimitCommand } = await import('./bwlimit.js')
      status = await bwlimitCommand(rate, pid, context)
    },
  })
  if (words.length === 0) {
    for (const line of program.helpInformation().trimEnd().split('\n')) output.note(line)
    return EXIT.usage
  }
  try {
    // its many options would cost every other command a moment
    if (asked[0] === 'migrate') await addMigrate(program, (code) => (status = code), context)
    if (asked[0] === 'replicate' || asked[0] === 'check') {
      const { addReplicate } = await import('./replicate-flags.js')
      addReplicate(program, HELP_FORM, (code) => (status = code), context)
    }
    await program.parseAsync(bareVerify(bareCompress(asked)), { from: 'user' })
  } catch (thrown) {
    if (thrown instanceof VersionRequest) {
      const nativeStatus = await context.loadNativeStatus()
      for (const line of versionLines(nativeStatus())) output.line(line)
      return EXIT.ok
    }
    if (!(thrown instanceof CommanderError)) throw thrown
    if (thrown.exitCode !== 0) throw usageOf(thrown)
    for (const line of helpLines) output.line(line)
    return EXIT.ok
  }
  return status
}

type Actions = Readonly<{
  print: (text: string) => void
  sync: (operands: string[], flags: SyncFlags) => Promise<void>
  verify: (operands: string[], flags: SyncFlags) => Promise<void>
  digest: (disk: string, flags: DigestFlags) => Promise<void>
  doctor: (host: string | null, flags: DoctorFlags) => Promise<void>
  status: (disks: string[], flags: StatusFlags) => Promise<void>
  undo: (disk: string, flags: UndoFlags) => Promise<void>
  bwlimit: (rate: string | null, pid: string | null) => Promise<void>
}>

function commandTree(actions: Actions): Command {
  const program = new Command('blocksync')
    .exitOverride()
    // errors come as exceptions and are printed by runProgram
    .configureOutput({ writeOut: actions.print, writeErr: () => undefined, outputError: () => undefined })
    .helpCommand(false)
    .addOption(
      new Option(
        '-V, --version',
        'versions of blocksync and Node, and whether the native core works',
      ).helpGroup('Other:'),
    )
    .on('option:version', () => {
      throw new VersionRequest()
    })
  const sync = program
    .command('sync', { isDefault: true })
    .argument('[operands...]')
    .action(async (operands: string[], flags: SyncFlags) => actions.sync(operands, flags))
  const verify = program
    .command('verify')
    .description(
      'Compares the two and writes nothing. Exit status 0 where they are identical, 1 where they differ.',
    )
    .argument('[operands...]')
    .action(async (operands: string[], flags: SyncFlags) => actions.verify(operands, flags))
  const digest = program
    .command('digest')
    .description('Prints the root digest of one disk here. Only reads.')
    .argument('<disk>')
    .action(async (disk: string, flags: DigestFlags) => actions.digest(disk, flags))
  const doctor = program
    .command('doctor')
    .description(
      'Says what works here, and with HOST also there, and whether a sync between the two could work.',
    )
    .argument('[host]')
    .action(async (host: string | undefined, flags: DoctorFlags) => actions.doctor(host ?? null, flags))
  const status = program
    .command('status')
    .description(
      'Shows the pairs of disks that are recorded here: which way, when, by whom, and whether the last run finished. ' +
        'Exit status 1 where nothing is known of a DISK that is named.',
    )
    .argument('[disks...]')
    .action(async (disks: string[], flags: StatusFlags) => actions.status(disks, flags))
  const undo = program
    .command('undo')
    .description(
      'Brings a disk here back to what it was before the last run with --undo that wrote it, also one that did not finish.',
    )
    .argument('<disk>')
    .action(async (disk: string, flags: UndoFlags) => actions.undo(disk, flags))
  const bwlimit = program
    .command('bwlimit')
    .description(
      'Gives a run that goes on here another limit, at once: RATE as with --bwlimit, PID where more than one goes on. ' +
        'Without RATE it shows the runs.',
    )
    .argument('[rate]')
    .argument('[pid]')
    .action(async (rate?: string, pid?: string) => actions.bwlimit(rate ?? null, pid ?? null))

  addSyncFlags(sync, 'sync')
  addSyncFlags(verify, 'verify')
  addNativeFlag(addDigestFlags(digest))
  addNativeFlag(addForceFlags(addStateFlag(addUndoFlags(undo))))
  doctor.option('--json', 'one JSON result on stdout')
  addNativeFlag(addConnectionFlags(doctor))
  addStateFlag(status.option('--json', 'one JSON result on stdout'))
  for (const command of [sync, verify, digest, status, undo, doctor, bwlimit]) {
    command.addHelpOption(new Option('-h, --help', 'this text').helpGroup('Other:'))
    command.configureHelp(HELP_FORM)
  }
  verify.usage('SOURCE... DESTINATION [options]\n       blocksync verify --receipt FILE DISK [options]')
  digest.usage('DISK [options]')
  undo.usage('DISK [options]')
  doctor.usage('[HOST] [options]')
  status.usage('[DISK|HOST:DISK...] [options]')
  bwlimit.usage('[RATE [PID]] [options]')

  // one page answers `blocksync --help` and `blocksync sync --help`
  sync.addOption(
    new Option(
      '-V, --version',
      'versions of blocksync and Node, and whether the native core works',
    ).helpGroup('Other:'),
  )
  sync.configureHelp({ ...HELP_FORM, commandUsage: () => USAGE })
  const optionsText = sync.helpInformation.bind(sync)
  const page = (): string => {
    const [usage = '', ...groups] = optionsText().split('\n\n')
    return [usage, DESCRIPTION, ...groups.map((group) => group.trimEnd()), EXAMPLES, EXIT_STATUSES, ''].join(
      '\n\n',
    )
  }
  sync.helpInformation = page
  program.helpInformation = page
  return program
}

async function addMigrate(
  program: Command,
  done: (status: number) => void,
  context: CommandContext,
): Promise<void> {
  const [{ addMigrateFlags }, { migrateCommand }] = await Promise.all([
    import('./migrate-flags.js'),
    import('./migrate.js'),
  ])
  const migrate = program
    .command('migrate')
    .description(
      'Moves a guest to another host: its disks while it runs, then what is left of them and its memory. It runs on one ' +
        'host at any time; what fails before it is handed over is put back.',
    )
    .argument('[operands...]')
    .action(async (operands: string[], flags: MigrateFlags) => {
      done(await migrateCommand(operands, flags, context))
    })
  addMigrateFlags(migrate)
  migrate.addHelpOption(new Option('-h, --help', 'this text').helpGroup('Other:'))
  migrate.configureHelp(HELP_FORM)
  migrate.usage(
    'GUEST [user@]HOST [options]\n       blocksync migrate --status [ID] | --continue ID | --abort ID | --unfence ID',
  )
}

/** Where one of these is unknown, the command is another than sync. */
const WRITING_OPTIONS: readonly string[] = ['--streams', '--bwlimit', '--compress', '--create']

/** commander's words as our error: its suggestion is the hint, the option it is about is the operand. */
function usageOf(error: CommanderError): SyncError {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
  const suggestion = rest.join(' ').replace(/^\(|\)$/g, '')
  const option = /'(?:-\w, )?(--?[a-z0-9-]+)/i.exec(first)?.[1]
  return new SyncError('usage', `${first.replace(/\.$/, '')}; nothing was opened`, {
    hint:
      error.code === 'commander.unknownOption' && option !== undefined && WRITING_OPTIONS.includes(option)
        ? `${option} is for a run that writes; leave it away.`
        : suggestion === ''
          ? TRY_HELP
          : suggestion,
    ...(option === undefined ? {} : { operand: option }),
    cause: error,
  })
}

function withHint(error: SyncError): SyncError {
  if (error.hint !== null || error.code !== 'usage') return error
  const { code, message, operand, cause } = error
  return new SyncError(code, message, { hint: TRY_HELP, cause, ...(operand === null ? {} : { operand }) })
}

/** Asked of the words themselves: the parser may have stopped before it came to --json. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf('--')
  return (end < 0 ? words : words.slice(0, end)).includes('--json')
}
