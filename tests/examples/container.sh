#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# examples/container and examples/kubernetes for real: the image is built by podman out of its
# Containerfile and a Debian that is here already (no registry is asked), and runs as a container
# that has nothing: no device, no capability, no network, nothing to write to, nobody's user and
# podman's own filter of system calls. Then a pod of the Kubernetes Job, as its controller would
# make it. Called by tests/check.sh; status 77: cannot be done here.
#
#   tests/examples/container.sh           as seen from outside
#   tests/examples/container.sh inside    as the first process in there (tests/examples/root)
set -eu

cd "$(dirname "$0")/../.."

fail() {
	echo "error: $*"
	exit 1
}

# Images are too large for the tmpfs that all else there is written to.
STORAGE='--root=/results/storage --runroot=/run/podman --events-backend=none'

pod() {
	podman $STORAGE "$@"
}

# What the Containerfile wants from a registry: the Debian that this root was made of, with the
# papers that scripts/rootfs has taken out of it, because they go with the libraries.
import_debian() {
	zstd -dc /guest/rootfs/base.tar.zst | pod import - base
	tar -C / -cf - etc/apt etc/resolv.conf | (mkdir -p /run/debian && cd /run/debian && tar -xf -)
	cat >/run/debian/Containerfile <<-'END'
		FROM base
		RUN rm -rf /etc/apt
		COPY etc /etc
		RUN apt-get -q update && apt-get -q -y --reinstall install libc6 libpcre2-8-0 libseccomp2
	END
	pod build --isolation=chroot --network=host -t docker.io/library/debian:12 /run/debian
}

build() {
	pod build --isolation=chroot --network=host --pull=never -t lguest-task \
		-f examples/container/Containerfile .
}

# locked_in ARGUMENT...: the container that README.md there promises.
locked_in() {
	pod run --rm --cgroups=disabled --network=none --read-only --cap-drop=all \
		--security-opt=no-new-privileges "$@"
}

# expect STATUS WORDS COMMAND...
expect() {
	status=$1 words=$2
	shift 2
	got=0
	said=$("$@" 2>&1 </dev/null) || got=$?
	printf '%s\n' "$said"
	[ "$got" = "$status" ] || fail "status $got, not $status"
	printf '%s\n' "$said" | grep -qF "$words" || fail "not said: $words"
}

check_container() {
	expect 0 'thousand 3: 120 primes' locked_in lguest-task primes 3
	expect 3 'Kernel panic' locked_in lguest-task crash
	# At its full speed: the guest's programs run as they are. That takes all of lguest's own
	# locks.
	expect 0 'locked in: ' locked_in --entrypoint='["/bin/lguest", "--verbose", "--engine=soft",
		"--initrd=/guest/task.img", "256", "/guest/vmlinuz", "console=ttyS0", "quiet", "rdinit=/task",
		"--"]' lguest-task primes 3
	printf '%s\n' "$said" | grep 'is translated, all of it' && fail "only at half of its speed"
	return 0
}

# A pod of the Job, by what the manifest says of it: an argument of podman's in each line.
check_pod() {
	tests/examples/kubernetes.py --podman 6 >/run/pod
	expect 0 'thousand 6: 117 primes' \
		xargs -d '\n' -a /run/pod podman $STORAGE run --rm --cgroups=disabled --network=none
}

if [ "${1-}" != inside ]; then
	tests/examples/root make
	trap 'rm -rf build/examples/results/storage' EXIT
	tests/examples/root run --net /lguest/tests/examples/container.sh inside
	exit
fi
import_debian
build
check_container
check_pod
