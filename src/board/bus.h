/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bus: which device answers at an address.
 *
 * Engines see two calls. Devices add and remove regions, also while vCPUs run:
 * a guest may move a BAR. Where nothing is, reads give all ones and writes are
 * ignored; each such page is mentioned once under --verbose.
 *
 * Tour 3.30: Whose address is this?
 */
#ifndef BOARD_BUS_H
#define BOARD_BUS_H

#include "host/types.h"

#include <pthread.h>

enum space { PORT, MEMORY };

/*
 * `offset` is from the start of the region; len is 1, 2, 4 or 8, and the access lies wholly inside.
 * Called without any lock, on any vCPU thread, several at once. The upper bits of a read are cut
 * off.
 *
 * Tour 3.31, 2 items
 */
struct region_ops {
	u64 (*read)(void *opaque, u64 offset, unsigned len);
	void (*write)(void *opaque, u64 offset, unsigned len, u64 value);
};

struct region {
	u64 base, size;
	const struct region_ops *ops;
	void *opaque;
	const char *name;
};

struct bus;

struct bus *bus_new(void);
void bus_free(struct bus *bus);

/*
 * The region belongs to the caller and must not change while it is on the bus. Where two overlap,
 * the one that was added first answers. After bus_remove() a call that was under way may still
 * arrive.
 */
void bus_add(struct bus *bus, enum space space, const struct region *region);
void bus_remove(struct bus *bus, enum space space, const struct region *region);

/*
 * An access by the guest: any vCPU thread. len is 1 to 8 (a power of two on ports). One that is not
 * wholly inside a region is done byte by byte.
 */
u64 bus_read(struct bus *bus, enum space space, u64 address, unsigned len);
void bus_write(struct bus *bus, enum space space, u64 address, unsigned len, u64 value);

#endif
