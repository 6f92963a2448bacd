#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make deb`, from a new user's side: on a clean Debian 12, apt installs the package and what
# it depends on; it boots a guest, as root and as nobody; and when it is removed, nothing of it is
# left. Before that, lintian reads it. Called by tests/check.sh check-long.
#
# Needs root and a network. The clean system is made by debootstrap, once, and
# kept in build/packages.
set -eu
cd "$(dirname "$0")/../.."

fail() {
	echo "deb.sh: error: $*"
	exit 1
}

[ "$(id -u)" = 0 ] || fail "needs root"
temp=$(mktemp -d "${TMPDIR:-/tmp}/lguest-deb.XXXXXX")
trap 'rm -rf --one-file-system "$temp"' EXIT
trap 'exit 1' INT TERM HUP
root=$temp/root

# In the clean system, with what a container has.
in_system() {
	tests/clean-debian run "$root" "$@" </dev/null
}

files() {
	(cd "$root" && find . -xdev ! -path './var/*' ! -path './etc/ld.so.cache' | LC_ALL=C sort)
}

make deb
deb=$(ls build/deb/lguest_*.deb)
lintian --allow-root --fail-on error,warning --info build/deb/*.changes

tests/clean-debian make "$root"
cp "$deb" "$root/root/lguest.deb"
mkdir "$root/guest"
cp build/guest/cloud/vmlinuz build/guest/cloud/initrd.img "$root/guest/"
in_system apt-get -q update
files >"$temp/before"
in_system apt-get -q -y install /root/lguest.deb

guest='--engine=soft 512 /guest/vmlinuz --initrd=/guest/initrd.img console=ttyS0 quiet'
# With the network that the package recommends. Options are split into words.
in_system timeout -k 5 120 lguest --net=user $guest test=info >"$temp/log" 2>&1 ||
	fail "as root: $(cat "$temp/log")"
cat "$temp/log"
grep -q '^complaints: none' "$temp/log" || fail "as root: the guest has not come to its end"
status=0
in_system timeout -k 5 120 setpriv --reuid=65534 --regid=65534 --clear-groups \
	lguest $guest test=panic >"$temp/log" 2>&1 || status=$?
cat "$temp/log"
[ $status = 3 ] || fail "as nobody: a kernel that panics is status $status and not 3"
[ -s "$root/usr/share/man/man1/lguest.1.gz" ] || fail "no manual"
tests/packages/links "$root/usr/share/doc/lguest"

in_system apt-get -q -y --auto-remove purge lguest
files >"$temp/after"
cmp "$temp/before" "$temp/after" || { diff "$temp/before" "$temp/after"; fail "not all of it went"; }
