// The units of contrib/systemd as systemd itself reads them, and what they rest on.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { EXIT, exitStatusOf } from '../../src/errors.js'
import { needs } from '../support/needs.js'
import { ROOT } from '../docs/text.js'

const UNITS = ['blocksync-replicate.service', 'blocksync-replicate@.service', 'blocksync-replicate@.timer']

/** Each of these makes a mount namespace (systemd.exec(5)), in which a guard would not see what is mounted outside. */
const OWN_MOUNTS = [
  /^(Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|ControlGroups)|Private(Tmp|Mounts|Devices|Users))=/,
  /^((ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|TemporaryFileSystem|Root(Directory|Image)|DynamicUser|MountFlags)=/,
  /^(DeviceAllow|DevicePolicy|ProtectClock|ProcSubset|MemoryDenyWriteExecute)=/,
]

function settings(unit: string): string[] {
  const lines = readFileSync(join(ROOT, 'contrib/systemd', unit), 'utf8').split('\n')
  return lines.filter((line) => /^[A-Z]\w*=/.test(line))
}

describe.each(UNITS)('%s', (unit) => {
  it('is read by systemd without a word', needs('systemd-analyze'), () => {
    const directory = mkdtempSync(join(tmpdir(), 'blocksync-units-'))
    try {
      for (const name of UNITS) {
        const text = readFileSync(join(ROOT, 'contrib/systemd', name), 'utf8')
        // verify looks for the program, which this machine need not have installed
        writeFileSync(join(directory, name), text.replace('=blocksync ', '=/bin/true '))
      }
      const path = join(directory, unit.replace('@.', '@web-01.db.'))
      const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
        encoding: 'utf8',
        timeout: 30_000,
        // only these and the system's own: not what is wrong with other units of this machine
        env: { ...process.env, SYSTEMD_LOG_LEVEL: 'warning' },
      })
      const said = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('blocksync'))
      expect([status, said]).toEqual([0, []])
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  it('sees the mounts and the devices of the host', () => {
    const found = settings(unit).filter((line) => OWN_MOUNTS.some((pattern) => pattern.test(line)))
    expect(found).toEqual([])
  })
})

describe('the services', () => {
  const daemon = settings('blocksync-replicate.service')
  const single = settings('blocksync-replicate@.service')

  it('keep what the kernel must allow for snapshots, marks and mounts', () => {
    for (const lines of [daemon, single]) {
      const [bounds = ''] = lines.filter((line) => line.startsWith('CapabilityBoundingSet='))
      expect(bounds).toMatch(/^CapabilityBoundingSet=~/)
      expect(bounds).not.toMatch(
        /SYS_ADMIN|RAWIO|IMMUTABLE|DAC|CHOWN|FOWNER|KILL|IPC_LOCK|NET_ADMIN|SYS_MODULE|SYS_PTRACE/,
      )
    }
  })

  it('hold back the same in both', () => {
    const hardening = (lines: readonly string[]): string[] =>
      lines.filter((line) => /^(Restrict|Lock|SystemCall|Capability|UMask|KillMode|State)/.test(line))
    expect(hardening(single)).toEqual(hardening(daemon))
    expect(hardening(daemon).length).toBeGreaterThan(8)
  })

  it('do not start again what another start does not mend', () => {
    expect(daemon).toContain(`RestartPreventExitStatus=${EXIT.usage} ${EXIT.guard}`)
    expect(exitStatusOf('config/invalid')).toBe(EXIT.usage)
    expect(exitStatusOf('replicate/busy')).toBe(EXIT.guard)
    expect(exitStatusOf('state/unusable')).toBe(EXIT.guard)
  })
})
