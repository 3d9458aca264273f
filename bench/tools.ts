// The programs that are measured, ours and the others', as argument lists over the same ssh. Each of them leaves its
// destination on stable storage before it ends, as ours does; who does not write has nothing to flush.

import { findProgram } from '../test/support/needs.js'
import type { Piece } from './images.js'
import type { Argv } from './measure.js'

/**
 * Where a tool works: paths that are the same on both ends, and the ssh configuration whose host is `far`. `program` is
 * our own; `data` is where the images have any.
 */
export type Place = Readonly<{
  source: string
  destination: string
  sshConfig: string
  program: string
  data: readonly Piece[]
}>

export type Tool = Readonly<{
  name: string
  /** What must be installed. */
  program: 'blocksync' | 'rsync' | 'dd' | 'xxhsum'
  /** Programs on this side, all started at once. */
  argvs: (place: Place) => readonly Argv[]
  /** Whether the destination must be equal to the source afterwards. */
  leaves: 'copy' | 'nothing'
}>

const HOST = 'far'
/** `dd | ssh dd`: the one thing here that needs a shell. Paths come as $1, $2...; nothing is pasted into the text. */
const DD_OVER_SSH =
  'dd if="$1" bs=1M status=none | ssh -F "$2" -o LogLevel=VERBOSE far "dd of=\'$3\' bs=1M iflag=fullblock conv=fsync status=none"'

/** Ours, with the native core or without it on both ends. */
export function blocksync(native: 'require' | 'off', create: 'create' | 'exists' = 'exists'): Tool {
  return {
    name: native === 'off' ? 'blocksync --native off' : 'blocksync',
    program: 'blocksync',
    argvs: ({ source, destination, sshConfig, program }) => [
      [
        process.execPath,
        program,
        source,
        `${HOST}:${destination}`,
        '--json',
        '-q',
        `--native=${native}`,
        '--ssh=openssh',
        `--ssh-config=${sshConfig}`,
        `--remote-command='${process.execPath}' '${program}'`,
        ...(create === 'create' ? ['--create'] : []),
      ],
    ],
    leaves: 'copy',
  }
}

/** rsync as people run it over images; `-I`, because equal size and time would make it skip the file unread. */
export function rsync(kind: 'delta' | 'whole'): Tool {
  const words = kind === 'delta' ? ['-I', '--inplace', '--no-whole-file'] : ['--whole-file', '--sparse']
  return {
    name: ['rsync', ...words, '--fsync'].join(' '),
    program: 'rsync',
    argvs: ({ source, destination, sshConfig }) => [
      ['rsync', ...words, '--fsync', '-e', sshWords(sshConfig).join(' '), source, `${HOST}:${destination}`],
    ],
    leaves: 'copy',
  }
}

export const DD: Tool = {
  name: 'dd | ssh dd conv=fsync',
  program: 'dd',
  argvs: ({ source, destination, sshConfig }) => [
    ['sh', '-c', DD_OVER_SSH, 'sh', source, sshConfig, destination],
  ],
  leaves: 'copy',
}

/** The limit: nothing can compare two disks without reading and digesting both. The far one over the same ssh. */
export const XXHSUM: Tool = {
  name: 'limit: xxhsum -H2 of both at once',
  program: 'xxhsum',
  argvs: ({ source, destination, sshConfig }) => {
    const [ssh, ...words] = sshWords(sshConfig)
    return [
      ['xxhsum', '-q', '-H2', source],
      [ssh, ...words, HOST, `xxhsum -q -H2 '${destination}'`],
    ]
  },
  leaves: 'nothing',
}

export function isInstalled({ program }: Tool): boolean {
  return program === 'blocksync' || findProgram(program) !== null
}

function sshWords(sshConfig: string): Argv {
  return ['ssh', '-F', sshConfig, '-o', 'LogLevel=VERBOSE']
}
