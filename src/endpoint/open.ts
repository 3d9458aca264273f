// From a path to an open endpoint: what the path is, whether this role may have it, then the descriptors. It refuses
// what is no disk and what somebody else claims; it never truncates, and leaves no file behind when it rejects.

import { constants } from 'node:fs'
import type { BigIntStats } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

import { SyncError, errnoOf, toSyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { absentEndpoint } from './absent.js'
import { dropCache } from './cache.js'
import {
  type DiskIdentity,
  type Endpoint,
  type EndpointInfo,
  MAX_DISK_BYTES,
  type OpenRequest,
} from './endpoint.js'
import { describeErrno, isSystemError, misuse, openFailure, uncacheable, writeFailure } from './failures.js'
import { diskEndpoint } from './file.js'
import { diskIdentity } from './identity.js'
import { claimedByOthers, isUnderDev, lookUp, notADisk, readOnlyDevice } from './lookup.js'
import { deviceGeometry, deviceNumber, isReadOnlyDevice } from './sysfs.js'
import { unmake } from './unmake.js'

/** A disk may hold secrets: its copy is for its owner until the owner says otherwise. */
const NEW_FILE_MODE = 0o600

/** What image files are addressed in where nothing else is known. */
const FILE_SECTOR_BYTES = 512

/** `read` and `write` may be one handle. `grow`: the file is new or empty and gets its size now. */
type Opened = {
  read: FileHandle
  write: FileHandle | null
  direct: boolean
  grow: boolean
  madeFile: boolean
}

/** Asked about what the path leads to before that is opened; resolves with how it may be claimed, or rejects. */
export type AskBefore = (facts: BigIntStats) => Promise<OpenRequest['claim']>

/**
 * Opens a disk. Symbolic links are followed. A source is opened read-only; a device destination that is claimed exclusively
 * rejects with guard/held where somebody else has a claim. `ask` is asked first; what is opened then is what it was asked about.
 * Rejects with source/missing, source/open, destination/open, destination/no-space, guard/missing, guard/kind,
 * guard/held or as `ask` does; nothing was written then, and no file was left behind.
 */
export async function openEndpoint(
  given: OpenRequest,
  native: NativeCore | null,
  ask: AskBefore | null = null,
): Promise<Endpoint> {
  checkRequest(given)
  const facts = await lookUp(given)
  const request = ask === null || facts === null ? given : { ...given, claim: await ask(facts) }
  if (await wouldBeMade(request, facts)) return await absentEndpoint(request)
  const opened = facts === null ? await makeFile(request) : await openExisting(request, facts)
  try {
    const { size, isEmpty, sectorBytes, now } = await examine(request, opened, facts, native)
    if (!opened.direct && now.isBlockDevice()) await refuseUncacheable(request, opened.read, native)
    // A write of less than a page keeps the rest of the cached page: that must not be older than the device.
    if (opened.write !== null && now.isBlockDevice()) await refuseUncacheable(request, opened.write, native)
    const created = opened.grow && isEmpty
    const newEntryIn = created ? dirname(await realpath(request.path)) : null
    const info: EndpointInfo = {
      path: request.path,
      kind: now.isBlockDevice() ? 'block-device' : 'file',
      sizeBytes: created ? request.createSizeBytes : size,
      logicalSectorBytes: sectorBytes,
      created,
      direct: opened.direct,
      identity: await identityOf(request, now),
    }
    // last, so that whatever else is wrong leaves an empty file empty
    if (created && opened.write !== null) await setLength(request, opened.write)
    const made = opened.madeFile ? 'file' : created ? 'length' : 'nothing'
    const { read, write } = opened
    const around = await openAround(opened, info.kind, native)
    return diskEndpoint({ info, request, read, write, around, native, newEntryIn, made })
  } catch (error) {
    throw await abandoned(
      request,
      opened,
      isSystemError(error) ? openFailure(request.role, request.path, error) : toSyncError(error),
    )
  }
}

/** True where a run that writes would make the file, or lengthen an empty one, and this one may not. */
async function wouldBeMade(
  { path, access, create }: OpenRequest,
  facts: BigIntStats | null,
): Promise<boolean> {
  if (access === 'write' || create === 'never') return false
  return facts === null || (facts.isFile() && facts.size === 0n && !(await isUnderDev(path)))
}

function checkRequest({ path, role, access, create, createSizeBytes, standsFor }: OpenRequest): void {
  if (role === 'source' && (access === 'write' || create !== 'never'))
    throw misuse(path, 'a source was to be written')
  if (role !== 'source' && (standsFor ?? null) !== null)
    throw misuse(path, 'a destination was to stand for another disk')
  if (create === 'if-missing' && !(Number.isSafeInteger(createSizeBytes) && createSizeBytes >= 0)) {
    throw misuse(path, `a file of ${createSizeBytes} bytes was to be made`)
  }
}

async function makeFile(request: OpenRequest): Promise<Opened> {
  const { path } = request
  try {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, NEW_FILE_MODE)
    return { read: handle, write: handle, direct: false, grow: true, madeFile: true }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') {
      throw new SyncError(
        'destination/open',
        `cannot make the destination ${path}: there is no directory ${dirname(path)}; nothing was written`,
        {
          operand: path,
          cause: error,
          hint: `Make the directory first: mkdir -p ${dirname(path)}`,
        },
      )
    }
    throw isSystemError(error) && errnoOf(error) !== 'EEXIST'
      ? createFailure(path, error)
      : openFailure('destination', path, error)
  }
}

/** No room for a new file is no-space; all else says that it could not be opened. */
function createFailure(path: string, cause: unknown): SyncError {
  const failure = writeFailure(path, 0, cause)
  return failure.code === 'destination/no-space' ? failure : openFailure('destination', path, cause)
}

async function openExisting(request: OpenRequest, facts: BigIntStats): Promise<Opened> {
  const { path, role, access, create, claim } = request
  try {
    if (facts.isFile()) {
      const handle = await open(path, access === 'write' ? constants.O_RDWR : constants.O_RDONLY)
      const grow = access === 'write' && create === 'if-missing' && !(await isUnderDev(path))
      return { read: handle, write: access === 'write' ? handle : null, direct: false, grow, madeFile: false }
    }
    const exclusive = role === 'destination' && claim === 'exclusive' ? constants.O_EXCL : 0
    if (access === 'read') {
      return {
        ...(await openDirect(path, constants.O_RDONLY | exclusive)),
        write: null,
        grow: false,
        madeFile: false,
      }
    }
    // the kernel opens a read-only device for writing and refuses the first write: too late to be a clear answer
    if (await isReadOnlyDevice(deviceNumber(facts.rdev))) throw readOnlyDevice(path)
    return await openDeviceToWrite(path, exclusive)
  } catch (error) {
    if (!isSystemError(error)) throw error
    const isClaimed = errnoOf(error) === 'EBUSY' && facts.isBlockDevice() && role === 'destination'
    if (isClaimed || errnoOf(error) === 'ETXTBSY') throw claimedByOthers(path, error)
    throw openFailure(role, path, error)
  }
}

/**
 * Two descriptors: the claim is on the one that writes through the cache (any length, any place; flushed at the end),
 * the other reads, and writes long runs, around the cache. The kernel writes cached pages out before such a read, so it sees
 * what was written.
 */
async function openDeviceToWrite(path: string, exclusive: number): Promise<Opened> {
  const write = await open(path, constants.O_RDWR | exclusive)
  try {
    // by way of the descriptor, so that both are one device whatever happens to the name meanwhile
    const reader = await openDirect(`/proc/self/fd/${write.fd}`, constants.O_RDWR)
    return { ...reader, write, grow: false, madeFile: false }
  } catch (error) {
    await write.close()
    throw error
  }
}

async function openDirect(path: string, flags: number): Promise<{ read: FileHandle; direct: boolean }> {
  try {
    return { read: await open(path, flags | constants.O_DIRECT), direct: true }
  } catch (error) {
    if (errnoOf(error) !== 'EINVAL') throw error
    return { read: await open(path, flags), direct: false }
  }
}

/**
 * The descriptor that goes around the page cache, or null: for a device it is the one that reads, for a file another one,
 * used for what is not cached. Only the native core has the aligned memory to use it.
 */
async function openAround(
  { read, write, direct }: Opened,
  kind: EndpointInfo['kind'],
  native: NativeCore | null,
): Promise<FileHandle | null> {
  if (native === null) return null
  if (kind === 'block-device') return direct ? read : null
  const flags = write === null ? constants.O_RDONLY : constants.O_RDWR
  try {
    // by way of the descriptor, so that it is the same file whatever happens to the name meanwhile
    return await open(`/proc/self/fd/${read.fd}`, flags | constants.O_DIRECT)
  } catch (error) {
    // EINVAL says that this file system has no direct I/O; whatever else is wrong, all works without, by the page cache
    if (isSystemError(error)) return null
    throw error
  }
}

/** That of what was opened, and that of the disk that it is a copy of. */
async function identityOf(request: OpenRequest, now: BigIntStats): Promise<DiskIdentity> {
  const own = await diskIdentity(now)
  const { standsFor = null } = request
  if (standsFor === null) return own
  const facts = await lookUp({ ...request, path: standsFor })
  if (facts === null) return own
  const original = await diskIdentity(facts)
  return {
    machine: own.machine,
    aliases: [...own.aliases, ...original.aliases],
    within: [...(own.within ?? []), ...(original.within ?? [])],
  }
}

type Examined = { size: number; isEmpty: boolean; sectorBytes: number; now: BigIntStats }

/** What the descriptor really is: the path may lead elsewhere by now. */
async function examine(
  request: OpenRequest,
  opened: Opened,
  before: BigIntStats | null,
  native: NativeCore | null,
): Promise<Examined> {
  const { path, role } = request
  const handle = opened.write ?? opened.read
  const now = await handle.stat({ bigint: true })
  const isSame =
    before === null || (now.ino === before.ino && now.dev === before.dev && now.rdev === before.rdev)
  if (!isSame || notADisk(now) !== null) {
    throw new SyncError(
      `${role}/open`,
      `${path} became something else while it was opened; nothing was written`,
      {
        operand: path,
        hint: `See what replaces ${path}, then run the same command again.`,
      },
    )
  }
  if (!now.isBlockDevice()) {
    return {
      size: checkedSize(request, Number(now.size)),
      isEmpty: now.size === 0n,
      sectorBytes: FILE_SECTOR_BYTES,
      now,
    }
  }
  const found =
    native === null ? await deviceGeometry(deviceNumber(now.rdev)) : native.geometry(opened.read.fd)
  if (found === null || found.sizeBytes === 0) {
    throw new SyncError(
      `${role}/open`,
      `the ${role} ${path} is a block device with ${found === null ? 'unknown size' : 'nothing behind it'}; nothing was written`,
      {
        operand: path,
        hint: `See: lsblk ${path}; a loop device needs a file (losetup), a drive a medium, a network disk a connection.`,
      },
    )
  }
  return {
    size: checkedSize(request, found.sizeBytes),
    isEmpty: false,
    sectorBytes: found.logicalSectorBytes,
    now,
  }
}

function checkedSize({ path, role }: OpenRequest, sizeBytes: number): number {
  if (sizeBytes <= MAX_DISK_BYTES) return sizeBytes
  throw new SyncError(
    `${role}/open`,
    `the ${role} ${path} is too long (${sizeBytes} bytes, at most ${MAX_DISK_BYTES}); nothing was written`,
    { operand: path },
  )
}

async function refuseUncacheable(
  request: OpenRequest,
  handle: FileHandle,
  native: NativeCore | null,
): Promise<void> {
  if ((await dropCache(handle.fd, native)) === 'kept') throw uncacheable(request)
}

async function setLength({ path, createSizeBytes }: OpenRequest, handle: FileHandle): Promise<void> {
  try {
    await handle.truncate(createSizeBytes)
  } catch (error) {
    throw isSystemError(error) ? createFailure(path, error) : error
  }
}

/** Takes back what a rejected open did: the handles, and a file that it made. Resolves with what to throw. */
async function abandoned({ path }: OpenRequest, opened: Opened, reason: SyncError): Promise<SyncError> {
  const handle = opened.write ?? opened.read
  try {
    if (opened.madeFile) await unmake(path, handle, 'file')
    return reason
  } catch (error) {
    const left = `${reason.message}; the empty file ${path} was left behind (${describeErrno(error)})`
    return new SyncError(reason.code, left, { operand: path, cause: reason, hint: `Remove it: rm ${path}` })
  } finally {
    await Promise.allSettled([...new Set([opened.read, handle])].map((each) => each.close()))
  }
}
