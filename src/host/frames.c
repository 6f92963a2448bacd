/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames over a stream: see frames.h.
 *
 * Tour 4.490
 */
#include "host/frames.h"

#include "host/iovec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void frames_init(struct frames *frames, int fd)
{
	frames->fd = fd;
	frames->in_at = frames->in_end = 0;
	frames->out_at = frames->out_end = 0;
}

/* Read what there is. 0, or -errno. */
static int fill(struct frames *frames)
{
	ssize_t got;

	if (frames->in_at) {
		frames->in_end -= frames->in_at;
		memmove(frames->in, frames->in + frames->in_at, frames->in_end);
		frames->in_at = 0;
	}
	do
		got = recv(frames->fd, frames->in + frames->in_end,
			   sizeof(frames->in) - frames->in_end, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	frames->in_end += got;
	return got ? 0 : -ECONNRESET;
}

/* A frame that is there as a whole: its length. -EAGAIN, -EPROTO. */
static ssize_t take(struct frames *frames, const u8 **frame)
{
	const size_t have = frames->in_end - frames->in_at;
	u32 length;

	if (have < FRAMES_LENGTH)
		return -EAGAIN;
	memcpy(&length, frames->in + frames->in_at, FRAMES_LENGTH);
	length = ntohl(length);
	/* Not skipped: whoever says 4 GiB is out of step, and nothing that follows can be believed.
	 */
	if (!length || length > FRAMES_MAX)
		return -EPROTO;
	if (have < FRAMES_LENGTH + length)
		return -EAGAIN;
	*frame = frames->in + frames->in_at + FRAMES_LENGTH;
	frames->in_at += FRAMES_LENGTH + length;
	return length;
}

ssize_t frames_receive(struct frames *frames, const u8 **frame)
{
	ssize_t length = take(frames, frame);

	while (length == -EAGAIN) {
		int err = fill(frames);

		if (err)
			return err;
		length = take(frames, frame);
	}
	return length;
}

bool frames_unfinished(const struct frames *frames)
{
	return frames->out_at < frames->out_end;
}

int frames_flush(struct frames *frames)
{
	while (frames_unfinished(frames)) {
		ssize_t sent = send(frames->fd, frames->out + frames->out_at,
				    frames->out_end - frames->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		frames->out_at += sent;
	}
	return 0;
}

int frames_send(struct frames *frames, const struct iovec *iov, unsigned count)
{
	const size_t length = iov_length(iov, count);
	u32 prefix;
	int err = frames_flush(frames);

	if (err)
		return err;
	if (!length || length > FRAMES_MAX)
		return -EMSGSIZE;
	/* A copy: it may be sent by halves, and a guest's buffers change. */
	iov_gather(iov, count, 0, frames->out + FRAMES_LENGTH, length);
	prefix = htonl(length);
	memcpy(frames->out, &prefix, FRAMES_LENGTH);
	frames->out_at = 0;
	frames->out_end = FRAMES_LENGTH + length;
	err = frames_flush(frames);
	if (err && !frames->out_at)
		frames->out_end = 0;
	else if (err == -EAGAIN)
		err = 0;
	return err;
}

bool frames_was_last(const struct frames *frames, const struct iovec *iov, unsigned count)
{
	const u8 *at = frames->out + FRAMES_LENGTH;
	size_t left = frames->out_end ? frames->out_end - FRAMES_LENGTH : 0;

	for (unsigned i = 0; i < count; i++) {
		if (iov[i].iov_len > left)
			return false;
		if (iov[i].iov_len && memcmp(at, iov[i].iov_base, iov[i].iov_len) != 0)
			return false;
		at += iov[i].iov_len;
		left -= iov[i].iov_len;
	}
	return !left;
}
