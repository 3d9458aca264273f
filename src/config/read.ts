// Texts of YAML files in, one configuration out. Everything that is wrong in all of them is found before it is refused; nothing
// of it is used then.

import { isObject } from '../json.js'
import type { Config, Job, Place } from './config.js'
import { findingsOf } from './issues.js'
import { diskKey, jobOf } from './job.js'
import type { ConfigText } from './locate.js'
import type { ConfigParsers } from './parsers.js'
import { invalid } from './problems.js'
import type { Problem } from './problems.js'
import { JOB_NAME, schemasOf } from './schema.js'
import type { DefaultsForm, MainForm, Schemas } from './schema.js'
import { pathName, YamlFile } from './yaml-file.js'
import type { At, Path } from './yaml-file.js'

const DEFAULT_MAX_PARALLEL = 2

/** Keys that hold for all jobs: they are in the first file. */
const MAIN_KEYS = ['state_dir', 'max_parallel', 'bwlimit', 'metrics', 'notify', 'defaults']

/** Made once: a daemon reads its configuration again and again. */
const made = new WeakMap<ConfigParsers, Schemas>()

/** The configuration that the texts are, the first of which is the main file. Throws config/invalid. */
export function readConfig(texts: readonly ConfigText[], parsers: ConfigParsers): Config {
  const reader = new Reader(parsers)
  const files = texts.map(({ file, text }) => new YamlFile(file, text))
  const config = reader.read(files)
  if (reader.problems.length > 0) throw invalid(reader.problems)
  return config
}

class Reader {
  readonly problems: Problem[] = []
  readonly #parsers: ConfigParsers
  readonly #schemas: Schemas

  constructor(parsers: ConfigParsers) {
    this.#parsers = parsers
    this.#schemas = made.get(parsers) ?? schemasOf(parsers)
    made.set(parsers, this.#schemas)
  }

  read(files: readonly YamlFile[]): Config {
    for (const { problems } of files) this.problems.push(...problems)
    const [main] = files
    const settings = main === undefined ? {} : this.#settings(main)
    for (const file of files.slice(1)) this.#others(file, main?.file ?? '')
    const defaults = main === undefined ? {} : this.#defaults(main)
    const jobs = this.#jobs(files, defaults, settings.state_dir ?? null)
    this.#across(jobs.map(({ job }) => job))
    if (
      main !== undefined &&
      this.problems.length === 0 &&
      !files.some(({ value }) => isObject(value) && 'jobs' in value)
    )
      this.#say(main, [], 'key', 'there are no jobs; write jobs, and each below it by its name')
    return {
      files: files.map(({ file }) => file),
      stateDir: settings.state_dir ?? null,
      maxParallel: settings.max_parallel ?? DEFAULT_MAX_PARALLEL,
      bwlimit: settings.bwlimit?.schedule ?? null,
      metrics: { textfile: settings.metrics?.textfile ?? null, listen: settings.metrics?.listen ?? null },
      notify: settings.notify ?? [],
      jobs: jobs.map(({ job }) => job),
    }
  }

  #settings(file: YamlFile): MainForm {
    const parsed = this.#schemas.main.safeParse(file.value ?? {})
    if (parsed.success) return parsed.data
    this.#report(file, parsed.error.issues, file.value, [])
    return {}
  }

  #others(file: YamlFile, main: string): void {
    const parsed = this.#schemas.main.safeParse(file.value ?? {})
    if (!parsed.success) this.#report(file, parsed.error.issues, file.value, [])
    if (!isObject(file.value)) return
    for (const key of Object.keys(file.value).filter((name) => MAIN_KEYS.includes(name)))
      this.#say(file, [key], 'key', `belongs into ${main}; other files have jobs alone`)
  }

  #defaults(file: YamlFile): DefaultsForm {
    const value = isObject(file.value) ? file.value['defaults'] : undefined
    if (!isObject(value)) return {}
    const parsed = this.#schemas.defaults.safeParse(value)
    if (!parsed.success) this.#report(file, parsed.error.issues, value, ['defaults'])
    else if (parsed.data.every !== undefined && parsed.data.cron !== undefined)
      this.#say(
        file,
        ['defaults', 'cron'],
        'key',
        'every is there too, and a job has one schedule; leave one of the two away',
      )
    return parsed.success ? parsed.data : {}
  }

  #jobs(files: readonly YamlFile[], defaults: DefaultsForm, stateDir: string | null): { job: Job }[] {
    const places = new Map<string, Place>()
    return files.flatMap((file) => {
      const jobs = isObject(file.value) ? file.value['jobs'] : undefined
      if (!isObject(jobs)) return []
      return Object.entries(jobs).flatMap(([name, value]) => {
        const path = ['jobs', name]
        const place = file.placeOf(path, 'key')
        const before = places.get(name)
        if (before !== undefined)
          this.#say(
            file,
            path,
            'key',
            `there is already a job of this name at ${before.file}:${before.line}:${before.column}`,
          )
        places.set(name, before ?? place)
        if (!JOB_NAME.test(name))
          this.#say(
            file,
            path,
            'key',
            'a name has at most 64 letters, digits, dots, dashes and underscores, and no dot or dash in front',
          )
        const parsed = this.#schemas.job.safeParse(value)
        if (!parsed.success) {
          this.#report(file, parsed.error.issues, value, path)
          return []
        }
        const job = jobOf({
          name,
          place,
          own: parsed.data,
          defaults,
          stateDir,
          parsers: this.#parsers,
          say: (within, text) => this.#say(file, [...path, ...within], 'value', text),
          sayStateDir: (text) => this.#say(files[0] ?? file, ['state_dir'], 'value', text),
        })
        return job === null ? [] : [{ job }]
      })
    })
  }

  /** One disk is written by one job, and no two jobs write what the other one reads from it. */
  #across(jobs: readonly Job[]): void {
    const written = new Map<string, Job>()
    const ways = new Map<string, Job>()
    for (const job of jobs) {
      const { port } = job.options.transport
      for (const disk of job.disks) {
        const [from, to] = [diskKey(disk.source, port), diskKey(disk.destination, port)]
        const other = written.get(to)
        if (other !== undefined && other !== job)
          this.#atJob(job, `${disk.destination.typed} is also a destination of ${jobAt(other)}`)
        written.set(to, other ?? job)
        const back = ways.get(`${to} ${from}`)
        if (back !== undefined)
          this.#atJob(job, `${disk.destination.typed} is copied the other way by ${jobAt(back)}`)
        ways.set(`${from} ${to}`, job)
      }
    }
  }

  #atJob({ name, place }: Job, text: string): void {
    this.problems.push({ place, text: `${pathName(['jobs', name])}: ${text}` })
  }

  #report(file: YamlFile, issues: Parameters<typeof findingsOf>[0], value: unknown, base: Path): void {
    for (const { path, at, text } of findingsOf(issues, value, base, (within, key) =>
      this.#unknownKey(within, key),
    ))
      this.#say(file, path, at, text)
  }

  /** What can be said of a key that is not known here, but elsewhere. */
  #unknownKey(path: Path, key: string): string | null {
    const [top] = path
    const isJob = (top === 'jobs' && path.length === 2) || (top === 'defaults' && path.length === 1)
    const name = key.replaceAll('_', '-')
    if (isJob) {
      const why = this.#parsers.refusedOptions.get(name)
      if (why !== undefined) return `is no option of a job: ${why}`
      if (Object.hasOwn(this.#schemas.main.shape, key))
        return 'belongs to no job; it is a key of its own, before jobs'
      if (path.length === 1 && Object.hasOwn(this.#schemas.job.shape, key))
        return 'belongs to a job, not into defaults'
      return null
    }
    return path.length === 0 && Object.hasOwn(this.#schemas.job.shape, key)
      ? 'belongs to a job, or into defaults'
      : null
  }

  #say(file: YamlFile, path: Path, at: At, text: string): void {
    const name = pathName(path)
    this.problems.push({ place: file.placeOf(path, at), text: name === '' ? text : `${name}: ${text}` })
  }
}

function jobAt({ name, place }: Job): string {
  return `jobs.${name} (${place.file}:${place.line}:${place.column})`
}
