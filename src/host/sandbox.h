/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The small room that the launcher locks itself into before the guest's first
 * instruction: another user, another root, no new privileges, and of the kernel's
 * calls only those that running threads need.
 *
 * A call that is denied is a bug of ours, or somebody in our skin: it is named on
 * standard error, and ends the process with status 2.
 */
#ifndef HOST_SANDBOX_H
#define HOST_SANDBOX_H

#include "host/problem.h"

struct sandbox_options {
	const char *username; /* NULL: stay who we are */
	const char *chroot;   /* NULL: stay where we are */
	bool off; /* --no-sandbox: neither filter nor Landlock; the two above still count */
};

/* What a thread is for decides what it needs. */
enum sandbox_thread { SANDBOX_MAIN, SANDBOX_VCPU, SANDBOX_QUEUE };

/*
 * Lock up: RUN-4, then the rest. Everything is open, every queue's thread exists, no vCPU's does.
 * Once per process, main thread. -errno with *problem filled.
 */
int sandbox_enter(const struct sandbox_options *options, struct problem *problem);

/* The calling thread is of this kind for good: less yet. Nothing where the sandbox is off. */
void sandbox_thread(enum sandbox_thread kind);

#endif
