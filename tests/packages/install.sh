#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make install` and `make uninstall`, as somebody uses them who packs lguest for another
# system: into a folder that is not the root, with a space in its name. Called by
# tests/check.sh when lguest is built; takes a second.
set -eu
cd "$(dirname "$0")/../.."
# Nobody's umask may get into a package.
umask 077

fail() {
	echo "install.sh: error: $*"
	exit 1
}

temp=$(mktemp -d build/install.XXXXXX)
trap 'rm -rf "$temp"' EXIT
to="$PWD/$temp/a place"

make install DESTDIR="$to" PREFIX=/usr >"$temp/log" 2>&1 || { cat "$temp/log"; fail "make install"; }
cat "$temp/log"
grep -q 'gcc\|clang' "$temp/log" && fail "it compiles what was compiled"

for file in bin/lguest share/man/man1/lguest.1 share/bash-completion/completions/lguest \
	    share/doc/lguest/README.md share/doc/lguest/docs/guide.md share/doc/lguest/LICENSE; do
	[ -s "$to/usr/$file" ] || fail "no $file"
done
cmp build/lguest "$to/usr/bin/lguest"

# Who packs a release has two places to say which.
version=$("$to/usr/bin/lguest" --version)
[ "$version" = "lguest $(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)" ] ||
	fail "$version is another version than debian/changelog's"

tests/packages/links "$to"

# Programs are for everybody to run, all the rest to read, and nothing to write.
wrong=$(find "$to" -type d ! -perm 755 -o -type f ! -perm 644 ! -perm 755)
[ -z "$wrong" ] || fail "modes: $wrong"
[ "$(stat -c %a "$to/usr/bin/lguest")" = 755 ] || fail "bin/lguest is no program"

# What is somebody else's stays.
echo mine >"$to/usr/share/doc/other"
make uninstall DESTDIR="$to" PREFIX=/usr
[ "$(find "$to" ! -type d)" = "$to/usr/share/doc/other" ] || fail "left: $(find "$to" ! -type d)"
[ ! -e "$to/usr/share/doc/lguest" ] || fail "an empty folder is left"
