/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why something failed, in words for the user.
 *
 * The function that fails knows the details; the one place that reports them
 * is far above it. So the details travel upwards in a struct problem, and are
 * printed once, as one line: what was being done, to what, why it failed, and
 * what to do, if that is known. No line break, no "lguest:", no full stop.
 *
 * Tour 1.30: Why something failed, in words
 */
#ifndef HOST_PROBLEM_H
#define HOST_PROBLEM_H

#include "host/types.h"

struct problem {
	char text[512];
};

/*
 * Fills *problem and returns -err, so that a caller can say `return problem(p, ENOENT, "...",
 * ...)`.
 */
int problem(struct problem *problem, int err, const char *format, ...) PRINTF(3, 4);

#endif
