#!/bin/bash
# What a Xen host of the lab does when it starts: network, ssh, LVM on the third disk, Xen's tools without systemd or udev.
# This file came with the rest of /run/lab, keys, the product, the counter guest, from the second disk, which is a tar
# stream (image.ts has the program before this one). Says LAB-UP on the console when all is there.
# The word lab.host=N of the kernel's command line says which host it is.
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /dev/pts /dev/shm /run/lock /run/lvm /run/sshd /run/xen
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
# udev would make these; /etc/xen/scripts/block waits for ever on its lock without them
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr

number=$(sed 's/.*lab\.host=\([0-9]*\).*/\1/' /proc/cmdline)
hostname "lab-$number"
cat /proc/sys/kernel/random/uuid | tr -d - >/etc/machine-id
ip link set lo up
modprobe virtio_net
until [ -e /sys/class/net/eth0 ]; do sleep 0.05; done
ip addr add "10.78.0.$number/24" dev eth0
ip link set eth0 up

mkdir -p /root/.ssh
cp /run/lab/user_key /root/.ssh/id_ed25519
cp /run/lab/user_key.pub /root/.ssh/authorized_keys
for host in 1 2; do
  echo "10.78.0.$host $(cut -d' ' -f1,2 /run/lab/host_key.pub)" >>/root/.ssh/known_hosts
done
rm -f /etc/ssh/ssh_host_*
cp /run/lab/host_key /etc/ssh/ssh_host_ed25519_key
chmod 700 /root/.ssh
chmod 600 /root/.ssh/id_ed25519 /etc/ssh/ssh_host_ed25519_key
echo "127.0.0.1 localhost lab-$number" >/etc/hosts
printf '%s\n' 'UseDNS no' 'UsePAM no' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'SetEnv DM_DISABLE_UDEV=1' \
  'StrictModes no' 'Subsystem sftp internal-sftp' >/etc/ssh/sshd_config

cat >/etc/lvm/lvmlocal.conf <<X
devices { scan=["/dev"] use_devicesfile=0 filter=["a|/dev/vdc|","r|.*|"] }
activation { udev_sync=0 udev_rules=0 monitoring=0 }
X
modprobe -a dm_mod dm_snapshot loop
vgcreate -y vg0 /dev/vdc

modprobe -a xen-evtchn xen-gntdev xen-gntalloc xen-blkback xenfs xen-privcmd
mount -t xenfs xenfs /proc/xen
mkdir -p /run/xenstored /var/lib/xenstored /var/log/xen/console /var/lib/xen
tools=$(echo /usr/lib/xen-[0-9]*/bin)
"$tools/xenstored" --pid-file /run/xenstored.pid
until xenstore-ls >/dev/null 2>&1; do sleep 0.1; done
"$tools/xen-init-dom0"
"$tools/xenconsoled" --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen

printf '#!/bin/sh\nexec node /run/lab/product/dist/cli/main.js "$@"\n' >/usr/local/bin/blocksync
chmod 755 /usr/local/bin/blocksync
/usr/sbin/sshd && echo "LAB-UP $number"
while :; do sleep 3600; done
