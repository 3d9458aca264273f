// What our snapshots are called: job, attempt and number in, a name that LVM and file systems take out; and back. Refuses
// names of other programs and of other jobs, also of a job whose name begins with that of this one.

import { createHash } from 'node:crypto'

import { SNAPSHOT_PREFIX, type CutRequest } from './snapshot.js'

/** Between the parts. Neither jobs nor attempts have it in their names; LVM, device-mapper and udev take it as it is. */
const SEPARATOR = '+'
/**
 * Of each part, a hyphen counted twice: device-mapper's names have at most 127 characters with the group's and up to 5 of
 * LVM's own behind them, and hyphens are doubled there. So a group may have 50.
 */
const MAX_PART_UNITS = 24
const KEPT_UNITS = 12
const HASH_DIGITS = 8
/** In names of volumes these stand for LVM's inner volumes (lvm(8), "Reserved names"): any such word is avoided. */
const RESERVED = /_[a-z]*(log|image|meta|data|orig|origin|spare|vol)/
const ALLOWED = /^[A-Za-z0-9._-]+$/

/** The name of one snapshot. `index` is the disk's place in the request. Throws a TypeError for what is no name of a job. */
export function snapshotName({ job, attempt }: Pick<CutRequest, 'job' | 'attempt'>, index: number): string {
  return `${SNAPSHOT_PREFIX}${jobPart(job)}${SEPARATOR}${attemptPart(attempt)}${SEPARATOR}${index}`
}

/** What the names of all snapshots of a job begin with. Another job's may begin so too: `isOfJob` tells. */
export function jobPrefix(job: string): string {
  return `${SNAPSHOT_PREFIX}${jobPart(job)}${SEPARATOR}`
}

/** Whether a name is one of ours for that job, of whatever attempt. */
export function isOfJob(name: string, job: string): boolean {
  const prefix = jobPrefix(job)
  return name.startsWith(prefix) && /^[A-Za-z0-9._-]+\+\d+$/.test(name.slice(prefix.length))
}

/** A part that is too long keeps its beginning; the separator before its hash keeps it apart from names that look like it. */
function jobPart(job: string): string {
  checkName(job)
  if (fits(job)) return job
  return `${job.slice(0, KEPT_UNITS).replaceAll(/[_-]/g, '.')}${SEPARATOR}${hashOf(job)}`
}

function attemptPart(attempt: string): string {
  checkName(attempt)
  return fits(attempt) ? attempt : `${hashOf(attempt)}${hashOf(`${attempt} `)}`
}

function fits(part: string): boolean {
  return part.replaceAll('-', '--').length <= MAX_PART_UNITS && !RESERVED.test(part)
}

function checkName(name: string): void {
  if (!ALLOWED.test(name)) throw new TypeError(`no name for a snapshot: ${JSON.stringify(name)}`)
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, HASH_DIGITS)
}
