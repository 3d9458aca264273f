// The disks that are fuzzed: of a few blocks, with and without a group level, with a short end, of several sections, tiny
// and empty.

import type { Known } from './controllers.js'
import type { DiskShape } from './disk.js'
import { knownDisk } from './halves.js'
import { Random } from './random.js'

const MIB = 1 << 20

function shape(contentBytes: number, sizeBytes: number, blockBytes: number, leafBytes: number): DiskShape {
  const random = new Random(contentBytes, sizeBytes)
  const content = random.bytes(contentBytes)
  // a block in five is zeros
  for (let at = 2 * blockBytes; at < contentBytes; at += 5 * blockBytes)
    content.fill(0, at, Math.min(at + blockBytes, contentBytes))
  return { content, sizeBytes, blockBytes, leafBytes }
}

/** The first one is half of all. */
export async function knownDisks(): Promise<Known[]> {
  const flat = await knownDisk(shape(MIB, MIB, 4096, 512))
  const others = await Promise.all([
    knownDisk(shape(2_000_000, 2_000_000, 16384, 512)),
    knownDisk(shape(MIB, 192 * MIB + 1000, MIB, 4096)),
    knownDisk(shape(700, 700, 4096, 512)),
    knownDisk(shape(0, 0, 4096, 512)),
  ])
  return [flat, flat, flat, ...others]
}
