// What a host of the lab has of its own before its first process runs: /etc as the machine's but for libvirt and ssh, an
// empty /var, keys that fit the other host. Refuses nothing; all of it lies in the directory that is given.

import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { must } from './programs.js'

export type HostName = 'A' | 'B'

export const HOST_NAMES: readonly HostName[] = ['A', 'B']

/** A network of two hosts, which is there in their namespaces alone. */
export const ADDRESSES: Readonly<Record<HostName, string>> = { A: '10.77.0.1', B: '10.77.0.2' }
export const NETWORK_LENGTH = 30

export const NAMES_ON_NET: Readonly<Record<HostName, string>> = { A: 'lab-a', B: 'lab-b' }

/** Where each host has the directory that both have: under two names, as real hosts mount the same export. */
export const SHARED_AT: Readonly<Record<HostName, string>> = { A: '/srv/shared', B: '/srv/export' }

/** Where programs are found, the product's own first; sshd gives it to what it runs. */
export const HOST_PATH = '/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const LIBVIRTD_CONF = (uuid: string): string => `
host_uuid = "${uuid}"
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
`

// No labels, cgroups or device namespaces: the namespaces of the host are fence enough, and need none of it to be there.
const QEMU_CONF = (address: string): string => `
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
migration_host = "${address}"
`

const SSHD_CONFIG = (address: string): string => `
ListenAddress ${address}
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 100
SetEnv PATH=${HOST_PATH}
Subsystem sftp internal-sftp
`

/** Two throw-away keys for both hosts, in `directory`. */
export async function makeKeys(directory: string): Promise<void> {
  for (const name of ['user_key', 'host_key']) {
    await must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'lab', '-f', join(directory, name)])
  }
}

/** Makes the directory of one host; keys lie in `keys`. */
export async function makeHostFiles(directory: string, host: HostName, keys: string): Promise<void> {
  const address = ADDRESSES[host]
  const lib = join(directory, 'var-lib')
  for (const path of ['root/.ssh', 'srv/vm', 'var-log/libvirt', 'var-cache/libvirt'])
    await mkdir(join(directory, path), { recursive: true, mode: 0o700 })
  for (const path of ['libvirt/images', 'libvirt/qemu', 'libvirt/boot', 'libvirt/dnsmasq', 'blocksync'])
    await mkdir(join(lib, path), { recursive: true })
  await must(['cp', '-a', '/etc', join(directory, 'etc')])

  const etc = (...names: string[]): string => join(directory, 'etc', ...names)
  for (const name of ['libvirt', 'ssh']) {
    await rm(etc(name), { recursive: true, force: true })
    await mkdir(etc(name))
  }
  await writeFile(etc('libvirt', 'libvirtd.conf'), LIBVIRTD_CONF(randomUUID()))
  await writeFile(etc('libvirt', 'qemu.conf'), QEMU_CONF(address))
  await writeFile(etc('ssh', 'sshd_config'), SSHD_CONFIG(address))
  await writeFile(etc('ssh', 'ssh_config'), '')
  await copyFile(join(keys, 'host_key'), etc('ssh', 'ssh_host_ed25519_key'))
  await rm(etc('machine-id'), { force: true })
  await writeFile(etc('machine-id'), `${randomBytes(16).toString('hex')}\n`)
  await writeFile(join(directory, 'boot-id'), `${randomUUID()}\n`)
  const names = HOST_NAMES.map((name) => `${ADDRESSES[name]} ${NAMES_ON_NET[name]}\n`)
  await rm(etc('hosts'), { force: true })
  await writeFile(etc('hosts'), `127.0.0.1 localhost\n${names.join('')}`)

  const ssh = (name: string): string => join(directory, 'root', '.ssh', name)
  await copyFile(join(keys, 'user_key'), ssh('id_ed25519'))
  await copyFile(join(keys, 'user_key.pub'), ssh('authorized_keys'))
  const hostKey = (await readFile(join(keys, 'host_key.pub'), 'utf8')).split(' ').slice(0, 2).join(' ')
  const known = HOST_NAMES.map((name) => `${ADDRESSES[name]},${NAMES_ON_NET[name]} ${hostKey}\n`)
  await writeFile(ssh('known_hosts'), known.join(''))
  for (const path of [ssh('id_ed25519'), etc('ssh', 'ssh_host_ed25519_key')]) await chmod(path, 0o600)
}
