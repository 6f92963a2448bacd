#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Does lguest say the same of itself everywhere, and is it true? Its --help, its manual,
# README.md and the completion of bash are compared with the table in src/options.c, in
# both directions; and the manual's examples are tried. `make check` runs this:
#
#   tests/manual.sh [PROGRAM]
#
# PROGRAM is build/lguest, if it is not said. The first example boots the guest that
# scripts/guest makes, and takes some seconds. Each thing that is wrong is a line; status 1
# if there was any.
set -eu
cd "$(dirname "$0")/.."
program=$(realpath "${1:-build/lguest}")
manual=docs/lguest.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

wrong() {
	echo "manual: error: $*"
	status=1
}

# same WHAT WHAT: compares the files of those names, which are sorted lists.
same() {
	comm -23 "$work/$1" "$work/$2" >"$work/more"
	comm -13 "$work/$1" "$work/$2" >"$work/less"
	[ ! -s "$work/more" ] || wrong "in the $1 and not in the $2:" $(cat "$work/more")
	[ ! -s "$work/less" ] || wrong "in the $2 and not in the $1:" $(cat "$work/less")
}

options_of() {
	grep -oE -- '--[a-z][a-z-]*' | sort -u
}

# ------------------------------------------------------------------ lists

sed -n '/ known\[\] = {$/,/^};$/s/^	{"\([a-z-]*\)",.*/--\1/p' src/options.c | sort >"$work/table"
"$program" --help | options_of >"$work/help"
sed -n 's/^\.It Fl \(v , \)\{0,1\}\(-[a-z-]*\).*/-\2/p' $manual | sort -u >"$work/manual"
bash tests/completion.bash "$program" 'lguest --' | options_of >"$work/completion"
[ "$(wc -l <"$work/table")" -ge 20 ] || wrong "no table of options found in src/options.c"
same table help
same help manual
same help completion

# What is mentioned anywhere has to be there, too.
grep -oE 'Fl -[a-z][a-z-]*' $manual | sed 's/^Fl /-/' | sort -u >"$work/mentioned"
sed -n 's/^| \(`--.*\)/\1/p' README.md | grep -oE '^[^|]*' | options_of >"$work/readme"
for place in mentioned readme; do
	[ -s "$work/$place" ] || wrong "no options found where they are $place"
	unknown=$(comm -23 "$work/$place" "$work/help")
	[ -z "$unknown" ] || wrong "options that are not ($place):" $unknown
done
twice=$(sed -n 's/^| `\(--[a-z-]*\).*/\1/p' README.md | sort | uniq -d)
[ -z "$twice" ] || wrong "rows that README.md has twice:" $twice

# ------------------------------------------------------------------ --help

# A screen of 24 lines, of which the shell's prompt takes one.
lines=$("$program" --help | wc -l)
[ "$lines" -le 23 ] || wrong "--help has $lines lines"
"$program" --help | awk 'length > 80' >"$work/long"
[ ! -s "$work/long" ] || wrong "--help has lines of more than 80 columns: $(cat "$work/long")"

# ------------------------------------------------------------------ the manual

# Which other manuals this machine happens to have is not ours to say.
mandoc -T lint -W all $manual 2>&1 |
	grep -vE ': STYLE: referenced manual not found: |^mandoc: outdated mandoc.db ' >"$work/lint" || true
[ ! -s "$work/lint" ] || wrong "mandoc finds faults: $(cat "$work/lint")"

# item OPTION: what the manual says of it.
item() {
	awk -v option="-$1" '
		/^\.(It|El|S[sh])/ { inside = 0 }
		$1 == ".It" && $2 == "Fl" && $3 == option { inside = 1 }
		inside' $manual
}

# Lists of words: all that the program knows, and none that it does not.
for option in soft-without trace; do
	"$program" --$option='?' 2>&1 | sed 's/.*is none of these: //' | tr -d ' ' | tr ',' '\n' |
		sort >"$work/words of $option"
	item $option | sed -n 's/^\.Cm \([a-z-]*\).*/\1/p' | sort >"$work/manual's words of $option"
	same "words of $option" "manual's words of $option"
done
"$program" --help | grep -oE '[a-z]+(,[a-z]+)+' | tr ',' '\n' | sort >"$work/help's words of trace"
same "words of trace" "help's words of trace"

# What it says that lguest says: each piece that is not one of those that change.
find src -name '*.c' -exec cat {} + | tr '\n\t' '  ' | sed 's/" *"//g' >"$work/source"
sed -n '/^\.Sh DIAGNOSTICS/,/^\.Sh SEE/s/^\.It //p' $manual |
	sed 's/ *\(Ar [a-z]*\|Cm [^ ]*\|No\|\.\.\.\) */\n/g' | grep -E '.{8}' >"$work/pieces"
[ "$(wc -l <"$work/pieces")" -ge 8 ] || wrong "no diagnostics found in $manual"
while read -r piece; do
	grep -qF "$piece" "$work/source" || wrong "no such diagnostic: $piece"
done <"$work/pieces"

# ------------------------------------------------------------------ its examples

# The n-th block of commands.
example() {
	awk -v wanted="$1" '
		/^\.Sh / { examples = $2 == "EXAMPLES" }
		/^\.Ed/ { inside = 0 }
		inside { gsub(/\\e/, "\\"); print }
		examples && /^\.Bd -literal/ { inside = ++count == wanted }' $manual
}

mkdir "$work/bin" "$work/empty" "$work/guest"
ln -s "$program" "$work/bin/lguest"
PATH=$work/bin:$PATH

# Each command line is one that lguest takes: where there is no kernel, that is all that it
# has to say.
n=1
while example $n >"$work/example" && [ -s "$work/example" ]; do
	sed -e ':again' -e '/\\$/N; s/ *\\\n */ /; t again' "$work/example" |
		grep '^[^|]*lguest [0-9-]' | sed 's/>console.log.*//' >"$work/commands" || true
	while read -r command; do
		(cd "$work/empty" && eval "$command" 2>&1 </dev/null || true) >"$work/said"
		grep -q 'cannot open the kernel [a-z]*: ' "$work/said" ||
			wrong "example $n: $command: $(cat "$work/said")"
	done <"$work/commands"
	n=$((n + 1))
done
last=$((n - 1))
[ $last -ge 8 ] || wrong "only $last examples found in $manual"

# The n-th, as it stands, where all the others were. What is typed there comes from here.
run_example() {
	example "$1" | grep -v '^cp "/boot/' >"$work/example"
	(cd "$work/guest" && timeout -k 5 120 sh -eu "$work/example" 2>&1) >"$work/said"
}

# The first, but for where its kernel comes from.
kernel=build/guest/cloud/vmlinuz
if [ -e $kernel ]; then
	cp $kernel "$work/guest/vmlinuz"
	echo 'echo $((6 * 7)) lines; poweroff -f' | run_example 1 ||
		wrong "example 1: status $?: $(tail -n 5 "$work/said")"
	grep -q '^42 lines' "$work/said" || wrong "example 1: no shell: $(tail -n 5 "$work/said")"
else
	echo "manual: no guest is booted: no $kernel, which scripts/guest makes"
fi

# The last has its status in the manual.
result=0
run_example $last </dev/null || result=$?
grep -q "^The status is $result:" $manual || wrong "example $last: status $result: $(cat "$work/said")"

# ------------------------------------------------------------------ the completion

bash tests/completion.bash "$program" || status=1
exit $status
