// What would keep a guest from running on a host of libvirt. Takes the definition as it is to be there and asks everything
// at once; refuses nothing, but lists problems. What a libvirt cannot say is no problem.

import type { Document } from '@xmldom/xmldom'

import { printable } from '../printable.js'
import {
  attributeOf,
  descend,
  movedMark,
  parseDomain,
  rootOf,
  serializeDomain,
  textOf,
} from './domain-xml.js'
import type { DefinitionChanges, Guest, HostProblem } from './driver.js'
import { parseNames } from './libvirt-describe.js'
import { ASK_TIMEOUT_MS, type Virsh } from './virsh.js'

const MIB = 1 << 20

/** See Driver.checkFor. */
export async function checkFor(
  virsh: Virsh,
  guest: Guest,
  definition: string,
  changes: DefinitionChanges,
): Promise<readonly HostProblem[]> {
  const document = parseDomain(definition)
  const { outputs } = await virsh.batch(
    [
      ['list', '--all', '--uuid', '--name'],
      ['dumpxml', '--domain', guest.uuid, '--inactive'],
      ['net-list', '--name'],
    ],
    ASK_TIMEOUT_MS,
  )
  const [all = '', sameUuid = '', networks = ''] = outputs
  const isMovedFromHere = sameUuid.trim() !== '' && movedMark(sameUuid) !== null
  const found = await Promise.all([
    machineProblems(virsh, document),
    cpuProblems(virsh, document, guest),
    memoryProblems(virsh, guest),
    networkProblems(virsh, guest, changes, lines(networks)),
  ])
  return [...nameProblems(virsh, guest, parseNames(all), isMovedFromHere), ...found.flat()]
}

function nameProblems(
  virsh: Virsh,
  guest: Guest,
  all: readonly { uuid: string; name: string }[],
  isMovedFromHere: boolean,
): HostProblem[] {
  const problems: HostProblem[] = []
  const name = printable(guest.name)
  for (const other of all) {
    if (other.uuid === guest.uuid) {
      if (isMovedFromHere) continue
      problems.push({
        code: 'uuid',
        text: `a guest with the same UUID is on ${virsh.host.name} already (${printable(other.name)})`,
        hint: `If it is a left over of this one: virsh undefine --domain ${other.uuid} --keep-nvram`,
      })
    } else if (other.name === guest.name) {
      problems.push({
        code: 'name',
        text: `another guest of the name ${name} is on ${virsh.host.name}`,
        hint: `Rename one of them: virsh domrename ${name} NEW-NAME`,
      })
    }
  }
  return problems
}

async function machineProblems(virsh: Virsh, document: Document): Promise<HostProblem[]> {
  const emulator = textOf(descend(rootOf(document), 'devices', 'emulator'))
  if (emulator !== null && (await virsh.host.look(emulator)) === null)
    return [
      {
        code: 'emulator',
        text: `the emulator ${printable(emulator)} is not on ${virsh.host.name}`,
        hint: 'Install the same QEMU there, or give a definition with its path there (--xml).',
      },
    ]
  const machine = attributeOf(descend(rootOf(document), 'os', 'type'), 'machine')
  const words = ['domcapabilities', ...platformWords(document)]
  const { exitStatus, stderrTail } = await virsh.run(words, ASK_TIMEOUT_MS)
  // Not every libvirt driver knows the question.
  if (exitStatus === 0 || isUnsupported(stderrTail)) return []
  return [
    {
      code: 'machine',
      text: virsh.failure(
        `${virsh.host.name} has no machine ${printable(machine ?? '')} for this guest`,
        stderrTail,
        words,
      ).message,
      hint: `See what there is: virsh -c ${virsh.uri} domcapabilities; a newer QEMU there may have it.`,
    },
  ]
}

function platformWords(document: Document): string[] {
  const type = descend(rootOf(document), 'os', 'type')
  const options: readonly (readonly [string, string | null])[] = [
    ['--virttype', attributeOf(rootOf(document), 'type')],
    ['--emulatorbin', textOf(descend(rootOf(document), 'devices', 'emulator'))],
    ['--arch', attributeOf(type, 'arch')],
    ['--machine', attributeOf(type, 'machine')],
  ]
  return options.flatMap(([option, value]) => (value === null ? [] : [option, value]))
}

/**
 * A CPU that the guest sees as the host has it is compared as that host's CPU (`hostCpu`) with the one here, any other, as
 * the definition has it, with what QEMU can give here.
 */
async function cpuProblems(virsh: Virsh, document: Document, guest: Guest): Promise<HostProblem[]> {
  const cpu = descend(rootOf(document), 'cpu')
  const mode = attributeOf(cpu, 'mode')
  const isHost = mode === 'host-passthrough'
  const compared = isHost ? guest.hostCpu : serializeDomain(document)
  if (cpu === null || mode === 'maximum' || compared === undefined) return []
  return await virsh.withFile(compared, async (path) => {
    // The same words as for domcapabilities but for one.
    const platform = platformWords(document).map((word) => (word === '--emulatorbin' ? '--emulator' : word))
    const words = isHost
      ? ['cpu-compare', '--file', path]
      : ['hypervisor-cpu-compare', '--file', path, ...platform]
    const { exitStatus, stderrTail } = await virsh.run(words, ASK_TIMEOUT_MS)
    if (exitStatus === 0) return []
    // A CPU that does not fit is an answer; an error means that it was not compared (old QEMU, other processors).
    if (stderrTail.includes('error:'))
      return [
        {
          code: 'cpu',
          weight: 'warning',
          text: `nobody knows whether the processor of ${virsh.host.name} has all that this guest was started with: ${printable(stderrTail.trim().split('\n').at(-1) ?? '')}`,
          hint: 'the restore there fails where it has not, and the guest goes on here',
        },
      ]
    const model = textOf(descend(cpu, 'model'))
    return [
      {
        code: 'cpu',
        text: `the processor of ${virsh.host.name} lacks features that this guest was started with (${printable(model ?? mode ?? 'its CPU')})`,
        hint: 'Give the guest a CPU that both hosts have (virsh hypervisor-cpu-baseline) and start it again, or move it with --mode cold and such a definition.',
      },
    ]
  })
}

async function memoryProblems(virsh: Virsh, guest: Guest): Promise<HostProblem[]> {
  const { availableMemoryBytes } = await virsh.host.facts()
  if (availableMemoryBytes >= guest.memoryBytes) return []
  return [
    {
      code: 'memory',
      text: `the guest has ${Math.ceil(guest.memoryBytes / MIB)} MiB of memory, and ${virsh.host.name} has ${Math.floor(availableMemoryBytes / MIB)} MiB free`,
      hint: 'Make room there: stop or move another guest.',
    },
  ]
}

async function networkProblems(
  virsh: Virsh,
  guest: Guest,
  changes: DefinitionChanges,
  active: readonly string[],
): Promise<HostProblem[]> {
  const problems: HostProblem[] = []
  const wanted = new Map<string, { kind: string; name: string }>()
  for (const { kind, name } of guest.nics) {
    if (name === null) continue
    const there = changes.networks.get(name) ?? name
    wanted.set(`${kind} ${there}`, { kind, name: there })
  }
  for (const { kind, name } of wanted.values()) {
    const shown = printable(name)
    if (kind === 'network') {
      if (active.includes(name)) continue
      problems.push({
        code: 'network',
        text: `the network ${shown} is not active on ${virsh.host.name}`,
        hint: `Start it (virsh net-start ${shown}), or name another one: --network ${shown}=OTHER`,
      })
    } else if ((await virsh.host.look(`/sys/class/net/${name}`)) === null) {
      problems.push({
        code: 'bridge',
        text: `there is no ${kind === 'bridge' ? 'bridge' : 'device'} ${shown} on ${virsh.host.name}`,
        hint: `Make it, or name another one: --network ${shown}=OTHER`,
      })
    }
  }
  return problems
}

function isUnsupported(stderrTail: string): boolean {
  return stderrTail.includes('this function is not supported by the connection driver')
}

function lines(text: string): string[] {
  return text.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]))
}
