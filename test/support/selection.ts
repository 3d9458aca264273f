// Which combinations of conditions a test goes through: all of them where BLOCKSYNC_TEST_FULL=1, else those that its author
// says prove the same. Refuses a selection that leaves nothing.

/** Everything is wanted, however long it takes. */
export const IS_FULL = process.env['BLOCKSYNC_TEST_FULL'] === '1'

/** Of the combinations of conditions, those that `isEnough` picks; all where BLOCKSYNC_TEST_FULL=1. */
export function selected<T>(all: readonly T[], isEnough: (one: T) => boolean): readonly T[] {
  const some = IS_FULL ? all : all.filter(isEnough)
  if (some.length === 0) throw new Error('a selection that leaves nothing to test')
  return some
}
