// When V8 may optimize what it runs: not in the first seconds. Most runs are over before optimized code has earned what
// compiling it takes, on processors that ssh, reading and digesting want too (docs/decisions/0017-optimizing-late.md).

/** V8 begins to optimize about then; loading its module before would only delay the start. */
const FIRST_LOOK_MS = 50
/** From here on a run is long enough for optimized code to pay. */
const OPTIMIZE_AFTER_MS = 5000

/** V8 of Node 22 and later has a second optimizing compiler. */
const MAGLEV_SINCE_NODE = 22

/** Puts optimizing off. Never keeps the process alive. */
export function optimizeLate(): void {
  setTimeout(() => void putOff(), FIRST_LOOK_MS).unref()
}

async function putOff(): Promise<void> {
  const { setFlagsFromString } = await import('node:v8')
  const hasMaglev = Number(process.versions.node.split('.')[0]) >= MAGLEV_SINCE_NODE
  setFlagsFromString('--no-opt')
  if (hasMaglev) setFlagsFromString('--no-maglev')
  setTimeout(() => {
    setFlagsFromString('--opt')
    if (hasMaglev) setFlagsFromString('--maglev')
  }, OPTIMIZE_AFTER_MS).unref()
}
