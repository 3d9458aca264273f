// Disks and network cards of xl configurations: each form as xl itself reads it, and moved to other places.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { moveXlDisk, parseXlDisk, parseXlNic, setXlNic, type XlDisk } from '../../src/hypervisor/xl-device.js'

const DEFAULTS: XlDisk = {
  vdev: 'xvda',
  path: '',
  format: 'raw',
  access: 'write',
  isShareable: false,
  isCdrom: false,
  prefix: null,
  script: null,
  backend: null,
}
const CDROM: Partial<XlDisk> = { vdev: 'hdc', isCdrom: true, access: 'read' }

/** What `xl -N block-attach 0 SPEC` of Xen 4.17 makes of each. */
const DISKS: readonly (readonly [spec: string, expected: Partial<XlDisk>])[] = [
  ['/dev/vg/guest-volume,,hda', { path: '/dev/vg/guest-volume', vdev: 'hda' }],
  ['/dev/vg/x,raw,xvda,rw', { path: '/dev/vg/x' }],
  ['format=raw, vdev=hda, access=rw, target=/dev/vg/x', { path: '/dev/vg/x', vdev: 'hda' }],
  ['format=raw,vdev=xvda,access=rw,target=/p', { path: '/p' }],
  ['raw:/dev/vg/x,hda,w', { path: '/dev/vg/x', vdev: 'hda', prefix: 'raw' }],
  ['/root/image.iso,,hdc,cdrom', { ...CDROM, path: '/root/image.iso' }],
  ['/root/image.iso,,hdc,,cdrom', { ...CDROM, path: '/root/image.iso' }],
  ['/root/image.iso,raw,hdc,devtype=cdrom', { ...CDROM, path: '/root/image.iso' }],
  ['raw:/root/image.iso,hdc:cdrom,ro', { ...CDROM, path: '/root/image.iso', prefix: 'raw' }],
  ['backendtype=phy,vdev=xvdb,access=w,target=/dev/vg/x', { path: '/dev/vg/x', vdev: 'xvdb' }],
  ['devtype=cdrom,,,hdc', CDROM],
  [',,hdc:cdrom,r', CDROM],
  [',hdc:cdrom,r', CDROM],
  ['vdev=hdc,access=r,devtype=cdrom,target=', CDROM],
  [',empty,hdc:cdrom,r', CDROM],
  ['vdev=hdc,access=r,devtype=cdrom,format=empty', CDROM],
  ['drbd:app01,hda,w', { path: 'app01', vdev: 'hda', prefix: 'drbd', script: 'block-drbd' }],
  ['phy:/dev/vg0/x,xvda,w', { path: '/dev/vg0/x', prefix: 'phy' }],
  ['file:/srv/a.img,hda,r', { path: '/srv/a.img', vdev: 'hda', access: 'read', prefix: 'file' }],
  ['tap:aio:/srv/a.img,xvda,w', { path: '/srv/a.img', prefix: 'aio' }],
  ['tap2:qcow2:/srv/a.qcow2,xvda,w', { path: '/srv/a.qcow2', prefix: 'qcow2', format: 'qcow2' }],
  [
    'tap:qcow2:/srv/a.qcow2,ioemu:hda,w',
    { path: '/srv/a.qcow2', vdev: 'hda', prefix: 'qcow2', format: 'qcow2' },
  ],
  ['phy:vg/x,xvda,w', { path: 'vg/x', prefix: 'phy' }],
  ['/srv/a b.img,qcow2,xvdb,ro', { path: '/srv/a b.img', vdev: 'xvdb', access: 'read', format: 'qcow2' }],
  ['vdev=xvda,format=qcow2,target=/srv/a,b=c.img', { path: '/srv/a,b=c.img', format: 'qcow2' }],
  ['discard,vdev=xvda,target=/p', { path: '/p' }],
  ['/dev/x,vdev=xvda', { path: '/dev/x' }],
  ['script=block-nbd,vdev=xvda,target=host:10809', { path: 'host:10809', script: 'block-nbd' }],
  ['backend=storage,vdev=xvda,target=/p', { path: '/p', backend: 'storage' }],
  // of xm, which had a word for disks of several guests
  ['phy:/dev/x,xvda,w!', { path: '/dev/x', prefix: 'phy', isShareable: true }],
]

describe('a disk', () => {
  it.each(DISKS)('%s', (spec, expected) => {
    expect(parseXlDisk(spec)).toEqual({ ...DEFAULTS, ...expected })
  })

  it.each([
    ['foo', /no name for the guest/],
    ['/dev/x,raw,xvda,rw,more', /more is one word too many/],
    ['bogus=1,vdev=xvda,target=/p', /bogus= is no key/],
    ['/p,vmdk,xvda,w', /the format vmdk is not known/],
    ['/p,raw,xvda,x', /the access x is not known/],
    ['', /no name for the guest/],
  ])('refuses %j', (spec, reason) => {
    expect(() => parseXlDisk(spec)).toThrow(reason)
    expect(() => parseXlDisk(spec)).toThrow(expect.objectContaining({ code: 'migrate/hypervisor' }))
  })

  it.each([
    ['phy:/dev/vg0/a,xvda,w', '/dev/vg1/b', 'block', 'phy:/dev/vg1/b,xvda,w'],
    ['phy:/dev/vg0/a,xvda,w', '/srv/b.img', 'file', 'file:/srv/b.img,xvda,w'],
    ['file:/srv/a.img,xvda,w', '/dev/vg1/b', 'block', 'phy:/dev/vg1/b,xvda,w'],
    ['tap:aio:/srv/a.img,xvda,w', '/srv/b.img', 'file', 'tap:aio:/srv/b.img,xvda,w'],
    ['tap:aio:/srv/a.img,xvda,w', '/dev/b', 'block', 'phy:/dev/b,xvda,w'],
    ['tap2:qcow2:/srv/a,xvda,w', '/srv/b', 'file', 'tap2:qcow2:/srv/b,xvda,w'],
    ['phy:vg/x,xvda,w', '/dev/vg/y', 'block', 'phy:/dev/vg/y,xvda,w'],
    [' /dev/a , raw , xvda , w ', '/dev/b', 'block', ' /dev/b , raw , xvda , w '],
    [
      'format=raw, vdev=xvda, access=rw, target=/p',
      '/q,1',
      'file',
      'format=raw, vdev=xvda, access=rw, target=/q,1',
    ],
    [
      'backendtype=phy,vdev=xvdb,access=w,target=/dev/a',
      '/srv/b',
      'file',
      'vdev=xvdb,access=w,target=/srv/b',
    ],
    [
      'backendtype=phy,vdev=xvdb,access=w,target=/dev/a',
      '/dev/b',
      'block',
      'backendtype=phy,vdev=xvdb,access=w,target=/dev/b',
    ],
    ['phy:/dev/a,xvda,r', '/srv/x=1,2', 'file', 'format=raw,vdev=xvda,access=ro,target=/srv/x=1,2'],
    ['/a.iso,,hdc,cdrom', '/b,c.iso', 'file', 'format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/b,c.iso'],
  ] as const)('%s goes to %s (%s)', (spec, path, kind, expected) => {
    expect(moveXlDisk(spec, path, kind)).toBe(expected)
  })

  it('does not move where there is no path', () => {
    expect(() => moveXlDisk('vdev=hdc,devtype=cdrom', '/x', 'file')).toThrow(/no path in it/)
  })

  it('is the same disk afterwards, in another place', () => {
    const specs = DISKS.map(([spec]) => spec).filter((spec) => parseXlDisk(spec).path.startsWith('/'))
    const paths = fc.stringMatching(/^\/[-a-zA-Z0-9_.,=: é]{0,12}[a-z]$/)
    fc.assert(
      fc.property(
        fc.constantFrom(...specs),
        paths,
        fc.constantFrom('file' as const, 'block' as const),
        (spec, path, kind) => {
          const { prefix: _old, path: _from, ...before } = parseXlDisk(spec)
          const { prefix: _new, path: to, ...after } = parseXlDisk(moveXlDisk(spec, path, kind))
          expect(to).toBe(path)
          // the long form has no word for xm's shareable disks, and xl none at all
          expect(after).toEqual(/[,=]/.test(path) ? { ...before, isShareable: after.isShareable } : before)
        },
      ),
    )
  })
})

describe('a network card', () => {
  it.each([
    ['mac=00:16:3e:11:22:33,bridge=xenbr0', { mac: '00:16:3e:11:22:33', bridge: 'xenbr0' }],
    ['type=ioemu, mac=00:16:3E:00:00:01, bridge = br1', { mac: '00:16:3E:00:00:01', bridge: 'br1' }],
    ['00:16:3e:11:22:33', { mac: '00:16:3e:11:22:33' }],
    ['script=vif-route,ip=10.0.0.1', { script: 'vif-route' }],
    ['', {}],
    ['bridge=b,backend=net', { bridge: 'b', backend: 'net' }],
  ])('%s', (spec, expected) => {
    expect(parseXlNic(spec)).toEqual({ bridge: null, mac: null, script: null, backend: null, ...expected })
  })

  it.each([
    ['mac=00:16:3e:11:22:33, bridge=xenbr0 ,ip=1', 'mac=00:16:3e:11:22:33, bridge=br9 ,ip=1'],
    ['', 'bridge=br9'],
    ['mac=00:16:3e:11:22:33', 'mac=00:16:3e:11:22:33,bridge=br9'],
    ['model=e1000, ', 'model=e1000, bridge=br9'],
  ])('%s on another bridge', (spec, expected) => {
    expect(setXlNic(spec, 'bridge', 'br9')).toBe(expected)
  })

  it('takes no comma into a name', () => {
    expect(() => setXlNic('', 'bridge', 'a,b')).toThrow(
      expect.objectContaining({ code: 'migrate/hypervisor' }),
    )
  })
})
