/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The small room that the launcher locks itself into before the guest's first
 * instruction: another user, another root, no new privileges, and of the kernel's
 * calls only those that running threads need.
 *
 * A call that is denied is a bug of ours, or somebody in our skin: it is named on
 * standard error, and ends the process with status 2.
 *
 * This is who is locked in, and when. What each may still ask of the kernel is
 * filter.c's, what is left of the file system landlock.c's, and whose name it is
 * asked in privileges.c's.
 *
 * Tour 7.10: The locked room
 */
#ifndef HOST_SANDBOX_H
#define HOST_SANDBOX_H

#include "host/problem.h"

#include <signal.h>

struct sandbox_options {
	const char *username; /* NULL: stay who we are */
	const char *chroot;   /* NULL: stay where we are */
	bool off; /* --no-sandbox: neither filter nor Landlock; the two above still count */
};

/*
 * What a thread is for decides what it needs. The main thread makes vCPUs' threads, which inherit
 * what holds for it: so its list has all of theirs, and queues' as well.
 */
enum sandbox_thread { SANDBOX_MAIN, SANDBOX_VCPU, SANDBOX_QUEUE, SANDBOX_THREADS };

struct sandbox;

/*
 * Before anything is made that would have to be taken down again, and before the first thread: is
 * there such a user, such a directory, and can the kernel do what is needed? NULL with *problem
 * filled. `options` must outlive it.
 */
struct sandbox *sandbox_new(const struct sandbox_options *options, struct problem *problem);
void sandbox_free(struct sandbox *sandbox); /* no thread but the caller's is left */

/*
 * Lock up: RUN-4, then the rest. Everything is open, every queue's thread exists, no vCPU's does.
 * Once per process, main thread. SIGSYS has a handler that asks sandbox_denied(). -errno with
 * *problem filled.
 */
int sandbox_enter(struct sandbox *sandbox, struct problem *problem);

/*
 * The calling thread is of this kind for good: less yet. Nothing where there is no sandbox. A
 * thread that cannot be locked in is not let go on: the process ends.
 */
void sandbox_thread(enum sandbox_thread kind);

/*
 * In a SIGSYS handler: was it the sandbox? Then it has been said, and all that is left to do is
 * _exit(EXIT_CRASHED). Async-signal-safe.
 */
bool sandbox_denied(const siginfo_t *info, const void *context);

/* A process of its own beside the launcher: what it does all day. */
enum sandbox_helper {
	SANDBOX_SLIRP,	/* sockets as it likes; of files, what names the nameservers */
	SANDBOX_SWITCH, /* accepts, receives and sends on sockets that it has; tidies up */
};

/*
 * Lock this process in, for good: from now on it opens no file, runs no program, has no
 * capability. From `folder`, if it is not -1, it may remove files. It has one thread, and all that
 * it needs is open. What is denied is named, and ends it with status 2. Nothing where it was forked
 * from a launcher that is not to be locked in. -errno with *problem filled.
 */
int sandbox_helper(enum sandbox_helper kind, int folder, struct problem *problem);

#endif
