/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows with guests that check the CPU they run on, instruction by instruction and
 * fault by fault (tests/guests). Under KVM that is mostly the hardware, and it is
 * the guests' expectations that are tested; an engine that makes a CPU out of
 * software has to give the same answers.
 */
#include "systest.h"

#define ALL_WELL   33
#define NO_FAILURE ", 0 failed"
#define FAILURE	   "FAILED: "

/* Guests that need nothing but themselves. */
static void add_checks(struct suite *suite)
{
	static const char *const guests[] = {"exceptions", "pagefaults"};

	for (size_t i = 0; i < COUNT(guests); i++) {
		const struct test test = {
			.name = guests[i],
			.args = {"--debug-exit", "64", suite_text("{assets}/guests/%s", guests[i])},
			.seen = {NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
}

void suite_add_cpu(struct suite *suite)
{
	add_checks(suite);
}
