/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Problems: see problem.h.
 *
 * Tour 1.40
 */
#include "host/problem.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * It returns the error, so that a function can fail in one line: `return problem(why, ENOMEM,
 * "...")`.
 *
 * Tour 1.41
 */
int problem(struct problem *problem, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(problem->text, sizeof(problem->text), format, args);
	va_end(args);
	return -err;
}
