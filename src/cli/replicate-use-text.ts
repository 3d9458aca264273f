// What was done with a replica, for people: outcomes in, lines out. Prints nothing itself.

import { lagText } from '../replicate/lag.js'
import type { Drilled } from '../replicate/drill.js'
import type { Promoted } from '../replicate/promote.js'
import type { GenerationFacts } from '../replicate/replicas.js'
import type { Restored } from '../replicate/restore.js'
import type { Reversed } from '../replicate/reverse.js'
import type { TakenBack } from '../replicate/take-back.js'
import { shellWord } from '../shell-word.js'
import { formatBytes, formatElapsed } from './units.js'

/** `generation 812, taken 2026-01-02 03:04:05 UTC (12 min ago), crash-consistent`. */
export function generationText({ generation, takenAt, ageSeconds, consistency }: GenerationFacts): string {
  const taken = `${takenAt.slice(0, 10)} ${takenAt.slice(11, 19)} UTC`
  return `generation ${generation}, taken ${taken} (${lagText(ageSeconds)} ago), ${consistency}`
}

export function promotedLines({ job, id, host, was, newest, disks, commands }: Promoted): string[] {
  return [
    was === 'promoted'
      ? `${job} on ${host} was promoted before; nothing was changed`
      : `${job} on ${host} is promoted: ${generationText(newest)}`,
    ...disks.map((path) => `  ${path}`),
    ...(commands.length === 0
      ? ['define a guest on these disks to start it; none is known']
      : ['to start the guest:', ...commands.map((argv) => `  ${argv.map(shellWord).join(' ')}`)]),
    `no attempt writes to it any more; when the old source is back: blocksync replicate reverse ${job} (replica ${id})`,
  ]
}

export function takenBackLines({ job, host, generation }: TakenBack): string[] {
  return generation === null
    ? [
        `${job} on ${host} is a replica again; the next attempt compares all of it, and what was written is gone then`,
      ]
    : [`${job} on ${host} is a replica again, generation ${generation}`]
}

export function reversedLines({ job, direction, source, destination }: Reversed): string[] {
  return [
    `${job} is turned round: ${source} -> ${destination}${direction === 'forward' ? ', as configured' : ''}`,
    `the next attempt sends what differs: blocksync replicate run ${job} --now`,
  ]
}

export function restoredLines({ job, host, restored, disks, dropped }: Restored): string[] {
  const isInPlace = disks.every(({ to }) => to === null)
  return [
    isInPlace
      ? `${job} on ${host} is back at ${generationText(restored)}`
      : `${job} on ${host}, ${generationText(restored)}, written and checked:`,
    ...disks.map(({ path, to, bytes }) =>
      to === null ? `  ${path}` : `  ${path} -> ${to} (${formatBytes(bytes)} written)`,
    ),
    ...(dropped.length === 0 ? [] : [`gone: ${dropped.map(String).join(', ')}`]),
  ]
}

export function drilledLines({ job, host, proved, disks, boot, durationMs }: Drilled): string[] {
  return [
    `${job} on ${host} holds: ${generationText(proved)}; read in ${formatElapsed(durationMs)}`,
    ...disks.map(({ path, algorithm, root }) => `  ${path} ${root} (${algorithm})`),
    ...(boot === null
      ? []
      : [`a guest started on it and said after ${formatElapsed(boot.durationMs)}: ${boot.line}`]),
  ]
}
