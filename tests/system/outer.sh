#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs a command in a machine that has KVM, on one that has not: qemu emulates a
# CPU with SVM, the distribution's cloud kernel boots on it, loads kvm-amd, and
# runs the command with what was built here. Slow, but it is the real KVM.
#
#   tests/system/outer.sh [--with=FILE]... [--disk=FILE]... BUILD COMMAND
#
# In there, /assets is what of BUILD it takes to run lguest (programs, guests; see
# below), and is in the PATH; a shared library is where it is out here, as is each
# FILE. Each disk is a block device, whose changes are forgotten in the end; one that is
# part of BUILD has a link to the device in its place. COMMAND is a line for busybox' sh. Its output (stdout and stderr) comes out
# on ours, its exit status is ours; 125 says that the outer VM itself failed.
# After OUTER_TIMEOUT seconds (600) it is stopped; OUTER_MEM (4G), OUTER_CPUS (1: with
# two, the emulated machine now and then loses a timer or an interrupt, and freezes),
# OUTER_APPEND for its kernel's command line; MODULE.PARAMETER=VALUE reaches that module.
set -eu

say() {
	echo "outer: $*" >&2
}

copies=
disks=
while [ $# -gt 0 ]; do
	case $1 in
	--with=*) copies="$copies ${1#--with=}" ;;
	--disk=*) disks="$disks ${1#--disk=}" ;;
	*) break ;;
	esac
	shift
done
[ $# = 2 ] || { say "usage: outer.sh [--with=FILE]... [--disk=FILE]... BUILD COMMAND"; exit 125; }
build=$1
command=$2
base=$build/guest/outer
[ -e "$base/initrd.img" ] || { say "no $base: make it with scripts/guest outer"; exit 125; }

temp=$(mktemp -d "$build/.outer.XXXXXX")
qemu=
leave() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
	rm -rf "$temp"
}
trap leave EXIT
trap 'exit 125' INT TERM HUP

# With its libraries, to the same path: name it once, get all.
add() {
	mkdir -p "$temp/root$(dirname "$1")"
	[ -e "$temp/root$1" ] || cp -L "$1" "$temp/root$1"
}

add_libraries() {
	for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
		add "$library"
	done
}

assets=$temp/root/assets
mkdir -p "$assets"
for item in lguest systest prisoner bench guests guest/cloud/vmlinuz guest/cloud/initrd.img \
	    guest/generic/vmlinuz guest/generic/initrd.img guest/ia32/initrd.img \
	    guest/686-pae/vmlinuz guest/686-pae/initrd.img \
	    address-undefined/lguest address-undefined/systest; do
	[ -e "$build/$item" ] || continue
	mkdir -p "$assets/$(dirname "$item")"
	cp -rlL "$build/$item" "$assets/$item"
done
rm -rf "$assets/guests/obj"
# Somebody to become.
mkdir -p "$temp/root/etc"
echo 'nobody:x:65534:65534:nobody:/:/bin/false' >"$temp/root/etc/passwd"
for program in lguest systest prisoner bench address-undefined/lguest address-undefined/systest; do
	[ ! -e "$build/$program" ] || add_libraries "$build/$program"
done
for file in $copies; do
	add "$file"
	add_libraries "$file"
done
drives=
letters=abcdefgh
for disk in $disks; do
	[ -e "$disk" ] || { say "no $disk"; exit 125; }
	device=/dev/vd${letters%"${letters#?}"}
	letters=${letters#?}
	drives="$drives -drive file=$disk,if=virtio,format=raw,snapshot=on"
	case $disk in
	"$build"/*)
		mkdir -p "$(dirname "$assets/${disk#"$build/"}")"
		ln -s "$device" "$assets/${disk#"$build/"}" ;;
	esac
done
printf '%s\n' "$command" >"$temp/root/command"

# An initramfs may be several archives, one after the other.
cp "$base/initrd.img" "$temp/initrd.img"
(cd "$temp/root" && find . | cpio --quiet -o -H newc -R 0:0) >>"$temp/initrd.img"
rm -rf "$temp/root"

# What of -cpu max is left out, because emulating it costs more than all else: five
# levels of page tables, walked once more for each level of the guest's; and ERMS,
# which has kernels clear and copy memory byte by byte instead of by eights.
timeout -k 5 "${OUTER_TIMEOUT:-600}" qemu-system-x86_64 \
	-accel tcg,thread=multi -cpu max,-la57,-erms -smp "${OUTER_CPUS:-1}" -m "${OUTER_MEM:-4G}" \
	-nodefaults -display none -no-reboot $drives \
	-serial stdio -serial "file:$temp/kernel.log" \
	-kernel "$base/vmlinuz" -initrd "$temp/initrd.img" \
	-append "console=ttyS1 quiet panic=-1 mitigations=off init_on_alloc=0 ${OUTER_APPEND-}" </dev/null &
qemu=$!
wait "$qemu" && ended=0 || ended=$?
qemu=

status=$(sed -n 's/.*outer: status \([0-9]*\).*/\1/p' "$temp/kernel.log" | tail -n 1)
if [ $ended != 0 ] || [ -z "$status" ]; then
	[ $ended = 124 ] && say "stopped after ${OUTER_TIMEOUT:-600} seconds" ||
		say "the outer VM died (qemu's status $ended); its kernel's last words:"
	tail -n 20 "$temp/kernel.log" >&2
	exit 125
fi
exit "$status"
