#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# examples/systemd for real: a Debian with systemd boots in a guest, and in there guests are
# services, with the unit as it stands: a guest in a guest. One is started and asked to shut down,
# one panics and is started again, one cannot be run and is left alone. Run by hand, and not by
# tests/check.sh: it takes minutes, and an engine on an engine does not always come to its end.
# Status 77: cannot be done here.
#
#   tests/examples/boot.sh             makes the disks and boots
#   tests/examples/boot.sh inside      in the guest, as the unit that systemd.run= makes
set -eu

# Seconds: a kernel that boots on an engine that is itself translated takes some.
PATIENCE=600

fail() {
	echo "boot: error: $*"
	# In the guest, where this is all that is left of it.
	[ ! -d /run/files ] || journalctl -q -o short-monotonic -u 'lguest@*' | tail -n 40
	exit 1
}

# ---------------------------------------------------------------- out here

# What the guest adds to its Debian: lguest with its libraries, a kernel, and the example's files.
fill() {
	mkdir -p "$1/usr/bin" "$1/etc/lguest" "$1/etc/systemd/system" "$1/var/lib/lguest-images"
	cp build/lguest "$1/usr/bin/"
	for library in $(ldd build/lguest | grep -o '/[^ ]*'); do
		mkdir -p "$1/usr/local/lib/lguest"
		cp -L "$library" "$1/usr/local/lib/lguest/"
	done
	cp -r examples/systemd/lguest* "$1/etc/systemd/system/"
	cp build/guest/cloud/vmlinuz build/guest/cloud/initrd.img "$1/var/lib/lguest-images/"
	cp examples/systemd/hello.conf "$1/etc/lguest/"
	sed 's/^APPEND=.*/APPEND="console=ttyS0 quiet test=panic"/' "$1/etc/lguest/hello.conf" \
		>"$1/etc/lguest/panic.conf"
	sed 's/^KERNEL=.*/KERNEL=nowhere/' "$1/etc/lguest/hello.conf" >"$1/etc/lguest/missing.conf"
	cp tests/examples/boot.sh "$1/"
}

boot() {
	here=build/examples/boot
	rm -rf "$here"
	mkdir -p "$here/files"
	fill "$here/files"
	truncate -s 128M "$here/files.img"
	PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -d "$here/files" "$here/files.img"
	cp --sparse=always build/guest/rootfs/disk.img "$here/root.img"
	run='exec /run/files/boot.sh inside >/dev/console 2>&1'
	status=0
	timeout -k 5 1200 build/lguest --block="$here/root.img" --block="$here/files.img,ro" \
		--rng --cpus=2 1024 build/guest/cloud/vmlinuz --initrd=build/guest/cloud/initrd.img \
		console=ttyS0 quiet root=/dev/vda systemd.run_success_action=poweroff-force \
		systemd.run_failure_action=poweroff-force \
		"systemd.run=\"/bin/sh -c 'mkdir /run/files; mount -r /dev/vdb /run/files; $run'\"" \
		</dev/null >"$here/console" || status=$?
	tr -d '\r' <"$here/console" | grep '^boot: ' || true
	[ "$status" = 0 ] || fail "lguest's status is $status: see $here/console"
	tr -d '\r' <"$here/console" | grep -qx 'boot: all is well' || fail "see $here/console"
	rm -rf "$here"
}

# ---------------------------------------------------------------- in there

said() {
	journalctl -q -o cat -u "lguest@$1" | tr -d '\r'
}

# wait_for SECONDS COMMAND...
wait_for() {
	until=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$until" ] || fail "in vain: $*"
		sleep 1
	done
}

said_by() {
	said "$1" | grep -qF "$2"
}

# shows NAME PROPERTY VALUE
shows() {
	got=$(systemctl show --value -p "$2" "lguest@$1")
	[ "$got" = "$3" ] || fail "lguest@$1: $2 is $got, not $3: $(said "$1" | tail -n 20)"
	echo "boot: lguest@$1: $2 is $3"
}

shows_soon() {
	wait_for $PATIENCE sh -c "[ \"\$(systemctl show --value -p $2 lguest@$1)\" = $3 ]"
	shows "$@"
}

inside() {
	cp -r /run/files/etc /run/files/usr /run/files/var /
	echo /usr/local/lib/lguest >/etc/ld.so.conf.d/lguest.conf
	/sbin/ldconfig
	systemctl daemon-reload

	systemctl start lguest@hello
	wait_for $PATIENCE said_by hello 'Leave with exit'
	shows hello ActiveState active
	group=/sys/fs/cgroup/lguest.slice/lguest@hello.service
	[ "$(cat $group/memory.max)" = 1073741824 ] || fail "MemoryMax: $(cat $group/memory.max)"
	[ "$(cut -d' ' -f1 $group/cpu.max)" = 200000 ] || fail "CPUQuota: $(cat $group/cpu.max)"
	pid=$(systemctl show --value -p MainPID lguest@hello)
	grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status" || fail "lguest has capabilities"
	echo "boot: memory $(cat $group/memory.current), threads $(cat $group/pids.current)"
	systemctl stop lguest@hello
	said_by hello 'Power down' || fail "it was not asked to shut down: $(said hello | tail -n 20)"
	shows hello Result success
	shows hello ExecMainStatus 0

	systemctl start lguest@missing || true
	shows_soon missing ActiveState failed
	shows missing ExecMainStatus 1
	shows missing NRestarts 0

	systemctl start lguest@panic
	shows_soon panic NRestarts 1
	said_by panic 'the guest kernel panicked' || fail "no word of a panic: $(said panic | tail)"
	systemctl stop lguest@panic
	echo "boot: all is well"
}

case ${1-} in
inside)
	inside ;;
*)
	cd "$(dirname "$0")/../.."
	[ -e build/guest/rootfs/disk.img ] ||
		{ echo "skipped: no root file system: scripts/rootfs makes it"; exit 77; }
	boot ;;
esac
