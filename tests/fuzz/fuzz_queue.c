/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worst driver there is: libFuzzer plays it, with a small guest's whole RAM
 * to write to, rings, tables and event words included, and the choice of kind, size,
 * direction and features. The device side (virtio/queue.c and what is under it) serves
 * one chain at a time until a rule is broken or the driver has no ideas left.
 *
 * Besides not crashing and not hanging, what the queue says must hold: each
 * buffer it hands out lies in RAM, counts and lengths add up, no more chains are
 * out than the queue has room for, of packed rings no two with the same id, and a
 * violation comes with words.
 *
 * Input: struct setup, then moves: a byte that says which, and its arguments.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define RAM KiB(64)

struct setup {
	u16 desc, driver, used; /* in units of two bytes, so that they can miss their alignment */
	u8 size;		/* split: the logarithm; packed: less one */
	u8 direction;
	u8 features;   /* SETUP_... */
	u8 used_flags; /* what the driver left in used.flags */
} __attribute__((packed));

enum { SETUP_EVENT_IDX = 1, SETUP_INDIRECT = 2, SETUP_STRICT = 4, SETUP_PACKED = 8 };

/* The driver's moves. Most could be spelt with PATCH; they are here to be found sooner. */
enum move {
	MOVE_PATCH,	 /* u16 address, u8 length, bytes */
	MOVE_DESCRIPTOR, /* struct descriptor, into the table */
	MOVE_TABLE,	 /* u16 address, struct descriptor: into one that begins there */
	MOVE_OFFER,	 /* u16 head: put it into the ring and move the index;
			    packed: u16 flags: mark the next descriptor, with these besides */
	MOVE_INDEX,	 /* u16: the available index itself; packed: which is the next */
	MOVE_FLAGS,	 /* u16: avail.flags, or those of the driver's event structure */
	MOVE_EVENT,	 /* u16: used_event, or the place in that structure */
	MOVE_SERVE,	 /* the device's turn */
	MOVE_RETURN,	 /* the device gives back the oldest chain that it kept */
	MOVES
};

struct descriptor {
	u8 index;
	u16 addr, len, flags, next; /* or the id */
} __attribute__((packed));

struct fuzz {
	const u8 *data;
	size_t left;

	struct memory *memory;
	struct queue queue;
	u16 offered;		  /* the available index, or the packed driver's position */
	u16 kept[QUEUE_SIZE_MAX]; /* heads that the device has not given back, the oldest first */
	unsigned kept_count;
	unsigned turns;
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static bool take(struct fuzz *fuzz, void *to, size_t len)
{
	if (fuzz->left < len)
		return false;
	memcpy(to, fuzz->data, len);
	fuzz->data += len;
	fuzz->left -= len;
	return true;
}

static void check_violation(const struct queue *queue, const struct violation *violation)
{
	require(!memcmp(violation->text, "VQ-", 3) || !memcmp(violation->text, "VT-", 3));
	require(memchr(violation->text, 0, sizeof(violation->text) - 1));
	require(queue->strict || !violation->strict_only);
}

static void check_chain(const struct queue *queue, const struct chain *chain)
{
	const unsigned count = chain->readable + chain->writable;
	u64 readable_len = 0, writable_len = 0;

	require(chain->head < queue->size);
	require(count <= queue->size);
	for (unsigned i = 0; i < count; i++) {
		const struct iovec *iov = &chain->iov[i];
		const u64 gpa = memory_gpa(queue->memory, iov->iov_base);

		require(iov->iov_len && memory_at(queue->memory, gpa, iov->iov_len));
		*(i < chain->readable ? &readable_len : &writable_len) += iov->iov_len;
	}
	require(readable_len == chain->readable_len && writable_len == chain->writable_len);
	require(readable_len + writable_len <= GiB(4));
	require(queue->direction != QUEUE_IN || !readable_len);
	require(queue->direction != QUEUE_OUT || !writable_len);
}

/* This one, and all that were kept. */
static void check_out(const struct fuzz *fuzz, u16 head)
{
	require(fuzz->kept_count < fuzz->queue.size);
	for (unsigned i = 0; i < fuzz->kept_count; i++)
		require(!fuzz->queue.packed || fuzz->kept[i] != head);
}

/* Read and write through the chain. Its buffers may well be the rings. */
static void use_chain(const struct chain *chain)
{
	u8 bytes[300];
	const size_t got = chain_read(chain, 1, bytes, sizeof(bytes));
	const u64 there = chain->readable_len ? chain->readable_len - 1 : 0;

	require(got == MIN(sizeof(bytes), there));
	memset(bytes + got, 0x5a, sizeof(bytes) - got);
	require(chain_write(chain, 0, bytes, sizeof(bytes)) ==
		MIN(sizeof(bytes), chain->writable_len));
}

static void note_write(void *opaque, u64 gpa, u64 len)
{
	require(memory_at(opaque, gpa, len));
}

/* Not more than 0 if it is all over. */
static int give_back(struct fuzz *fuzz, const struct chain *chain)
{
	struct violation violation = {.strict_only = false};
	int result;

	if (chain) {
		queue_push(&fuzz->queue, chain, fuzz->turns * 7919u);
	} else {
		queue_push_head(&fuzz->queue, fuzz->kept[0], 0);
		memmove(fuzz->kept, fuzz->kept + 1, --fuzz->kept_count * sizeof(fuzz->kept[0]));
	}
	result = queue_wants_interrupt(&fuzz->queue, &violation);
	if (result >= 0)
		return 1;
	check_violation(&fuzz->queue, &violation);
	return result;
}

/* Every third chain stays with the device for a while, as with a slow disk. */
static int serve(struct fuzz *fuzz)
{
	struct violation violation = {.strict_only = false};
	struct chain chain;
	int result;

	queue_suppress(&fuzz->queue);
	result = queue_pop(&fuzz->queue, &chain, &violation);
	if (result < 0)
		check_violation(&fuzz->queue, &violation);
	if (result > 0) {
		check_chain(&fuzz->queue, &chain);
		check_out(fuzz, chain.head);
		use_chain(&chain);
		if (fuzz->turns++ % 3 == 2)
			fuzz->kept[fuzz->kept_count++] = chain.head;
		else
			result = give_back(fuzz, &chain);
	}
	if (result == 0)
		queue_unsuppress(&fuzz->queue);
	return result;
}

static void patch(struct fuzz *fuzz)
{
	u16 at;
	u8 len;

	if (take(fuzz, &at, sizeof(at)) && take(fuzz, &len, sizeof(len)))
		take(fuzz, fuzz->memory->base + at, MIN(MIN(len, fuzz->left), RAM - at));
}

static void put_descriptor(struct fuzz *fuzz, u64 table)
{
	struct descriptor from;
	union {
		struct vring_desc split;
		struct vring_packed_desc packed;
	} to;
	void *at;

	if (!take(fuzz, &from, sizeof(from)))
		return;
	if (fuzz->queue.packed)
		to.packed = (struct vring_packed_desc){from.addr, from.len, from.next, from.flags};
	else
		to.split = (struct vring_desc){from.addr, from.len, from.flags, from.next};
	at = memory_at(fuzz->memory, table + from.index * sizeof(to), sizeof(to));
	if (at)
		memcpy(at, &to, sizeof(to));
}

/* One of the driver's 16-bit words. */
static void put_word(struct fuzz *fuzz, u64 gpa, u16 word)
{
	void *at = memory_at(fuzz->memory, gpa, sizeof(word));

	if (at)
		memcpy(at, &word, sizeof(word));
}

static void move_split(struct fuzz *fuzz, enum move move, u16 word)
{
	const struct queue *queue = &fuzz->queue;
	const u64 ring = queue->driver + offsetof(struct vring_avail, ring);
	const u64 index = queue->driver + offsetof(struct vring_avail, idx);

	if (move == MOVE_OFFER) {
		put_word(fuzz, ring + fuzz->offered++ % queue->size * sizeof(word), word);
		put_word(fuzz, index, fuzz->offered);
	} else if (move == MOVE_INDEX) {
		put_word(fuzz, index, word);
	} else if (move == MOVE_FLAGS) {
		put_word(fuzz, queue->driver + offsetof(struct vring_avail, flags), word);
	} else {
		put_word(fuzz, ring + queue->size * sizeof(word), word);
	}
}

static void move_packed(struct fuzz *fuzz, enum move move, u16 word)
{
	const struct queue *queue = &fuzz->queue;
	const u16 avail = 1u << VRING_PACKED_DESC_F_AVAIL, used = 1u << VRING_PACKED_DESC_F_USED;

	if (move == MOVE_OFFER) {
		const unsigned slot = fuzz->offered % queue->size;
		const bool wrap = fuzz->offered / queue->size % 2 == 0;

		put_word(fuzz,
			 queue->desc + slot * sizeof(struct vring_packed_desc) +
				 offsetof(struct vring_packed_desc, flags),
			 (word & ~(avail | used)) | (wrap ? avail : used));
		fuzz->offered = (fuzz->offered + 1) % (2u * queue->size);
	} else if (move == MOVE_INDEX) {
		fuzz->offered = word % (2u * queue->size);
	} else if (move == MOVE_FLAGS) {
		put_word(fuzz, queue->driver + offsetof(struct vring_packed_desc_event, flags),
			 word);
	} else {
		put_word(fuzz, queue->driver + offsetof(struct vring_packed_desc_event, off_wrap),
			 word);
	}
}

/* Negative: a rule is broken. */
static int make_move(struct fuzz *fuzz, enum move move)
{
	u16 word;

	switch (move) {
	case MOVE_PATCH:
		patch(fuzz);
		return 0;
	case MOVE_DESCRIPTOR:
		put_descriptor(fuzz, fuzz->queue.desc);
		return 0;
	case MOVE_TABLE:
		if (take(fuzz, &word, sizeof(word)))
			put_descriptor(fuzz, word);
		return 0;
	case MOVE_SERVE:
		return serve(fuzz);
	case MOVE_RETURN:
		return fuzz->kept_count ? give_back(fuzz, NULL) : 0;
	default:
		if (!take(fuzz, &word, sizeof(word)))
			return 0;
		if (fuzz->queue.packed)
			move_packed(fuzz, move, word);
		else
			move_split(fuzz, move, word);
		return 0;
	}
}

/* A guest of its own each time: it is small, and the guard pages around it are worth it. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct fuzz fuzz = {.data = data, .left = size};
	struct violation violation = {.strict_only = false};
	struct problem problem;
	struct setup setup;
	u8 move;

	if (!take(&fuzz, &setup, sizeof(setup)))
		return 0;
	fuzz.memory = memory_new(RAM, &problem);
	require(fuzz.memory);
	fuzz.memory->written = note_write;
	fuzz.memory->written_opaque = fuzz.memory;
	fuzz.queue = (struct queue){
		.memory = fuzz.memory,
		.device = "fuzz",
		.direction = setup.direction % 3,
		.size = setup.features & SETUP_PACKED ? setup.size + 1u : 1u << setup.size % 9,
		.desc = setup.desc * 2ull,
		.driver = setup.driver * 2ull,
		.used = setup.used * 2ull,
		.packed = setup.features & SETUP_PACKED,
		.event_idx = setup.features & SETUP_EVENT_IDX,
		.indirect = setup.features & SETUP_INDIRECT,
		.strict = setup.features & SETUP_STRICT,
	};
	if (!fuzz.queue.packed)
		put_word(&fuzz, fuzz.queue.used + offsetof(struct vring_used, flags),
			 setup.used_flags);
	if (!queue_start(&fuzz.queue, &violation))
		check_violation(&fuzz.queue, &violation);
	else
		while (take(&fuzz, &move, 1) && make_move(&fuzz, move % MOVES) >= 0)
			;
	memory_free(fuzz.memory);
	return 0;
}
