# Run one job: unpack it from the second disk, run it, and pack what it wrote onto the third.
export PATH=/usr/sbin:/usr/bin PYTHONPATH=/opt/python HOME=/run TMPDIR=/run ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1
b=/usr/bin/busybox
$b mount -t tmpfs -o size=90% run /run
mkdir /run/job /run/out
cd /run/job
$b tar -xf /dev/vdb || echo "wireleak: no job"
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
[ -s netem ] && tc qdisc add dev eth0 root netem $(cat netem)
ready=$(cut -d' ' -f1 /proc/uptime)
$b time -v -o /run/out/usage $b sh ./run > /run/out/log 2>&1
echo $? > /run/out/status
echo "$ready $(cut -d' ' -f1 /proc/uptime)" > /run/out/times
cat /run/out/log
cd /run/out
$b tar -cf /dev/vdc . || echo "wireleak: what the job wrote does not fit"
sync
$b poweroff -f
