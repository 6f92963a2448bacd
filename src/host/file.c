/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that the user named: see file.h. Messages name the file and what it
 * was to be, since "No such file or directory" alone helps nobody.
 *
 * Tour 2.140
 */
#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *file_kind(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode) || S_ISSOCK(mode))
		return "a pipe or socket";
	return "a device";
}

int file_refresh(struct file *file, struct problem *why)
{
	struct stat st;

	if (fstat(file->fd, &st))
		return problem(why, errno, "cannot examine the %s %s: %s", file->what, file->name,
			       strerror(errno));
	if (!S_ISREG(st.st_mode))
		return problem(why, EINVAL, "the %s %s is %s, not a file", file->what, file->name,
			       file_kind(st.st_mode));
	if (!st.st_size)
		return problem(why, EINVAL, "the %s %s is empty", file->what, file->name);
	file->size = st.st_size;
	return 0;
}

int file_open(struct file *file, const char *name, const char *what, struct problem *why)
{
	int err;

	file->name = name;
	file->what = what;
	/* Non-blocking, lest opening a FIFO wait for a writer; a regular file does not care. */
	file->fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (file->fd < 0)
		return problem(why, errno, "cannot open the %s %s: %s", what, name,
			       strerror(errno));
	err = file_refresh(file, why);
	if (err)
		file_close(file);
	return err;
}

void file_close(struct file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

int file_read(const struct file *file, u64 offset, void *buffer, u64 len, struct problem *why)
{
	u64 done = 0;

	/* pread() takes a signed offset; nothing beyond it can be in a file. */
	if (len > INT64_MAX || offset > INT64_MAX - len)
		return problem(why, EIO, "the %s %s is truncated: no byte at offset %" PRIu64,
			       file->what, file->name, offset);
	while (done < len) {
		ssize_t n = pread(file->fd, (u8 *)buffer + done, len - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return problem(why, errno, "cannot read the %s %s: %s", file->what,
				       file->name, strerror(errno));
		if (!n)
			return problem(why, EIO,
				       "the %s %s is truncated: it ends at byte %" PRIu64
				       ", but should go on to %" PRIu64,
				       file->what, file->name, offset + done, offset + len);
		done += n;
	}
	return 0;
}
