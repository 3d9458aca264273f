// The disk of the Xen hosts: a small Debian with Xen's tools, LVM, ssh and this machine's Node, made by debootstrap once
// and kept in the cache; with Xen itself, a kernel and its first file system. Refuses where debootstrap is missing or the
// archive cannot be reached.

import { createHash } from 'node:crypto'
import { copyFile, cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { cached, firstFileSystem, kernelOf, kernelPath, modulesDirectory } from '../kernel.js'
import { must } from '../programs.js'

/** Names in the directory of the image. */
export const XEN_NAME = 'xen'
export const KERNEL_NAME = 'vmlinuz'
export const INITRD_NAME = 'initrd'
export const ROOT_NAME = 'root.ext4'

const RELEASE = 'bookworm'
const PACKAGES =
  'xen-hypervisor-4.17-amd64,xen-utils-4.17,xenstore-utils,xen-utils-common,lvm2,dmsetup,iproute2,kmod,' +
  'openssh-client,openssh-server,util-linux,libatomic1'
const MODULES = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic', 'crc32c_intel']
/** Of the kernel's modules those that a host without hardware may want. */
const KEPT_MODULES = ['arch', 'block', 'crypto', 'fs', 'lib', 'mm', 'net']
const KEPT_DRIVERS = ['block', 'char', 'md', 'net', 'virtio', 'xen']
const DEBOOTSTRAP_TIMEOUT_MS = 600_000
const ROOT_SIZE = '2G'

/** Mounts the disk and goes there; the paths are those of busybox. */
const FIRST_INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
until mount -t ext4 /dev/vda /root; do sleep 0.05; done
for place in proc sys dev; do mount --move /$place /root/$place; done
exec switch_root /root /sbin/lab-init
`
/** What is to be done on a host may change, and the image stays: it comes with the second disk. */
const SECOND_INIT = `#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb DM_DISABLE_UDEV=1
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lab
tar -x -C /run/lab -f /dev/vdb
. /run/lab/host-init.sh
`

/** Resolves with the directory of the image: 80 s the first time. */
export async function xenImage(): Promise<string> {
  const kernel = await kernelOf('linux-image-amd64')
  const tag = createHash('sha256')
    .update(`${RELEASE} ${PACKAGES} ${FIRST_INIT} ${SECOND_INIT}`)
    .update(kernel.version)
    .update(process.version)
  return cached(`xen-${tag.digest('hex').slice(0, 16)}`, async (directory) => {
    const root = join(directory, 'root')
    await mkdir(root)
    const words = ['--variant=minbase', `--include=${PACKAGES}`, RELEASE, root, await archive()]
    await must(['debootstrap', ...words], { timeoutMs: DEBOOTSTRAP_TIMEOUT_MS })
    await copyFile(process.execPath, join(root, 'usr', 'bin', 'node'))
    await writeFile(join(root, 'sbin', 'lab-init'), SECOND_INIT, { mode: 0o755 })

    const from = modulesDirectory(kernel)
    const to = join(root, 'lib', 'modules', kernel.version)
    await mkdir(to, { recursive: true })
    const kept = [...KEPT_MODULES, ...KEPT_DRIVERS.map((name) => join('drivers', name))]
    for (const name of kept)
      await cp(join(from, 'kernel', name), join(to, 'kernel', name), { recursive: true })
    for (const name of await readdir(from)) {
      if (/^modules\.(order|builtin)/.test(name)) await copyFile(join(from, name), join(to, name))
    }
    await must(['depmod', '-b', root, kernel.version])
    const boot = join(root, 'boot')
    const xen = (await readdir(boot)).find((name) => /^xen-.*\.gz$/.test(name))
    if (xen === undefined) throw new Error(`no Xen in ${boot}`)
    // QEMU takes it as a multiboot kernel, and only as it is.
    await writeFile(join(directory, XEN_NAME), gunzipSync(await readFile(join(boot, xen))))
    await copyFile(kernelPath(kernel), join(directory, KERNEL_NAME))
    const init = await firstFileSystem(kernel, MODULES, Buffer.from(FIRST_INIT))
    await writeFile(join(directory, INITRD_NAME), init)

    for (const name of [
      'var/cache/apt',
      'var/lib/apt/lists',
      'usr/share/doc',
      'usr/share/locale',
      'usr/share/man',
    ])
      await rm(join(root, name), { recursive: true, force: true })
    const image = join(directory, ROOT_NAME)
    await must(['truncate', '--size', ROOT_SIZE, image])
    const options = ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-E', 'lazy_itable_init=1']
    await must(['mke2fs', ...options, '-d', root, image], { timeoutMs: DEBOOTSTRAP_TIMEOUT_MS })
    await rm(root, { recursive: true, force: true })
  })
}

/** The archive that this machine's own packages come from. */
async function archive(): Promise<string> {
  const policy = await must([
    'apt-get',
    'indextargets',
    '--format',
    '$(SITE) $(RELEASE) $(CREATED_BY) $(REPO_URI)',
  ])
  const line = policy.split('\n').find((candidate) => candidate.split(' ')[1] === RELEASE)
  const uri = line?.split(' ')[3]
  if (uri === undefined) throw new Error(`no archive of ${RELEASE} in the sources of apt`)
  return uri
}
