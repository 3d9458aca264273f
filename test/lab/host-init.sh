#!/bin/bash
# The first process of a host of the lab, in new mount, pid, net, uts and ipc namespaces (hosts.ts starts it). Speaks by
# lines: says "born", waits for "cable" on stdin, says "up" when its daemons answer. When stdin ends (who started the
# host has let go of it, or died) the host ends: its processes, its loop devices, its files.
#   LAB_DIRECTORY   its own etc, root, srv, var        LAB_IMAGES    kernel and first file system of the guest
#   LAB_NAME        host name                          LAB_NODE      the program that runs JavaScript
#   LAB_ADDRESS     address and length of its network  LAB_CHECKOUT  the project, built
#   LAB_SHARED, LAB_SHARED_AT  a directory that all hosts have, and where this one has it
set -eu
own=$LAB_DIRECTORY
log=$own/init.log
exec 2>"$log"

# Everything that is below /tmp or /root, where others will be mounted, is taken to /run first.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab/bin /run/lab/images /run/lab/checkout /run/lab/own /run/lab/shared /run/sshd /run/lock /run/libvirt
touch /run/lab/bin/node
mount --bind "$LAB_NODE" /run/lab/bin/node
mount --bind "$LAB_CHECKOUT" /run/lab/checkout
mount --bind "$LAB_IMAGES" /run/lab/images
mount --bind "$LAB_SHARED" /run/lab/shared
mount --bind "$own" /run/lab/own
own=/run/lab/own
printf '#!/bin/sh\nexec /run/lab/bin/node /run/lab/checkout/dist/cli/main.js "$@"\n' >/run/lab/bin/blocksync
chmod 755 /run/lab/bin/blocksync

# What a host has of its own. The rest of the machine is seen as it is.
mount --bind $own/etc /etc
mount --bind $own/root /root
mount --bind $own/srv /srv
mount --bind $own/var-lib /var/lib
mount --bind $own/var-log /var/log
mount --bind $own/var-cache /var/cache
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind $own/boot-id /proc/sys/kernel/random/boot_id
mount -t sysfs sysfs /sys
mkdir -p "$LAB_SHARED_AT"
mount --bind /run/lab/shared "$LAB_SHARED_AT"

# Devices without kvm: libvirt then takes emulation at once (a kvm that does not work costs it seconds at every start).
# Loop devices are the machine's: there is no namespace for them.
devices=/run/lab/dev
mkdir $devices
mount -t tmpfs -o mode=755 tmpfs $devices
for name in null zero full random urandom tty loop-control; do cp -a /dev/$name $devices/; done
for number in $(seq 0 63); do mknod -m 660 $devices/loop"$number" b 7 "$number"; done
mkdir $devices/pts $devices/shm $devices/net $devices/mapper $devices/lab
[ ! -e /dev/net/tun ] || cp -a /dev/net/tun $devices/net/
ln -s /proc/self/fd $devices/fd
ln -s /proc/self/fd/0 $devices/stdin
ln -s /proc/self/fd/1 $devices/stdout
ln -s /proc/self/fd/2 $devices/stderr
ln -s pts/ptmx $devices/ptmx
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $devices/pts
mount -t tmpfs tmpfs $devices/shm
mount --move $devices /dev

hostname "$LAB_NAME"
ip link set lo up
echo born

read -r word
[ "$word" = cable ]
ip addr add "$LAB_ADDRESS" dev eth0
ip link set eth0 up
export PATH=/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/usr/sbin/sshd -E /var/log/sshd.log </dev/null >/dev/null
virtlogd -d </dev/null >/dev/null
libvirtd -d </dev/null >/dev/null
virsh --quiet --connect qemu:///system version --daemon </dev/null >/dev/null
echo up

while read -r word; do :; done
kill -KILL -1 || true
# Until the last of them is gone a loop device is busy, and would be detached later only.
while kill -0 -1; do sleep 0.01; done
[ ! -e $own/loops ] || while read -r device; do
  blockdev --setrw "$device" || true
  losetup --detach "$device" || true
done <$own/loops
# Disks of hundreds of MiB would stay behind a test run that was killed; fenced ones are immutable.
chattr -R -f -i /run/lab/own || true
find /run/lab/own -mindepth 1 -delete || true
