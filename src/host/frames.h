/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ethernet frames over a stream socket, as passt and qemu speak it: each with its
 * length in front, 32 bits, big endian. A stream knows no frames, so a read may
 * end in the middle of one, and so may a write; here they are whole again.
 *
 * Both ends of lguest's use this: --net=user in the launcher, and the process with
 * libslirp on the other side. One thread may receive while another sends.
 *
 * Tour 4.480: Frames on a stream
 */
#ifndef HOST_FRAMES_H
#define HOST_FRAMES_H

#include "host/types.h"

#include <linux/if_ether.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FRAMES_MAX    (ETH_HLEN + 65536) /* bytes of a frame: 64 KiB behind a MAC header */
#define FRAMES_LENGTH 4			 /* bytes in front of it */

struct frames {
	int fd; /* not blocking; the owner's to close */

	/* What came and was not taken yet: [in_at, in_end). */
	size_t in_at, in_end;
	u8 in[2 * (FRAMES_LENGTH + FRAMES_MAX)];

	/* The frame that was sent last: what of it is not sent yet is [out_at, out_end). */
	size_t out_at, out_end;
	u8 out[FRAMES_LENGTH + FRAMES_MAX];
};

void frames_init(struct frames *frames, int fd);

/*
 * The next frame, which stays where it is until the next call: its length. -EAGAIN: none is there
 * as a whole; only then does polling the socket make sense. -ECONNRESET: the other end has gone,
 * -EPROTO: it does not speak this language, others: errors of the socket.
 */
ssize_t frames_receive(struct frames *frames, const u8 **frame);

/*
 * Send one. 0: it is on its way, though perhaps not yet as a whole: see frames_unfinished().
 * -EAGAIN: nothing of it was sent, there is no room. -EMSGSIZE; others: errors of the socket.
 */
int frames_send(struct frames *frames, const struct iovec *iov, unsigned count);

/* Is a frame half sent? Then frames_flush() is due when the socket takes more. */
bool frames_unfinished(const struct frames *frames);

/* 0: nothing is unfinished any more. -EAGAIN, and other -errno. */
int frames_flush(struct frames *frames);

/* Was this the frame that was sent last? */
bool frames_was_last(const struct frames *frames, const struct iovec *iov, unsigned count);

#endif
