// The garbage collector, called on purpose: whether something is still kept alive by somebody.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Objects under watch: they themselves are not held here. */
export type Watched = Readonly<{ name: string; reference: WeakRef<object> }>

export function watch(name: string, object: object): Watched {
  return { name, reference: new WeakRef(object) }
}

/** Names of what is still there after the garbage was collected. */
export async function survivors(watched: readonly Watched[]): Promise<string[]> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // A WeakRef holds its object until the turn in which it was made or asked is over.
  await new Promise((resolve) => setImmediate(resolve))
  collect()
  await new Promise((resolve) => setImmediate(resolve))
  return watched.filter(({ reference }) => reference.deref() !== undefined).map(({ name }) => name)
}
