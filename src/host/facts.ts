// What this host is: name, memory, processors, its ids. Reads files of /proc and the state directory; refuses nothing.

import { isIP } from 'node:net'
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
  clientAddress: string | null,
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
    clientAddress,
  }
}

/** More would not be a login: sshd, a shell, sudo, sh, node are five. */
const MAX_ANCESTORS = 8

/**
 * Where the client of this login is: the first word of SSH_CONNECTION (ssh(1), ENVIRONMENT), of this process or, since sudo
 * takes it out of the environment, of one that it descends from. Null where there is none.
 */
export async function sshClientAddress(): Promise<string | null> {
  let pid = String(process.pid)
  for (let left = MAX_ANCESTORS; left > 0 && pid !== '0' && pid !== '1'; left--) {
    const environment = (await readText(`/proc/${pid}/environ`)) ?? ''
    const value = environment.split('\0').find((each) => each.startsWith('SSH_CONNECTION='))
    const [address = ''] = (value ?? '').slice('SSH_CONNECTION='.length).split(' ')
    if (isIP(address.replace(/%.*$/, '')) !== 0) return address
    // the name, in brackets, may hold blanks and brackets: field 4 of proc_pid_stat(5) is the second one behind it
    const stat = (await readText(`/proc/${pid}/stat`)) ?? ''
    pid = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? '0'
  }
  return null
}

/** A line of /proc/meminfo, which counts in KiB; null where there is none. */
function memoryOf(text: string, name: string): number | null {
  const kib = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]
  return kib === undefined ? null : Number(kib) * 1024
}
