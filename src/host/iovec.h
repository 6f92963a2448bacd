/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes that lie in several buffers, one behind the other: a driver cuts them as it likes, and
 * whoever moves them should not have to care. Queues (virtio/queue.c) and the back ends of
 * networks copy by these.
 *
 * Tour 4.26: Bytes in several buffers
 */
#ifndef HOST_IOVEC_H
#define HOST_IOVEC_H

#include "host/types.h"

#include <string.h>
#include <sys/uio.h>

/* How many bytes there are in all. */
static inline size_t iov_length(const struct iovec *iov, unsigned count)
{
	size_t length = 0;

	for (unsigned i = 0; i < count; i++)
		length += iov[i].iov_len;
	return length;
}

/* What is behind *offset in this buffer, at most `length`; *offset is then for the next one. */
static inline size_t iov_part(const struct iovec *iov, u64 *offset, size_t length, u8 **at)
{
	if (*offset >= iov->iov_len) {
		*offset -= iov->iov_len;
		return 0;
	}
	*at = (u8 *)iov->iov_base + *offset;
	length = MIN(length, iov->iov_len - *offset);
	*offset = 0;
	return length;
}

/*
 * Into these buffers, from `offset` on: how many bytes found room. The standard lets a driver
 * cut a request wherever it likes, in the middle of a number if need be; nobody who uses this
 * will ever know.
 *
 * Tour 4.27: However it was cut
 */
static inline size_t iov_scatter(const struct iovec *iov, unsigned count, u64 offset,
				 const void *from, size_t length)
{
	size_t done = 0, part;
	u8 *at = NULL;

	for (unsigned i = 0; i < count && done < length; i++, done += part) {
		part = iov_part(&iov[i], &offset, length - done, &at);
		if (part)
			memcpy(at, (const u8 *)from + done, part);
	}
	return done;
}

/* Out of them, from `offset` on: how many bytes there were. */
static inline size_t iov_gather(const struct iovec *iov, unsigned count, u64 offset, void *to,
				size_t length)
{
	size_t done = 0, part;
	u8 *at = NULL;

	for (unsigned i = 0; i < count && done < length; i++, done += part) {
		part = iov_part(&iov[i], &offset, length - done, &at);
		if (part)
			memcpy((u8 *)to + done, at, part);
	}
	return done;
}

#endif
