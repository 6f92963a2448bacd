/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What virtio/queue.c and the two kinds of ring, split.c and packed.c, know of
 * each other, and nobody else.
 *
 * A kind says where descriptors lie, how one sees that a chain is there, and how
 * it goes back. What a chain may consist of is the same in both, and queue.c's:
 * the kind walks, and hands over each descriptor that it comes by.
 *
 * Tour 4.30: What two kinds of ring have to answer
 */
#ifndef VIRTIO_RING_H
#define VIRTIO_RING_H

#include "virtio/queue.h"

#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

/* One of the three areas (VT-6): so many bytes, and so many for each entry of the queue. */
struct area_shape {
	unsigned alignment, fixed, each;
};

/*
 * Where the three areas of a ring lie and how large they are; five questions about chains - is
 * there one, take it, give it back, and who wants to hear of either - and one to begin with.
 * split.c and packed.c answer them.
 *
 * Tour 4.31
 */
struct ring_ops {
	struct area_shape desc, driver, device;

	/* The areas are there: put the device's own words right and begin. */
	bool (*start)(struct queue *queue, struct violation *violation);
	int (*pop)(struct queue *queue, struct chain *chain, struct violation *violation);
	void (*push)(struct queue *queue, const struct queue_used *chains, unsigned count);
	bool (*pending)(const struct queue *queue);
	void (*suppress)(struct queue *queue);
	void (*ask)(struct queue *queue); /* to be notified of the next chain */
	int (*wants_interrupt)(struct queue *queue, struct violation *violation);
};

extern const struct ring_ops split_ring_ops, packed_ring_ops;

/*
 * A descriptor, of whichever kind, in our own memory. The flags NEXT, WRITE and INDIRECT are the
 * same for both.
 */
struct descriptor {
	u64 addr;
	u32 len;
	u16 flags;
};

/* A chain as it is being taken: the kind names the first three, and walk_begin() the rest. */
struct walk {
	const struct queue *queue;
	struct chain *chain;
	struct violation *violation;
	unsigned first;	    /* index of its first descriptor, for messages */
	unsigned count;	    /* of descriptors, but for one that merely points at a table */
	bool seen_writable; /* if only an empty one */
};

/* Where descriptors are being read from: the queue's own table, or an indirect one. */
struct table {
	const u8 *descriptors;
	unsigned entries;
	bool indirect;
};

/* violation_set(), and -EPROTO. */
#define ring_broken(...) (violation_set(__VA_ARGS__), -EPROTO)

/* An empty chain, whose first descriptor is at that index. */
void walk_begin(struct walk *walk, unsigned first);

/* VQ-2: there are more descriptors than the queue has. -EPROTO. */
int walk_too_long(const struct walk *walk);

/* Refuse the chain, or take this descriptor's buffer into it: VQ-2, VQ-3, VQ-5. */
int walk_add(struct walk *walk, const struct descriptor *descriptor, unsigned index);

/* VQ-4: `pointer` is the descriptor that refers to an indirect table, *table where it was found. */
int walk_enter(const struct walk *walk, struct table *table, const struct descriptor *pointer,
	       unsigned index);

/*
 * The words that both sides touch while the other looks on. 16 bits at an even
 * address are never seen half-written, and C11 promises it if asked like this.
 */
static inline u16 ring_load(const u16 *word, memory_order order)
{
	return atomic_load_explicit((const _Atomic u16 *)word, order);
}

static inline void ring_store(const struct queue *queue, u16 *word, u16 value, memory_order order)
{
	atomic_store_explicit((_Atomic u16 *)word, value, order);
	guest_ram_written(queue->memory, memory_gpa(queue->memory, word), sizeof(*word));
}

/*
 * One descriptor of either layout, as it is at this moment. The compiler may otherwise look a
 * field up in guest memory again whenever that suits it; the empty statement
 * claims to have changed the copy, so only the copy will do from there on.
 */
#define RING_COPY(type, from)                                                                      \
	({                                                                                         \
		type copy_;                                                                        \
                                                                                                   \
		memcpy(&copy_, from, sizeof(copy_));                                               \
		__asm__ volatile("" : "+m"(copy_));                                                \
		copy_;                                                                             \
	})

#endif
