// Turns of the event loop, for tests that must see what is done when nothing more can be done, without waiting for a time.

/** Resolves after `count` turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve))
}

/** Resolves when `value` has not changed for many turns of the event loop: whoever could go on has gone on. */
export async function settled(value: () => number): Promise<number> {
  for (let last = value(), quiet = 0; ;) {
    await turns(1)
    quiet = value() === last ? quiet + 1 : 0
    last = value()
    if (quiet === 200) return last
  }
}
