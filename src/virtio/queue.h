/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues: taking chains of buffers from the driver and giving them
 * back (virtio: Split Virtqueues).
 *
 * Pure ring mechanics: no thread, no transport, no interrupt. Everything that
 * is read from the ring is hostile and may change under our hands: each field is
 * read once, checked, and used from the local copy. One thread serves a queue.
 */
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include "host/memory.h"

#include <sys/uio.h>

#define QUEUE_SIZE_MAX 256

/* Which way the buffers of a queue go. */
enum queue_direction {
	QUEUE_BOTH, /* readable ones, then writable ones */
	QUEUE_IN,   /* to the driver: writable only */
	QUEUE_OUT,  /* from the driver: readable only */
};

/* A rule that the driver broke: the requirement's id, the value, what the rule is. */
struct violation {
	char text[160];	  /* "VQ-1: available index 77 runs ahead of 12 by more than the queue size
			     16" */
	bool strict_only; /* common drivers do it: goes unsaid without --strict */
};

struct queue {
	/* Set up by the transport while the queue is not live. */
	const struct memory *memory;
	const char *device; /* names for messages */
	unsigned index;
	enum queue_direction direction;
	u16 size;		  /* a power of two, 1..QUEUE_SIZE_MAX */
	u64 desc, driver, used;	  /* guest-physical addresses of the three areas */
	bool event_idx, indirect; /* negotiated */
	bool strict;		  /* strict-only rules count as well */

	/* queue.c's own. */
	const void *desc_table;
	void *avail_ring, *used_ring;
	u16 next_avail;	 /* index of the next chain to take */
	u16 next_used;	 /* index of the next used element */
	u16 signalled;	 /* next_used when the driver was last considered for an interrupt */
	bool suppressed; /* the driver was asked not to notify */
};

/* One buffer of the driver's: first what the device may read, then what it may write. */
struct chain {
	u16 head;
	unsigned readable, writable;	  /* elements of iov: the readable come first */
	u64 readable_len, writable_len;	  /* bytes */
	struct iovec iov[QUEUE_SIZE_MAX]; /* launcher addresses, checked */
};

/*
 * Check the three areas and start with empty rings. False with *violation filled
 * (VT-6: alignment, inside RAM, no wrap, used.flags initially 0).
 */
bool queue_start(struct queue *queue, struct violation *violation);

/*
 * Take the next chain. 1: *chain is filled. 0: none is available. -EPROTO: the driver broke a rule
 * (*violation), and the queue must not be served until it is set up again.
 */
int queue_pop(struct queue *queue, struct chain *chain, struct violation *violation);

/*
 * Give a chain back with `written` bytes written into its writable part (clamped to writable_len).
 */
void queue_push(struct queue *queue, const struct chain *chain, u32 written);

/*
 * Give back the chain with this head, when the struct chain is no longer at hand; the caller has
 * told guest_ram_written().
 */
void queue_push_head(struct queue *queue, u16 head, u32 written);

/*
 * The same for several chains, which the driver sees come back all at once or not at all: what it
 * asked for is spread over them.
 */
struct queue_used {
	u16 head;
	u32 written;
};
void queue_push_heads(struct queue *queue, const struct queue_used *chains, unsigned count);

/* Whether anything waits to be taken. */
bool queue_pending(const struct queue *queue);

/*
 * Ask the driver not to notify while the queue is being drained; and to do it
 * again before sleeping: true then says that something came meanwhile.
 */
void queue_suppress(struct queue *queue);
bool queue_unsuppress(struct queue *queue);

/*
 * After a batch of pushes: does the driver want an interrupt for them? -EPROTO for a broken rule
 * (avail.flags not 0 or 1; non-zero with EVENT_IDX is strict only).
 */
int queue_wants_interrupt(struct queue *queue, struct violation *violation);

/*
 * Bytes out of the readable part, or into the writable one, from `offset` on, however the
 * driver cut it. Bytes copied: fewer than len only at the end of the chain.
 */
size_t chain_read(const struct chain *chain, u64 offset, void *data, size_t len);
size_t chain_write(const struct chain *chain, u64 offset, const void *data, size_t len);

/* The same for buffers that are those of several chains. */
size_t buffers_write(const struct iovec *iov, unsigned count, u64 offset, const void *data,
		     size_t len);

#endif
