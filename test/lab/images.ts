// The kernel and the first file system of the counter guest, in one directory of the cache. Debian's kernel for clouds is
// the one that starts quickest.

import { createHash } from 'node:crypto'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { cached, firstFileSystem, kernelOf, kernelPath } from './kernel.js'

/** Names in the directory of the images. */
export const KERNEL_NAME = 'vmlinuz'
export const INITRD_NAME = 'initrd'

/** What the guest needs beside what is built into the kernel: disks of QEMU and of Xen, and the power button. */
const MODULES = ['virtio_pci', 'virtio_blk', 'xen-blkfront', 'evdev', 'button']
const INIT_PATH = join(import.meta.dirname, 'guest-init.sh')

/** Makes the images, or finds those of an earlier run; resolves with their directory. */
export async function guestImages(): Promise<string> {
  const kernel = await kernelOf('linux-image-cloud-amd64')
  const init = await readFile(INIT_PATH)
  const tag = createHash('sha256').update(init).update(MODULES.join()).update(kernel.version).digest('hex')
  return cached(`guest-${tag.slice(0, 16)}`, async (directory) => {
    await writeFile(join(directory, INITRD_NAME), await firstFileSystem(kernel, MODULES, init))
    await copyFile(kernelPath(kernel), join(directory, KERNEL_NAME))
  })
}
