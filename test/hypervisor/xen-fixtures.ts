// Configurations of Xen guests as people write them, and what xl prints on a host with some of them.

/** A paravirtual guest with comments between everything. */
export const PV = `# -*- mode: python; -*-
# web server, moved here in spring
name    = "web"          # as in DNS
type    = "pv"
memory  = 96
vcpus   = 1
kernel  = '/boot/vmlinuz-guest'
ramdisk = "/boot/initrd-guest"
extra   = "console=hvc0 root=/dev/xvda1 motd='it''s \\"quoted\\"'"

disk = [
    # the system
    'phy:/dev/vg0/web-root,xvda,w',
    "format=raw, vdev=xvdb, access=rw, target=/srv/xen/web data,1.img",	# a tab, a blank and a comma

    ',,hdc:cdrom,r',
]
vif = [ 'mac=00:16:3e:11:22:33,bridge=xenbr0', '' ]
on_crash = "destroy"; on_reboot = 'restart'
`

export const PVH = `name="pod"
type="pvh"
uuid="6f1a2c3d-0000-4000-8000-0123456789ab"
memory=512
maxmem=1024
vcpus=2
maxvcpus=4
kernel="/boot/vmlinuz"
disk=["/srv/pod.qcow2,qcow2,xvda,rw"]
vif=["bridge=br1"]
`

export const HVM = `builder = "hvm"
name = "win"
memory = 2048
vcpus = 2
bios = "ovmf"
boot = "dc"
disk = [ '/dev/vg0/win,raw,hda,rw', '/srv/iso/win.iso,,hdc,cdrom' ]
vif = [ 'type=ioemu, mac=00:16:3e:00:00:01, bridge=xenbr0' ]
usbdevice = "tablet"
vnc = 1
serial = [ 'pty', "file:/tmp/x" ]
`

/** From the time of xm, without a program in it: xl reads it. */
export const XM = `#
# Configuration file for the Xen instance old, created by xen-tools
#
kernel      = '/boot/vmlinuz-xen'
ramdisk     = '/boot/initrd-xen'
memory      = '256'
root        = '/dev/xvda2 ro'
disk        = [
                  'file:/srv/xen/old/disk.img,xvda2,w',
                  'tap:aio:/srv/xen/old/swap.img,xvda1,w',
              ]
name        = 'old'
dhcp        = 'dhcp'
vif         = [ 'mac=00:16:3E:0B:B4:B2' ]
on_poweroff = 'destroy'
`

/** Programs: xm ran them, xl does not read them. */
export const PROGRAMS: readonly (readonly [text: string, reason: RegExp])[] = [
  ['import os, re\nname = "x"\n', /line 1 of .*'import' makes it a Python program/],
  ['name = "x"\nmemory = 1024 * 2\n', /line 2 of .*'\*' belongs to a Python expression/],
  ["name = 'x'\ndisk = [ 'phy:%s,xvda,w' % d ]\n", /line 2 of .*'%' belongs to a Python expression/],
  ['for i in range(3):\n  pass\n', /line 1 of .*'for' makes it a Python program/],
  ['name = vmname\n', /line 1 of .*vmname is not a string, a number or a list/],
  ['name = "a" "b"\n', /line 1 of .*string where there should be the end of the line/],
  ['def f(x):\n', /'def' makes it a Python program/],
  ['name = """x"""\n', /three quotes/],
  ['arch = os.uname()[4]\n', /os.uname is not a string/],
  ['disk = ( "a", )\n', /'\(' belongs to a Python expression/],
  ['Memory = 5\n', /the name Memory/],
  ['name = "x"\r\nmemory = 5\r\n', /carriage return/],
  ['name = "x\n', /without its closing quote/],
  ['name = "\\x41"\n', /the escape \\x/],
  ['disk = [ "a" "b" ]\n', /where there should be , or \]/],
  ['disk = [ "a", \n', /end where there should be/],
  ['name "x"\n', /where there should be = behind name/],
  ['= 5\n', /where there should be a name/],
]

export const UUID = '0911e318-964a-4e12-8e64-9ecf9d612422'

export const INFO = `host                   : lab-1
release                : 6.1.0-amd64
machine                : x86_64
nr_cpus                : 1
hw_caps                : 078bfbfd:80982201:20100800:00000001:00000000:00000000:00000000:00000000
virt_caps              : pv shadow gnttab-v1 gnttab-v2
total_memory           : 1535
free_memory            : 652
xen_major              : 4
xen_minor              : 17
xen_extra              : .5
xen_version            : 4.17.5
xen_caps               : xen-3.0-x86_64 
xen_commandline        : console=com1 dom0_mem=768M,max:768M
`

const HEADER =
  'Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n'

/** The table of `xl list -v`, dom0 first. */
export function domainTable(
  domains: readonly Readonly<{ name: string; id: number; flags: string; uuid: string }>[],
): string {
  const rows = [
    { name: 'Domain-0', id: 0, flags: 'r-----', uuid: '00000000-0000-0000-0000-000000000000' },
    ...domains,
  ]
  const line = ({ name, id, flags, uuid }: (typeof rows)[number]): string =>
    `${name.padEnd(40)} ${String(id).padStart(5)}    96     1     ${flags}       0.7 ${uuid}        -                -\n`
  return HEADER + rows.map(line).join('')
}

export type LiveJson = Readonly<{
  domid: number
  config: Readonly<{
    c_info: Readonly<Record<string, unknown>>
    b_info: Readonly<Record<string, unknown>>
    disks: readonly unknown[]
    nics: readonly unknown[]
    [key: string]: unknown
  }>
}>

/** One guest of `xl list -l`, as Xen 4.17 prints it for PV without the disks that PV above has more of. */
export function liveJson(domid: number, name: string, uuid: string): LiveJson {
  return {
    domid,
    config: {
      c_info: { type: 'pv', name, domid: 4294967295, uuid, run_hotplug_scripts: 'True' },
      b_info: {
        max_vcpus: 1,
        avail_vcpus: [0],
        max_memkb: 98304,
        target_memkb: 98304,
        video_memkb: 0,
        sched_params: { sched: 'credit2', weight: 256, cap: 0 },
        claim_mode: 'True',
        kernel: '/boot/vmlinuz-guest',
        cmdline: 'console=hvc0',
        ramdisk: '/boot/initrd-guest',
        'type.pv': {},
        arch_arm: {},
        arch_x86: { msr_relaxed: 'False' },
      },
      disks: [
        {
          pdev_path: '/dev/vg0/web-root',
          vdev: 'xvda',
          format: 'raw',
          readwrite: 1,
          colo_restore_enable: 'False',
        },
        { pdev_path: '/srv/xen/web data,1.img', vdev: 'xvdb', format: 'raw', readwrite: 1 },
        { pdev_path: '', vdev: 'hdc', format: 'empty', removable: 1, is_cdrom: 1 },
      ],
      nics: [
        {
          devid: 0,
          mac: '00:16:3e:11:22:33',
          bridge: 'xenbr0',
          script: '/etc/xen/scripts/vif-bridge',
          nictype: 'vif',
        },
        {
          devid: 1,
          mac: '00:16:3e:44:55:66',
          bridge: 'xenbr0',
          script: '/etc/xen/scripts/vif-bridge',
          nictype: 'vif',
        },
      ],
      on_reboot: 'restart',
      on_soft_reset: 'soft_reset',
    },
  }
}
