// Makes the archive that Linux unpacks as its first file system: format "newc" of cpio(5), as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst has it. Refuses nothing: the lab alone calls it.

/** One entry; a directory has no data. `mode` are the permission bits. */
export type CpioEntry = Readonly<{ name: string; mode: number; data: Uint8Array | null }>

const DIRECTORY = 0o040000
const REGULAR_FILE = 0o100000
/** Names and contents begin at multiples of this. */
const ALIGNMENT_BYTES = 4

/** The archive with its end mark. Directories have to stand before what is in them. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const pieces: Buffer[] = []
  entries.forEach((entry, index) => {
    const kind = entry.data === null ? DIRECTORY : REGULAR_FILE
    pieces.push(...pieceOf(index + 1, kind | entry.mode, entry.name, entry.data ?? new Uint8Array()))
  })
  pieces.push(...pieceOf(0, 0, 'TRAILER!!!', new Uint8Array()))
  return Buffer.concat(pieces)
}

function pieceOf(inode: number, mode: number, name: string, data: Uint8Array): Buffer[] {
  // inode, mode, uid, gid, links, mtime, size, device (2), device of the node (2), length of the name, checksum
  const numbers = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, Buffer.byteLength(name) + 1, 0]
  const head = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}${name}\0`
  return [padded(Buffer.from(head)), padded(Buffer.from(data))]
}

function padded(bytes: Buffer): Buffer {
  const missing = (ALIGNMENT_BYTES - (bytes.length % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES
  return missing === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(missing)])
}
