// Snapshots of real volumes, thick and thin, in an emulated machine with device-mapper: it runs the checks (inside.ts), and
// here each is a test.

import { beforeAll, describe, expect, it } from 'vitest'

import { ALL_CHECKS } from '../../snapshot/conformance.js'
import { needs } from '../../support/needs.js'
import { VOLUME_CHECKS } from './checks.js'
import { runInside } from './machine.js'

const KINDS = ['lvm', 'lvm-thin'] as const
const CHECKS = KINDS.flatMap((kind) =>
  [...ALL_CHECKS, ...VOLUME_CHECKS]
    .filter(({ kinds }) => kinds.includes(kind))
    .map(({ name }) => [kind, name] as const),
)

describe('snapshots of volumes', needs('lvm', 'dmsetup', 'qemu-system-x86_64', 'busybox', 'apt-get'), () => {
  const results = new Map<string, string>()
  let consoleLines: readonly string[] = []
  beforeAll(async () => {
    consoleLines = await runInside()
    for (const line of consoleLines) {
      const [, key, result] = /^LAB-CHECK (".*") (".*")$/.exec(line) ?? []
      if (key !== undefined && result !== undefined)
        results.set(String(JSON.parse(key)), String(JSON.parse(result)))
    }
  })

  it('the machine came up and went down', () => {
    expect(consoleLines.slice(-60)).toContain('LAB-ENDED 0')
    expect(results.size).toBe(CHECKS.length)
  })

  it.each(CHECKS)('%s: %s', (kind, name) => {
    expect(results.get(`${kind}: ${name}`)).toBe('ok')
  })
})
