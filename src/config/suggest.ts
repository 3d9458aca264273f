// Which of the words that are known may have been meant by one that is not. Says nothing rather than something far-fetched.

/** A longer word is no typing error of a key. */
const MAX_WORD = 40

/** The known word that is nearest to `word`, or null where none is near. Dashes, underscores and capitals do not count. */
export function nearest(word: string, known: readonly string[]): string | null {
  if (word.length > MAX_WORD) return null
  const plain = plainWord(word)
  let best: string | null = null
  // a third of the letters, so that no short word is taken for another
  let bestDistance = Math.max(1, Math.floor(plain.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(plain, plainWord(candidate))
    if (distance >= bestDistance || distance >= Math.min(plain.length, candidate.length)) continue
    best = candidate
    bestDistance = distance
  }
  return best
}

/** Letters that have to be put in, left out, replaced, or swapped with their neighbour, to make one word of the other. */
export function editDistance(a: string, b: string): number {
  let before: number[] = []
  let above = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= b.length; column += 1) {
      const isSame = a[row - 1] === b[column - 1]
      let least = Math.min(
        (above[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (above[column - 1] ?? 0) + (isSame ? 0 : 1),
      )
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        least = Math.min(least, (before[column - 2] ?? 0) + 1)
      current.push(least)
    }
    before = above
    above = current
  }
  return above[b.length] ?? 0
}

function plainWord(word: string): string {
  return word.toLowerCase().replaceAll(/[-_\s]/g, '')
}
