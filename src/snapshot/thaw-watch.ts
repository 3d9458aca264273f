// A program that thaws a guest when nobody said in time that it is thawed: started on the guest's host before the freeze, and
// on its own from then on, so it does so also when we, the agent or the link are gone. Refuses to be half there.

import type { Argv } from '../exec.js'
import type { Host } from '../host/host.js'

/** Started and answering, or it is not used: a busy host takes a second. */
const START_TIMEOUT_MS = 10_000
/** Longer than the wait of RELEASE. */
const RELEASE_TIMEOUT_MS = 10_000

/**
 * Parameters: the directory with the pipe, seconds, the words of the thaw. Whoever opens the pipe for writing releases it.
 * A signal for the whole service (systemd sends one) ends `cat`, and so thaws at once. A thaw that fails is tried again: the
 * agent of a guest is busy while it freezes.
 */
const WATCH = `directory=$1 seconds=$2
shift 2
trap : HUP INT TERM
echo armed
exec </dev/null >/dev/null 2>&1
timeout "$seconds" cat "$directory/thawed"
status=$?
rm -r "$directory"
[ "$status" = 0 ] && exit
for try in 1 2 3 4 5; do
  timeout -k 1 30 "$@" && exit
  sleep 2
done
exit 1
`
/** Parameters: WATCH, seconds, the words of the thaw. Prints the directory of the pipe when the watch is there. */
const START = `watch=$1
shift
directory=$(mktemp -d "\${TMPDIR:-/tmp}/blocksync-thaw-XXXXXXXX") || exit 1
if mkfifo "$directory/thawed" &&
  [ "$(setsid sh -c "$watch" blocksync-thaw "$directory" "$@" &)" = armed ]
then echo "$directory"
else rm -r "$directory"; exit 1
fi
`
/** Parameter: the pipe. Opening it waits for the watch; where that has gone, there is no pipe or nobody opens it. */
const RELEASE = `[ -p "$1" ] && exec timeout 2 sh -c ': >"$1"' sh "$1"`

/** Where a watch waits; `failed`: why there is none. */
export type ThawWatch = Readonly<{ directory: string }> | Readonly<{ failed: string }>

/** Resolves when the watch is there; it thaws with `thaw` when `limitMs` have passed from about now. */
export async function startThawWatch(host: Host, thaw: Argv, limitMs: number): Promise<ThawWatch> {
  const seconds = String(limitMs / 1000)
  const argv: Argv = ['sh', '-c', START, 'sh', WATCH, seconds, ...thaw]
  const { exitStatus, stdout, stderrTail } = await host.run({
    argv,
    timeoutMs: START_TIMEOUT_MS,
    leavesBehind: true,
  })
  const directory = stdout.trim()
  if (exitStatus === 0 && directory.startsWith('/')) return { directory }
  return { failed: stderrTail.split('\n').at(-1) ?? `sh ended with status ${exitStatus}` }
}

/** Ends a watch, which thaws nothing then; one that has acted already is no failure. */
export async function endThawWatch(host: Host, watch: Readonly<{ directory: string }>): Promise<void> {
  const argv: Argv = ['sh', '-c', RELEASE, 'sh', `${watch.directory}/thawed`]
  await host.run({ argv, timeoutMs: RELEASE_TIMEOUT_MS })
}
