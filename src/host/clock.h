/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's clock that only goes forward, for how long something took.
 *
 * Tour 1.70: What time it is
 */
#ifndef HOST_CLOCK_H
#define HOST_CLOCK_H

#include "host/types.h"

#include <time.h>

/* ns, CLOCK_MONOTONIC. */
static inline u64 clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
