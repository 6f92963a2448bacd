#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tools that read the program instead of running it: clang-format (its rules
# are in .clang-format), clang-tidy (.clang-tidy), cppcheck, and vectors.sh, which wants
# to have it built.
#
#   tests/lint.sh [format] [tidy] [cppcheck] [vectors]
#
# LINT_ROOTS: folders to look at (all that have C). clang-tidy takes longer than all the others,
# and is left to make lint and check-long.
#
# Prints what they find, then a line for each tool; status 1 if any found something.
set -eu
cd "$(dirname "$0")/.."

roots=$(ls -d ${LINT_ROOTS:-src tests bench examples packaging} 2>/dev/null || true)
# Guests are freestanding: what no hosted program should do is all they do. And what is compiled
# in a guest need not compile here.
sources=$(find $roots -name '*.c' ! -path 'tests/guests/*' ! -path 'tests/work/*' ! -path bench/load.c |
	sort)
# entry.h is assembly.
texts=$(find $roots -name '*.[ch]' ! -path tests/guests/lib/entry.h | sort)
flags='-std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DLGUEST_VERSION="lint"
	-Isrc -Itests/unit -Iexamples/device -Ibuild'

check_format() {
	clang-format --dry-run -Werror $texts
}

# Four files a process, or its start costs more than its work.
check_tidy() {
	printf '%s\n' $sources | xargs -P "$(nproc)" -n 4 sh -c '
		flags=$0
		clang-tidy --quiet "$@" -- $flags 2>/dev/null' "$flags"
}

# Suppressed: symbols of the linker and the assembler do lie in one object; and what
# is initialised is better known to the two compilers and clang-tidy.
check_cppcheck() {
	cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr -j "$(nproc)" \
		--enable=warning,portability,performance --suppress=missingIncludeSystem \
		--suppress=comparePointers --suppress=subtractPointers --suppress=uninitvar \
		-D_GNU_SOURCE -D__x86_64__ -DLGUEST_VERSION='"lint"' -Isrc -Itests/unit -Iexamples/device $sources
}

check_vectors() {
	tests/vectors.sh
}

status=0
for tool in ${*:-format tidy cppcheck vectors}; do
	if "check_$tool"; then
		echo "lint: $tool: clean"
	else
		echo "lint: $tool: see above"
		status=1
	fi
done
exit $status
