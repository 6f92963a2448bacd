/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helper processes of the launcher's: how they begin and end.
 *
 * A child gets the descriptors that it is given and no others, no terminal, no
 * signal of the user's, and none of the launcher's ways with signals. It says "I
 * serve" by a byte on its standard output, and its last words on its standard
 * error. When the launcher dies, however it dies, so does the child.
 *
 * Tour 4.460: Helpers
 */
#ifndef HOST_CHILD_H
#define HOST_CHILD_H

#include "host/types.h"

/* What a child is given, in this order, begins here. 0 is at its end; 1 and 2 are pipes to us. */
#define CHILD_FD 3

struct child {
	int fd;	   /* a pidfd: readable when the child has ended */
	int ready; /* its standard output */
	int words; /* its standard error */
};

/*
 * Start one, which calls run(opaque) and ends with status 1 if that returns. -errno. No other
 * thread may be running: the child is a copy of this process, and goes on as one.
 */
int child_start(struct child *child, const int *fds, unsigned count, void (*run)(void *opaque),
		void *opaque);

/*
 * Wait until it serves. 0; -ECHILD: it has ended instead, -ETIMEDOUT: it does neither, and `why`
 * says more.
 */
int child_await(struct child *child, char *why, size_t size);

/*
 * "ended with status 1: no such port": of a child that has ended. Leaves the burial to child_end().
 */
void child_obituary(const struct child *child, char *text, size_t size);

/*
 * Whatever it lives on was taken away: wait until it has ended, and bury it. One that takes too
 * long is left to end with us. Its descriptors are closed. One that has never started (fd -1) is no
 * matter.
 */
void child_end(struct child *child);

/* The same by force. Not after the launcher has locked itself in, and has nobody to give orders. */
void child_kill(struct child *child);

/* In the child: we serve. `ready`: its standard output, or a copy of it. */
void child_serves(int ready);

/*
 * In the child: where it was started by root it goes on as nobody, with nobody's rights. It ends
 * with a word on standard error if it cannot.
 */
void child_become_nobody(void);

#endif
