// What goes between a controller and the agent on another host: a banner each way, then JSON lines. Which
// operations there are, what they take and give, and how errors cross. Refuses what is not exactly that.

import { isErrorCode, SyncError, toSyncError, type ErrorCode } from '../errors.js'
import { printable } from '../printable.js'
import { packageVersion } from '../version.js'
import { MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, type Host, type HostFacts } from './host.js'
import {
  argv,
  count,
  digits,
  flag,
  jsonObject,
  list,
  nothing,
  nullable,
  object,
  oneOf,
  shown,
  shownLines,
  ShapeError,
  text,
  texts,
  tuple,
  type Shape,
} from './shapes.js'

/** Versions of these lines that this program speaks. */
export const AGENT_PROTOCOL = { least: 1, most: 1 } as const

/** JSON writes a control character as six bytes; names and numbers come on top. */
const ESCAPED = 6
const ENVELOPE_BYTES = 1 << 20
export const MAX_REQUEST_BYTES = ESCAPED * MAX_INPUT_BYTES + ENVELOPE_BYTES
export const MAX_ANSWER_BYTES = ESCAPED * MAX_OUTPUT_BYTES + ENVELOPE_BYTES
/** Requests that are under way at once; the near end holds further ones back. */
export const MAX_UNDER_WAY = 32
/** Of a message that another host wrote. */
const MAX_MESSAGE_UNITS = 4096

/** `takes` and `gives` are JSON; `perform` is the operation on the host that is here. */
type Operation<A extends readonly unknown[], R> = Readonly<{
  takes: Shape<A>
  gives: Shape<R>
  perform: (host: Host, given: unknown) => Promise<R>
}>

function operation<A extends readonly unknown[], R>(
  takes: Shape<A>,
  gives: Shape<R>,
  call: (host: Host, ...args: A) => Promise<R>,
): Operation<A, R> {
  return { takes, gives, perform: async (host, given) => await call(host, ...takes(given)) }
}

const journalName = object({ id: text, role: oneOf('source', 'destination') })
const programRequest = object(
  { argv, timeoutMs: count },
  { input: text, maxOutputBytes: count, environment: texts, leavesBehind: oneOf(true) },
)
const protection = object(
  {
    by: oneOf('device', 'immutable', 'rename', 'none'),
    path: text,
    why: nullable(shown),
    before: oneOf('writable', 'protected'),
    tag: text,
  },
  { volume: object({ name: text, skipped: oneOf('yes', 'no') }) },
)
const fileFacts = object({
  kind: oneOf('file', 'block', 'directory', 'other'),
  realPath: text,
  sizeBytes: count,
  allocatedBytes: count,
  identity: shown,
  mode: count,
  modifiedNs: digits,
  changedNs: digits,
  written: nullable(object({ bootId: shown, sectors: digits })),
  isProtected: flag,
})
const spaceFacts = object({
  directory: text,
  fileSystemId: shown,
  freeBytes: count,
  fileSystem: shown,
  isWritable: flag,
})
const hostFacts = object({
  hostName: shown,
  machineId: shown,
  bootId: shown,
  nowMs: count,
  memoryBytes: count,
  availableMemoryBytes: count,
  processors: count,
  blocksyncVersion: shown,
  isRoot: flag,
  stateDirectory: text,
})
/** An agent of before `clientAddress` does not tell it. */
const maybeAddress = object({}, { clientAddress: nullable(shown) })
const allFacts: Shape<HostFacts> = (value) => ({
  clientAddress: null,
  ...hostFacts(value),
  ...maybeAddress(value),
})
const undoStep = object({
  group: text,
  state: oneOf('open', 'finished', 'undoing', 'void'),
  startedAt: shown,
  bytes: count,
})
const digestRequest = object({
  path: text,
  algorithm: text,
  seed: text,
  blockBytes: count,
  leafBytes: count,
  lengthBytes: count,
})

type Asked = Exclude<keyof Host, 'name' | 'kind' | 'lost' | 'close' | typeof Symbol.asyncDispose>

/** Every operation of Host by its name; a name that is not here does not exist. */
export const OPERATIONS = {
  facts: operation(tuple(), allFacts, (host) => host.facts()),
  run: operation(
    tuple(programRequest),
    object({ exitStatus: count, stdout: text, stderrTail: shownLines }),
    (host, request) => host.run(request),
  ),
  look: operation(tuple(text), nullable(fileFacts), (host, path) => host.look(path)),
  space: operation(tuple(text), spaceFacts, (host, path) => host.space(path)),
  readText: operation(tuple(text, count), nullable(text), (host, path, maxBytes) =>
    host.readText(path, maxBytes),
  ),
  writeText: operation(
    tuple(text, text, object({ mode: count, existing: oneOf('replace', 'refuse') })),
    nothing,
    (host, path, content, options) => host.writeText(path, content, options),
  ),
  makeDirectories: operation(tuple(text), list(text), (host, path) => host.makeDirectories(path)),
  makeFile: operation(tuple(text, count, count), nothing, (host, path, sizeBytes, mode) =>
    host.makeFile(path, sizeBytes, mode),
  ),
  remove: operation(tuple(text), nothing, (host, path) => host.remove(path)),
  rename: operation(tuple(text, text), nothing, (host, from, to) => host.rename(from, to)),
  protect: operation(tuple(text, text), protection, (host, path, tag) => host.protect(path, tag)),
  unprotect: operation(tuple(protection), nothing, (host, given) => host.unprotect(given)),
  openJournal: operation(
    tuple(journalName, oneOf('create', 'continue'), count),
    list(jsonObject),
    (host, name, mode, waitMs) => host.openJournal(name, mode, waitMs),
  ),
  appendJournal: operation(tuple(journalName, jsonObject), nothing, (host, name, line) =>
    host.appendJournal(name, line),
  ),
  readJournal: operation(tuple(journalName), nullable(list(jsonObject)), (host, name) =>
    host.readJournal(name),
  ),
  listJournals: operation(tuple(), list(journalName), (host) => host.listJournals()),
  removeJournal: operation(tuple(journalName), nothing, (host, name) => host.removeJournal(name)),
  workDirectory: operation(tuple(journalName), text, (host, name) => host.workDirectory(name)),
  takeLock: operation(tuple(text, count), nothing, (host, name, waitMs) => host.takeLock(name, waitMs)),
  undoSteps: operation(tuple(text), list(undoStep), (host, path) => host.undoSteps(path)),
  undoBack: operation(
    tuple(text, nullable(text)),
    object({ steps: count, restoredBytes: count, zeroedBytes: count }),
    (host, path, through) => host.undoBack(path, through),
  ),
  dropUndo: operation(tuple(text, text), nothing, (host, path, through) => host.dropUndo(path, through)),
  digest: operation(tuple(digestRequest), shown, (host, request) => host.digest(request)),
  writeOut: operation(
    tuple(object({ from: text, to: text, lengthBytes: count, undo: list(text) })),
    object({ bytes: count }),
    (host, request) => host.writeOut(request),
  ),
} as const satisfies Record<Asked, unknown>

export type OperationName = keyof typeof OPERATIONS
export type OperationArguments<K extends OperationName> = ReturnType<(typeof OPERATIONS)[K]['takes']>
export type OperationResult<K extends OperationName> = ReturnType<(typeof OPERATIONS)[K]['gives']>

export type AgentRequest = Readonly<{ id: number; op: string; args: unknown }>
export type AgentAnswer = Readonly<{ id: number } & ({ value: unknown } | { error: SyncError })>

const asRequest = object({ id: count, op: text, args: (value: unknown) => value })
const asError = object({ code: text, message: text, operand: nullable(text), hint: nullable(text) })

/** A request as the agent takes it. Throws session/protocol for what is none; whether `op` exists is another question. */
export function takeRequest(message: Readonly<Record<string, unknown>>): AgentRequest {
  try {
    return asRequest(message)
  } catch (error) {
    throw notUnderstood(error)
  }
}

/** Performs it on `host`. Rejects with what the operation rejects with, and with internal for what it does not take. */
export async function performOperation(host: Host, { op, args }: AgentRequest): Promise<unknown> {
  if (!isOperation(op)) {
    throw new SyncError(
      'connect/capability',
      `blocksync ${packageVersion()} has no operation '${printable(op.slice(0, 40))}'; nothing was done`,
      { hint: 'Install the same version of blocksync on both hosts.' },
    )
  }
  try {
    return (await OPERATIONS[op].perform(host, args)) ?? null
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error
    throw new SyncError('internal', `${op} was asked for in a wrong way: ${error.message}; nothing was done`)
  }
}

export function encodeError(thrown: unknown): Readonly<Record<string, unknown>> {
  const { code, message, operand, hint } = toSyncError(thrown)
  return { code, message, operand, hint }
}

/** An answer as the near end takes it. Throws session/protocol for what is none. */
export function takeAnswer(message: Readonly<Record<string, unknown>>): AgentAnswer {
  try {
    const id = count(message['id'])
    if (!Object.hasOwn(message, 'error')) return { id, value: message['value'] ?? null }
    const { code, message: words, operand, hint } = asError(message['error'])
    const details = {
      ...(operand === null ? {} : { operand: short(operand) }),
      ...(hint === null ? {} : { hint: short(hint) }),
    }
    return { id, error: new SyncError(codeOf(code), short(words), details) }
  } catch (error) {
    throw notUnderstood(error)
  }
}

/** What the operation gave. Throws session/protocol for a value of another shape. */
export function takeValue<K extends OperationName>(op: K, value: unknown): OperationResult<K> {
  try {
    return OPERATIONS[op].gives(value) as OperationResult<K>
  } catch (error) {
    throw notUnderstood(error)
  }
}

export function notUnderstood(error: unknown): SyncError {
  if (!(error instanceof ShapeError)) throw error
  return new SyncError('session/protocol', `what came is not understood: ${error.message}`, { cause: error })
}

function isOperation(op: string): op is OperationName {
  return Object.hasOwn(OPERATIONS, op)
}

/** Only errors that operations have; an interruption there, say, is not one of ours here. */
const OWN_CODES =
  /^(?:host\/(?!lost$)|(?:migrate|replicate|state|undo|guard|source|destination)\/|usage$|native\/required$|connect\/capability$)/

function codeOf(code: string): ErrorCode {
  return isErrorCode(code) && OWN_CODES.test(code) ? code : 'internal'
}

function short(words: string): string {
  return printable(words.slice(0, MAX_MESSAGE_UNITS))
}
