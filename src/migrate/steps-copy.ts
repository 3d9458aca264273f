// The steps that copy: making the destination, rounds while the guest runs, and the last pass when it has stopped.
// Refuses a disk that grew where its copy cannot grow, and one that shrank.

import { SyncError } from '../errors.js'
import type { CopyProgress, PassResult } from './copier.js'
import type { FactsOf } from './journal.js'
import { factsOf, isStanding } from './journal.js'
import { afterRound, forecastDowntimeMs } from './rounds.js'
import { checkDisksFit, lookAt } from './stamps.js'
import { undoRestore } from './steps-guest.js'
import type { Work } from './work.js'

/** Copies until the downtime would be short enough, or no shorter than it is. */
export async function rounds(work: Work): Promise<FactsOf['rounds']> {
  const { context, plan, ledger } = work
  const { options, guest } = plan
  const procedure = work.procedure === 'warm' ? 'warm' : 'cold'
  const found: FactsOf['rounds']['rounds'][number][] = []
  for (;;) {
    const pass = await passOverDisks(work, 'rounds')
    work.passes.push(pass)
    const { sentBytes, wireBytes, durationMs } = pass
    const forecast = { passes: work.passes, memoryBytes: guest.memoryBytes, procedure } as const
    const round = { sentBytes, wireBytes, durationMs, forecastDowntimeMs: forecastDowntimeMs(forecast) }
    found.push(round)
    await ledger.round(round)
    context.onEvent({ event: 'round', round: ledger.sourceState.rounds.length, ...round })
    const verdict = afterRound(found, options)
    // what grew meanwhile has a part that was never copied
    if (verdict === 'again' || (verdict !== 'most-rounds' && (await haveGrown(work, pass)))) continue
    if (verdict !== 'short-enough')
      work.note(
        `the guest will be stopped for about ${Math.round(round.forecastDowntimeMs / 100) / 10} s: ` +
          (verdict === 'no-better' ? 'another round would not shorten that' : 'there are no more rounds'),
      )
    return { rounds: found }
  }
}

async function passOverDisks(work: Work, step: 'rounds' | 'final', abort?: AbortSignal): Promise<PassResult> {
  const { context, moved } = work
  await checkSizes(work)
  const signals = [work.there().lost, ...(abort === undefined ? [] : [abort])]
  // behind the guest's stop an interruption waits for the end of the step, like everything else
  if (step === 'rounds') signals.push(context.signal)
  const hooks = { signal: AbortSignal.any(signals), onProgress: work.progress(step) }
  if (moved.length === 0)
    return { sentBytes: 0, wireBytes: 0, durationMs: 0, bytesPerSecond: null, roots: {}, sizes: {} }
  return await context.copier.pass(moved, hooks)
}

/** A copy that is a file follows a source that grew: the engine lengthens it. Nothing else can. */
async function checkSizes(work: Work): Promise<void> {
  const there = work.there()
  for (const { target, sourcePath, destinationPath } of work.moved) {
    const [own, copy] = await Promise.all([lookAt(work.source, sourcePath), lookAt(there, destinationPath)])
    const planned = work.plan.disks.find((disk) => disk.target === target)
    if (planned !== undefined && own.sizeBytes < planned.sizeBytes)
      throw new SyncError(
        'migrate/stopped',
        `${sourcePath} has ${own.sizeBytes} bytes and had ${planned.sizeBytes}: it became shorter`,
        { operand: sourcePath, hint: 'Make a new plan when it has its final size.' },
      )
    if (own.sizeBytes > copy.sizeBytes && copy.kind !== 'file')
      throw new SyncError(
        'migrate/stopped',
        `${sourcePath} grew to ${own.sizeBytes} bytes, and ${destinationPath} on ${there.name} has ${copy.sizeBytes}`,
        { operand: destinationPath, hint: 'Make that device as large, and begin again.' },
      )
  }
}

async function haveGrown(work: Work, { sizes }: PassResult): Promise<boolean> {
  const now = await Promise.all(
    work.moved.map(async ({ target, sourcePath }) => {
      const { sizeBytes } = await lookAt(work.source, sourcePath)
      return sizeBytes > (sizes[target] ?? 0)
    }),
  )
  return now.includes(true)
}

/** The pass over disks that nobody writes to any more; beside it the saved state, and files that belong to the guest. */
export async function finalPass(work: Work): Promise<FactsOf['final']> {
  const { source, plan, context, ledger } = work
  const saved = factsOf(ledger.sourceState, 'save')
  const there = work.there()
  const { sourceStatePath, destinationStatePath } = plan
  if (saved !== null && sourceStatePath !== null) {
    const roots = factsOf(ledger.sourceState, 'final')?.roots ?? {}
    const stamps = ledger.sourceState.unfencedStamps ?? saved.stamps
    const disks = work.moved
    await checkDisksFit({
      source,
      copier: context.copier,
      disks,
      stamps,
      roots,
      savedNs: null,
      sameBoot: true,
    })
  }
  // what an earlier attempt left paused there has the disks open
  if (isStanding(ledger.sourceState, 'restore')) await undoRestore(work)
  const failed = new AbortController()
  const guarded = async <T>(act: () => Promise<T>): Promise<T> => {
    try {
      return await act()
    } catch (thrown) {
      failed.abort(thrown)
      throw thrown
    }
  }
  const pass = guarded(async () =>
    work.timed('lastPassMs', async () => await passOverDisks(work, 'final', failed.signal)),
  )
  const copies = guarded(async () => {
    const hooks = { signal: AbortSignal.any([there.lost, failed.signal]), onProgress: ignore }
    if (work.procedure === 'warm' && sourceStatePath !== null && destinationStatePath !== null) {
      await work.timed('stateCopyMs', async () => {
        // what an earlier attempt left may be longer
        await there.remove(destinationStatePath)
        await context.copier.copyFile(sourceStatePath, destinationStatePath, hooks)
      })
    }
    for (const { sourcePath, destinationPath } of plan.files)
      await context.copier.copyFile(sourcePath, destinationPath, hooks)
  })
  const [passed, copied] = await Promise.allSettled([pass, copies])
  if (failed.signal.aborted) throw failed.signal.reason
  if (passed.status === 'rejected') throw passed.reason
  if (copied.status === 'rejected') throw copied.reason
  const { roots, sizes } = passed.value
  return { roots, sizes }
}

export async function undoFinal(work: Work): Promise<null> {
  const { destinationStatePath } = work.plan
  if (destinationStatePath !== null) await work.there().remove(destinationStatePath)
  return null
}

function ignore(_progress: CopyProgress): void {
  // the pass beside it tells how far it is
}
