/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of virtio devices, and for each a request that has nothing wrong with
 * it: what guests that misbehave do before and after, to see whether a device works.
 */
#ifndef LIB_HONEST_H
#define LIB_HONEST_H

#include "lib/virtio.h"
#include "targets.h"

#define REQUEST_ROOM 1024 /* bytes that a request wants, and that nobody else touches meanwhile */

struct device_type {
	const char *name;
	enum devices bit;
	u16 id; /* virtio: Device Types */
	unsigned queue;
	u16 direction;	      /* of buffers there, as flags of a descriptor */
	unsigned input_queue; /* one that takes writable buffers only; or `queue` */
	/* Puts them and what they describe in place: the chain at head 0 is then to be offered. */
	void (*prepare)(struct ring *ring, void *room);
	/* Whether that was a good answer, if `len` bytes of it were used. */
	bool (*answered)(const void *room, u32 len);
};

/* NULL: there is none. */
const struct device_type *device_type_named(const char *name);
const struct device_type *device_type_of(u16 id);

/* Ask, and wait for the answer. False: it did not come, or was not good. */
bool device_works(const struct device_type *type, struct virtio *virtio, void *room);

#endif
