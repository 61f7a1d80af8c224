#!/bin/busybox sh
# The first program: load what the disk and the card need, and go on from the disk.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for module in $($b cat /lib/order); do $b insmod /lib/$module.ko; done
$b mount -t ext4 -o noatime /dev/vda /root || { echo "wireleak: no disk"; $b poweroff -f; }
for folder in dev proc sys; do $b mount --move /$folder /root/$folder; done
exec $b switch_root /root /usr/bin/busybox sh /opt/start.sh
