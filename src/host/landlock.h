/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock: the kernel's way of taking the file system away from a thread that
 * has no special rights. It holds where a filter of system calls cannot look:
 * io_uring opens files without a system call of that name.
 *
 * Tour 7.50: No more files
 */
#ifndef HOST_LANDLOCK_H
#define HOST_LANDLOCK_H

#include "host/problem.h"

enum landlock_network {
	LANDLOCK_NO_NETWORK, /* no TCP, as far as the kernel can tell */
	LANDLOCK_NETWORK,
};

/*
 * Rules that leave no file to be opened, made or removed, but `readable` for reading (NULL: none)
 * and those in `folder` for removal (-1: none): a descriptor; -EOPNOTSUPP: this kernel has no
 * Landlock; other -errno.
 */
int landlock_rules(enum landlock_network network, const char *readable, int folder);

/*
 * They hold for the calling thread and for those that it makes. No new privileges can be had.
 * -errno.
 */
int landlock_enter(int rules);

#endif
