// Programs of the user that make snapshots: what they are told, and answers that are not taken.

import { readFile, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { openSnapshots } from '../../src/snapshot/open.js'
import type { SnapshotMethod } from '../../src/snapshot/snapshot.js'
import { useScratch } from '../support/disks.js'
import { OWNER, refusal } from './conformance.js'
import { localHost } from './worlds.js'

const REQUEST = { disks: ['/dev/null', '/etc/hostname'], job: 'web', owner: OWNER, attempt: 'a1' }
/** Writes what it was told behind the name in $1. */
const NOTE =
  'echo "$0 <$BLOCKSYNC_JOB> <$BLOCKSYNC_OWNER> <$BLOCKSYNC_ATTEMPT> <$BLOCKSYNC_DISKS> <$BLOCKSYNC_SNAPSHOTS> <$BLOCKSYNC_ORPHANS>" >>"$1"'

describe('a program that makes snapshots', () => {
  const scratch = useScratch()
  let number = 0
  const method = async (
    create: string,
    timeoutMs = 20_000,
  ): Promise<[SnapshotMethod, () => Promise<string>]> => {
    const log = scratch().path(`log-${(number += 1)}`)
    await writeFile(log, '')
    const sh = (text: string, name: string): [string, ...string[]] => ['sh', '-c', text, name, log]
    const made = openSnapshots({
      kind: 'command',
      create: sh(`${NOTE}; ${create}`, 'create'),
      remove: sh(NOTE, 'remove'),
      timeoutMs,
    })
    return [made, () => readFile(log, 'utf8')]
  }

  it('is told job, owner, attempt, disks and, to remove, what it made', async () => {
    const [made, log] = await method('echo /etc/passwd; echo /etc/group')
    const host = localHost(scratch())
    const cut = await made.cut(host, REQUEST)
    expect(cut.disks).toEqual([
      { original: '/dev/null', path: '/etc/passwd' },
      { original: '/etc/hostname', path: '/etc/group' },
    ])
    await made.remove(host, REQUEST, cut)
    await made.removeOrphans(host, REQUEST)
    const disks = '<web> <0123abcd> <a1> </dev/null\n/etc/hostname>'
    expect(await log()).toBe(
      `create ${disks} <> <>\nremove ${disks} </etc/passwd\n/etc/group> <>\nremove ${disks} <> <1>\n`,
    )
  })

  it.each([
    ['echo /etc/passwd', /printed 1 paths for 2 disks/],
    ['echo passwd; echo /etc/group', /printed 'passwd', which is no absolute path/],
    [
      'echo /etc/none; echo /etc/group',
      /said that \/dev\/null is at \/etc\/none, where no file or device is/,
    ],
    ['echo /etc; echo /etc/group', /where no file or device is/],
    ['echo no array >&2; exit 3', /^sh on this host failed: no array$/],
    ['sleep 60', /did not end within 0.5 s/],
  ])('has its snapshots removed where it did not do it: %s', async (create, message) => {
    const [made, log] = await method(create, 500)
    const failure = await refusal(made.cut(localHost(scratch()), REQUEST))
    expect(failure.message).toMatch(message)
    expect(failure.operand).toBe('/dev/null')
    expect(await log()).toMatch(/\nremove .*\n.* <> <1>\n$/)
  })

  it('is not asked for a disk whose path has a line break', async () => {
    const [made, log] = await method('true')
    const failure = await refusal(made.cut(localHost(scratch()), { ...REQUEST, disks: ['/dev/a\nb'] }))
    expect(failure.message).toMatch(/line break/)
    expect(await log()).toBe('')
  })
})
