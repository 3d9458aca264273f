// Image files and loop devices, with the native core and without it, through the one conformance suite.

import { readFile } from 'node:fs/promises'

import { afterAll } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import type { OpenRequest } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { loadNative } from '../../src/native.js'
import type { NativeCore } from '../../src/native.js'
import { LeafFile } from '../../src/track/leaf-file.js'
import { LeafTrack } from '../../src/track/track.js'
import type { Piece } from '../support/disks.js'
import { allocatedBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import type { Subject } from './conformance.js'
import { describeEndpoint } from './conformance.js'

const ODD_FILE_BYTES = 16 * 65536 + 4096 + 777
/** A device ends with a sector. */
const DEVICE_BLOCKS_BYTES = 16 * 65536

const scratch = useScratch()
let made = 0
const leafFiles: LeafFile[] = []

afterAll(async () => {
  for (const file of leafFiles) await file.close()
})

describeEndpoint('image file, native core', needs('native'), () => fileKind(loadNative('require')))
describeEndpoint('image file, without the native core', { skip: false }, () => fileKind(null))
describeEndpoint('image file of which the digests are kept', needs('native'), () =>
  trackedKind(loadNative('require')),
)
describeEndpoint('loop device, native core', needs('loop', 'native'), () =>
  deviceKind(loadNative('require'), 512),
)
describeEndpoint('loop device, without the native core', needs('loop'), () => deviceKind(null, 512))
describeEndpoint('loop device of 4 KiB sectors, native core', needs('loop', 'native'), () =>
  deviceKind(loadNative('require'), 4096),
)
describeEndpoint('loop device of 4 KiB sectors, without the native core', needs('loop'), () =>
  deviceKind(null, 4096),
)

function fileKind(native: NativeCore | null) {
  return {
    native,
    kind: 'file' as const,
    direct: false,
    oddSizeBytes: ODD_FILE_BYTES,
    sectorBytes: 512,
    knowsHoles: native !== null,
    make: async (data: Uint8Array, holes: readonly Range[]): Promise<Subject> => {
      const path = await imageFile(data, holes)
      return {
        open: (role, access) => openEndpoint(request(path, role, access), native),
        bytes: () => readFile(path),
        // without the core zeros are written: a range of data stays allocated, a hole stays a hole
        allocatedBytes: native === null && holes.length === 0 ? null : () => allocatedBytes(path),
      }
    },
  }
}

/** A source as an attempt of `replicate` reads it; a destination is an image file like others. */
function trackedKind(native: NativeCore | null) {
  const kind = fileKind(native)
  return {
    ...kind,
    make: async (data: Uint8Array, holes: readonly Range[]): Promise<Subject> => {
      const subject = await kind.make(data, holes)
      return {
        ...subject,
        open: async (role, access) => {
          const endpoint = await subject.open(role, access)
          if (role === 'destination') return endpoint
          made += 1
          const file = await LeafFile.create(scratch().path(`leaves-${made}`))
          leafFiles.push(file)
          const changed = Promise.resolve(null)
          return new LeafTrack({ role: 'source', file, seed: Buffer.alloc(16), source: '1.2', changed }).over(
            endpoint,
          )
        },
      }
    },
  }
}

function deviceKind(native: NativeCore | null, sectorBytes: 512 | 4096) {
  return {
    native,
    kind: 'block-device' as const,
    direct: true,
    oddSizeBytes: DEVICE_BLOCKS_BYTES + sectorBytes,
    sectorBytes,
    knowsHoles: false,
    make: async (data: Uint8Array, holes: readonly Range[]): Promise<Subject> => {
      const file = await imageFile(data, holes)
      const device = await scratch().loopDevice(file, '--sector-size', String(sectorBytes))
      return {
        open: (role, access) => openEndpoint(request(device, role, access), native),
        // the file below, not the device: what has not left the device's cache is not flushed
        bytes: () => readFile(file),
        allocatedBytes: null,
      }
    },
  }
}

async function imageFile(data: Uint8Array, holes: readonly Range[]): Promise<string> {
  const pieces: Piece[] = []
  let next = 0
  for (const { offset, length } of [...holes, { offset: data.length, length: 0 }]) {
    if (offset > next) pieces.push({ offset: next, data: data.subarray(next, offset) })
    next = offset + length
  }
  return scratch().sparseFile(`disk-${made++}.img`, data.length, pieces)
}

function request(path: string, role: OpenRequest['role'], access: OpenRequest['access']): OpenRequest {
  return { path, role, access, create: 'never', createSizeBytes: 0, claim: 'exclusive' }
}
