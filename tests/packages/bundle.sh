#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make bundle`, where it is for: unpacked in a root that has nothing else, not even
# /dev or /proc, it boots a guest. Called by tests/check.sh when lguest and its guest are
# there; takes as long as two guests.
#
# Needs root, or a user namespace, to have such a root.
set -eu
cd "$(dirname "$0")/../.."

fail() {
	echo "bundle.sh: error: $*"
	exit 1
}

temp=$(mktemp -d build/bundle.XXXXXX)
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' INT TERM HUP
root=$temp/root
# Who is not root is root in a namespace of its own, and then a user in the next.
map= enter=chroot
[ "$(id -u)" = 0 ] || {
	map=--map-root-user
	enter='unshare --map-user=1000 --map-group=1000 --root'
}

# in_root MOUNTS COMMAND...: with what it says of "dev proc".
in_root() {
	mounts=$1
	shift
	unshare $map --mount --pid --fork --kill-child sh -c '
		root=$1 enter=$2 mounts=$3
		shift 3
		case " $mounts " in *" proc "*) mount -t proc proc "$root/proc" ;; esac
		case " $mounts " in *" dev "*) mount --rbind /dev "$root/dev" ;; esac
		exec timeout -k 5 120 $enter "$root" "$@"' - "$root" "$enter" "$mounts" "$@"
}

# boots NAME MOUNTS LGUEST [OPTION...]
boots() {
	name=$1 mounts=$2 lguest=$3
	shift 3
	echo "== $name"
	status=0
	in_root "$mounts" "$lguest" --engine=soft "$@" 512 /guest/vmlinuz \
		--initrd=/guest/initrd.img console=ttyS0 quiet test=info \
		>"$temp/log" 2>&1 </dev/null || status=$?
	cat "$temp/log"
	[ $status = 0 ] || fail "$name: exit status $status"
	grep -q '^complaints: none' "$temp/log" || fail "$name: the guest has not come to its end"
}

make bundle
archive=$(ls -t build/lguest-*-x86_64.tar.xz | head -n 1)
mkdir -p "$root/guest"
cp build/guest/cloud/vmlinuz build/guest/cloud/initrd.img "$root/guest/"
tar -C "$root" -xf "$archive"
mv "$root"/lguest-* "$root/opt"

# Its licences: of each library there is one, and no text that is referred to is missing.
papers=$root/opt/share/doc/lguest/libraries
for library in "$root"/opt/lib/lguest/*.so*; do
	grep -q "^${library##*/} " "$root/opt/README" || fail "README does not know $library"
done
for text in $(cat "$papers"/*.copyright | grep -oE 'common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]'); do
	[ -s "$papers/$text" ] || fail "no $text"
done

boots "nothing but the bundle, with a network" "" /opt/bin/lguest --net=user --verbose
grep -q 'served by libslirp' "$temp/log" || fail "no libslirp"
grep 'user code is translated.*No such file' "$temp/log" && fail "cells want a file"

# As a user of a container has it; and by a link, as in a PATH.
mkdir "$root/dev" "$root/proc" "$root/bin"
ln -s ../opt/bin/lguest "$root/bin/lguest"
boots "with /dev and /proc, by a link" "dev proc" /bin/lguest --cpus=2
