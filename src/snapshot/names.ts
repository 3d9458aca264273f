// What our snapshots are called: job, owner, attempt and number in, a name that LVM and file systems take out; and back. Refuses
// names of other programs, of other jobs, also where their names begin with that of this one, and of other owners' jobs.

import { createHash } from 'node:crypto'

import { SNAPSHOT_PREFIX, type CutRequest } from './snapshot.js'

/** Between the parts. Neither jobs nor attempts have it in their names; LVM, device-mapper and udev take it as it is. */
const SEPARATOR = '+'
/**
 * A hyphen counted twice: device-mapper's names have at most 127 characters with the group's and up to 5 of LVM's own behind
 * them, and hyphens are doubled there. With 8 of the owner and 3 of the number a group may have 50.
 */
const MAX_JOB_UNITS = 24
const MAX_ATTEMPT_UNITS = 16
const KEPT_UNITS = 12
const HASH_DIGITS = 8
const OWNER = /^[0-9a-f]{8}$/
/** In names of volumes these stand for LVM's inner volumes (lvm(8), "Reserved names"): any such word is avoided. */
const RESERVED = /_[a-z]*(log|image|meta|data|orig|origin|spare|vol)/
const ALLOWED = /^[A-Za-z0-9._-]+$/

/** Whose job a snapshot is of: two controllers, or two state directories, may have jobs of one name and disks side by side. */
export type OwnedJob = Pick<CutRequest, 'job' | 'owner'>

/**
 * The name of one snapshot. `index` is the disk's place in the request. Throws a TypeError for what is no name of a job, and no
 * owner.
 */
export function snapshotName(request: OwnedJob & Pick<CutRequest, 'attempt'>, index: number): string {
  return `${jobPrefix(request)}${attemptPart(request.attempt)}${SEPARATOR}${index}`
}

/** What the names of all snapshots of a job begin with. */
export function jobPrefix({ job, owner }: OwnedJob): string {
  if (!OWNER.test(owner)) throw new TypeError(`no owner of a snapshot: ${JSON.stringify(owner)}`)
  return `${SNAPSHOT_PREFIX}${jobPart(job)}${SEPARATOR}${owner}${SEPARATOR}`
}

/** Whether a name is one of ours for that job of that owner, of whatever attempt. */
export function isOfJob(name: string, of: OwnedJob): boolean {
  const prefix = jobPrefix(of)
  return name.startsWith(prefix) && /^[A-Za-z0-9._-]+\+\d+$/.test(name.slice(prefix.length))
}

/** A part that is too long keeps its beginning; the separator before its hash keeps it apart from names that look like it. */
function jobPart(job: string): string {
  checkName(job)
  if (fits(job, MAX_JOB_UNITS)) return job
  return `${job.slice(0, KEPT_UNITS).replaceAll(/[_-]/g, '.')}${SEPARATOR}${hashOf(job)}`
}

function attemptPart(attempt: string): string {
  checkName(attempt)
  return fits(attempt, MAX_ATTEMPT_UNITS) ? attempt : `${hashOf(attempt)}${hashOf(`${attempt} `)}`
}

function fits(part: string, mostUnits: number): boolean {
  return part.replaceAll('-', '--').length <= mostUnits && !RESERVED.test(part)
}

function checkName(name: string): void {
  if (!ALLOWED.test(name)) throw new TypeError(`no name for a snapshot: ${JSON.stringify(name)}`)
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, HASH_DIGITS)
}
