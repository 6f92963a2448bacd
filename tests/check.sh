#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# All tests, counted. Called by `make check` and its relatives, after scripts/deps:
#
#   tests/check.sh check        less than twenty minutes on two processors
#   tests/check.sh check-long   the same, and what takes longer
#   tests/check.sh fuzz         every fuzzer for FUZZ_SECONDS
#
# A part writes what it says to build/check/PART.log and what it counted to
# PART.count. A part that was begun and never counted has failed. The VM with KVM
# inside (tests/system/outer.sh) is slow, and runs beside all that needs none.
# The last line adds up.
set -u
cd "$(dirname "$0")/.."
MAKE="${MAKE:-make} --no-print-directory"
out=build/check
asan=build/address-undefined

begin() {
	echo "0 1 0" >"$out/$1.count"
	date +%s >"$out/$1.begun"
}

# What has failed, of a part; or how it ended, if nothing in it looks like that.
what_failed() {
	grep -E '^(not ok|FAIL|#? ?[^ ]+\.c:[0-9]+: error|.*Sanitizer: |.*runtime error:|.* error: )' \
		"$out/$1.log" | grep -v '# SKIP' | head -n 30 | grep . || tail -n 5 "$out/$1.log"
}

# end PART PASSED FAILED SKIPPED
end() {
	echo "$2 $3 $4" >"$out/$1.count"
	echo "$1: $2 passed, $3 failed, $4 skipped ($(($(date +%s) - $(cat "$out/$1.begun"))) s)"
	[ "$3" = 0 ] && return
	what_failed "$1" | sed 's/^/    /'
	echo "    all of it: $out/$1.log"
}

# One verdict: part PART COMMAND... Status 77, and a last line that begins with "skipped: ": it cannot
# be done here, for that reason. The status alone may mean anything: a fuzzer's is that of a crash.
verdict() {
	part=$1
	shift
	begin "$part"
	"$@" >"$out/$part.log" 2>&1 </dev/null
	status=$?
	reason=$(tail -n 1 "$out/$part.log" | sed -n 's/^skipped: /    &/p')
	if [ $status = 0 ]; then
		end "$part" 1 0 0
	elif [ $status = 77 ] && [ "$reason" ]; then
		end "$part" 0 0 1
		echo "$reason"
	else
		end "$part" 0 1 0
	fi
}

# What cannot be tested here, and why: skip PART REASON
skip() {
	begin "$1"
	echo "$2" | tee "$out/$1.log"
	end "$1" 0 0 1
}

# What has to work before there is anything to test: counted only if it does not.
prepare() {
	part=$1
	shift
	begin "$part"
	if "$@" >"$out/$part.log" 2>&1 </dev/null; then
		rm "$out/$part.count"
	else
		end "$part" 0 1 0
		return 1
	fi
}

# What cmocka says of a program: how many tests it has, before it runs them, and one
# line for each. What a crash has kept it from coming to has failed.
count_tap() {
	awk -v status="$1" '
		/^1\.\.[0-9]+$/ { planned += substr($0, 4) }
		/^not ok .*# SKIP/ { skipped++; next }
		/^not ok / { failed++ }
		/^ok / { passed++ }
		END {
			lost = planned - passed - failed - skipped
			if (lost > 0)
				failed += lost
			if (!planned || (status && !failed))
				failed++
			print passed + 0, failed + 0, skipped + 0
		}'
}

add_up() {
	awk '{ passed += $1; failed += $2; skipped += $3 }
	     END { print passed + 0, failed + 0, skipped + 0 }'
}

# unit PART FOLDER NAME...: build/unit/NAME and the like. What was not built has failed.
unit() {
	part=$1 folder=$2
	shift 2
	begin "$part"
	for name; do
		CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 300 "$folder/unit/$name" \
			>"$out/one.log" 2>&1 </dev/null
		status=$?
		count_tap $status <"$out/one.log" >>"$out/$part.counts"
		{ echo "# $name: exit status $status"; cat "$out/one.log"; } >>"$out/$part.log"
	done
	end "$part" $(add_up <"$out/$part.counts")
}

# A line of systest's for each row, or for many that are skipped for one reason; and a
# last one, without which it did not come to its end.
count_systest() {
	awk -v runs="$1" '
		/^PASS / { passed++ }
		/^FAIL / { failed++ }
		/^SKIP [0-9]+ rows on / { skipped += $2; next }
		/^SKIP / { skipped++ }
		/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { ended++ }
		END {
			if (ended < runs)
				failed += runs - ended
			print passed + 0, failed + 0, skipped + 0
		}'
}

# In outer VMs, beside what comes next: the rows that need KVM. An emulator's emulator
# needs time, and does better with one processor each; so there are two. Some things are
# left to check-long, which runs them all: the generic kernel, which is long in unpacking
# itself, is only booted, and once; ways to end and devices that others show as well; a whole root
# file system takes as long as ten kernels; under the sanitizers there are only guests that make
# lguest do something for them that is different on KVM, memory and devices.
# start_outer PART RUNS SECONDS [OPTION...] <COMMAND
outers=
start_outer() {
	part=$1 runs=$2 seconds=$3
	shift 3
	cat >"$out/$part.command"
	echo "$runs" >"$out/$part.runs"
	begin "$part"
	OUTER_TIMEOUT=$seconds tests/system/outer.sh "$@" build "$(cat "$out/$part.command")" \
		>"$out/$part.log" 2>&1 </dev/null &
	outers="$outers $part:$!"
}

# What looks at a disk once its guest is gone.
disk_tools() {
	for tool in e2fsck debugfs dumpe2fs; do
		echo "--with=$(PATH=$PATH:/usr/sbin:/sbin command -v $tool)"
	done
}

start_outer_tests() {
	plain="systest --assets=/assets --engine=kvm --timeout-scale=4 --lguest=/assets/lguest"
	sanitized="env ASAN_OPTIONS=handle_segv=0 systest --assets=/assets --engine=kvm --timeout-scale=6 \
		--lguest=/assets/address-undefined/lguest"
	stock='cloud|generic|686-pae|debian'
	elsewhere='no-console|nobody-reboot|shell-reboot|ia32|power-button|rng|hotplug'
	start_outer kvm 2 1200 <<-END
		$plain \$($plain --list | grep -E '/kvm$' |
			grep -vE '^($stock)-|^(crossmodify|shootdown|ipi)-4/' | sed 's/^/=/')
		$sanitized \$($sanitized --list | grep -E '/kvm$' |
			grep -E '^(hello|memory|queue|block|rng|pci|io|irq|gdb|hvcecho|power)' |
			grep -v -e '-strict/' | sed 's/^/=/')
	END
	start_outer kvm-stock 1 1200 <<-END
		$plain \$($plain --list | grep -E '^(cloud-|generic-1).*/kvm$' |
			grep -vE '^cloud-($elsewhere)[-/]' | sed 's/^/=/')
	END
	[ "$1" = check-long ] || return 0
	start_outer kvm-long 5 7200 --disk=build/guest/rootfs/disk.img $(disk_tools) <<-END
		$plain debian-root generic-2 generic-panic generic-shell
		$plain \$($plain --list | grep -E '^cloud-($elsewhere)[-/].*kvm$|^(crossmodify|shootdown|ipi)-4/kvm$' |
			sed 's/^/=/')
		$plain \$($plain --requested --list | grep '/kvm$' |
			grep -vE '^(686-pae|debian-work|debian-stress|tunnet)' | sed 's/^/=/')
		$sanitized \$($sanitized --list | grep -E '^(cloud|generic)-.*/kvm$' | sed 's/^/=/')
		$sanitized \$($sanitized --list | grep '/kvm$' | grep -vE '^($stock|sandbox)[-/]' |
			sed 's/^/=/')
	END
	# What pages of 32 bits mean to a guest of a guest is something that qemu has not quite right.
	OUTER_APPEND=kvm_amd.npt=0
	export OUTER_APPEND
	start_outer kvm-686-pae 1 7200 <<-END
		$plain 686-pae-
	END
	unset OUTER_APPEND
}

finish_outer_tests() {
	for outer in $outers; do
		wait "${outer#*:}"
		part=${outer%:*}
		end "$part" $(count_systest $(cat "$out/$part.runs") <"$out/$part.log")
	done
	outers=
}

# Out here: each row that needs no engine, or one that is usable: the soft engine, mostly.
# What is left out for want of KVM was not skipped if the outer VM was there to run it.
# systest_here PART LGUEST [FILTER...]
systest_here() {
	part=$1 lguest=$2
	shift 2
	ASAN_OPTIONS=handle_segv=0 build/systest --assets=build --lguest="$lguest" --jobs=2 "$@" \
		>>"$out/$part.log" 2>&1 </dev/null
}

# Stock kernels are spared the sanitizers, and their guests' rows that take minutes spare
# us, unless there is time: as in the outer VMs.
host_tests() {
	begin host-plain
	systest_here host-plain build/lguest
	runs=1
	if [ "$1" = check-long ]; then
		systest_here host-plain build/lguest --requested
		runs=2
	fi
	if [ -e "$out/kvm.log" ]; then
		sed -i 's/^SKIP \([0-9]* rows on kvm: \)/in the outer VM: \1/' "$out/host-plain.log"
	fi
	end host-plain $(count_systest $runs <"$out/host-plain.log")

	# A sanitizer holds on to what was freed, and so is no judge of how much memory that is.
	# Nor can it look for leaks as nobody, in an empty root; and the prisoner has none in it.
	spared='^reboot-20-times/soft|^sandbox/|-nobody-'
	[ "$1" = check-long ] || spared="$spared|^(cloud|generic|686-pae)-|^debian-(login|some)|-strict/"
	begin host-asan
	systest_here host-asan $asan/lguest $(build/systest --list | grep -v ': skipped: ' |
		grep -vE "$spared")
	end host-asan $(count_systest 1 <"$out/host-asan.log")
}

# The soft engine that checks where each access of its guests goes (make CHECKED=1): small
# guests that are about the CPU, a stock kernel, and garbage; with more time all small guests but
# those that are about networks.
checked_tests() {
	rows=$(build/systest --list | grep -v ': skipped: ' | grep '/soft$' |
		grep -vE '^(cloud|generic|686-pae|debian|tunnet|gdb)-|-strict/')
	[ "$1" = check-long ] || rows=$(echo "$rows" | grep -vE '^(violation|sandbox|usage|soft|queue)')
	begin host-checked
	systest_here host-checked build/checked/lguest cloud-1-ttyS0/soft $rows
	end host-checked $(count_systest 1 <"$out/host-checked.log")
	verdict checked-garbage timeout -k 5 300 build/checked/diff --garbage=1000
}

# A guest must not be able to tell, but by the clock, what the soft engine leaves out: each
# thing that only makes it faster, by its name. User code that runs as it is wants a user.
without_tests() {
	names=$(build/lguest --soft-without=? 2>&1 | sed 's/.*is none of these: //; s/,//g')
	guests='=exceptions/soft =pagefaults/soft =selfmodify/soft =jumps/soft =syscalls/soft'
	runs=1
	begin without
	for name in $names; do
		systest_here without build/lguest --without="$name" $guests
		runs=$((runs + 1))
	done
	systest_here without build/lguest --without=doubt cloud-2-hvc0/soft
	end without $(count_systest $runs <"$out/without.log")
	set --
	for name in $names; do
		set -- "$@" "--without=$name --count=1000"
	done
	diff_part without-diff "$@"
}

# What is undefined to a guest of the soft engine has its reason in docs/forms.md.
forms_have_reasons() {
	build/forms --undefined >"$out/undefined" || return
	grep -q '^AMX_TILE ' "$out/undefined" || return
	sed 's/ .*//' "$out/undefined" | sort -u | while read -r set; do
		grep -qw "$set" docs/forms.md || echo "docs/forms.md: error: no reason for $set"
	done >"$out/undocumented"
	cat "$out/undocumented"
	[ ! -s "$out/undocumented" ]
}

# What was wrong once, by name; and then whatever comes to the fuzzer's mind, beginning with
# what is known to lead somewhere. What it finds on its way is kept in the first folder.
# fuzz_one NAME SECONDS FOLDER [OPTION...]
fuzz_one() {
	name=$1 seconds=$2 found=$3/$1
	shift 3
	program=build/fuzzer-no-link-address-undefined/fuzz/$name
	mkdir -p "$found"
	for known in tests/fuzz/regressions/"$name"/*; do
		[ -e "$known" ] || continue
		timeout -k 5 60 "$program" -timeout=30 -artifact_prefix="$out/" "$known" || return
	done
	timeout -k 5 $((seconds + 120)) "$program" -max_total_time="$seconds" -timeout=30 \
		-artifact_prefix="$out/$name-" "$@" "$found" tests/fuzz/corpus/"$name" &
	echo $! >"$out/$name.pid"
	wait $!
	status=$?
	rm "$out/$name.pid"
	return $status
}

# fuzz SECONDS FOLDER [OPTION...]: each fuzzer has one verdict. Two at a time; others may be
# running beside them whom we must not wait for.
fuzz() {
	two=
	for source in tests/fuzz/fuzz_*.c; do
		name=$(basename "$source" .c)
		verdict "$name" fuzz_one "$name" "$@" &
		two="$two $!"
		[ "$two" = " $!" ] && continue
		wait $two
		two=
	done
	[ -z "$two" ] || wait $two
}

# The soft engine beside the CPU. A line at the end of each run, as of systest.
# diff_part PART RUN...
diff_part() {
	part=$1
	shift
	begin "$part"
	for what; do
		build/diff $what
	done >"$out/$part.log" 2>&1 </dev/null
	end "$part" $(count_diff $# <"$out/$part.log")
}

diff_tests() {
	diff_part diff --named --count=80000 "--compat --count=15000" "--narrow --count=5000" \
		"--kicked --count=6000" --garbage=1000
	[ "$1" = check-long ] || return 0
	diff_part diff-long --forms --garbage=100000 --count=1000000 \
		"--compat --forms" "--compat --count=200000" "--narrow --forms=20" "--narrow --count=100000"
}

# The page of the tour in a browser, which is a lot to install for one test.
tour_in_browser() {
	if scripts/deps browser; then
		verdict tour-browser timeout -k 5 300 tests/tour/browser.py
	else
		skip tour-browser "no Chromium here, and none to be had"
	fi
}

# What is handed on: installed, and packed. A root of its own wants the right to have one.
package_tests() {
	verdict install tests/packages/install.sh
	if unshare $([ "$(id -u)" = 0 ] || echo --map-root-user) --mount --pid --fork true; then
		verdict bundle timeout -k 5 300 tests/packages/bundle.sh
	else
		skip bundle "neither root nor a user namespace to be had, for an empty root"
	fi
	verdict reproducible-quick tests/packages/reproducible.sh quick
	[ "$1" = check-long ] || return 0
	scripts/deps deb deb-check
	verdict reproducible tests/packages/reproducible.sh
	if [ "$(id -u)" = 0 ]; then
		verdict deb timeout -k 5 1800 tests/packages/deb.sh
	else
		skip deb "not root, for a clean system to install it on"
	fi
}

# Nothing that a guest was promised is lost when the power is cut.
powercut_tests() {
	begin powercut
	build/powercut/powercut >"$out/powercut.log" 2>&1 </dev/null
	end powercut $(count_diff 1 <"$out/powercut.log")
}

# The guide, as it stands: its commands are typed, and what it shows has to appear. What takes
# minutes, or brings packages along, is left to check-long, and so is a machine with nothing on it.
guide_tests() {
	begin guide
	if [ "$1" = check ]; then
		tests/guide/run.py --jobs=2
	else
		tests/guide/run.py --jobs=2 --with=minutes,mirror
	fi >"$out/guide.log" 2>&1 </dev/null
	end guide $(count_systest 1 <"$out/guide.log")
	[ "$1" = check ] || verdict guide-clean-root tests/guide/clean-root guide
}

count_diff() {
	awk -v runs="$1" '
		/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
			passed += $1; failed += $3; skipped += $5; ended++
		}
		END {
			if (ended < runs)
				failed += runs - ended
			print passed + 0, failed + 0, skipped + 0
		}'
}

# What has failed is said again: of a long run, only the end may be kept.
total() {
	for count in "$out"/*.count; do
		read -r _ failed _ <"$count"
		[ "$failed" = 0 ] && continue
		part=$(basename "$count" .count)
		echo "failed: $part ($failed)"
		what_failed "$part" 2>&1 | head -n 8 | cut -c 1-200 | sed 's/^/    /'
	done
	set -- $(cat "$out"/*.count | add_up)
	echo "$1 passed, $2 failed, $3 skipped"
	[ "$1" != 0 ] && [ "$2" = 0 ]
}

variant() {
	$MAKE -k -j2 SANITIZE="$@"
}

# What guests are made of comes from the network, while other things are compiled.
prepare_images() {
	prepare guest scripts/guest cloud generic 686-pae ia32 outer || return
	prepare rootfs scripts/rootfs rootfs
	[ "$1" = check ] || prepare workload scripts/rootfs workload
	return 0
}

check() {
	prepare_images "$1" &
	images=$!
	prepare build $MAKE -k -j2 all guests systest || return
	prepare build-asan variant address,undefined all || return
	prepare build-checked $MAKE -k -j2 CHECKED=1 all build/checked/diff || return
	wait $images || return

	build/lguest --engine=help | grep -q '^kvm *usable' || start_outer_tests "$1"

	names=$(cd tests/unit && ls test_*.c | sed 's/\.c$//')
	threaded=$(echo "$names" | grep -xE "test_($(echo $UNIT_THREADS | tr ' ' '|'))")
	prepare build-unit $MAKE -k -j2 unit-programs
	unit unit build $names
	prepare build-unit-asan variant address,undefined unit-programs
	unit unit-asan $asan $names
	prepare build-unit-tsan variant thread unit-threads
	unit unit-tsan build/thread $threaded

	prepare build-diff $MAKE build/diff
	diff_tests "$1"

	prepare build-powercut $MAKE powercut
	powercut_tests

	guide_tests "$1"

	prepare build-forms $MAKE build/forms
	verdict forms forms_have_reasons
	verdict lint-format tests/lint.sh format
	# It reads for longer than any other part runs: `make lint` is for those who change things.
	[ "$1" = check-long ] && verdict lint-tidy tests/lint.sh tidy
	verdict lint-cppcheck tests/lint.sh cppcheck
	verdict lint-vectors tests/lint.sh vectors
	verdict tour python3 -B -m unittest discover -s tests/tour
	[ "$1" = check-long ] && tour_in_browser

	verdict manual tests/manual.sh
	package_tests "$1"

	verdict examples-systemd tests/examples/systemd.sh
	verdict examples-kubernetes tests/examples/kubernetes.py
	if [ "$1" = check-long ]; then
		verdict examples-slurm tests/examples/slurm.sh
		verdict examples-container tests/examples/container.sh
	fi

	prepare build-fuzz $MAKE -k -j2 fuzzers-clang
	fuzz 6 "$out/corpus" -seed=1

	# The outer VMs take as long anyhow.
	checked_tests "$1"
	without_tests
	finish_outer_tests
	host_tests "$1"
}

rm -rf "$out"
mkdir -p "$out"
end_children() {
	for outer in $outers; do
		kill "${outer#*:}"
	done
	for pid in "$out"/*.pid; do
		kill "$(cat "$pid")"
	done
}
trap 'end_children 2>/dev/null' EXIT
trap 'exit 1' INT TERM HUP
case $1 in
check)
	check check ;;
check-long)
	check check-long
	fuzz 600 build/corpus ;;
fuzz)
	fuzz "$FUZZ_SECONDS" build/corpus ;;
esac
total
