/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder in which guests of one user find each other: nobody else's to look
 * into. It stays when they have left; what is in it does not.
 *
 * Tour 4.550: Where guests find each other
 */
#ifndef HOST_RUNTIME_H
#define HOST_RUNTIME_H

#include "host/problem.h"

#include <limits.h>

struct runtime_folder {
	int fd;
	char path[PATH_MAX];
};

/*
 * $XDG_RUNTIME_DIR/lguest, or else /run/user/UID/lguest, or else /tmp/lguest-UID; made where it is
 * not there. It is a folder, ours, and its mode lets nobody else in, or it is not used: -errno
 * with *problem filled.
 */
int runtime_folder_open(struct runtime_folder *folder, struct problem *problem);
void runtime_folder_close(struct runtime_folder *folder);

#endif
