// The migrating part of the program in one piece: loaded by `blocksync migrate`, and by nothing else.

import { setTimeout as sleep } from 'node:timers/promises'

import { SyncError } from '../errors.js'
import { openHost } from '../host/open.js'
import { openDriver } from '../hypervisor/open.js'
import { engineCopier } from '../migrate/copier.js'
import { holdDevices } from '../migrate/hold.js'
import { readState } from '../migrate/journal.js'
import { makePlan, newMigrationId } from '../migrate/make-plan.js'
import { recover } from '../migrate/recover.js'
import { resultOf } from '../migrate/report.js'
import { migrate } from '../migrate/run.js'
import { leftBehind, migrationsOf, openMigrations } from '../migrate/status.js'
import { SYNC_DEFAULTS } from '../options.js'
import { syncPersistently } from '../sync/attempts.js'
import type { MovedAway } from './doctor.js'
import type { MigrateEngine } from './migrate.js'

/** For doctor: guests that left this host and have not come back, by the journals here. */
export async function movedAway(): Promise<readonly MovedAway[]> {
  const { stateDir, native, transport, timeoutMs } = SYNC_DEFAULTS
  await using host = await openHost({ kind: 'local' }, { stateDir, native, transport, timeoutMs })
  const all = await migrationsOf(host)
  // the latest first: of a guest that left several times that one counts, and one that came back last has come back
  const latest = all.filter(({ uuid }, index) => all.findIndex((other) => other.uuid === uuid) === index)
  return latest
    .filter(({ role, phase }) => role === 'source' && phase === 'moved')
    .map(({ id, guest, to }) => ({ id, guest, to }))
}

export const migrateEngine: MigrateEngine = {
  newId: () => newMigrationId(new Date()),
  openHost,
  openDriver,
  makePlan,
  openMigrations,
  leftBehind,
  planOf: async (host, id) => {
    const lines = await host.readJournal({ id, role: 'source' })
    const plan = lines === null ? null : readState(lines, `${id} on ${host.name}`).plan
    if (plan !== null) return plan
    const known = (await host.listJournals()).filter(({ role }) => role === 'source').map((name) => name.id)
    throw new SyncError(
      'migrate/unknown',
      `there is no migration ${id} on ${host.name}; nothing was changed`,
      {
        operand: id,
        hint:
          known.length === 0
            ? 'None was begun here.'
            : `There is ${known.join(', ')} (blocksync migrate --status).`,
      },
    )
  },
  copier: (setup) => engineCopier({ ...setup, run: syncPersistently, nowMs: () => performance.now() }),
  clock: {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep: async (durationMs) => {
      await sleep(durationMs)
    },
  },
  migrate: async (plan, context) => await migrate(plan, { ...context, hold: holdDevices }),
  recover: async (request, context) => await recover(request, { ...context, hold: holdDevices }),
  resultOf,
  statuses: migrationsOf,
}
