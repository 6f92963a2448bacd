#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The unit files of examples/systemd, as systemd itself reads them: `systemd-analyze verify` finds
# what it does not know, `systemd-analyze security` adds up what a guest may do. Nothing is started;
# tests/examples/boot.sh does that, in a guest. Called by tests/check.sh.
set -eu

cd "$(dirname "$0")/../.."
# How much a service is exposed, by systemd's own measure: 0 is a locked room, 100 is root.
EXPOSED_MOST=25

command -v systemd-analyze >/dev/null || { echo "skipped: no systemd-analyze here"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' INT TERM HUP

fail() {
	echo "error: $*"
	exit 1
}

# The program is where make puts it.
cp -r examples/systemd/lguest* "$temp/"
sed -i "s|^ExecStart=/usr/bin/lguest |ExecStart=$PWD/build/lguest |" "$temp/lguest@.service"
cp "$temp/lguest@.service" "$temp/lguest@hello.service"

# What is unknown is only a warning to systemd, and does not count.
said=$(SYSTEMD_LOG_LEVEL=info systemd-analyze verify --man=no "$temp/lguest@hello.service" \
	"$temp/lguest.slice" 2>&1) || fail "systemd-analyze verify: $said"
[ -z "$said" ] || fail "systemd-analyze verify: $said"

systemd-analyze security --offline=true --threshold=$EXPOSED_MOST --no-pager \
	"$temp/lguest@hello.service" ||
	fail "more exposed than $EXPOSED_MOST"

# What the unit reads from hello.conf, hello.conf has to say.
for word in $(grep '^ExecStart=' "$temp/lguest@.service" | grep -o '\$[{A-Z}]*' | tr -d '${}'); do
	grep -q "^$word=" examples/systemd/hello.conf || fail "hello.conf does not say $word"
done
