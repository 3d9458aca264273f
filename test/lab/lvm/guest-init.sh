#!/bin/busybox sh
# The first program of the machine with device-mapper: modules, LVM without udev on the one disk, then the program that came
# along (inside.ts). All of it is in memory; what it prints on the console is what the test reads (machine.ts).
box=/bin/busybox
$box mkdir -p /proc /sys /dev /tmp /run/lock/lvm /run/lvm /etc/lvm /var/lib /sbin /usr/sbin
$box --install -s /bin
export PATH=/usr/sbin:/sbin:/usr/bin:/bin HOME=/tmp DM_DISABLE_UDEV=1
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
ln -s /proc/self/fd /dev/fd
while read -r module; do insmod "/modules/$module"; done </modules/order 2>/run/insmod
for name in lvs vgs pvs lvcreate lvremove lvchange lvextend vgcreate pvcreate; do ln -s /usr/sbin/lvm "/usr/sbin/$name"; done
cat >/etc/lvm/lvm.conf <<X
devices {
  scan=["/dev"] use_devicesfile=0 filter=["a|/dev/vda|","r|.*|"] obtain_device_list_from_udev=0
  md_component_detection=0 multipath_component_detection=0
}
activation { udev_sync=0 udev_rules=0 monitoring=0 use_mlockall=0 reserved_stack=0 reserved_memory=0 }
backup { backup=0 archive=0 }
global { thin_check_executable="" thin_repair_executable="" thin_dump_executable="" notify_dbus=0 }
X
echo LAB-BOOTED
node /lab/inside.mjs
echo "LAB-ENDED $?"
poweroff -f
