// Hooks: programs of the administrator, run on the source host at three moments with the migration's facts in their
// environment. One that is not there is no error; one that cannot be run, fails or hangs is.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { RunsOn } from './journal.js'
import type { Work } from './work.js'

/** Files of these names in the directory of --hook. */
export const HOOK_NAMES = ['before-save', 'after-restore', 'on-failure'] as const
export type HookName = (typeof HOOK_NAMES)[number]

/** Long enough to wait for a load balancer to drain; a guest is stopped for none of them. */
export const HOOK_TIMEOUT_MS = 300_000

const EXECUTABLE = 0o111

export type HookFacts = Readonly<{ runsOn: RunsOn; error: string | null }>

/** Runs it, where it is there; resolves with whether it was. Rejects with migrate/stopped where it does not end well. */
export async function runHook(work: Work, name: HookName, facts: HookFacts): Promise<boolean> {
  const directory = work.plan.options.hooksDirectory
  if (directory === null) return false
  const path = posix.join(directory, name)
  const there = await work.source.look(path)
  if (there === null) return false
  if (there.kind !== 'file' || (there.mode & EXECUTABLE) === 0)
    throw new SyncError('migrate/stopped', `the hook ${path} is no executable file`, {
      operand: path,
      hint: `chmod +x ${path}, or take it away.`,
    })
  const { exitStatus, stderrTail } = await work.source.run({
    argv: [path],
    timeoutMs: HOOK_TIMEOUT_MS,
    environment: hookEnvironment(work, name, facts),
    leavesBehind: true,
  })
  if (exitStatus === 0) return true
  const said = stderrTail.trim().split('\n').at(-1) ?? ''
  throw new SyncError(
    'migrate/stopped',
    `the hook ${path} ended with status ${exitStatus}${said === '' ? '' : `: ${said}`}`,
    { operand: path, hint: 'Its environment has the facts of the migration: BLOCKSYNC_*.' },
  )
}

/** The same where nothing is to fail for it: says so instead. */
export async function tryHook(work: Work, name: HookName, facts: HookFacts): Promise<boolean> {
  try {
    return await runHook(work, name, facts)
  } catch (thrown) {
    work.warn(thrown instanceof Error ? thrown.message : String(thrown))
    return false
  }
}

/** What a hook is told, by the names that docs/migrate.md has. */
export function hookEnvironment(work: Work, name: HookName, facts: HookFacts): Record<string, string> {
  const { plan } = work
  return {
    BLOCKSYNC_HOOK: name,
    BLOCKSYNC_MIGRATION: plan.id,
    BLOCKSYNC_GUEST: plan.guest.name,
    BLOCKSYNC_UUID: plan.guest.uuid,
    BLOCKSYNC_HYPERVISOR: plan.hypervisor,
    BLOCKSYNC_MODE: plan.options.mode,
    BLOCKSYNC_FROM: plan.from.host,
    BLOCKSYNC_TO: plan.to.typed,
    BLOCKSYNC_RUNS_ON: facts.runsOn,
    BLOCKSYNC_ERROR: facts.error ?? '',
  }
}
