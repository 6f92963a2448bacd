#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Does the same source make the same bytes? The program, the package and the bundle are
# made twice: in two folders, one of which has a long name, from files of other ages, under another
# umask, language and time zone, and by another number of jobs. Called by tests/check.sh
# check-long; takes two builds of each.
#
# Neither copy has git's word on when the source was last changed, as in a release.
set -eu
cd "$(dirname "$0")/../.."

temp=$(mktemp -d build/reproducible.XXXXXX)
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' INT TERM HUP
long="$temp/another place, a long way from the first"

copy() {
	mkdir -p "$1"
	cp -R Makefile LICENSE README.md debian docs packaging scripts src "$1/"
}

copy "$temp/one"
(cd "$temp/one" && make -j2 all && make bundle deb) >"$temp/one.log" 2>&1 </dev/null ||
	{ tail -n 20 "$temp/one.log"; exit 1; }

(umask 077 && copy "$long")
find "$long" -exec touch -h -d 2020-02-02 {} +
(umask 027 && cd "$long" &&
	LC_ALL=C.UTF-8 TZ=Asia/Tokyo DEB_BUILD_OPTIONS=parallel=1 make all bundle deb) \
	>"$temp/two.log" 2>&1 </dev/null || { tail -n 20 "$temp/two.log"; exit 1; }

# A difference is shown where it begins, and what is there.
status=0
for file in $(cd "$temp/one/build" && ls lguest bundle/lguest lguest-*.tar.xz deb/*.deb); do
	if cmp "$temp/one/build/$file" "$long/build/$file"; then
		echo "same: $file $(sha256sum <"$temp/one/build/$file")"
	else
		echo "reproducible.sh: error: $file is another each time"
		status=1
	fi
done
exit $status
