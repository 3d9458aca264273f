// Definitions of guests, as libvirt writes them: one with everything, and a plain one.

export const UUID = '4dea22b3-1d52-d8f3-2516-782e98ab3fa0'

/** Attribute order, comments, CDATA, namespaces, elements that nobody knows: all of it has to come out again. */
export const ODD = `<!-- kept by hand -->
<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web &amp; "db"</name>
  <uuid>${UUID}</uuid>
  <metadata>
    <app:owner xmlns:app='http://example.org/app' z='1' a='it&apos;s "b"'><![CDATA[ <not> & 'markup' ]]></app:owner>
  </metadata>
  <memory unit='MiB'>2048</memory>
  <vcpu placement='static' current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>
  </os>
  <cpu mode='host-passthrough' check='none'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source startupPolicy='optional' file='/srv/a &amp; b.img' index='3'>
        <seclabel model='dac' relabel='no'/>
      </source>
      <backingStore/>
      <target dev='vda' bus='virtio'/>
      <boot order='1'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source dev='/dev/vg/b'/>
      <backingStore type='file'>
        <format type='qcow2'/>
        <source file='/srv/mid.qcow2'/>
        <backingStore type='block'>
          <format type='raw'/>
          <source dev='/dev/vg/base'/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='writeback'/>
      <auth username='libvirt'><secret type='ceph' uuid='2ec115d7-3a88-3ceb-bc12-0ac909a6fd87'/></auth>
      <source protocol='rbd' name='pool/image'>
        <host name='mon1' port='6789'/>
      </source>
      <target dev='vdc' bus='virtio'/>
      <shareable/>
    </disk>
    <disk type='volume' device='disk'>
      <driver name='qemu' type='raw'/>
      <source pool='default' volume='d.img'/>
      <target dev='vdd' bus='virtio'/>
      <readonly/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <disk type='nvme' device='disk'>
      <source type='pci' managed='yes' namespace='1'/>
      <target dev='vde' bus='virtio'/>
    </disk>
    <disk type='block' device='lun'>
      <source dev='/dev/sdz'/>
      <target dev='sdb' bus='scsi'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default' portid='9c' bridge='virbr0'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/>
      <source bridge='br0'/>
    </interface>
    <interface type='user'/>
    <future thing='yes'><unknown/></future>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-newarg'/>
  </qemu:commandline>
</domain>
`

export function plain(
  options: Readonly<{ name?: string; metadata?: string; devices?: string; extra?: string }> = {},
): string {
  const { name = 'web', metadata = '', devices = '', extra = '' } = options
  return `<domain type='qemu'>
  <name>${name}</name>
  <uuid>${UUID}</uuid>
${metadata}  <memory unit='KiB'>131072</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
  </os>
${extra}  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='/srv/web.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
${devices}  </devices>
</domain>
`
}

/** A fence, as libvirt writes back what the driver told it. */
export const MOVED_METADATA = `  <metadata>
    <blocksync:moved xmlns:blocksync="urn:blocksync:moved" id="m-1" guest="web" autostart="yes"/>
  </metadata>
`
export const BARRIER = `    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/this-guest-moved-away/blocksync-migration-m-1'/>
      <target dev='vdmoved' bus='virtio'/>
      <readonly/>
    </disk>
`
