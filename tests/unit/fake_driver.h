/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of a virtqueue, split or packed, in guest RAM, for tests.
 *
 * As small as a well-behaved driver can be: it lays out the three areas, turns
 * buffers into chains, publishes them, and takes them back. A test that wants a
 * badly-behaved one gets at the rings themselves through desc, avail and used, or
 * through ring and the two event structures.
 * Neither a transport nor a device: tests of the ring call src/virtio/queue.c
 * beside it, tests of devices go through their registers.
 *
 * One thread at a time. Mistakes of the test itself end it by assert().
 */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include "host/memory.h"

#include <linux/virtio_ring.h>

#define FAKE_QUEUE_MAX 256

/* One buffer of a chain. Readable ones go first, unless the test is about that. */
struct fake_buffer {
	u64 gpa;
	u32 len;
	bool writable;
};

struct fake_driver {
	const struct memory *memory;
	u16 size;
	bool packed, event_idx;

	u64 desc_gpa, avail_gpa, used_gpa; /* what the device is to be told */
	struct vring_desc *desc;	   /* the same, in the launcher's address space */
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_packed_desc *ring; /* or these, if it is packed */
	struct vring_packed_desc_event *driver_event, *device_event;

	u64 heap, heap_end; /* guest-physical: what fake_driver_alloc() hands out */

	u16 free_head; /* free descriptors or, of a packed ring, buffer ids, chained by free_next */
	u16 free_count; /* free descriptors, of either */
	u16 free_next[FAKE_QUEUE_MAX];
	u16 chain_len[FAKE_QUEUE_MAX]; /* descriptors of the queue's table, by head; 0: not given
					  away */
	u64 table[FAKE_QUEUE_MAX]; /* the indirect table of each descriptor or id, as large as the
				      queue; 0: none yet */

	/* Split */
	u16 added; /* avail.idx, once it is published */
	u16 published;
	u16 taken; /* used elements seen */

	/* Packed */
	u16 next, next_used;	     /* slots to be filled, and looked at, next */
	bool wrap, used_wrap;	     /* the driver's and the device's wrap counter there */
	unsigned unpublished;	     /* descriptors added since */
	u16 first_slot, first_flags; /* of these the first, which is marked when it is published */
};

/*
 * Lay out a queue of `size` entries at `gpa`, a multiple of 16, and clear it: of the kind that
 * these features say (RING_PACKED, EVENT_IDX; no other matters here). What
 * is left of the `len` bytes from there on is for fake_driver_alloc(). May be
 * called again, to start afresh after a reset.
 */
void fake_driver_init(struct fake_driver *driver, const struct memory *memory, u64 gpa, u64 len,
		      u16 size, u64 features);

/* RAM of the guest, zeroed, never given back. */
u64 fake_driver_alloc(struct fake_driver *driver, u64 len, u64 alignment);

/* A pointer to guest RAM; asserts that it is. */
void *fake_driver_at(const struct fake_driver *driver, u64 gpa, u64 len);

/* Shorthands: a buffer newly allocated, holding `data` or (NULL) zeroes; one to be written. */
struct fake_buffer fake_readable(struct fake_driver *driver, const void *data, u32 len);
struct fake_buffer fake_writable(struct fake_driver *driver, u32 len);

/*
 * Make a chain of `count` buffers and put its head into the available ring, without
 * telling the device. The first `direct` of them are ordinary descriptors, the rest
 * go into one indirect table (direct == count: no table; a packed ring knows only one or the
 * other). The head or buffer id, or -1: too few free descriptors.
 */
int fake_driver_add(struct fake_driver *driver, const struct fake_buffer *buffers, unsigned count);
int fake_driver_add_indirect(struct fake_driver *driver, const struct fake_buffer *buffers,
			     unsigned count, unsigned direct);

/* Put any head into the available ring, for chains that a test wrote itself into desc. */
void fake_driver_offer(struct fake_driver *driver, u16 head);

/*
 * The same for a packed ring: one descriptor, marked as available, as the next of a chain. With
 * the last, which has no NEXT, the chain belongs to the id in it.
 */
void fake_driver_put(struct fake_driver *driver, struct vring_packed_desc desc);

/* Show the device all that was added. Whether the device wants to be notified. */
bool fake_driver_publish(struct fake_driver *driver);

/* The same for those who do not care: how many entries of the ring that was. */
u16 fake_driver_show(struct fake_driver *driver);

/* Take the next used element, and its descriptors back. False: there is none. */
bool fake_driver_take(struct fake_driver *driver, u16 *head, u32 *written);

/* Interrupts: ask for none, or for one with the next used element. True: one has come meanwhile. */
void fake_driver_disable_interrupts(struct fake_driver *driver);
bool fake_driver_enable_interrupts(struct fake_driver *driver);

/* The two event words of split rings. */
u16 *fake_used_event(struct fake_driver *driver);
u16 *fake_avail_event(struct fake_driver *driver);

#endif
