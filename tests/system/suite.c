/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table itself, which only ever grows, and the texts in it that are made up
 * out of other texts: rows for every kernel with every number of CPUs have names
 * that nobody wrote by hand.
 */
#include "systest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void)
{
	fprintf(stderr, "systest: out of memory\n");
	exit(1);
}

const char *engine_clock(const char *engine)
{
	return strcmp(engine, "soft") == 0 ? "tsc" : "kvm-clock";
}

void suite_add(struct suite *suite, const struct test *test)
{
	suite->tests = reallocarray(suite->tests, suite->count + 1, sizeof(*test));
	if (!suite->tests)
		out_of_memory();
	suite->tests[suite->count++] = *test;
}

char *suite_text(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		out_of_memory();
	va_end(args);
	return text;
}
