// The engine in one piece: what a run, digest, doctor and bwlimit need beyond the command line. Loaded by the command that needs it.

import { availableAlgorithms } from '../digest/open.js'
import { run } from '../exec.js'
import { loadNative, nativeStatus } from '../native.js'
import { askRun, findRuns } from '../rate/client.js'
import { ownWhereabouts } from '../rate/place.js'
import { openStateDirectory, ownStatePath, stateUnusable } from '../state/directory.js'
import { loadAllRecords } from '../state/disk-records.js'
import { isRunning } from '../state/process.js'
import { HostState } from '../state/state.js'
import { diskRoot } from '../sync/disk-root.js'
import { probe } from '../sync/probe.js'
import { syncPersistently } from '../sync/attempts.js'
import { undoDisk } from '../sync/undo-disk.js'
import { PROTOCOL } from '../wire/handshake.js'
import type { RunsEngine } from './bwlimit.js'
import type { DigestEngine } from './digest.js'
import type { DoctorEngine } from './doctor.js'
import type { StatusEngine } from './status.js'
import type { RunSync } from './sync.js'
import type { RunUndo } from './undo.js'

export const runSync: RunSync = syncPersistently

export const digestEngine: DigestEngine = {
  algorithms: (native) => availableAlgorithms(loadNative(native)),
  diskRoot: (request, native, signal) => diskRoot(request, loadNative(native), signal),
}

export const doctorEngine: DoctorEngine = {
  probe,
  nativeStatus,
  algorithms: (native) => availableAlgorithms(loadNative(native === 'loaded' ? 'auto' : 'off')),
  protocol: PROTOCOL,
  run,
  movedAway: async () => await (await import('./migrate-engine.js')).movedAway(),
}

export const runUndo: RunUndo = undoDisk

export const runsEngine: RunsEngine = { find: () => findRuns(ownWhereabouts(process.env)), ask: askRun }

export const statusEngine: StatusEngine = {
  records: async (stateDir) => {
    const path = ownStatePath(stateDir)
    const directory = await openStateDirectory(path, 'read')
    if (directory.path !== null) return { path, ...(await loadAllRecords(directory.path)) }
    if (!directory.isMissing) throw stateUnusable(directory.why, path, 'nothing was read')
    return { path, records: [], problems: [] }
  },
  identify: async (path, stateDir) => (await HostState.open(ownStatePath(stateDir))).identifyPath(path),
  isRunning,
}
