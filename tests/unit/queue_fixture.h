/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue and a driver on one thread, for test_queue.c, test_queue_split.c and
 * test_queue_packed.c: what they all do to them.
 */
#ifndef QUEUE_FIXTURE_H
#define QUEUE_FIXTURE_H

#include "fake_driver.h"
#include "virtio/queue.h"

#include <linux/virtio_config.h>

#define RAM  MiB(4)
#define AREA MiB(1) /* where the queue lies; test buffers of fixed addresses are below it */
#define SIZE 16

#define PACKED	  (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)

struct writes {
	u64 gpa[64], len[64];
	unsigned count;
};

struct queue_fixture {
	u64 kind; /* of the rings: 0 or PACKED */
	struct memory *memory;
	struct fake_driver driver;
	struct queue queue;
	struct chain chain;
	struct violation violation;
	struct writes writes; /* once note_writes() was called */
};

/* cmocka's: a fixture with a queue of SIZE, without EVENT_IDX. */
int setup_split(void **state);
int setup_packed(void **state);
int teardown(void **state);

#define SPLIT_TEST(name)                                                                           \
	{                                                                                          \
		"split: " #name, test_##name, setup_split, teardown, NULL                          \
	}
#define PACKED_TEST(name)                                                                          \
	{                                                                                          \
		"packed: " #name, test_##name, setup_packed, teardown, NULL                        \
	}
/* The trailing comma of the list is the user's. */
#define TEST_BOTH(name) SPLIT_TEST(name), PACKED_TEST(name)

/* The queue that the driver has laid out. INDIRECT is negotiated. */
void queue_describe(struct queue *queue, const struct fake_driver *driver);

/* Afresh, in the fixture's kind. */
void start(struct queue_fixture *f, u16 size, bool event_idx);

int pop(struct queue_fixture *f);
int wants_interrupt(struct queue_fixture *f);

/* The next pop, or what was done to the queue, is refused, in these very words. */
void assert_refused(struct queue_fixture *f, const char *text);
void assert_violation(const struct queue_fixture *f, const char *text, bool strict_only);

/* VT-6: these areas are refused in these words, or (NULL) taken, with EVENT_IDX and without. */
struct area_case {
	u64 desc, driver, device;
	const char *text;
};
void check_areas(struct queue_fixture *f, const struct area_case *areas);

/* A chain of one descriptor, as raw as the test wants it, published: head or id 0. */
void offer_raw(struct queue_fixture *f, u64 addr, u32 len, u16 flags);

/* The driver gets this back next. */
void assert_used(struct queue_fixture *f, u16 head, u32 written);

/* One writable byte, there and back. */
void push_one(struct queue_fixture *f);

/* One writable byte, made available. Does the device want to hear of it? */
bool add_and_publish(struct queue_fixture *f);

/* From now on, what is written to RAM is kept in f->writes. */
void note_writes(struct queue_fixture *f);
bool was_noted(const struct writes *writes, u64 gpa, u64 len);

#endif
