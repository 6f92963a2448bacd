/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request, cut in every way: see framing.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "framing.h"

#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUTS_MAX (2 + 3 * FRAMING_EDGES)
#define GAP	 5 /* bytes between two pieces: odd, so that they are aligned to nothing */
#define CANARY	 0xa5
#define PATIENCE 20 /* seconds */

/* Where a buffer may be cut, in ascending order. */
struct cuts {
	u32 at[CUTS_MAX];
	unsigned count;
};

enum form { ORDINARY, TABLE, ORDINARY_AND_TABLE, FORMS };

/* One way to cut the request. */
struct way {
	bool packed;
	enum form form;
	u32 pieces[FRAMING_PIECES];
	unsigned readable, writable; /* pieces: the readable ones come first */
};

struct run {
	struct fake_guest *guest;
	const struct framing *framing;
	struct fake_driver *driver;
	u64 arena, arena_len; /* guest-physical: where the pieces lie */
	u8 *written;	      /* what the device wrote, put together */
	unsigned ways;
};

static int by_size(const void *a, const void *b)
{
	const u32 left = *(const u32 *)a, right = *(const u32 *)b;

	return left < right ? -1 : left > right;
}

static void add_cut(struct cuts *cuts, u32 at, u32 len)
{
	if (at == 0 || at >= len)
		return;
	for (unsigned i = 0; i < cuts->count; i++)
		if (cuts->at[i] == at)
			return;
	cuts->at[cuts->count++] = at;
}

static void find_cuts(struct cuts *cuts, u32 len, const u32 *edges)
{
	cuts->count = 0;
	if (len <= CUTS_MAX + 1) {
		for (u32 at = 1; at < len; at++)
			add_cut(cuts, at, len);
		return;
	}
	add_cut(cuts, 1, len);
	for (unsigned i = 0; i < FRAMING_EDGES; i++)
		for (u32 at = edges[i] - 1; edges[i] && at <= edges[i] + 1; at++)
			add_cut(cuts, at, len);
	add_cut(cuts, len - 1, len);
	qsort(cuts->at, cuts->count, sizeof(cuts->at[0]), by_size);
}

/* The pieces between the chosen cuts. Their number. */
static unsigned cut(u32 *pieces, u32 len, const struct cuts *cuts, unsigned chosen)
{
	unsigned count = 0;
	u32 from = 0;

	if (!len)
		return 0;
	for (unsigned i = 0; i < cuts->count; i++) {
		if (!(chosen >> i & 1))
			continue;
		pieces[count++] = cuts->at[i] - from;
		from = cuts->at[i];
	}
	pieces[count++] = len - from;
	return count;
}

static unsigned pieces_for(u32 len, unsigned chosen)
{
	return len ? 1 + __builtin_popcount(chosen) : 0;
}

static void describe(const struct way *way, char *text, size_t room)
{
	static const char *const forms[FORMS] = {"ordinary descriptors", "an indirect table",
						 "a descriptor and a table"};
	int n = snprintf(text, room, "%s, %s:", way->packed ? "packed" : "split", forms[way->form]);

	for (unsigned i = 0; i < way->readable + way->writable; i++)
		n += snprintf(text + n, room - n, " %s %u", i < way->readable ? "read" : "write",
			      way->pieces[i]);
}

/* Put the pieces down, each with a gap before it, and one after the last. */
static unsigned lay_pieces(const struct run *run, const struct way *way,
			   struct fake_buffer *buffers)
{
	const unsigned count = way->readable + way->writable;
	const u8 *data = run->framing->readable;
	u64 gpa = run->arena + GAP;

	memset(fake_driver_at(run->driver, run->arena, run->arena_len), CANARY, run->arena_len);
	for (unsigned i = 0; i < count; i++) {
		const u32 len = way->pieces[i];

		buffers[i] = (struct fake_buffer){gpa, len, i >= way->readable};
		if (i < way->readable) {
			memcpy(fake_driver_at(run->driver, gpa, len), data, len);
			data += len;
		}
		gpa += len + GAP;
	}
	return count;
}

static bool is_canary(const u8 *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (bytes[i] != CANARY)
			return false;
	return true;
}

/* Take what was written; false: something was that is not the device's to write. */
static bool collect_pieces(const struct run *run, const struct way *way,
			   const struct fake_buffer *buffers)
{
	const unsigned count = way->readable + way->writable;
	const u8 *data = run->framing->readable;
	u8 *written = run->written;

	for (unsigned i = 0; i < count; i++) {
		const u32 len = buffers[i].len;
		const u8 *bytes =
			fake_driver_at(run->driver, buffers[i].gpa - GAP, len + 2ull * GAP);

		if (!is_canary(bytes, GAP) || !is_canary(bytes + GAP + len, GAP))
			return false;
		if (i < way->readable) {
			if (memcmp(bytes + GAP, data, len))
				return false;
			data += len;
		} else {
			memcpy(written, bytes + GAP, len);
			written += len;
		}
	}
	return true;
}

static bool await_answer(const struct run *run, u16 *head, u32 *used)
{
	for (unsigned tries = 0; tries < PATIENCE * 10000; tries++) {
		if (fake_driver_take(run->driver, head, used))
			return true;
		usleep(100);
	}
	return false;
}

static void run_way(struct run *run, const struct way *way)
{
	const struct framing *framing = run->framing;
	const unsigned directs[FORMS] = {way->readable + way->writable, 0, 1};
	struct fake_buffer buffers[FRAMING_PIECES];
	const unsigned count = lay_pieces(run, way, buffers);
	char how[160];
	u32 used;
	u16 head;
	int sent;

	describe(way, how, sizeof(how));
	run->ways++;
	if (framing->prepare)
		framing->prepare(framing->opaque);
	sent = fake_driver_add_indirect(run->driver, buffers, count, directs[way->form]);
	submit(run->guest, framing->queue);
	if (!await_answer(run, &head, &used))
		fail_msg("%s: never used", how);
	if (head != sent || used > framing->writable_len)
		fail_msg("%s: head %d came back as %u, with %u bytes written", how, sent, head,
			 used);
	if (!collect_pieces(run, way, buffers))
		fail_msg("%s: bytes changed outside of what is writable", how);
	if (!framing->check(framing->opaque, run->written, used))
		fail_msg("%s: not the same", how);
}

static void run_forms(struct run *run, struct way *way)
{
	for (way->form = 0; way->form < FORMS; way->form++) {
		const bool mixed = way->form == ORDINARY_AND_TABLE;

		/* Which packed rings do not have; and a table of none is no table. */
		if (mixed && (way->packed || way->readable + way->writable == 1))
			continue;
		run_way(run, way);
	}
}

static void run_cuts(struct run *run, bool packed)
{
	const struct framing *framing = run->framing;
	struct way way = {.packed = packed};
	struct cuts read, write;

	find_cuts(&read, framing->readable_len, framing->readable_edges);
	find_cuts(&write, framing->writable_len, framing->writable_edges);
	for (unsigned r = 0; r < 1u << read.count; r++) {
		for (unsigned w = 0; w < 1u << write.count; w++) {
			if (pieces_for(framing->readable_len, r) +
				    pieces_for(framing->writable_len, w) >
			    FRAMING_PIECES)
				continue;
			way.readable = cut(way.pieces, framing->readable_len, &read, r);
			way.writable =
				cut(way.pieces + way.readable, framing->writable_len, &write, w);
			run_forms(run, &way);
		}
	}
}

unsigned frame_every_way(struct fake_guest *guest, const struct framing *framing)
{
	const u64 features =
		framing->features | FEATURE_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	struct run run = {
		.guest = guest,
		.framing = framing,
		.driver = &guest->queues[framing->queue],
		.arena_len = framing->readable_len + framing->writable_len +
			     (FRAMING_PIECES + 1ull) * GAP,
		.written = malloc(framing->writable_len),
	};

	for (unsigned packed = 0; packed < 2; packed++) {
		bring_up(guest, STAGE_LIVE, features | (packed ? 1ull << VIRTIO_F_RING_PACKED : 0));
		run.arena = fake_driver_alloc(run.driver, run.arena_len, 1);
		run_cuts(&run, packed);
	}
	free(run.written);
	return run.ways;
}
