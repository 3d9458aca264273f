// What a daemon of this host tells at its own address (`metrics.listen`): the progress of what runs, which is in no file. Refuses
// nothing: where nobody answers in time, or something else does, there is no answer.

import { request } from 'node:http'

import type { ListenAddress } from '../config/config.js'
import { isObject } from '../json.js'
import type { JobStatus, StatusDocument } from '../replicate/status.js'

/** It is on this host; whoever looks at a status does not wait for a daemon that hangs. */
const ANSWER_MS = 500
/** Of 500 jobs with their last attempts; a page of somebody else is not read to its end. */
const MAX_ANSWER_BYTES = 8 << 20

export type DaemonStatus = Readonly<{
  daemon: NonNullable<StatusDocument['daemon']>
  /** Of jobs that run, by name. */
  progress: ReadonlyMap<string, NonNullable<JobStatus['progress']>>
}>

/** Null where no daemon answers there. Never rejects. */
export async function askDaemon(listen: ListenAddress): Promise<DaemonStatus | null> {
  const text = await fetchText(listen)
  if (text === null) return null
  try {
    return understood(JSON.parse(text))
  } catch {
    // no JSON: it is another service that has the address
    return null
  }
}

async function fetchText(listen: ListenAddress): Promise<string | null> {
  const where = listen.kind === 'tcp' ? { host: listen.host, port: listen.port } : { socketPath: listen.path }
  return await new Promise((resolve) => {
    const asked = request(
      { ...where, path: '/status.json', agent: false, signal: AbortSignal.timeout(ANSWER_MS) },
      (response) => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > MAX_ANSWER_BYTES) response.destroy()
          else chunks.push(chunk)
        })
        response.once('error', () => resolve(null))
        response.once('close', () => {
          const isWhole = response.complete && response.statusCode === 200
          resolve(isWhole ? Buffer.concat(chunks).toString('utf8') : null)
        })
      },
    )
    asked.once('error', () => resolve(null))
    asked.end()
  })
}

function understood(value: unknown): DaemonStatus | null {
  if (!isObject(value) || !isObject(value['daemon']) || !Array.isArray(value['jobs'])) return null
  const { pid, startedAt } = value['daemon']
  if (typeof pid !== 'number' || typeof startedAt !== 'string') return null
  const progress = new Map<string, NonNullable<JobStatus['progress']>>()
  for (const job of value['jobs'] as readonly unknown[]) {
    if (!isObject(job) || typeof job['name'] !== 'string') continue
    const { name, progress: told } = job
    if (!isObject(told)) continue
    const { doneBytes, totalBytes, sentBytes } = told
    if (typeof doneBytes === 'number' && typeof totalBytes === 'number' && typeof sentBytes === 'number')
      progress.set(name, { doneBytes, totalBytes, sentBytes })
  }
  return { daemon: { pid, startedAt }, progress }
}
