/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose name the launcher asks in, and what it takes for the root of all files:
 * --username and --chroot (RUN-4), and the capabilities of who runs as root.
 *
 * Tour 7.70: In whose name
 */
#ifndef HOST_PRIVILEGES_H
#define HOST_PRIVILEGES_H

#include "host/problem.h"

#include <sys/types.h>

struct privileges {
	const char *username, *chroot; /* NULL: stays as it is */
	uid_t uid;
	gid_t gid;
	int root_fd; /* of the directory, or -1 */
};

/*
 * Are there such a user and such a directory, and may we? Strings must outlive it. -errno with
 * *problem filled.
 */
int privileges_find(struct privileges *privileges, const char *username, const char *chroot,
		    struct problem *problem);
void privileges_release(struct privileges *privileges);

/* RUN-4, for every thread there is. -errno with *problem filled. */
int privileges_drop(struct privileges *privileges, struct problem *problem);

/* What root can do beyond others is of no use any more: for the calling thread. -errno. */
int privileges_drop_capabilities(void);

#endif
