#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who may use vector registers? While translated code calls C, the guest's are in the
# host's. So no object of the soft engine may name one, and a function that an event may
# come to says vectors_save() before it calls anything that is not the soft engine's.
# This looks at what the compiler made of that: it may put memcpy() where nobody wrote it.
#
#   tests/vectors.sh [BUILD]
#
# BUILD is a folder that make has filled, by default build. That vectors_save() stands in
# the function that calls out is all that is asked; not that it comes first on each way.
set -eu
cd "$(dirname "$0")/.."

build=${1:-build}
objects=$(ls "$build"/engine/soft/*.o "$build/engine/topology.o")

# What calls out and needs no vectors_save().
#   form_decoder, form_of    translate() calls them, and has saved the vectors
#   vcpu_kick, cell_kick, system_pause  syscall() is five moves and no more
#   page_tells_of_host, page_edges_tell, tells_at, leads_to,
#   cell_prepare, cell_run, go_on, answer, give_orders, post_orders, await
#                            bare_run() has saved them before it comes to these
exempt='form_decoder form_of vcpu_kick cell_kick system_pause page_tells_of_host page_edges_tell tells_at leads_to
	cell_prepare cell_run go_on answer give_orders post_orders await'
# put_...() are parts of translate(), which calls them behind vectors_save().
# Sections, and what is called when all is lost.
harmless='^([.]|_GLOBAL_OFFSET_TABLE_$|__asan_|__ubsan_|__stack_chk_fail$)'

status=0
if objdump -d --no-show-raw-insn $objects | grep -E '%([xyz]?mm[0-9]|st\b|k[0-7]\b)'; then
	echo "vectors: these registers are the guest's; is -mgeneral-regs-only gone?"
	status=1
fi

# Functions and who refers to whom. Of references in data, those in forms.o count: its
# tables are how an event comes to the handlers. A call that the linker will complete is
# shown as one to whatever comes next, and then as what it is.
whole='function whole(name) {
	sub(/[-+]0x.*/, "", name)
	sub(/\.(part|constprop|isra|cold).*/, "", name)
	return name
}'
{
	nm --defined-only $objects | awk "$whole"' NF == 3 { print "defined", whole($3) }'
	objdump -r "$build/engine/soft/forms.o" | awk "$whole"'
		/^RELOCATION RECORDS FOR/ { data = /\[\.data/ }
		data && $2 == "R_X86_64_64" { print "root", whole($3) }'
	objdump -dr --no-show-raw-insn $objects | awk "$whole"'
		/R_X86_64_/ { called = whole($3) }
		called { print "refers", caller, called }
		{ called = "" }
		/^[0-9a-f]+ <.*>:$/ { caller = whole(substr($2, 2, length($2) - 3)) }
		/(call|jmp) +[0-9a-f]+ </ { called = whole(substr($NF, 2, length($NF) - 2)) }
		END { if (called) print "refers", caller, called }'
} | awk -v exempt="$exempt" -v harmless="$harmless" -v handlers=80 '
	$1 == "defined" { defined[$2] }
	$1 == "root" { todo[count++] = $2 }
	$1 == "refers" { refers[$2] = refers[$2] " " $3 }
	END {
		split(exempt, list, "[ \n\t]+")
		for (i in list)
			spared[list[i]]
		todo[count++] = "soft_event"
		for (done = 0; done < count; done++) {
			name = todo[done]
			if (name in seen)
				continue
			seen[name]
			total = split(refers[name], callees)
			saves = name in spared
			for (i = 1; i <= total; i++)
				saves = saves || callees[i] == "vectors_save"
			for (i = 1; i <= total; i++) {
				callee = callees[i]
				if (callee ~ /^put_/)
					continue
				if (callee in defined)
					todo[count++] = callee
				else if (!saves && callee !~ harmless && !((name, callee) in told)) {
					print "vectors: " name "() calls " callee \
						"(), but not vectors_save()"
					told[name, callee]
					failed = 1
				}
			}
			visited++
		}
		print "vectors: " visited " functions looked at"
		exit failed || visited < handlers
	}' || status=1
exit $status
