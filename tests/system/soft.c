/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows about what only the soft engine has: its options, and what it refuses.
 * Guests are in the other files of the table, and the same for every engine.
 */
#include "systest.h"

#include <string.h>

#define HELLO	 "{assets}/guests/hello-linux64"
#define ALL_WELL 33

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
};

void suite_add_soft(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++) {
		struct test test = tests[i];

		test.only = "soft";
		suite_add(suite, &test);
	}
}
