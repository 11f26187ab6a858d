#!/bin/sh
# Boot the systemd of a system in a directory as PID 1 of namespaces of its own: mount, pid, net, uts, ipc, cgroup.
# The directory stays as it is: all that the machine writes goes to memory.
# usage: boot.sh start SYSTEM NAME [LAYER]      prints the process id of unshare, PID 1's parent, and lives
#                                                until its standard input ends: then all of it is removed
# LAYER is a directory whose files are copied over the system before it boots; its /prepare is then run in it.
# Nothing outside is touched but one cgroup, NAME, which goes with it.
set -eu
self=$(realpath "$0")
stage=$1 system=${2:-} name=${3:-} layer=${4:-}

case $stage in
start) # outside; whoever started this may be killed, which ends the input
	setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --net --uts --ipc -- \
		"$self" mount "$system" "$name" "$layer" < /dev/null &
	echo $!
	cat > /dev/null || true
	kill -KILL $! 2> /dev/null || true
	wait $! 2> /dev/null || true
	# shellcheck disable=SC2016  # for the inner shell
	exec unshare --mount --propagation private sh -c '
		mount -t cgroup2 cgroup2 /mnt
		for try in $(seq 100); do # its processes die slowly on a busy machine
			find "/mnt/$1" -depth -type d -exec rmdir {} + 2> /dev/null
			[ -d "/mnt/$1" ] || exit 0
			sleep 0.2
		done' sh "$name"
	;;
esac

[ $$ = 1 ] # never on the host itself
root=/mnt
case $stage in
mount) # in new namespaces but for the cgroup's: it is made after its root was chosen
	mount -t tmpfs -o size=2g written $root
	mkdir -m755 $root/upper $root/work
	mount -t overlay -o "lowerdir=$system,upperdir=$root/upper,workdir=$root/work" root $root
	mkdir $root/cgroup
	mount -t cgroup2 cgroup2 $root/cgroup
	mkdir "$root/cgroup/$name"
	echo 0 > "$root/cgroup/$name/cgroup.procs"
	umount $root/cgroup
	rmdir $root/cgroup
	exec unshare --cgroup -- "$self" boot "$system" "$name" "$layer"
	;;
boot) # https://systemd.io/CONTAINER_INTERFACE
	mount -t proc -o nosuid,nodev,noexec proc $root/proc
	mount --bind $root/proc/sys $root/proc/sys
	mount --bind $root/proc/sys/net $root/proc/sys/net
	mount -o remount,bind,ro $root/proc/sys # the kernel's are shared, those of the network are its own
	mount -t sysfs -o ro,nosuid,nodev,noexec sysfs $root/sys
	mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 $root/sys/fs/cgroup
	mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf $root/sys/fs/bpf # as systemd does on a host
	mount -t tmpfs -o mode=755,nosuid,nodev tmpfs $root/run
	mount -t tmpfs -o mode=755,nosuid tmpfs $root/dev
	mkdir $root/dev/pts $root/dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts $root/dev/pts
	for node in null:3 zero:5 full:7 random:8 urandom:9; do
		mknod -m666 "$root/dev/${node%:*}" c 1 "${node#*:}"
	done
	mknod -m666 $root/dev/tty c 5 0
	ln -s pts/ptmx $root/dev/ptmx
	ln -s /proc/self/fd $root/dev/fd
	for stream in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${stream%:*}" "$root/dev/${stream#*:}"; done
	tr -d - < /proc/sys/kernel/random/uuid > $root/etc/machine-id
	echo machine > $root/etc/hostname
	for timer in apt-daily apt-daily-upgrade dpkg-db-backup man-db; do
		ln -sf /dev/null $root/etc/systemd/system/$timer.timer
	done
	if [ -n "$layer" ]; then
		cp -R "$layer/." $root
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot $root /prepare
		rm $root/prepare
	fi
	cd $root
	mkdir outside
	pivot_root . outside
	umount -l /outside
	rmdir /outside
	mount --make-rshared /
	# the kernel is shared: no modules, no raw input and output, no setting of clocks
	exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv \
		--bounding-set=-sys_module,-sys_rawio,-sys_time /lib/systemd/systemd --unit=multi-user.target
	;;
esac
