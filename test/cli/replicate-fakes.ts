// What the commands of replicate are tested with: a configuration, statuses and records to show, and an engine that is the test's own.

import type { Config, Job } from '../../src/config/config.js'
import type { ReplicateEngine } from '../../src/cli/replicate.js'
import { SyncError } from '../../src/errors.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import type { AttemptRecord } from '../../src/replicate/job-state.js'
import type { JobStatus, StatusDocument } from '../../src/replicate/status.js'

export const MIB = 1 << 20
export const NOW = Date.UTC(2026, 0, 2, 3, 4, 5)

export function job(name: string, changes: Partial<Job> = {}): Job {
  return {
    name,
    place: { file: '/etc/blocksync/config.yaml', line: 3, column: 3 },
    disks: [
      {
        source: { at: { kind: 'local' }, path: `/dev/vg0/${name}`, typed: `/dev/vg0/${name}` },
        destination: {
          at: { kind: 'remote', host: 'kvm2', user: 'root', port: null, typed: 'root@kvm2' },
          path: `/dev/vg0/${name}`,
          typed: `root@kvm2:/dev/vg0/${name}`,
        },
      },
    ],
    schedule: { kind: 'every', everyMs: 900_000, jitterMs: 0 },
    windows: [],
    snapshot: { kind: 'lvm', size: { percent: 20 } },
    track: 'auto',
    quiesce: null,
    keep: { last: 4, hourly: 0, daily: 7, weekly: 0 },
    lag: { warningMs: 1_800_000, criticalMs: 3_600_000 },
    verifyEveryMs: null,
    hooks: { pre: null, post: null, onError: null, finally: null },
    notify: [],
    boot: null,
    options: SYNC_DEFAULTS,
    ...changes,
  }
}

export function config(jobs: readonly Job[], changes: Partial<Config> = {}): Config {
  return {
    files: ['/etc/blocksync/config.yaml'],
    stateDir: '/var/lib/blocksync',
    maxParallel: 2,
    bwlimit: null,
    metrics: { textfile: null, listen: null },
    notify: [],
    jobs,
    ...changes,
  }
}

export function attempt(changes: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    attempt: '20260102-030000-aa',
    startedAt: '2026-01-02T03:00:00.000Z',
    endedAt: '2026-01-02T03:00:02.500Z',
    outcome: 'done',
    generation: 812,
    takenAt: '2026-01-02T03:00:00.100Z',
    sentBytes: 3 * MIB,
    wireBytes: 3 * MIB + 1000,
    durationMs: 2500,
    error: null,
    warnings: [],
    ...changes,
  }
}

export function jobStatus(name: string, changes: Partial<JobStatus> = {}): JobStatus {
  return {
    name,
    state: 'idle',
    generation: 812,
    lastSuccess: '2026-01-02T03:00:02.500Z',
    takenAt: '2026-01-02T03:00:00.100Z',
    paused: null,
    lagSeconds: 245,
    lagLevel: 'ok',
    nextRun: '2026-01-02T03:15:00.000Z',
    lastError: null,
    sentBytes: 3 * MIB,
    durationMs: 2500,
    direction: 'forward',
    atRiskBytes: null,
    progress: null,
    last: attempt(),
    totals: { attempts: 9, failures: 0, skipped: 0, sentBytes: 27 * MIB },
    warningSeconds: 1800,
    criticalSeconds: 3600,
    source: `/dev/vg0/${name}`,
    destination: `root@kvm2:/dev/vg0/${name}`,
    ...changes,
  }
}

export function statusDocument(jobs: readonly JobStatus[]): StatusDocument {
  return { version: 1, at: new Date(NOW).toISOString(), host: 'kvm1', daemon: null, jobs }
}

const refuse = (what: string) => (): Promise<never> => Promise.reject(new Error(`this test has no ${what}`))

/** An engine with these parts; without a configuration it has none. */
export function engine(parts: Partial<ReplicateEngine> & { jobs?: readonly Job[] } = {}): ReplicateEngine {
  const { jobs, ...given } = parts
  return {
    loadConfig: () =>
      jobs === undefined
        ? Promise.reject(
            new SyncError('config/missing', 'there is no /etc/blocksync/config.yaml; nothing was done', {
              hint: 'Write one.',
            }),
          )
        : Promise.resolve(config(jobs)),
    whyNotNow: () => null,
    run: refuse('attempts'),
    daemon: refuse('daemon'),
    status: ({ jobs: all }) => Promise.resolve(statusDocument(all.map(({ name }) => jobStatus(name)))),
    replicas: () => Promise.resolve([]),
    knows: () => Promise.resolve(false),
    history: () => Promise.resolve([]),
    setPaused: refuse('pauses'),
    promote: refuse('promotions'),
    takeBack: refuse('promotions'),
    reverse: refuse('reversals'),
    restore: refuse('restores'),
    drill: refuse('drills'),
    ...given,
  }
}
