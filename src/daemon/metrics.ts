// What Prometheus is told of the jobs, in its text format (exposition format 0.0.4): the same text over HTTP and in the textfile.
// Refuses to let a label's value end its line or its quotes; a value that is not known has no sample.

import type { JobStatus } from '../replicate/status.js'
import type { DaemonFacts, MetricsSnapshot } from './view.js'

/** The content type of this text. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** `labels` as they stand between the braces; '' is none. A null is no sample. */
type Sample = Readonly<{ labels: string; value: number | null }>

/** One metric: docs/replicate-operations.md has them all, held by a test. */
type Metric = Readonly<{
  name: string
  type: 'gauge' | 'counter'
  help: string
  /** `jobLabels` in the order of the jobs: hundreds of jobs have dozens of samples each. */
  samples: (snapshot: MetricsSnapshot, jobLabels: readonly string[]) => readonly Sample[]
}>

const STATES: readonly JobStatus['state'][] = ['idle', 'running', 'retrying', 'paused', 'failed']
const JOB_PREFIX = 'blocksync_replicate_'

export const METRICS: readonly Metric[] = [
  ofJob(
    'lag_seconds',
    'gauge',
    'Age of the newest complete generation when this was written.',
    (job) => job.lagSeconds,
  ),
  ofJob(
    'taken_timestamp_seconds',
    'gauge',
    'When the newest complete generation was taken at the source.',
    (job) => seconds(job.takenAt),
  ),
  ofJob('last_success_timestamp_seconds', 'gauge', 'When the newest generation was complete.', (job) =>
    seconds(job.lastSuccess),
  ),
  ofJob('generation', 'gauge', 'Number of the newest complete generation.', (job) => job.generation),
  ofJob('lag_warning_seconds', 'gauge', 'Limit of lag for a warning.', (job) => job.warningSeconds),
  ofJob('lag_critical_seconds', 'gauge', 'Limit of lag that is critical.', (job) => job.criticalSeconds),
  ofJob('attempts_total', 'counter', 'Attempts that ended, well or not.', (job) => job.totals.attempts),
  ofJob('failures_total', 'counter', 'Attempts that failed.', (job) => job.totals.failures),
  ofJob('skipped_total', 'counter', 'Attempts that were due and not begun.', (job) => job.totals.skipped),
  ofJob('sent_bytes_total', 'counter', 'Payload sent, before compression.', (job) => job.totals.sentBytes),
  ofJob('last_attempt_ok', 'gauge', 'Whether the last attempt ended well (1) or not (0).', (job) =>
    job.last === null ? null : flag(job.last.outcome === 'done'),
  ),
  ofJob('last_attempt_timestamp_seconds', 'gauge', 'When the last attempt ended.', (job) =>
    seconds(job.last?.endedAt ?? null),
  ),
  ofJob('last_attempt_duration_seconds', 'gauge', 'How long the last attempt took.', (job) =>
    job.last === null ? null : job.last.durationMs / 1000,
  ),
  ofJob(
    'last_attempt_sent_bytes',
    'gauge',
    'Payload that the last attempt sent.',
    (job) => job.last?.sentBytes ?? null,
  ),
  ofJob('next_run_timestamp_seconds', 'gauge', 'When the next attempt is due.', (job) =>
    seconds(job.nextRun),
  ),
  ofJob(
    'at_risk_bytes',
    'gauge',
    'What the newest generation has not, where that is known.',
    (job) => job.atRiskBytes,
  ),
  ofJob('in_progress_bytes', 'gauge', 'What the running attempt has done; 0 while none runs.', (job) =>
    job.progress === null ? 0 : job.progress.doneBytes,
  ),
  ofJob('in_progress_size_bytes', 'gauge', 'What the running attempt has to do; 0 while none runs.', (job) =>
    job.progress === null ? 0 : job.progress.totalBytes,
  ),
  ofJob('paused', 'gauge', 'Whether the job is paused (1).', (job) => flag(job.paused !== null)),
  {
    name: `${JOB_PREFIX}state`,
    type: 'gauge',
    help: 'The state of the job: 1 for the one that it is in.',
    samples: ({ status }, jobLabels) =>
      status.jobs.flatMap((job, index) =>
        STATES.map((state) => ({
          labels: `${jobLabels[index]},state="${state}"`,
          value: flag(job.state === state),
        })),
      ),
  },
  {
    name: `${JOB_PREFIX}last_error`,
    type: 'gauge',
    help: 'Always 1; why the last attempt failed is in its label, and it is gone when one ends well.',
    samples: ({ status }, jobLabels) =>
      status.jobs.flatMap(({ lastError }, index) =>
        lastError === null
          ? []
          : [{ labels: `${jobLabels[index]},${labelText('code', lastError.code)}`, value: 1 }],
      ),
  },
  ofDaemon('jobs', 'Jobs in the configuration.', (_, { status }) => status.jobs.length),
  ofDaemon('running_attempts', 'Attempts that run.', (daemon) => daemon.runningAttempts),
  ofDaemon(
    'waiting_attempts',
    'Attempts that are due and wait for their turn.',
    (daemon) => daemon.waitingAttempts,
  ),
  ofDaemon('max_parallel', 'Attempts that may run at once.', (daemon) => daemon.maxParallel),
  ofDaemon(
    'clock_steps_total',
    'How often the clock was set, or the machine slept.',
    (daemon) => daemon.clockSteps,
    'counter',
  ),
  ofDaemon('config_reload_ok', 'Whether the last reading of the configuration was accepted (1).', (daemon) =>
    flag(daemon.isConfigReloadOk),
  ),
  ofDaemon('config_loaded_timestamp_seconds', 'When the configuration in force was read.', (daemon) =>
    seconds(daemon.configLoadedAt),
  ),
  ofDaemon('start_timestamp_seconds', 'When the daemon was started.', (daemon) => seconds(daemon.startedAt)),
  ofDaemon(
    'written_timestamp_seconds',
    'When this was written: a textfile that is old says so.',
    (_, { status }) => seconds(status.at),
  ),
  {
    name: 'blocksync_build_info',
    type: 'gauge',
    help: 'Always 1; the version is in its label.',
    samples: ({ daemon }) => [{ labels: labelText('version', daemon.version), value: 1 }],
  },
]

/** The whole text. Source of the format: Prometheus, "Exposition formats", text format 0.0.4. */
export function metricsText(snapshot: MetricsSnapshot): string {
  const jobLabels = snapshot.status.jobs.map(({ name }) => labelText('job', name))
  return METRICS.map((metric) => metricText(metric, metric.samples(snapshot, jobLabels))).join('')
}

function metricText({ name, type, help }: Metric, samples: readonly Sample[]): string {
  let known = ''
  for (const { labels, value } of samples) {
    if (value !== null) known += labels === '' ? `${name} ${value}\n` : `${name}{${labels}} ${value}\n`
  }
  return known === '' ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${known}`
}

function labelText(name: string, value: string): string {
  return `${name}="${escapeLabel(value)}"`
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function ofJob(
  name: string,
  type: Metric['type'],
  help: string,
  valueOf: (job: JobStatus) => number | null,
): Metric {
  return {
    name: `${JOB_PREFIX}${name}`,
    type,
    help,
    samples: ({ status }, jobLabels) =>
      status.jobs.map((job, index) => ({ labels: jobLabels[index] ?? '', value: valueOf(job) })),
  }
}

function ofDaemon(
  name: string,
  help: string,
  valueOf: (daemon: DaemonFacts, snapshot: MetricsSnapshot) => number | null,
  type: Metric['type'] = 'gauge',
): Metric {
  return {
    name: `${JOB_PREFIX}${name}`,
    type,
    help,
    samples: (snapshot) => [{ labels: '', value: valueOf(snapshot.daemon, snapshot) }],
  }
}

function flag(value: boolean): number {
  return value ? 1 : 0
}

/** Seconds since 1970 of an ISO time; null where there is none. */
function seconds(at: string | null): number | null {
  const ms = at === null ? Number.NaN : Date.parse(at)
  return Number.isNaN(ms) ? null : ms / 1000
}
