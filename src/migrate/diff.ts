// Two short texts in, a unified diff out. For definitions of guests, so a few hundred lines; refuses nothing: what differs
// in too many places is shown as all old lines and all new lines.

/** Lines around a change that are shown with it, as diff -u has it. */
const CONTEXT_LINES = 3
/** Edits beyond this are no edited definition but another text; the search needs memory in the square of it. */
const MAX_EDITS = 500

type Edit = Readonly<{ kind: ' ' | '-' | '+'; line: string }>

/**
 * A unified diff with headers for the two names; empty where the texts are equal.
 * The search is Myers' greedy one ("An O(ND) Difference Algorithm and Its Variations", 1986).
 */
export function unifiedDiff(oldName: string, newName: string, oldText: string, newText: string): string {
  if (oldText === newText) return ''
  const edits = editsOf(linesOf(oldText), linesOf(newText))
  return [`--- ${oldName}`, `+++ ${newName}`, ...hunksOf(edits)].join('\n') + '\n'
}

/** A last line without its newline is another line than one with it. */
function linesOf(text: string): string[] {
  if (text === '') return []
  const lines = text.split('\n')
  const last = lines.pop() ?? ''
  return last === '' ? lines : [...lines, `${last}\n\\ No newline at end of file`]
}

function editsOf(before: readonly string[], after: readonly string[]): Edit[] {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let end = 0
  while (
    end < before.length - start &&
    end < after.length - start &&
    before[before.length - 1 - end] === after[after.length - 1 - end]
  )
    end++
  const same = (lines: readonly string[]): Edit[] => lines.map((line) => ({ kind: ' ', line }))
  return [
    ...same(before.slice(0, start)),
    ...middle(before.slice(start, before.length - end), after.slice(start, after.length - end)),
    ...same(before.slice(before.length - end)),
  ]
}

/** The fewest deletions and insertions that lead from one to the other. */
function middle(before: readonly string[], after: readonly string[]): Edit[] {
  // reach.get(k): how far into `before` on the diagonal k; one map for each number of edits, to find the way back
  const rounds: Map<number, number>[] = []
  let reach = new Map<number, number>([[1, 0]])
  for (let edits = 0; edits <= MAX_EDITS; edits++) {
    rounds.push(new Map(reach))
    const next = new Map(reach)
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = isInsertion(reach, diagonal, edits)
        ? (reach.get(diagonal + 1) ?? 0)
        : (reach.get(diagonal - 1) ?? 0) + 1
      while (x < before.length && x - diagonal < after.length && before[x] === after[x - diagonal]) x++
      next.set(diagonal, x)
      if (x >= before.length && x - diagonal >= after.length) return wayBack(before, after, rounds)
    }
    reach = next
  }
  return [
    ...before.map((line): Edit => ({ kind: '-', line })),
    ...after.map((line): Edit => ({ kind: '+', line })),
  ]
}

function isInsertion(reach: ReadonlyMap<number, number>, diagonal: number, edits: number): boolean {
  if (diagonal === -edits) return true
  if (diagonal === edits) return false
  return (reach.get(diagonal - 1) ?? -1) < (reach.get(diagonal + 1) ?? -1)
}

function wayBack(
  before: readonly string[],
  after: readonly string[],
  rounds: readonly ReadonlyMap<number, number>[],
): Edit[] {
  const found: Edit[] = []
  let x = before.length
  let y = after.length
  for (let edits = rounds.length - 1; edits >= 0; edits--) {
    const reach = rounds[edits] ?? new Map<number, number>()
    const from = isInsertion(reach, x - y, edits) ? x - y + 1 : x - y - 1
    const fromX = reach.get(from) ?? 0
    const fromY = fromX - from
    while (x > fromX && y > fromY && x > 0 && y > 0) {
      x--
      y--
      found.push({ kind: ' ', line: before[x] ?? '' })
    }
    if (edits === 0) break
    if (x > fromX) found.push({ kind: '-', line: before[--x] ?? '' })
    else found.push({ kind: '+', line: after[--y] ?? '' })
  }
  return found.toReversed()
}

function hunksOf(edits: readonly Edit[]): string[] {
  const lines: string[] = []
  let index = 0
  let oldLine = 1
  let newLine = 1
  const pass = (edit: Edit | undefined): void => {
    if (edit?.kind !== '+') oldLine++
    if (edit?.kind !== '-') newLine++
  }
  while (index < edits.length) {
    const change = edits.findIndex(({ kind }, at) => at >= index && kind !== ' ')
    if (change < 0) break
    const begin = Math.max(index, change - CONTEXT_LINES)
    for (; index < begin; index++) pass(edits[index])
    let end = change
    // changes with at most twice the context between them share a hunk
    for (let at = change; at < edits.length && at <= end + 2 * CONTEXT_LINES; at++) {
      if (edits[at]?.kind !== ' ') end = at
    }
    const hunk = edits.slice(begin, Math.min(edits.length, end + 1 + CONTEXT_LINES))
    const olds = hunk.filter(({ kind }) => kind !== '+').length
    const news = hunk.filter(({ kind }) => kind !== '-').length
    lines.push(`@@ -${span(oldLine, olds)} +${span(newLine, news)} @@`)
    lines.push(...hunk.map(({ kind, line }) => `${kind}${line}`))
    for (const edit of hunk) pass(edit)
    index = begin + hunk.length
  }
  return lines
}

function span(line: number, count: number): string {
  if (count === 1) return String(line)
  return `${count === 0 ? line - 1 : line},${count}`
}
