/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bus: a guest touches an address, and we find out whose it is.
 *
 * There are two tables, ports and memory, each a plain array of pointers in the
 * order in which the regions were added. A few dozen at most: a search from the
 * front is over before anything cleverer had set itself up, and "the one that
 * was added first answers" comes for free. Looking up takes a lock that many
 * vCPUs share; the device is called after it was given back, so that a device
 * may take its time, and may even move itself, without stopping the others.
 *
 * All arithmetic on addresses goes around at 2^64, as a guest's does. So we
 * never compare ends, only distances: x lies in a region if x - base < size.
 *
 * This file does not know any device, nor who asks.
 *
 * Tour 3.40
 */
#include "board/bus.h"

#include "host/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * How many pages we are willing to remember having complained about. A guest
 * can name 2^52 of them; a user reads a screenful.
 */
#define UNANSWERED_PAGES 64

struct region_table {
	const struct region **regions; /* in the order of bus_add() */
	unsigned count, room;
};

struct bus {
	pthread_rwlock_t lock; /* guards the tables; not held while a device is called */
	struct region_table tables[MEMORY + 1];

	pthread_mutex_t unanswered_lock; /* guards what follows */
	u64 unanswered[UNANSWERED_PAGES];
	unsigned unanswered_count;
};

/* Who answers for an access. */
enum answer {
	ANSWER_NOBODY,
	ANSWER_ONE,    /* one region, for all of it */
	ANSWER_PARTLY, /* each byte has to ask for itself */
};

struct bus *bus_new(void)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	pthread_rwlockattr_t attributes;

	if (!bus)
		return NULL;
	/*
	 * By default a stream of readers keeps a writer out for ever, and vCPUs
	 * that poll a device are just that. We never read-lock twice in one
	 * thread, so the writer may go first.
	 */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bus->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	pthread_mutex_init(&bus->unanswered_lock, NULL);
	return bus;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(bus->tables); i++)
		free(bus->tables[i].regions);
	pthread_mutex_destroy(&bus->unanswered_lock);
	pthread_rwlock_destroy(&bus->lock);
	free(bus);
}

void bus_add(struct bus *bus, enum space space, const struct region *region)
{
	struct region_table *table = &bus->tables[space];

	assert(region->size);
	pthread_rwlock_wrlock(&bus->lock);
	if (table->count == table->room) {
		unsigned room = MAX(2 * table->room, 16);
		const struct region **regions =
			realloc(table->regions, room * sizeof(table->regions[0]));

		/*
		 * Only while the board is being built: whatever a guest moves about
		 * has been here before, and room is never given back. A launcher that
		 * has no 500 bytes at start has no future either.
		 */
		if (!regions)
			abort();
		table->regions = regions;
		table->room = room;
	}
	table->regions[table->count++] = region;
	pthread_rwlock_unlock(&bus->lock);
}

void bus_remove(struct bus *bus, enum space space, const struct region *region)
{
	struct region_table *table = &bus->tables[space];

	pthread_rwlock_wrlock(&bus->lock);
	for (unsigned i = 0; i < table->count; i++) {
		if (table->regions[i] != region)
			continue;
		table->count--;
		memmove(&table->regions[i], &table->regions[i + 1],
			(table->count - i) * sizeof(table->regions[0]));
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
}

/*
 * The first region that has any byte of the access decides: if it has them all,
 * it answers (*found is a copy, the region itself may be gone a moment later).
 * If it has only some, somebody else has the others, or nobody.
 *
 * Tour 3.41: The search
 */
static enum answer bus_find(struct bus *bus, enum space space, u64 address, unsigned len,
			    struct region *found)
{
	const struct region_table *table = &bus->tables[space];
	enum answer answer = ANSWER_NOBODY;

	pthread_rwlock_rdlock(&bus->lock);
	for (unsigned i = 0; i < table->count; i++) {
		const struct region *region = table->regions[i];
		u64 offset = address - region->base;

		if (offset < region->size && len <= region->size - offset) {
			*found = *region;
			answer = ANSWER_ONE;
			break;
		}
		if (offset < region->size || region->base - address < len) {
			answer = ANSWER_PARTLY;
			break;
		}
	}
	pthread_rwlock_unlock(&bus->lock);
	/* Devices are promised whole words; the engine may bring three bytes of one. */
	if (answer == ANSWER_ONE && (len & (len - 1)))
		answer = ANSWER_PARTLY;
	return answer;
}

/* RUN-6: each page of memory where nothing is, is mentioned once under --verbose. */
static void mention_page(struct bus *bus, u64 address, const char *what)
{
	u64 page = align_down(address, PAGE_SIZE);
	bool news = true, last = false;

	pthread_mutex_lock(&bus->unanswered_lock);
	for (unsigned i = 0; i < bus->unanswered_count && news; i++)
		news = bus->unanswered[i] != page;
	if (bus->unanswered_count == UNANSWERED_PAGES) {
		news = false;
	} else if (news) {
		bus->unanswered[bus->unanswered_count++] = page;
		last = bus->unanswered_count == UNANSWERED_PAGES;
	}
	pthread_mutex_unlock(&bus->unanswered_lock);

	if (news)
		log_verbose("nothing answers at guest-physical page %#llx (%s)%s",
			    (unsigned long long)page, what,
			    last ? "; further pages are not mentioned" : "");
}

static void unanswered(struct bus *bus, enum space space, u64 address, unsigned len,
		       const char *what)
{
	/* Ports are probed all the time: that nobody is there is an answer like any other. */
	if (space != MEMORY || !log_is_verbose())
		return;
	mention_page(bus, address, what);
	mention_page(bus, address + len - 1, what);
}

static u64 cut_to(u64 value, unsigned len)
{
	return len >= sizeof(value) ? value : value & ((1ull << (8 * len)) - 1);
}

/*
 * The way of every access that an engine cannot answer itself. An access that lies half in one
 * device and half in another is what no sane driver does; so it is done byte by byte, and
 * nobody has to think about it again.
 *
 * Tour 3.42, 2 items: An access
 */
u64 bus_read(struct bus *bus, enum space space, u64 address, unsigned len)
{
	struct region region;
	u64 value = 0;

	switch (bus_find(bus, space, address, len, &region)) {
	case ANSWER_ONE:
		value = region.ops->read(region.opaque, address - region.base, len);
		break;
	case ANSWER_PARTLY:
		for (unsigned i = 0; i < len; i++)
			value |= bus_read(bus, space, address + i, 1) << (8 * i);
		break;
	case ANSWER_NOBODY:
		unanswered(bus, space, address, len, "read");
		value = ~0ull;
		break;
	}
	return cut_to(value, len);
}

void bus_write(struct bus *bus, enum space space, u64 address, unsigned len, u64 value)
{
	struct region region;

	value = cut_to(value, len);
	switch (bus_find(bus, space, address, len, &region)) {
	case ANSWER_ONE:
		region.ops->write(region.opaque, address - region.base, len, value);
		break;
	case ANSWER_PARTLY:
		for (unsigned i = 0; i < len; i++)
			bus_write(bus, space, address + i, 1, value >> (8 * i));
		break;
	case ANSWER_NOBODY:
		unanswered(bus, space, address, len, "write");
		break;
	}
}
