#!/bin/busybox sh
# The only program of the counter guest. It keeps a counter on its disk and the same counter in memory, and a stretch of
# the disk with the same stretch in memory. At every tick both are compared: a block that a migration lost, or brought in
# an old state, shows on the console of the guest itself:
#   CTR <n>            a tick; <n> is on the disk
#   MISMATCH ...       the disk is not what the memory knows
#   WRITE-ERROR <n>    the disk did not take it
#   LAB-OFF <n>        it was asked to shut down, and does
# Words of the kernel's command line:
#   lab.tick=SECONDS   between ticks               lab.dirty=KIB    rewritten on the disk at every tick
#   lab.area=KIB       which that walks through    lab.memory=KIB   rewritten in memory at every tick
#   lab.disk2=1        the counter goes to vdb too lab.deaf=1       does not hear the power button
# (area is a multiple of four times dirty, and both are powers of two)
box=/bin/busybox
$box mkdir -p /proc /sys /dev /bin /sbin /mem
$box --install -s /bin
PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs -o size=60% none /mem
while read -r module; do insmod "/modules/$module"; done </modules/order 2>/mem/insmod

word() {
  for given in $(cat /proc/cmdline); do
    case $given in "lab.$1="*) echo "${given#*=}" && return ;; esac
  done
  echo "$2"
}
tick=$(word tick 0.2) dirty=$(word dirty 0) area=$(word area 2048) memory=$(word memory 0)
second=$(word disk2 0) deaf=$(word deaf 0)

disk=/dev/vda
[ -b $disk ] || disk=/dev/xvda
other=${disk%a}b
# where things are: the counter at 1 MiB, the stretch from 2 MiB on
counter_sector=2048
area_kib=2048

get() { # the counter's line on disk $1, past every cache
  if dd if="$1" of=/mem/sector bs=512 skip=$counter_sector count=1 iflag=direct 2>/mem/error
  then tr -d '\0' </mem/sector | head -n 1
  else echo "unreadable: $(head -n 1 /mem/error)"
  fi
}
put() { # the line $2 to disk $1
  echo "$2" | dd of=/mem/new bs=512 conv=sync 2>/dev/null
  dd if=/mem/new of="$1" bs=512 seek=$counter_sector oflag=direct conv=notrunc 2>/dev/null
}

# Xen asks by running this; the power button of others is an input device.
printf '#!/bin/sh\n: >/mem/stop\n' >/sbin/poweroff
chmod 755 /sbin/poweroff
if [ "$deaf" = 0 ]; then
  for input in /sys/class/input/event*; do
    [ "$(cat "$input/device/name" 2>/dev/null)" = "Power Button" ] || continue
    (dd if="/dev/input/${input##*/}" of=/dev/null bs=24 count=1 2>/dev/null && : >/mem/stop) &
  done
fi

count=0
known=
found=$(get $disk)
case $found in "COUNTER "*) known=$found count=${found#COUNTER } ;; esac
[ "$dirty" -gt 0 ] && dd if=$disk of=/mem/area bs=1k skip=$area_kib count="$area" iflag=direct 2>/dev/null
echo "LAB-BOOTED on $disk with ${found:-nothing}"

while :; do
  now=$(get $disk)
  [ -z "$known" ] || [ "$now" = "$known" ] || echo "MISMATCH counter: disk '$now', memory '$known'"
  if [ "$second" = 1 ] && [ -n "$known2" ]; then
    now=$(get $other)
    [ "$now" = "$known2" ] || echo "MISMATCH second disk: disk '$now', memory '$known2'"
  fi
  if [ "$dirty" -gt 0 ]; then
    # One piece is written anew, four are looked at.
    pieces=$((area / dirty))
    piece=$((count % pieces)) four=$((count % (pieces / 4))) size=$((dirty * 4))
    dd if=$disk of=/mem/piece bs=${size}k skip=$((area_kib / size + four)) count=1 iflag=direct 2>/dev/null
    dd if=/mem/area of=/mem/same bs=${size}k skip=$four count=1 2>/dev/null
    cmp -s /mem/piece /mem/same || echo "MISMATCH pieces $((four * 4)) to $((four * 4 + 3)) of $pieces"
    dd if=/dev/urandom of=/mem/piece bs=${dirty}k count=1 2>/dev/null
    dd if=/mem/piece of=/mem/area bs=${dirty}k seek=$piece conv=notrunc 2>/dev/null
    dd if=/mem/piece of=$disk bs=${dirty}k seek=$((area_kib / dirty + piece)) oflag=direct conv=notrunc 2>/dev/null ||
      echo "WRITE-ERROR piece $piece at tick $count"
  fi
  [ "$memory" = 0 ] || dd if=/dev/urandom of=/mem/noise bs=1k count="$memory" 2>/dev/null
  count=$((count + 1))
  known="COUNTER $count"
  put $disk "$known" || echo "WRITE-ERROR $count"
  if [ "$second" = 1 ]; then
    known2=$known
    put "$other" "$known2" || echo "WRITE-ERROR $count on the second disk"
  fi
  echo "CTR $count"
  if [ -e /mem/stop ]; then
    echo "LAB-OFF $count"
    poweroff -f
  fi
  sleep "$tick"
done
