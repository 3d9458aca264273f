// What this host is: name, memory, processors, its ids. Reads files of /proc and the state directory; refuses nothing.

import { cpus, freemem, totalmem } from 'node:os'

import { readText } from '../endpoint/sysfs.js'
import { ownHostName, ownMachineId } from '../state/machine.js'
import { packageVersion } from '../version.js'
import type { HostFacts } from './host.js'
import { bootId } from './look.js'

/** Host.facts. `openState` resolves with the directory where a machine without an id of its own keeps one, or null. */
export async function hostFacts(
  statePath: string,
  openState: () => Promise<string | null>,
): Promise<HostFacts> {
  const memory = (await readText('/proc/meminfo')) ?? ''
  return {
    hostName: ownHostName(),
    machineId: await ownMachineId(openState),
    bootId: await bootId(),
    nowMs: Date.now(),
    memoryBytes: memoryOf(memory, 'MemTotal') ?? totalmem(),
    availableMemoryBytes: memoryOf(memory, 'MemAvailable') ?? freemem(),
    processors: cpus().length,
    blocksyncVersion: packageVersion(),
    isRoot: process.geteuid?.() === 0,
    stateDirectory: statePath,
  }
}

/** A line of /proc/meminfo, which counts in KiB; null where there is none. */
function memoryOf(text: string, name: string): number | null {
  const kib = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]
  return kib === undefined ? null : Number(kib) * 1024
}
