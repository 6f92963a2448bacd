#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Does the same source make the same bytes? The program, the package and the bundle are
# made twice: in two folders, one of which has a long name, from files of other ages, under another
# umask, language and time zone, and by another number of jobs. Called by tests/check.sh.
#
#   tests/packages/reproducible.sh          all of it, which takes two builds of each
#   tests/packages/reproducible.sh quick    a few objects, beside those that build/ has; and the
#                                           bundle, packed twice
#
# No copy has git's word on when the source was last changed, as in a release.
set -eu
cd "$(dirname "$0")/../.."

temp=$(mktemp -d build/reproducible.XXXXXX)
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' INT TERM HUP
long="$temp/another place, a long way from the first"

copy() {
	mkdir -p "$1"
	cp -R Makefile LICENSE README.md debian docs examples packaging scripts src "$1/"
}

# A difference is shown where it begins.
status=0
compare() {
	if cmp "$1" "$2"; then
		echo "same: ${2##*/build/} $(sha256sum <"$2")"
	else
		echo "reproducible.sh: error: $1 is another each time"
		status=1
	fi
}

quick() {
	# Plain C, assembly that includes a program of its own, and what iasl has compiled.
	objects='build/main.o build/engine/soft/cell_image.o build/board/acpi.o'
	copy "$long"
	make -C "$long" $objects
	for object in $objects; do
		compare "$object" "$long/$object"
	done
	make bundle
	archive=$(ls -t build/lguest-*-x86_64.tar.xz | head -n 1)
	cp "$archive" "$temp/"
	(umask 077 && LC_ALL=C.UTF-8 TZ=Asia/Tokyo make bundle)
	compare "$temp/${archive##*/}" "$archive"
}

whole() {
	copy "$temp/one"
	(cd "$temp/one" && make -j2 all && make bundle deb) >"$temp/log" 2>&1 </dev/null ||
		{ tail -n 20 "$temp/log"; exit 1; }

	(umask 077 && copy "$long")
	find "$long" -exec touch -h -d 2020-02-02 {} +
	(umask 027 && cd "$long" &&
		LC_ALL=C.UTF-8 TZ=Asia/Tokyo DEB_BUILD_OPTIONS=parallel=1 make all bundle deb) \
		>"$temp/log" 2>&1 </dev/null || { tail -n 20 "$temp/log"; exit 1; }

	for file in $(cd "$temp/one/build" &&
			ls lguest bundle/lguest lguest-*.tar.xz deb/*.deb); do
		compare "$temp/one/build/$file" "$long/build/$file"
	done
}

case ${1-} in
quick) quick ;;
*) whole ;;
esac
exit $status
