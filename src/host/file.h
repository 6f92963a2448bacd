/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file that the user named: kernel, initrd. It is opened once and stays
 * open, so that a reboot can load it again after the launcher has given up
 * the right to open anything.
 *
 * Tour 2.130: Files that outlive a reboot
 */
#ifndef HOST_FILE_H
#define HOST_FILE_H

#include "host/problem.h"

#include <sys/types.h>

struct file {
	int fd;
	const char *name; /* as the user wrote it; belongs to the caller */
	const char *what; /* "kernel", "initrd": for messages */
	u64 size;	  /* bytes, when it was last asked */
};

/*
 * Open `name` for reading and note its size. A directory, a device, an empty
 * or an unreadable file is an error whose text names it.
 * -errno; on success the caller must file_close().
 */
int file_open(struct file *file, const char *name, const char *what, struct problem *problem);
void file_close(struct file *file);

/* Ask for the size again (before a reboot loads it anew). -errno. */
int file_refresh(struct file *file, struct problem *problem);

/* Read exactly `len` bytes at `offset`: past the end is an error ("truncated"). -errno. */
int file_read(const struct file *file, u64 offset, void *buffer, u64 len, struct problem *problem);

/* "a directory": what something is that is no regular file, for messages. */
const char *file_kind(mode_t mode);

#endif
