// A throw-away guest on a replica: qemu on the replica's host, with what it writes in temporary files, without a network, until its
// console shows a given text or the deadline comes. The replica is only read. Nothing of it stays, whoever is killed.

import { posix } from 'node:path'

import type { BootChoice, DiskFormat } from '../config/config.js'
import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'

/** What a console prints until it is up is some 100 KiB; more than this is a guest that prints for ever. */
const MAX_CONSOLE_BYTES = 16 << 20
/** How much of its end is shown. */
const TAIL_BYTES = 4000
const TAIL_LINES = 20
/** Behind the deadline of the guest, for taking everything away. */
const CLEAN_UP_MS = 20_000

/**
 * Words: the directory for its files (made here, and removed), seconds, most bytes of the console, bytes of its tail, then the
 * words for qemu; the text is in BLOCKSYNC_EXPECT. The first line of the output is how it went, then come
 * the bytes of what qemu said, that, and the console's end.
 * The console goes to a file, and that is looked at: a line that is waited for may have no end ("login: "). Where who
 * started it is gone, or at the deadline, it ends qemu; where it was killed itself, `timeout` does.
 */
const SCRIPT = `umask 077
work=$1 limit=$2 most=$3 tail=$4
shift 4
for qemu in "qemu-system-$(uname -m)" qemu-kvm /usr/libexec/qemu-kvm; do
  command -v "$qemu" >/dev/null 2>&1 && break
  qemu=
done
[ -n "$qemu" ] || { echo missing; exit 0; }
rm -rf -- "$work"
mkdir -p -- "$work" || exit 1
pid=
trap '[ -z "$pid" ] || { kill "$pid" 2>/dev/null; wait "$pid"; }; rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM
: >"$work/console"
TMPDIR=$work timeout --foreground -k 5 "$limit" "$qemu" "$@" -serial "file:$work/console" </dev/null >"$work/said" 2>&1 &
pid=$!
how=
while [ -z "$how" ]; do
  kill -0 "$pid" 2>/dev/null || how=ended
  kill -0 "$PPID" 2>/dev/null || exit 1
  if grep -a -q -F -e "$BLOCKSYNC_EXPECT" "$work/console"; then how=found
  elif [ "$(wc -c <"$work/console")" -gt "$most" ]; then how=endless
  elif [ -z "$how" ]; then sleep 0.2
  fi
done
kill "$pid" 2>/dev/null
wait "$pid"
echo "$how $?"
pid=
tail -c "$tail" "$work/said" >"$work/tail"
wc -c <"$work/tail"
cat "$work/tail"
tail -c "$tail" "$work/console"
`

/** How `timeout` says that it was it. */
const TIMED_OUT = /^ended (?:124|137)$/

/**
 * Processors, the best first. Systems of today do not start on what qemu takes by itself; inside of a guest KVM may be there and
 * not able to give all that it has.
 */
const PROCESSORS: readonly (readonly string[])[] = [
  ['-machine', 'accel=kvm:tcg', '-cpu', 'max'],
  ['-machine', 'accel=kvm:tcg'],
  ['-machine', 'accel=tcg', '-cpu', 'max'],
]

/** `format` is what a person said of it: qemu is to take nothing from the disk that a guest could have written there. */
export type BootDisk = Readonly<{ path: string; format: DiskFormat }>

export type BootRequest = Readonly<{
  host: Host
  /** In the order in which the guest has them. */
  disks: readonly BootDisk[]
  boot: BootChoice
  /** Absolute; for the console and what the guest writes. Made and removed. */
  workDirectory: string
}>

/** `line`: of the console, the one that was waited for. */
export type Booted = Readonly<{ line: string; durationMs: number }>

/**
 * Starts the guest and waits for its console. Rejects with replicate/drill, with the end of the console, where the text does not
 * come in time, and with host/program where qemu is not there. `nowMs` is a clock that is not set back.
 */
export async function bootReplica(request: BootRequest, nowMs: () => number): Promise<Booted> {
  const startedMs = nowMs()
  let ran = await runGuest(request, PROCESSORS[0] ?? [])
  for (const processor of PROCESSORS.slice(1)) {
    // qemu ended, before the guest could say anything
    if (!ran.how.startsWith('ended') || TIMED_OUT.test(ran.how) || ran.console.length > 0) break
    ran = await runGuest(request, processor)
  }
  return bootedOr(request, ran, nowMs() - startedMs)
}

type Ran = Readonly<{ how: string; said: readonly string[]; console: readonly string[] }>

async function runGuest(
  { host, boot, disks, workDirectory }: BootRequest,
  processor: readonly string[],
): Promise<Ran> {
  const seconds = secondsOf(boot)
  const { exitStatus, stdout, stderrTail } = await host.run({
    argv: [
      '/bin/sh',
      '-c',
      SCRIPT,
      'blocksync-boot',
      workDirectory,
      String(seconds),
      String(MAX_CONSOLE_BYTES),
      String(TAIL_BYTES),
      ...processor,
      ...qemuWords(disks, boot),
    ],
    environment: { BLOCKSYNC_EXPECT: boot.expect },
    timeoutMs: seconds * 1000 + CLEAN_UP_MS,
  })
  if (exitStatus !== 0)
    throw new SyncError('host/program', `a guest could not be started on ${host.name}: ${stderrTail}`, {
      operand: host.name,
      hint: `Look at ${printable(posix.dirname(workDirectory))} on that host.`,
    })
  const [how = '', bytes = '0'] = stdout.split('\n', 2)
  const rest = Buffer.from(stdout.slice(how.length + bytes.length + 2))
  const said = Number(bytes)
  return { how, said: linesOf(rest.subarray(0, said)), console: linesOf(rest.subarray(said)) }
}

function secondsOf({ timeoutMs }: BootChoice): number {
  return Math.ceil(timeoutMs / 1000)
}

function bootedOr({ host, boot, disks }: BootRequest, ran: Ran, durationMs: number): Booted {
  const { how } = ran
  if (how.startsWith('found'))
    return {
      line: ran.console.findLast((line) => line.includes(printable(boot.expect))) ?? boot.expect,
      durationMs,
    }
  if (how === 'missing')
    throw new SyncError('host/program', `${host.name} has no qemu; no guest was started`, {
      operand: host.name,
      hint: 'Install it there (qemu-system-x86, qemu-kvm), or run the drill without --boot.',
    })
  const what = TIMED_OUT.test(how)
    ? `did not come within ${secondsOf(boot)} s`
    : how.startsWith('endless')
      ? `was not in the first ${MAX_CONSOLE_BYTES >> 20} MiB of it`
      : 'did not come before the guest ended'
  // of one that we ended qemu says only that
  const said = how.startsWith('ended') && !TIMED_OUT.test(how) ? ran.said : []
  const tail = [...said, ...ran.console].slice(-TAIL_LINES)
  throw new SyncError(
    'replicate/drill',
    `a guest on a copy of the replica was started, and '${printable(boot.expect)}' ${what}; the replica was not changed. ` +
      (tail.length === 0
        ? 'Its console showed nothing'
        : `Its console ended with:\n${tail.map((line) => `  ${line}`).join('\n')}`),
    {
      operand: disks[0]?.path ?? host.name,
      hint:
        tail.length === 0
          ? 'Has the guest a console on its first serial port (console=ttyS0)? Firmware and further words for qemu go into boot.arguments.'
          : 'Compare with boot.expect, boot.timeout and boot.memory of the job.',
    },
  )
}

/** What the machine has besides; the configuration's own words come last, and may say it again. */
function qemuWords(disks: readonly BootDisk[], { memoryBytes, arguments: more }: BootChoice): string[] {
  return [
    '-m',
    `${Math.ceil(memoryBytes / (1 << 20))}M`,
    '-display',
    'none',
    '-monitor',
    'none',
    '-nic',
    'none',
    '-no-reboot',
    // what is written goes to a file that has no name any more when the guest starts: it is gone with qemu
    ...disks.flatMap(({ path, format }) => [
      '-drive',
      `file=${path.replaceAll(',', ',,')},format=${format},if=virtio,media=disk,snapshot=on`,
    ]),
    ...more,
  ]
}

function linesOf(text: Buffer): string[] {
  // \r is part of a console's line end, also twice
  const lines = text.toString().split('\n')
  return lines.map((line) => printable(line.replaceAll('\r', ''))).filter((line) => line !== '')
}
