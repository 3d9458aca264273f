// The engine in one piece: what a run, doctor and bwlimit need beyond the command line. Loaded by the command that needs it.

import { availableAlgorithms } from '../digest/open.js'
import { run } from '../exec.js'
import { loadNative, nativeStatus } from '../native.js'
import { askRun, findRuns } from '../rate/client.js'
import { ownWhereabouts } from '../rate/place.js'
import { probe } from '../sync/probe.js'
import { sync } from '../sync/sync.js'
import { PROTOCOL } from '../wire/handshake.js'
import type { RunsEngine } from './bwlimit.js'
import type { DoctorEngine } from './doctor.js'
import type { RunSync } from './sync.js'

export const runSync: RunSync = sync

export const doctorEngine: DoctorEngine = {
  probe,
  nativeStatus,
  algorithms: (native) => availableAlgorithms(loadNative(native === 'loaded' ? 'auto' : 'off')),
  protocol: PROTOCOL,
  run,
}

export const runsEngine: RunsEngine = { find: () => findRuns(ownWhereabouts(process.env)), ask: askRun }
