// Chooses the hypervisor of a host by what answers there: libvirt, or Xen by xl. Refuses, as migrate/daemon, a host where
// neither does, and names what was asked.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { Driver, HypervisorKind } from './driver.js'

export const DEFAULT_LIBVIRT_URI = 'qemu:///system'
/** A daemon that takes longer to say its version hangs. */
const ANSWER_TIMEOUT_MS = 15_000

export type OpenRequest = Readonly<{
  hypervisor: HypervisorKind | 'auto'
  /** Null: DEFAULT_LIBVIRT_URI. A URI chooses libvirt. */
  uri: string | null
}>

type Answer = Readonly<{ kind: HypervisorKind; asked: string; answers: boolean; said: string }>

/**
 * The driver for what answers on that host. `auto` takes libvirt before Xen where both do, since a guest of libvirt is
 * not xl's to move. Rejects with migrate/daemon where what was asked for does not answer.
 */
export async function openDriver(host: Host, request: OpenRequest): Promise<Driver> {
  const uri = request.uri ?? DEFAULT_LIBVIRT_URI
  // virsh takes what it does not understand for its own options or for a test of its own.
  if (!/^[a-z][a-z0-9+]*:\/\/[^\s]*$/.test(uri))
    throw new SyncError('usage', `${printable(uri)} is no URI of libvirt`, {
      operand: uri,
      hint: `Name one as virsh takes it, for example ${DEFAULT_LIBVIRT_URI}.`,
    })
  const kinds: readonly HypervisorKind[] =
    request.hypervisor !== 'auto'
      ? [request.hypervisor]
      : request.uri !== null
        ? ['libvirt']
        : ['libvirt', 'xen']
  const answers = await Promise.all(kinds.map(async (kind) => await ask(host, kind, uri)))
  const found = answers.find((answer) => answer.answers)
  if (found === undefined) throw nothingAnswers(host, answers)
  return await load(host, found.kind, uri)
}

/** Loaded when they are needed: the XML library takes 50 ms. */
async function load(host: Host, kind: HypervisorKind, uri: string): Promise<Driver> {
  switch (kind) {
    case 'libvirt':
      return (await import('./libvirt.js')).libvirtDriver(host, uri)
    case 'xen':
      return (await import('./xen.js')).xenDriver(host)
    default:
      return kind satisfies never
  }
}

async function ask(host: Host, kind: HypervisorKind, uri: string): Promise<Answer> {
  const words: readonly [string, ...string[]] =
    kind === 'libvirt' ? ['virsh', '-q', '-c', uri, 'version'] : ['xl', 'info']
  const asked = words.join(' ')
  try {
    const { exitStatus, stderrTail } = await host.run({
      argv: ['env', 'LC_ALL=C', ...words],
      timeoutMs: ANSWER_TIMEOUT_MS,
    })
    const said =
      exitStatus === 127 ? `${words[0]} is not there` : (stderrTail.trim().split('\n').at(-1) ?? '')
    return { kind, asked, answers: exitStatus === 0, said: printable(said.replace(/^error: /, '')) }
  } catch (thrown) {
    // A program that hangs does not answer; a host that is lost is another matter.
    if (thrown instanceof SyncError && thrown.code === 'host/program')
      return { kind, asked, answers: false, said: thrown.message }
    throw thrown
  }
}

function nothingAnswers(host: Host, answers: readonly Answer[]): SyncError {
  const tried = answers.map(({ asked, said }) => `${asked} (${said === '' ? 'failed' : said})`)
  return new SyncError('migrate/daemon', `no hypervisor answers on ${host.name}: ${tried.join('; ')}`, {
    operand: host.name,
    hint: 'Start its daemon (systemctl start libvirtd), or name it: --connect URI for libvirt, --hypervisor xen.',
  })
}
