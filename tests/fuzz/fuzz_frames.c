/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames over a stream (host/frames.h), with somebody at the other end who writes
 * whatever he likes, in pieces of any size, reads when he pleases, and hangs up.
 *
 * What is received must be what was in the stream, frame by frame, until the first
 * length that is none, and then nothing any more; and what the other end reads is
 * every frame whose sending was said to have begun, whole and in order.
 *
 * Input: moves, each a byte and its arguments.
 */
#include "input.h"

#include "host/frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define STREAM_MAX MiB(1) /* bytes in one direction; what is more is not written */
#define BUFFER	   4096	  /* of the socket: a large frame never goes through at once */

/* Bytes in the order in which they were written, and how many of them the reader has had. */
struct stream {
	u8 bytes[STREAM_MAX];
	size_t end, at;
};

struct fuzzed {
	struct frames frames;
	int peer;
	struct stream in, out;
	bool in_dead, hung_up;
};

static void add(struct stream *stream, const void *bytes, size_t len)
{
	MUST(len <= STREAM_MAX - stream->end);
	memcpy(stream->bytes + stream->end, bytes, len);
	stream->end += len;
}

/* The peer writes, as much as there is room for. */
static void peer_writes(struct fuzzed *fuzzed, const void *bytes, size_t len)
{
	ssize_t sent;

	if (fuzzed->hung_up || len > STREAM_MAX - fuzzed->in.end)
		return;
	sent = send(fuzzed->peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0)
		add(&fuzzed->in, bytes, sent);
}

/* A good frame, or the first part of one; the length in front may be a lie. */
static void peer_frame(struct fuzzed *fuzzed, struct input *input)
{
	static u8 bytes[FRAMES_LENGTH + 0xffff];
	const u8 how = take(input, 1);
	const u32 length = take(input, how & 1 ? 2 : 1) + (how & 2 ? FRAMES_MAX - 0x80 : 0);
	const u32 prefix = htonl(length);

	memset(bytes, how, sizeof(bytes));
	memcpy(bytes, &prefix, FRAMES_LENGTH);
	peer_writes(fuzzed, bytes,
		    how & 4 ? take(input, 1) : MIN(FRAMES_LENGTH + (size_t)length, sizeof(bytes)));
}

static void peer_raw(struct fuzzed *fuzzed, struct input *input)
{
	u8 bytes[16];
	const unsigned len = 1 + take(input, 1) % sizeof(bytes);

	for (unsigned i = 0; i < len; i++)
		bytes[i] = take(input, 1);
	peer_writes(fuzzed, bytes, len);
}

/* What the next frame in the stream is, as anybody would say who has read what a frame is. */
static ssize_t expected(const struct fuzzed *fuzzed)
{
	const u8 *at = fuzzed->in.bytes + fuzzed->in.at;
	const size_t have = fuzzed->in.end - fuzzed->in.at;
	u32 length;

	if (have < FRAMES_LENGTH)
		return -EAGAIN;
	length = (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
	if (!length || length > FRAMES_MAX)
		return -EPROTO;
	return have - FRAMES_LENGTH < length ? -EAGAIN : (ssize_t)length;
}

static void receive(struct fuzzed *fuzzed)
{
	ssize_t wanted = expected(fuzzed), length;
	const u8 *frame = NULL;

	/* Whoever calls gives up on an interface that is dead. */
	if (fuzzed->in_dead)
		return;
	length = frames_receive(&fuzzed->frames, &frame);
	if (wanted == -EAGAIN && fuzzed->hung_up)
		MUST(length == -ECONNRESET || length == -EAGAIN);
	else
		MUST(length == wanted);
	fuzzed->in_dead = length < 0 && length != -EAGAIN;
	if (length < 0)
		return;
	MUST(!memcmp(frame, fuzzed->in.bytes + fuzzed->in.at + FRAMES_LENGTH, length));
	fuzzed->in.at += FRAMES_LENGTH + length;
}

/* Of up to three parts, one of which may be empty. */
static void send_frame(struct fuzzed *fuzzed, struct input *input)
{
	static u8 bytes[3][0x8000];
	struct iovec iov[3];
	u64 total = 0;
	u32 prefix;
	int err;

	for (unsigned i = 0; i < ARRAY_SIZE(iov); i++) {
		const u16 len = take(input, 2);

		iov[i] = (struct iovec){bytes[i], len & 0x8000 ? len & 0x7fff : len % 64};
		memset(bytes[i], len, iov[i].iov_len);
		total += iov[i].iov_len;
	}
	if (FRAMES_LENGTH + total > STREAM_MAX - fuzzed->out.end)
		return;
	err = frames_send(&fuzzed->frames, iov, ARRAY_SIZE(iov));
	MUST(err <= 0);
	/* One that was begun before comes first, and then there may be no time for this one. */
	if (!total || total > FRAMES_MAX)
		MUST(err);
	if (err) {
		MUST(err == -EAGAIN || err == -EMSGSIZE || fuzzed->hung_up);
		MUST(err != -EMSGSIZE || !total || total > FRAMES_MAX);
		return;
	}
	MUST(frames_was_last(&fuzzed->frames, iov, ARRAY_SIZE(iov)));
	prefix = htonl(total);
	add(&fuzzed->out, &prefix, sizeof(prefix));
	for (unsigned i = 0; i < ARRAY_SIZE(iov); i++)
		add(&fuzzed->out, iov[i].iov_base, iov[i].iov_len);
}

static void peer_reads(struct fuzzed *fuzzed, size_t most)
{
	static u8 bytes[STREAM_MAX];
	ssize_t got;

	if (fuzzed->hung_up)
		return;
	got = recv(fuzzed->peer, bytes, most, MSG_DONTWAIT);
	if (got < 0)
		return;
	MUST((size_t)got <= fuzzed->out.end - fuzzed->out.at);
	MUST(!memcmp(bytes, fuzzed->out.bytes + fuzzed->out.at, got));
	fuzzed->out.at += got;
}

static void flush(struct fuzzed *fuzzed)
{
	const int err = frames_flush(&fuzzed->frames);

	MUST(!err || err == -EAGAIN || fuzzed->hung_up);
	MUST(frames_unfinished(&fuzzed->frames) == !!err);
}

static void hang_up(struct fuzzed *fuzzed)
{
	if (!fuzzed->hung_up)
		close(fuzzed->peer);
	fuzzed->hung_up = true;
}

static void move(struct fuzzed *fuzzed, struct input *input)
{
	const u8 what = take(input, 1);

	switch (what % 8) {
	case 0:
	case 1:
		peer_frame(fuzzed, input);
		break;
	case 2:
		peer_raw(fuzzed, input);
		break;
	case 3:
		receive(fuzzed);
		break;
	case 4:
	case 5:
		send_frame(fuzzed, input);
		break;
	case 6:
		flush(fuzzed);
		break;
	case 7:
		if (what == 0xff)
			hang_up(fuzzed);
		else
			peer_reads(fuzzed, 1 + what * 64);
		break;
	}
}

/* All that is on its way arrives. */
static void finish(struct fuzzed *fuzzed)
{
	while (!fuzzed->in_dead && expected(fuzzed) >= 0)
		receive(fuzzed);
	receive(fuzzed);
	while (!fuzzed->hung_up && frames_unfinished(&fuzzed->frames)) {
		peer_reads(fuzzed, STREAM_MAX);
		flush(fuzzed);
	}
	peer_reads(fuzzed, STREAM_MAX);
	MUST(fuzzed->hung_up || fuzzed->out.at == fuzzed->out.end);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed fuzzed; /* large; what is in its buffers from before does not matter */
	struct input input = {data, size};
	int ends[2];

	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	MUST(!setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &(int){BUFFER}, sizeof(int)));
	frames_init(&fuzzed.frames, ends[0]);
	fuzzed.peer = ends[1];
	fuzzed.in_dead = fuzzed.hung_up = false;
	fuzzed.in.at = fuzzed.in.end = fuzzed.out.at = fuzzed.out.end = 0;
	while (input.left)
		move(&fuzzed, &input);
	finish(&fuzzed);
	hang_up(&fuzzed);
	close(ends[0]);
	return 0;
}
