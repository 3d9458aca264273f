// A daemon as those see it that show it: states that a test sets, and no daemon behind them.

import type { AttemptRecord, JobState } from '../../src/replicate/job-state.js'
import type { JobStatus, StatusDocument } from '../../src/replicate/status.js'
import type { Log, LogLevel } from '../../src/daemon/log.js'
import type { DaemonFacts, DaemonView } from '../../src/daemon/view.js'

export const NOW_MS = Date.parse('2026-03-01T12:00:00.000Z')

export function ago(seconds: number, nowMs = NOW_MS): string {
  return new Date(nowMs - seconds * 1000).toISOString()
}

export function attempt(change: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    attempt: 'a1',
    startedAt: ago(70),
    endedAt: ago(61),
    outcome: 'done',
    generation: 17,
    takenAt: ago(68),
    sentBytes: 44 << 20,
    wireBytes: 45 << 20,
    durationMs: 9000,
    error: null,
    warnings: [],
    ...change,
  }
}

export function jobState(change: Partial<JobState> = {}): JobState {
  return {
    version: 1,
    job: 'web01',
    direction: 'forward',
    paused: null,
    running: null,
    newest: { generation: 17, takenAt: ago(68), completedAt: ago(61) },
    last: attempt(),
    failures: 0,
    retryAt: null,
    scheduledAt: ago(70),
    told: 'well',
    totals: { attempts: 19, failures: 2, skipped: 1, sentBytes: 900 << 20 },
    drill: null,
    ...change,
  }
}

export function jobStatusOf(change: Partial<JobStatus> = {}): JobStatus {
  return {
    name: 'web01',
    state: 'idle',
    generation: 17,
    lastSuccess: ago(61),
    takenAt: ago(68),
    lagSeconds: 68,
    lagLevel: 'ok',
    nextRun: ago(-832),
    paused: null,
    lastError: null,
    sentBytes: 44 << 20,
    durationMs: 9000,
    direction: 'forward',
    atRiskBytes: null,
    progress: null,
    last: attempt(),
    totals: { attempts: 19, failures: 2, skipped: 1, sentBytes: 900 << 20 },
    warningSeconds: 1800,
    criticalSeconds: 3600,
    source: '/dev/vg0/web01',
    destination: 'root@kvm2:/dev/vg0/web01',
    ...change,
  }
}

export type Shown = DaemonView & {
  jobs: readonly JobStatus[]
  histories: Map<string, readonly AttemptRecord[]>
  unhealthy: string | null
  facts: DaemonFacts
  nowMs: number
  listeners: Set<() => void>
  changed: () => void
}

export function shown(...jobs: readonly JobStatus[]): Shown {
  const listeners = new Set<() => void>()
  const view: Shown = {
    jobs,
    histories: new Map(),
    unhealthy: null,
    nowMs: NOW_MS,
    listeners,
    changed: () => {
      for (const listener of listeners) listener()
    },
    facts: {
      version: '0.1.0',
      pid: 4711,
      startedAt: ago(86_400),
      configLoadedAt: ago(3600),
      isConfigReloadOk: true,
      configError: null,
      runningAttempts: 0,
      waitingAttempts: 0,
      clockSteps: 0,
      maxParallel: 2,
    },
    statuses: () => Promise.resolve(document(view)),
    metrics: () => Promise.resolve({ status: document(view), daemon: view.facts }),
    progress: () => new Map(),
    history: (job, count) => Promise.resolve((view.histories.get(job) ?? []).slice(-count)),
    whyUnhealthy: () => view.unhealthy,
    onChange: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
  return view
}

function document({ jobs, facts, nowMs }: Shown): StatusDocument {
  const daemon = { pid: facts.pid, startedAt: facts.startedAt }
  return { version: 1, at: new Date(nowMs).toISOString(), host: 'kvm1', daemon, jobs }
}

export type LogLine = Readonly<{ level: LogLevel; job: string | null; message: string }>

export function logTo(lines: LogLine[]): Log {
  return (level, job, message) => lines.push({ level, job, message })
}
