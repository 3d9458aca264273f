// What openEndpoint and an open endpoint refuse: a table of rows (what is there, how it is opened, the code), each
// checked to name the operand, to carry a hint, and to have left the directory as it was.

import { lstat, mkdir, readdir } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'

import type { OpenRequest } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { exitStatusOf } from '../../src/errors.js'
import type { ErrorCode } from '../../src/errors.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { CREATE, DESTINATION, DRY_RUN, SOURCE, cores, expectCode } from './conformance.js'
import type { Obstacle } from './obstacles.js'
import {
  absent,
  attached,
  belowFile,
  claimed,
  danglingLink,
  directory,
  emptyLoop,
  fifo,
  mounted,
  onFileSystem,
  readOnlyLoop,
  readOnlyMount,
  socket,
  swap,
} from './obstacles.js'

const scratch = useScratch()

type Row = {
  what: string
  make: Obstacle
  how: Omit<OpenRequest, 'path'>
  code: ErrorCode
  exitStatus: number
  says: RegExp
  hints: RegExp
}

const PLAIN_ROWS: Row[] = [
  row('a source that is not there', absent('no.img'), SOURCE, 'source/missing', 5, /does not exist/, /ls -l/),
  row('a source below a file', belowFile, SOURCE, 'source/open', 5, /not a directory/, /ls -ld/),
  row('a source with an empty name', async () => '', SOURCE, 'source/missing', 5, /does not exist/, /path/),
  row('a source that is a directory', directory, SOURCE, 'source/open', 5, /is a directory/, /disk\.img/),
  row('a source that is a fifo', fifo, SOURCE, 'source/open', 5, /is a fifo/, /ls -lL/),
  row('a source that is a socket', socket, SOURCE, 'source/open', 5, /is a socket/, /ls -lL/),
  row(
    'a source that is a character device',
    async () => '/dev/zero',
    SOURCE,
    'source/open',
    5,
    /character device/,
    /ls/,
  ),
  row(
    'a destination that is a directory',
    directory,
    DESTINATION,
    'guard/kind',
    3,
    /is a directory/,
    /disk\.img/,
  ),
  row(
    'a destination that is a directory, dry run',
    directory,
    DRY_RUN,
    'guard/kind',
    3,
    /is a directory/,
    /disk\.img/,
  ),
  row('a destination that is a fifo', fifo, CREATE, 'guard/kind', 3, /is a fifo/, /ls -lL/),
  row(
    'a destination that is a character device',
    async () => '/dev/null',
    CREATE,
    'guard/kind',
    3,
    /character device/,
    /ls/,
  ),
  row(
    'a destination that is not there',
    absent('no.img'),
    DESTINATION,
    'guard/missing',
    3,
    /does not exist/,
    /--create/,
  ),
  row(
    'a destination without a directory, dry run with --create',
    absent('no/such/disk.img'),
    { ...CREATE, access: 'read' },
    'destination/open',
    6,
    /ENOENT/,
    /mkdir -p/,
  ),
  row('a link to nothing', danglingLink, CREATE, 'guard/missing', 3, /symbolic link to .*gone/, /rm /),
  row(
    'a destination without a directory',
    absent('no/such/disk.img'),
    CREATE,
    'destination/open',
    6,
    /no directory/,
    /mkdir -p/,
  ),
  row(
    'a volume to be created',
    async () => '/dev/blocksync-test-none',
    CREATE,
    'guard/kind',
    3,
    /\/dev/,
    /lvcreate/,
  ),
  row(
    'a volume of a group that is not there',
    async () => '/dev/blocksync-none/lv',
    CREATE,
    'guard/kind',
    3,
    /\/dev/,
    /lvcreate/,
  ),
  row(
    'a volume that is not there',
    async () => '/dev/blocksync-test-none',
    DESTINATION,
    'guard/missing',
    3,
    /\/dev/,
    /lvcreate/,
  ),
]

const ROOT_ROWS: Row[] = [
  row(
    'a new file longer than a file can be',
    onFileSystem('huge.img'),
    { ...CREATE, createSizeBytes: Number.MAX_SAFE_INTEGER },
    'destination/no-space',
    6,
    /EFBIG/,
    /df -h/,
  ),
  row('a mounted device', mounted, DESTINATION, 'guard/held', 3, /claimed/, /fuser.*--force-held/),
  row('a device that another program claims', claimed, DESTINATION, 'guard/held', 3, /claimed/, /fuser/),
  row('a device in use as swap', swap, DESTINATION, 'guard/held', 3, /claimed/, /lsblk/),
  row('a read-only device', readOnlyLoop, DESTINATION, 'destination/open', 6, /read-only/, /--getro/),
  row('a device with nothing behind it', emptyLoop, SOURCE, 'source/open', 5, /nothing behind/, /losetup/),
  row(
    'a file system that is read-only',
    readOnlyMount('disk.img'),
    DESTINATION,
    'destination/open',
    6,
    /read-only/,
    /findmnt/,
  ),
  row(
    'a new file where that is read-only',
    readOnlyMount('new.img'),
    CREATE,
    'destination/open',
    6,
    /read-only/,
    /findmnt/,
  ),
]

describe('what is refused when it is opened', () => {
  refusals(PLAIN_ROWS)
})
describe(
  'what is refused when it is opened, devices',
  needs('loop', 'mkfs.ext4', 'mount', 'flock', 'mkswap', 'swapon'),
  () => {
    refusals(ROOT_ROWS)

    it('a file behind a loop device is no bad source', async () => {
      const path = await attached(scratch())
      for (const { core } of cores()) {
        await using disk = await openEndpoint({ ...SOURCE, path }, core)
        expect(disk.info).toMatchObject({ kind: 'file', sizeBytes: 1 << 20 })
      }
    })
  },
)

function refusals(rows: readonly Row[]): void {
  it.each(rows)('$what: $code', async ({ make, how, code, exitStatus, says, hints }) => {
    await mkdir(scratch().path('here'), { recursive: true })
    for (const { core } of cores()) {
      const path = await make(scratch())
      const before = await readdir(scratch().directory)
      const isThere = await exists(path)
      const error = await expectCode(code, openEndpoint({ ...how, path }, core))
      expect(exitStatusOf(error.code)).toBe(exitStatus)
      expect(error.operand).toBe(path)
      expect(error.message).toContain(path)
      expect(error.message).toMatch(/nothing was (written|opened|read)|no room/)
      expect(error.message).toMatch(says)
      expect(error.hint).toMatch(hints)
      expect(await readdir(scratch().directory)).toEqual(before)
      expect(await exists(path)).toBe(isThere)
    }
  })
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function row(
  what: string,
  make: Obstacle,
  how: Row['how'],
  code: ErrorCode,
  exitStatus: number,
  says: RegExp,
  hints: RegExp,
): Row {
  return { what, make, how, code, exitStatus, says, hints }
}
