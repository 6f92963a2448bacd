/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandbox: see sandbox.h.
 */
#include "host/sandbox.h"

#include <errno.h>

int sandbox_enter(const struct sandbox_options *options, struct problem *why)
{
	if (options->username || options->chroot)
		return problem(why, ENOSYS, "--%s is not part of this version yet",
			       options->username ? "username" : "chroot");
	return 0;
}

void sandbox_thread(enum sandbox_thread kind)
{
	(void)kind;
}
