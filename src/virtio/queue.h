/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtqueues: taking chains of buffers from the driver and giving them back,
 * whether they lie in split rings or in packed ones (virtio: Split Virtqueues,
 * Packed Virtqueues). Who serves a queue does not see which.
 *
 * Pure ring mechanics: no thread, no transport, no interrupt. Everything that
 * is read from the ring is hostile and may change under our hands: each field is
 * read once, checked, and used from the local copy. One thread serves a queue.
 *
 * queue.c is what both kinds share; each has a file of its own (split.c, packed.c),
 * which queue.c reaches through the table in ring.h.
 *
 * Tour 4.10: Virtqueues
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

/* Fill in *violation, for a rule that counts always. False. */
bool violation_set(struct violation *violation, const char *format, ...) PRINTF(2, 3);

/* split.c's notes. The indices are free-running, as they are in the rings. */
struct split_ring {
	u16 next_avail; /* of the next chain to take */
	u16 next_used;	/* of the next used element */
	u16 signalled;	/* next_used when the driver was last considered for an interrupt */
};

/* packed.c's notes. It says what a position is. */
struct packed_ring {
	unsigned next_avail;		/* position of the next chain to take */
	unsigned next_used;		/* position of the next used descriptor */
	unsigned signalled;		/* next_used when an interrupt was last considered, */
	unsigned unsignalled;		/* and how far it has come since, or two laps */
	u16 out_length[QUEUE_SIZE_MAX]; /* by buffer id: descriptors in the ring; 0: not out */
};

struct queue {
	/* Set up by the transport while the queue is not live. */
	const struct memory *memory;
	const char *device; /* names for messages */
	unsigned index;
	enum queue_direction direction;
	u16 size;		/* 1..QUEUE_SIZE_MAX; a power of two if the rings are split */
	u64 desc, driver, used; /* guest-physical addresses of the three areas */
	bool packed, event_idx, indirect; /* negotiated */
	bool strict;			  /* strict-only rules count as well */

	/* queue.c's own, and that of the kind of ring. */
	const struct ring_ops *ops;
	void *desc_area, *driver_area, *device_area; /* the three in our address space */
	bool suppressed;			     /* the driver was asked not to notify */
	union {
		struct split_ring split;
		struct packed_ring packed_ring;
	};
};

/*
 * One buffer of the driver's: first what the device may read, then what it may write.
 *
 * Tour 4.11: A chain
 */
struct chain {
	u16 head; /* what the driver knows it by, below the queue's size: the index of its first
		     descriptor, or the buffer id in a packed ring */
	unsigned slots; /* descriptors of the queue's own that it keeps busy: those of a table are
			   not */
	unsigned readable, writable;	  /* elements of iov: the readable come first */
	u64 readable_len, writable_len;	  /* bytes */
	struct iovec iov[QUEUE_SIZE_MAX]; /* launcher addresses, checked */
};

/*
 * Check the three areas and start with empty rings. False with *violation filled
 * (VT-6: alignment, inside RAM, no wrap, in split rings used.flags initially 0).
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
 * told guest_ram_written(). Each chain once: what is not out cannot be given back.
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
 * (VQ-6: what the driver wrote where it says so makes no sense).
 */
int queue_wants_interrupt(struct queue *queue, struct violation *violation);

/*
 * Bytes out of the readable part, or into the writable one, from `offset` on, however the
 * driver cut it. Bytes copied: fewer than len only at the end of the chain.
 */
size_t chain_read(const struct chain *chain, u64 offset, void *data, size_t len);
size_t chain_write(const struct chain *chain, u64 offset, const void *data, size_t len);

#endif
