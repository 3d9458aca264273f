// The smallest guest there is: a boot sector that says something on the first serial port, and stops. 16-bit code of the x86, as a
// BIOS starts it at 0000:7c00.

const LOADED_AT = 0x7c00
const SECTOR_BYTES = 512

/** cli; xor ax,ax; mov ds,ax; mov es,ax; cld */
const BEGIN = [0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0xfc]
/** mov ax,0x0301 (write one sector); mov bx,0x7c00; mov cx,0x0002 (sector 2); mov dh,0 (dl is the disk); int 0x13; cli */
const WRITE_SECTOR = [0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13, 0xfa]
/** lodsb; test al,al; jz +21; mov ah,al; mov dx,0x3fd; in al,dx; test al,0x20; jz -5; mov al,ah; mov dx,0x3f8; out dx,al; jmp -26 */
const SAY = [
  0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0x88, 0xe0, 0xba,
  0xf8, 0x03, 0xee, 0xeb, 0xe9,
]
/** hlt; jmp -3 */
const STOP = [0xf4, 0xeb, 0xfd]

/** A disk that says `text` when it is started; with `writes` it overwrites its second sector before. */
export function bootableDisk(text: string, sizeBytes: number, does: 'says' | 'writes' = 'says'): Buffer {
  const disk = Buffer.alloc(sizeBytes)
  const before = [...BEGIN, ...(does === 'writes' ? WRITE_SECTOR : [])]
  const message = LOADED_AT + before.length + 3 + SAY.length + STOP.length
  // mov si,message
  const code = Buffer.from([...before, 0xbe, message & 0xff, message >> 8, ...SAY, ...STOP])
  const sector = Buffer.concat([code, Buffer.from(`${text}\0`, 'latin1')])
  if (sector.length > SECTOR_BYTES - 2) throw new RangeError('the text does not fit into a sector')
  sector.copy(disk)
  disk.writeUInt16BE(0x55aa, SECTOR_BYTES - 2)
  return disk
}
