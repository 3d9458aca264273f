// What a daemon with many idle jobs costs: memory and processor time over a while. Not a test, since it takes a time that a machine
// decides: node test/daemon/idle.js [JOBS] [SECONDS], behind npm run build.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [jobs, seconds] = [Number(process.argv[2] ?? 500), Number(process.argv[3] ?? 130)]
const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js')
/** USER_HZ of proc(5) on every machine of today. */
const TICKS_PER_SECOND = 100

const directory = mkdtempSync(join(tmpdir(), 'blocksync-idle-'))
const now = new Date().toISOString()
const text = Array.from({ length: jobs }, (_, index) => {
  const name = `job${index}`
  const state = {
    version: 1,
    job: name,
    direction: 'forward',
    paused: null,
    running: null,
    newest: { generation: 1, takenAt: now, completedAt: now },
    last: null,
    failures: 0,
    retryAt: null,
    scheduledAt: now,
    told: 'well',
    totals: { attempts: 1, failures: 0, skipped: 0, sentBytes: 0 },
    drill: null,
  }
  mkdirSync(join(directory, 'state', 'replicate', name), { recursive: true, mode: 0o700 })
  writeFileSync(join(directory, 'state', 'replicate', name, 'state.json'), JSON.stringify(state), {
    mode: 0o600,
  })
  const schedule = index % 2 === 0 ? 'every: 1d' : "cron: '0 3 1 1 *'"
  return `  ${name}: { source: /srv/${name}, destination: root@kvm2:/srv/${name}, ${schedule} }`
})
const config = join(directory, 'config.yaml')
writeFileSync(
  config,
  `metrics: { listen: "unix:${directory}/http", textfile: ${directory}/x.prom }\njobs:\n${text.join('\n')}\n`,
  { mode: 0o600 },
)

function ticks(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

function megabytes(pid, field) {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return (Number(found?.[1]) / 1024).toFixed(1)
}

async function pause(forSeconds) {
  await new Promise((resolve) => setTimeout(resolve, forSeconds * 1000))
}

const begun = performance.now()
const daemon = spawn(
  process.execPath,
  [MAIN, 'replicate', 'daemon', '--config', config, '--state-dir', join(directory, 'state')],
  { stdio: ['ignore', 'inherit', 'pipe'] },
)
try {
  await new Promise((resolve) => {
    daemon.stderr.on('data', (chunk) => {
      process.stderr.write(chunk)
      if (String(chunk).includes('state in')) resolve()
    })
    daemon.once('exit', resolve)
  })
  console.log(`${jobs} jobs: ready after ${((performance.now() - begun) / 1000).toFixed(2)} s`)
  await pause(5)
  const before = ticks(daemon.pid)
  await pause(seconds)
  const share = (ticks(daemon.pid) - before) / TICKS_PER_SECOND / seconds
  const memory = `${megabytes(daemon.pid, 'VmRSS')} MiB, at most ${megabytes(daemon.pid, 'VmHWM')} MiB`
  console.log(`idle for ${seconds} s: ${(share * 100).toFixed(3)} % of a processor, ${memory}`)
} finally {
  daemon.kill('SIGTERM')
  const [status] = await once(daemon, 'exit')
  console.log(`ended with ${status}`)
  rmSync(directory, { recursive: true, force: true })
}
