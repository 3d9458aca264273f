#!/bin/bash
# The first process of the namespaces in which both Xen hosts run as emulated machines (hosts.ts starts it): a bridge with
# an address for who drives them, and a machine at each of its two ports. It and they end when stdin ends.
#   LAB_IMAGE  directory of the image      LAB_WORK  job.tar, volumes1, volumes2, console1, console2
set -eu
exec 2>"$LAB_WORK/cage.log"
hostname lab-cage
ip link set lo up
ip link add br0 type bridge
ip addr add 10.78.0.254/24 dev br0
ip link set br0 up
# -cpu: what Xen makes of the largest processor that is emulated corrupts memory of its first domain, and nobody says so.
# A comma would end a module of -initrd: none of the paths has one.
for number in 1 2; do
  ip tuntap add "tap$number" mode tap
  ip link set "tap$number" master br0 up
  qemu-system-x86_64 -accel tcg,thread=multi -M pc -cpu Nehalem -m 1536 -smp 1 -nodefaults -no-user-config -display none \
    -no-reboot -kernel "$LAB_IMAGE/xen" \
    -append 'console=com1 com1=115200,8n1 dom0_mem=768M,max:768M spec-ctrl=no xpti=no loglvl=warning' \
    -initrd "$LAB_IMAGE/vmlinuz console=hvc0 quiet panic=-1 mitigations=off lab.host=$number,$LAB_IMAGE/initrd" \
    -drive "file=$LAB_IMAGE/root.ext4,if=none,id=root,format=raw,snapshot=on" -device virtio-blk-pci,drive=root \
    -drive "file=$LAB_WORK/job.tar,if=none,id=job,format=raw,readonly=on" -device virtio-blk-pci,drive=job \
    -drive "file=$LAB_WORK/volumes$number,if=none,id=volumes,format=raw,cache=unsafe,discard=unmap" \
    -device virtio-blk-pci,drive=volumes -device virtio-rng-pci \
    -netdev "tap,id=net,ifname=tap$number,script=no,downscript=no" \
    -device "virtio-net-pci,netdev=net,mac=52:54:00:78:00:0$number,romfile=" \
    -serial "file:$LAB_WORK/console$number" </dev/null >/dev/null &
done
echo born
while read -r word; do :; done
kill -KILL -1 || true
