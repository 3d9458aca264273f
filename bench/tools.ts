// The programs that are measured, ours and the others', as argument lists over the same ssh. Each of them leaves its
// destination on stable storage before it ends, as ours does; who does not write has nothing to flush.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { findProgram } from '../test/support/needs.js'
import type { Piece } from './images.js'
import type { Argv, Work } from './measure.js'

/**
 * Where a tool works: paths that are the same on both ends, and the ssh configuration whose host is `far`. `program` is
 * our own; `data` is where the images have any; `directory` is for sockets and the like.
 */
export type Place = Readonly<{
  directory: string
  source: string
  destination: string
  sizeBytes: number
  sshConfig: string
  program: string
  data: readonly Piece[]
}>

export type Tool = Readonly<{
  name: string
  /** Whose figures these are. A peer that fails is left out; where ours fails, the benchmark ends. */
  owner: 'us' | 'peer'
  /** What must be installed besides ssh. */
  needs: readonly string[]
  work: (place: Place) => Work
  /** Whether the destination must be equal to the source afterwards. */
  leaves: 'copy' | 'nothing'
}>

export type OursOptions = Readonly<{
  native?: 'require' | 'off'
  destination?: 'create' | 'exists'
  direction?: 'push' | 'pull'
  /** Further words, which are shown in the name. */
  words?: readonly string[]
}>

const HOST = 'far'
/** Makes ssh say what it transferred. */
const VERBOSE = ['-o', 'LogLevel=VERBOSE'] as const

/*
 * The pipelines of others: the only places here that need a shell. Paths come as $1 (source), $2 (ssh configuration) and
 * $3 (destination); nothing is pasted into the text. pipefail is not in every sh: the far end's status is that of ssh.
 */
const SSH = 'ssh -F "$2" -o LogLevel=VERBOSE far'
const DD_PUSH = `dd if="$1" bs=1M status=none | ${SSH} "dd of='$3' bs=1M iflag=fullblock status=none && sync '$3'"`
const CAT_PUSH = `cat "$1" | ${SSH} "cat > '$3' && sync '$3'"`
const CAT_PULL = `${SSH} "cat '$1'" > "$3" && sync "$3"`
const BDSYNC = `bdsync "ssh -F $2 -o LogLevel=VERBOSE far bdsync --server" "$1" "$3" | ${SSH} "bdsync --patch='$3' && sync '$3'"`
/** A digest file of the destination is made there and fetched; then only what differs from it is sent. */
const BLOCKSYNC_FAST = [
  `${SSH} "blocksync-fast --silent --make-digest -s '$3' -f '$3.digest' && cat '$3.digest' && rm '$3.digest'" > "$3.near"`,
  `blocksync-fast --silent --make-delta -s "$1" -f "$3.near" | ${SSH} "blocksync-fast --silent --apply-delta -d '$3' && sync '$3'"`,
  'rm "$3.near"',
].join(' && ')

/** Ours, with the native core (unless told otherwise) on both ends. */
export function blocksync(options: OursOptions = {}): Tool {
  const { native = 'require', destination = 'exists', direction = 'push', words = [] } = options
  const shown = [...(native === 'off' ? ['--native off'] : []), ...words]
  return {
    name: ['blocksync', ...shown].join(' '),
    owner: 'us',
    needs: [],
    work: (place) => ({ argvs: [oursArgv(place, direction, native, destination, words)] }),
    leaves: 'copy',
  }
}

function oursArgv(
  place: Place,
  direction: 'push' | 'pull',
  native: 'require' | 'off',
  destination: 'create' | 'exists',
  words: readonly string[],
): Argv {
  const far = (path: string): string => `${HOST}:${path}`
  const operands =
    direction === 'push' ? [place.source, far(place.destination)] : [far(place.source), place.destination]
  return [
    process.execPath,
    place.program,
    ...operands,
    '--json',
    '-q',
    `--native=${native}`,
    `--ssh-config=${place.sshConfig}`,
    `--remote-command='${process.execPath}' '${place.program}'`,
    ...(destination === 'create' ? ['--create'] : []),
    ...words,
  ]
}

/** rsync as people run it over images; `-I`, because equal size and time would make it skip the file unread. */
export function rsync(kind: 'delta' | 'whole' | 'whole, compressed'): Tool {
  const words =
    kind === 'delta'
      ? ['-I', '--inplace', '--no-whole-file']
      : ['--whole-file', '--sparse', ...(kind === 'whole' ? [] : ['-z'])]
  return {
    name: ['rsync', ...words, '--fsync'].join(' '),
    owner: 'peer',
    needs: ['rsync'],
    work: ({ source, destination, sshConfig }) => ({
      argvs: [
        [
          'rsync',
          ...words,
          '--fsync',
          '-e',
          ['ssh', '-F', sshConfig, ...VERBOSE].join(' '),
          source,
          `${HOST}:${destination}`,
        ],
      ],
    }),
    leaves: 'copy',
  }
}

export const DD = pipeline('dd | ssh dd; sync FILE', [], DD_PUSH)
export const CAT = pipeline("cat | ssh 'cat >file; sync file'", [], CAT_PUSH)
export const CAT_FROM_THERE = pipeline("ssh 'cat file' >file; sync file", [], CAT_PULL)
export const BDSYNC_PATCH = pipeline('bdsync | ssh bdsync --patch; sync FILE', ['bdsync'], BDSYNC)
export const FETCHED_DIGESTS = pipeline(
  'blocksync-fast, digests fetched; sync FILE',
  ['blocksync-fast'],
  BLOCKSYNC_FAST,
)

/** nbdcopy into an nbdkit at the far end, whose socket ssh forwards to here. */
export const NBDCOPY: Tool = {
  name: 'nbdcopy --flush, nbdkit file',
  owner: 'peer',
  needs: ['nbdcopy', 'nbdkit'],
  work: ({ directory, source, destination, sizeBytes, sshConfig }) => {
    const [near, far, pid] = ['near.sock', 'far.sock', 'nbdkit.pid'].map((name) => join(directory, name))
    if (near === undefined || far === undefined || pid === undefined) throw new Error('there are three')
    for (const path of [near, far, pid]) rmSync(path, { force: true })
    const server = `truncate -s ${sizeBytes} '${destination}' && exec nbdkit -f -U '${far}' -P '${pid}' file '${destination}'`
    const forward = ['-o', 'ExitOnForwardFailure=yes', '-L', `${near}:${far}`]
    return {
      argvs: [['nbdcopy', '--flush', source, `nbd+unix:///?socket=${near}`]],
      server: {
        argv: ['ssh', '-F', sshConfig, ...VERBOSE, ...forward, HOST, server],
        directory,
        // nbdkit writes its id once its socket listens.
        isReady: () => existsSync(near) && existsSync(pid) && readFileSync(pid, 'utf8').endsWith('\n'),
        pidPath: pid,
      },
    }
  },
  leaves: 'copy',
}

/** The limit: nothing can compare two disks without reading and digesting both. The far one over the same ssh. */
export const XXHSUM: Tool = {
  name: 'limit: xxhsum -H2 of both at once',
  owner: 'peer',
  needs: ['xxhsum'],
  work: ({ source, destination, sshConfig }) => ({
    argvs: [
      ['xxhsum', '-q', '-H2', source],
      ['ssh', '-F', sshConfig, ...VERBOSE, HOST, `xxhsum -q -H2 '${destination}'`],
    ],
  }),
  leaves: 'nothing',
}

/** What every run over ssh takes. */
export const SSH_TRUE: Tool = {
  name: 'ssh host true',
  owner: 'peer',
  needs: [],
  work: ({ sshConfig }) => ({ argvs: [['ssh', '-F', sshConfig, ...VERBOSE, HOST, 'true']] }),
  leaves: 'nothing',
}

/** What a tool needs and this machine has not. */
export function missingFor({ needs }: Tool): string[] {
  return needs.filter((name) => findProgram(name) === null)
}

function pipeline(name: string, needs: readonly string[], script: string): Tool {
  return {
    name,
    owner: 'peer',
    needs,
    work: ({ source, destination, sshConfig }) => ({
      argvs: [['sh', '-c', script, 'sh', source, sshConfig, destination]],
    }),
    leaves: 'copy',
  }
}
