/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows about what only the soft engine has: its options, and what it refuses.
 * Guests are in the other files of the table, and the same for every engine.
 */
#include "systest.h"

#include <string.h>

#define HELLO	 "{assets}/guests/hello-linux64"
#define ALL_WELL 33

/* What --soft-perf leaves, and what is in it: blocks of that kind; and lines that perf can read. */
#define TAKE_MAP   RUN("mv /tmp/perf-{pid}.map {files}/map")
#define MAP_HAS(k) RUN("grep -q ' guest:" k ":' {files}/map")
#define MAP_IS_WHOLE                                                                               \
	RUN("! grep -Evq '^[0-9a-f]+ [0-9a-f]+ guest:[ku](16|32)?:[0-9a-f]+$' {files}/map")

static const struct test tests[] = {
	{
		.name = "soft/trace-cannot-be-written",
		.patience = FOR_USAGE,
		.args = {"--trace=int", "--trace-file={files}/missing/trace", "64", HELLO},
		.silent = true,
		.error_seen = {"{files}/missing/trace"},
		.error_lines = 1,
		.status = 1,
	},
	{
		/* Of events of which there is none before the sandbox closes. */
		.name = "soft/trace",
		.args = {"--trace=int", "--trace-file=/dev/null", "--debug-exit", "64",
			 "{assets}/guests/tasks"},
		.seen = {", 0 failed"},
		.status = ALL_WELL,
	},
	{
		.name = "soft/least-cache",
		.args = {"--soft-cache=4M", "--debug-exit", "64", HELLO},
		.seen = {", 0 failed"},
		.status = ALL_WELL,
	},
	{
		.name = "soft/stats",
		.args = {"--soft-stats", "--debug-exit", "64", HELLO},
		.seen = {", 0 failed"},
		.error_seen = {"in translated code", "blocks ", "TLB misses", "ports, written"},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
	{
		.name = "soft/perf",
		.args = {"--soft-perf", "--debug-exit", "64", "{assets}/guests/exceptions"},
		.seen = {", 0 failed"},
		.steps = STEPS(ENDED, TAKE_MAP, RUN("test $(stat -c %a {files}/map) = 600"),
			       MAP_HAS("k"), MAP_HAS("k32"), MAP_HAS("u"), MAP_IS_WHOLE),
		.status = ALL_WELL,
	},
	{
		/* Code of 16 bits is what the second one begins with. */
		.name = "soft/perf-two-cpus",
		.args = {"--soft-perf", "--cpus=2", "--debug-exit", "64", "{assets}/guests/smp"},
		.seen = {", 0 failed"},
		.steps = STEPS(ENDED, TAKE_MAP, MAP_HAS("k16"), MAP_IS_WHOLE),
		.status = ALL_WELL,
	},
};

void suite_add_soft(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++) {
		struct test test = tests[i];

		test.only = "soft";
		suite_add(suite, &test);
	}
}
