// The plan as a whole: definitions, commands in their order, where states are saved, and how the destination is reached.

import { describe, expect, it } from 'vitest'

import { destinationUris, sshUri } from '../../src/migrate/live-uri.js'
import { newMigrationId } from '../../src/migrate/make-plan.js'
import { disk, guest, MIB, planRequest, played, type Stage } from './fakes.js'

const mapped: Stage = {
  destination: { entries: {} },
  request: {
    create: { kind: 'file' },
    chosen: { maps: [{ from: 'vda', to: '/data/a.img' }], networks: [], disks: null, shared: [] },
  },
}

async function commands(stage: Stage): Promise<string[]> {
  const { plan } = await played(stage)
  return plan.commands.map(({ on, argv }) => `${on}: ${argv.join(' ')}`)
}

describe('definitions', () => {
  it('name the paths there, and the diff shows what changed', async () => {
    const { plan } = await played(mapped)
    expect(plan.definitionDiff.split('\n')).toEqual([
      '--- web on this host',
      '+++ web on root@host2',
      '@@ -1,4 +1,4 @@',
      ' <domain>',
      '   <name>web</name>',
      '-  <disk path="/srv/vm/a.img"/>',
      '+  <disk path="/data/a.img" target="vda"/>',
      ' </domain>',
      '',
    ])
    expect(plan.destinationPersistentDefinition).toBe(plan.destinationDefinition)
  })

  it('are left alone where nothing changes', async () => {
    const { plan } = await played()
    expect([plan.definitionDiff, plan.destinationDefinition]).toEqual(['', guest().definition])
  })

  it('of the user get every path that was checked', async () => {
    const { plan } = await played({ request: { definition: '<domain><disk path="/elsewhere"/></domain>' } })
    expect(plan.destinationDefinition).toBe('<domain><disk path="/srv/vm/a.img" target="vda"/></domain>')
    expect(plan.destinationPersistentDefinition).toBe(plan.destinationDefinition)
  })

  it('of a guest that is not persistent are one', async () => {
    const { plan } = await played({ guest: guest({ isPersistent: false, persistentDefinition: null }) })
    expect(plan.destinationPersistentDefinition).toBeNull()
  })
})

describe('commands', () => {
  const sync = 'source: blocksync sync --disk /srv/vm/a.img=root@host2:/srv/vm/a.img'

  it('of warm', async () => {
    expect(await commands({})).toEqual([
      'destination: blocksync agent',
      sync,
      'source: virsh save web',
      sync,
      'destination: virsh restorePaused web',
      'source: virsh fence web',
      'source: chattr +i /srv/vm/a.img',
      'destination: virsh define web',
      'destination: virsh resume web',
    ])
  })

  it('of cold with hooks and --undefine-source', async () => {
    const options = { ...planRequest().options, hooksDirectory: '/hooks', undefineSource: 'yes' as const }
    expect(await commands({ request: { mode: 'cold', options } })).toEqual([
      'destination: blocksync agent',
      sync,
      'source: /hooks/before-save',
      'source: virsh shutdown web',
      sync,
      'source: virsh fence web',
      'source: chattr +i /srv/vm/a.img',
      'destination: virsh define web',
      'destination: virsh start web',
      'source: /hooks/after-restore',
      'source: virsh undefine web',
    ])
  })

  it('of a guest that is off: it is started only if that is asked for', async () => {
    const off = { guest: guest({ state: 'off' as const }) }
    expect((await commands(off)).at(-1)).toBe('destination: virsh define web')
    const options = { ...planRequest().options, start: 'yes' as const }
    expect((await commands({ ...off, request: { options } })).at(-1)).toBe('destination: virsh start web')
  })

  it('of live, with a disk that is shared', async () => {
    const vdb = disk({ target: 'vdb', source: { kind: 'file', path: '/shared/b.img' } })
    const entries = { '/srv/vm/a.img': { sizeBytes: 64 * MIB }, '/shared/b.img': { sizeBytes: MIB } }
    const stage: Stage = {
      guest: guest({ disks: [disk(), vdb] }),
      source: { entries },
      destination: {
        entries: { '/srv/vm/a.img': { sizeBytes: 64 * MIB, allocatedBytes: 0 } },
        sharedDirectory: '/shared',
      },
      request: { mode: 'live' },
    }
    expect((await played(stage)).codes).toEqual([])
    expect(await commands(stage)).toContain(
      'source: virsh migrate web qemu+ssh://root@host2/system --migrate-disks vda',
    )
  })
})

describe('saved states', () => {
  it('are below the state directories, in warm only', async () => {
    const { plan } = await played()
    expect([plan.sourceStatePath, plan.destinationStatePath]).toEqual([
      '/var/lib/blocksync/migrate/20260102-aabbcc/source.d/state',
      '/var/lib/blocksync/migrate/20260102-aabbcc/destination.d/state',
    ])
    const { plan: cold } = await played({ request: { mode: 'cold' } })
    expect([cold.sourceStatePath, cold.destinationStatePath]).toEqual([null, null])
  })
})

describe('nvram', () => {
  it('is moved as a file, to where it is mapped; live, QEMU hands it over', async () => {
    const stage: Stage = {
      guest: guest({ files: [{ kind: 'nvram', path: '/nvram/web.fd' }] }),
      source: { entries: { '/srv/vm/a.img': { sizeBytes: 64 * MIB }, '/nvram/web.fd': { text: 'abc' } } },
    }
    const maps = [{ from: '/nvram/web.fd', to: '/nv/' }]
    const { plan } = await played({
      ...stage,
      request: { chosen: { maps, networks: [], disks: null, shared: [] } },
    })
    expect(plan.files).toEqual([
      { kind: 'nvram', sourcePath: '/nvram/web.fd', destinationPath: '/nv/web.fd', sizeBytes: 3 },
    ])
    expect((await played({ ...stage, request: { mode: 'live' } })).plan.files).toEqual([])
  })
})

describe('an ID', () => {
  it('has the day and is a name of a journal', () => {
    expect(newMigrationId(new Date('2026-01-02T23:00:00Z'))).toMatch(/^20260102-[0-9a-f]{6}$/)
  })
})

describe('the URI for virsh here', () => {
  const login = { host: 'host2', user: 'root', port: null }
  it.each([
    ['qemu:///system', login, null, 'qemu+ssh://root@host2/system'],
    ['qemu:///session', { ...login, user: null, port: 2222 }, null, 'qemu+ssh://host2:2222/session'],
    [
      'qemu:///system',
      { ...login, host: 'fe80::1' },
      '/k y',
      'qemu+ssh://root@[fe80::1]/system?keyfile=%2Fk%20y',
    ],
  ])('of %s', (there, far, identity, expected) => {
    expect(sshUri(there, far, identity)).toBe(expected)
  })

  it.each([
    [null, { there: null, fromHere: null }],
    ['qemu:///session', { there: 'qemu:///session', fromHere: null }],
    ['qemu+tls://host2/system', { there: 'qemu:///system', fromHere: 'qemu+tls://host2/system' }],
    [
      'qemu+ssh://root@10.0.0.2/system?keyfile=/k',
      { there: 'qemu:///system', fromHere: 'qemu+ssh://root@10.0.0.2/system?keyfile=/k' },
    ],
  ])('with --dest-connect %s', (typed, expected) => {
    expect(destinationUris(typed)).toEqual(expected)
  })
})
