// What was read as the record of a replica, every field checked: who rests on it need not look again. Throws RecordError.

import {
  countOf,
  type Fields,
  listOf,
  nullOr,
  objectOf,
  oneOf,
  orNull,
  RecordError,
  textOf,
  timeOf,
} from '../state/fields.js'
import {
  REPLICA_RECORD_VERSION,
  type Generation,
  type GenerationCopy,
  type GenerationDisk,
  type ReplicaRecord,
  type RootRecord,
} from './record.js'

/** A host has no more disks in one job; a record of a MiB holds no more of the others. */
const MAX_DISKS = 256
const MAX_GENERATIONS = 10_000
const MAX_GROUPS = 40_000
/** One every second would take a hundred years and more. */
const MAX_NUMBER = 2 ** 32
const MAX_PORT = 65_535
const MACHINE_ID = /^[0-9a-f]{32}$/
const GROUP = /^[0-9a-f]{32}$/
const ABSOLUTE = /^\/[^\0]*$/s
const VOLUME = /^[A-Za-z0-9+_.-]+\/[A-Za-z0-9+_.-]+$/
const HEX = /^[0-9a-f]{2,128}$/

/** Of the replica `id`. */
export function checkedReplica(value: unknown, id: string): ReplicaRecord {
  const fields = objectOf(value, 'the record')
  if (fields['version'] !== REPLICA_RECORD_VERSION)
    throw new RecordError(`it is of version ${String(fields['version'])}, not ${REPLICA_RECORD_VERSION}`)
  if (fields['id'] !== id) throw new RecordError('it is of another replica')
  const controller = objectOf(fields['controller'], 'controller')
  const source = objectOf(fields['source'], 'source')
  const record: ReplicaRecord = {
    version: REPLICA_RECORD_VERSION,
    id,
    job: textOf(fields, 'job'),
    controller: {
      hostName: textOf(controller, 'hostName'),
      machineId: textOf(controller, 'machineId', MACHINE_ID),
    },
    source: {
      hostName: textOf(source, 'hostName'),
      machineId: textOf(source, 'machineId', MACHINE_ID),
      address: orNull(source, 'address', textOf),
      port: orNull(source, 'port', portOf),
    },
    state: oneOf(fields, 'state', ['empty', 'good', 'writing', 'back', 'promoted']),
    base: oneOf(fields, 'base', ['generation', 'nothing', 'old-source']),
    attempt: orNull(fields, 'attempt', textOf),
    changedAt: timeOf(fields, 'changedAt'),
    disks: listOf(fields, 'disks', MAX_DISKS, (each) => {
      const disk = objectOf(each, 'a disk')
      return {
        path: textOf(disk, 'path', ABSOLUTE),
        sourcePath: textOf(disk, 'sourcePath', ABSOLUTE),
        droppedUndo: orNull(disk, 'droppedUndo', groupOf),
        ...(typeof disk['stamp'] === 'string' ? { stamp: textOf(disk, 'stamp') } : {}),
      }
    }),
    nextGeneration: countOf(fields, 'nextGeneration', MAX_NUMBER),
    generations: listOf(fields, 'generations', MAX_GENERATIONS, checkedGeneration),
    guest: nullOr(fields, 'guest', (each) => {
      const guest = objectOf(each, 'guest')
      return {
        domain: textOf(guest, 'domain'),
        hypervisor: oneOf(guest, 'hypervisor', ['libvirt']),
        definition: textOf(guest, 'definition', ABSOLUTE),
      }
    }),
  }
  checkTogether(record)
  return record
}

function portOf(fields: Fields, name: string): number {
  return countOf(fields, name, MAX_PORT)
}

function checkTogether({ disks, generations, nextGeneration, state, base }: ReplicaRecord): void {
  if (disks.length === 0) throw new RecordError('it has no disks')
  let before = 0
  for (const { number, disks: own } of generations) {
    if (number <= before || number >= nextGeneration)
      throw new RecordError('its generations are not in order')
    if (own.length !== disks.length) throw new RecordError(`generation ${number} has not all disks`)
    before = number
  }
  if (base === 'generation' && generations.length === 0) throw new RecordError('it has no generation')
  if (state === 'good' && base !== 'generation') throw new RecordError('it is good without a generation')
}

function checkedGeneration(value: unknown): Generation {
  const fields = objectOf(value, 'a generation')
  return {
    number: countOf(fields, 'number', MAX_NUMBER),
    takenAt: timeOf(fields, 'takenAt'),
    completedAt: timeOf(fields, 'completedAt'),
    cut: oneOf(fields, 'cut', ['one-instant', 'near', 'none']),
    quiesced: oneOf(fields, 'quiesced', ['yes', 'no']),
    spreadMs: countOf(fields, 'spreadMs'),
    sentBytes: countOf(fields, 'sentBytes'),
    attempt: textOf(fields, 'attempt'),
    disks: listOf(fields, 'disks', MAX_DISKS, checkedDisk),
  }
}

function checkedDisk(value: unknown): GenerationDisk {
  const fields = objectOf(value, 'a disk of a generation')
  return {
    root: checkedRoot(fields['root']),
    undo: listOf(fields, 'undo', MAX_GROUPS, (group) => groupOf({ group }, 'group')),
    copy: nullOr(fields, 'copy', checkedCopy),
  }
}

function checkedRoot(value: unknown): RootRecord {
  const fields = objectOf(value, 'root')
  return {
    algorithm: textOf(fields, 'algorithm', /^[a-z0-9-]{1,32}$/),
    root: textOf(fields, 'root', HEX),
    seed: textOf(fields, 'seed', HEX),
    blockBytes: countOf(fields, 'blockBytes'),
    leafBytes: countOf(fields, 'leafBytes'),
    lengthBytes: countOf(fields, 'lengthBytes'),
  }
}

function checkedCopy(value: unknown): GenerationCopy {
  const fields = objectOf(value, 'copy')
  const kind = oneOf(fields, 'kind', ['reflink', 'lvm-thin'])
  return kind === 'reflink'
    ? { kind, path: textOf(fields, 'path', ABSOLUTE) }
    : { kind, volume: textOf(fields, 'volume', VOLUME) }
}

function groupOf(fields: Fields, name: string): string {
  return textOf(fields, name, GROUP)
}
