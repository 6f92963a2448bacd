/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues (virtio/queue.c) against a small driver, on one thread: what
 * goes around comes back, and each rule of VQ and the area checks of VT-6 is
 * seen to bite. test_queue_threads.c has two threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"
#include "virtio/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RAM  MiB(4)
#define AREA MiB(1) /* where the queue lies; test buffers of fixed addresses are below it */
#define SIZE 16

struct writes {
	u64 gpa[64], len[64];
	unsigned count;
};

struct fixture {
	struct memory *memory;
	struct fake_driver driver;
	struct queue queue;
	struct chain chain;
	struct violation violation;
	struct writes writes;
};

static void queue_describe(struct queue *queue, const struct fake_driver *driver)
{
	*queue = (struct queue){
		.memory = driver->memory,
		.device = "test",
		.size = driver->size,
		.desc = driver->desc_gpa,
		.driver = driver->avail_gpa,
		.used = driver->used_gpa,
		.event_idx = driver->event_idx,
		.indirect = true,
	};
}

static void start(struct fixture *f, u16 size, bool event_idx)
{
	fake_driver_init(&f->driver, f->memory, AREA, RAM - AREA, size, event_idx);
	queue_describe(&f->queue, &f->driver);
	assert_true(queue_start(&f->queue, &f->violation));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem problem;

	f->memory = memory_new(RAM, &problem);
	assert_non_null(f->memory);
	start(f, SIZE, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	memory_free(f->memory);
	free(f);
	return 0;
}

static int pop(struct fixture *f)
{
	return queue_pop(&f->queue, &f->chain, &f->violation);
}

/* The next pop is refused, in these very words. */
static void assert_refused(struct fixture *f, const char *text)
{
	memset(&f->violation, 0xff, sizeof(f->violation));
	assert_int_equal(pop(f), -EPROTO);
	assert_string_equal(f->violation.text, text);
	assert_false(f->violation.strict_only);
}

/* A chain of one descriptor, as raw as the test wants it. */
static void offer_raw(struct fixture *f, struct vring_desc desc)
{
	f->driver.desc[0] = desc;
	fake_driver_offer(&f->driver, 0);
	fake_driver_publish(&f->driver);
}

static void assert_used(struct fixture *f, u16 head, u32 written)
{
	u16 got_head;
	u32 got_written;

	assert_true(fake_driver_take(&f->driver, &got_head, &got_written));
	assert_int_equal(got_head, head);
	assert_int_equal(got_written, written);
}

/* What works */

static void test_empty_queue_gives_nothing(void **state)
{
	struct fixture *f = *state;

	assert_false(queue_pending(&f->queue));
	assert_int_equal(pop(f), 0);
}

static void test_chain_arrives_in_order_and_goes_back(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {
		fake_readable(&f->driver, "head", 4),
		fake_readable(&f->driver, "er", 2),
		fake_writable(&f->driver, 8),
		fake_writable(&f->driver, 1),
	};
	const int head = fake_driver_add(&f->driver, buffers, 4);
	u16 unused_head;
	u32 unused_written;
	char data[8];

	assert_int_equal(pop(f), 0);
	assert_true(fake_driver_publish(&f->driver));
	assert_true(queue_pending(&f->queue));
	assert_int_equal(pop(f), 1);
	assert_false(queue_pending(&f->queue));
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.readable, 2);
	assert_int_equal(f->chain.writable, 2);
	assert_int_equal(f->chain.readable_len, 6);
	assert_int_equal(f->chain.writable_len, 9);
	for (unsigned i = 0; i < 4; i++) {
		assert_ptr_equal(f->chain.iov[i].iov_base,
				 fake_driver_at(&f->driver, buffers[i].gpa, 1));
		assert_int_equal(f->chain.iov[i].iov_len, buffers[i].len);
	}

	assert_int_equal(chain_read(&f->chain, 0, data, sizeof(data)), 6);
	assert_memory_equal(data, "header", 6);
	assert_int_equal(chain_write(&f->chain, 7, "xyz", 3), 2);
	assert_memory_equal(fake_driver_at(&f->driver, buffers[2].gpa + 7, 1), "x", 1);
	assert_memory_equal(fake_driver_at(&f->driver, buffers[3].gpa, 1), "y", 1);

	assert_false(fake_driver_take(&f->driver, &unused_head, &unused_written));
	queue_push(&f->queue, &f->chain, 9);
	assert_used(f, head, 9);
}

/* VQ-10: however ten readable and ten writable bytes are cut, they read and write the same. */
static void check_framing(struct fixture *f, unsigned cut, unsigned offset)
{
	static const char text[] = "0123456789";
	const unsigned expected = MIN(5, 10 - offset);
	char data[5], back[10];
	struct fake_buffer buffers[4];
	int head;

	start(f, SIZE, false);
	buffers[0] = fake_readable(&f->driver, text, cut);
	buffers[1] = fake_readable(&f->driver, text + cut, 10 - cut);
	buffers[2] = fake_writable(&f->driver, 10 - cut);
	buffers[3] = fake_writable(&f->driver, cut);
	head = fake_driver_add(&f->driver, buffers, 4);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);

	assert_int_equal(chain_read(&f->chain, offset, data, sizeof(data)), expected);
	assert_memory_equal(data, text + offset, expected);

	assert_int_equal(chain_write(&f->chain, offset, "abcde", 5), expected);
	memcpy(back, fake_driver_at(&f->driver, buffers[2].gpa, 10 - cut), 10 - cut);
	memcpy(back + 10 - cut, fake_driver_at(&f->driver, buffers[3].gpa, cut), cut);
	assert_memory_equal(back + offset, "abcde", expected);
	for (unsigned i = 0; i < offset; i++)
		assert_int_equal(back[i], 0);

	queue_push(&f->queue, &f->chain, 10);
	assert_used(f, head, 10);
}

static void test_framing_does_not_matter(void **state)
{
	for (unsigned cut = 0; cut <= 10; cut++)
		for (unsigned offset = 0; offset <= 12; offset++)
			check_framing(*state, cut, MIN(offset, 10));
}

static void test_reading_far_past_the_end_gives_nothing(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, "x", 1),
					fake_writable(&f->driver, 1)};
	char byte;

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(chain_read(&f->chain, UINT64_MAX, &byte, 1), 0);
	assert_int_equal(chain_write(&f->chain, UINT64_MAX, "y", 1), 0);
}

static void test_indices_wrap(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 4);

	for (unsigned i = 0; i < 70000; i++) {
		const int head = fake_driver_add(&f->driver, &buffer, 1);

		fake_driver_publish(&f->driver);
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, i % 5);
		assert_used(f, head, i % 5);
	}
	assert_int_equal(f->driver.used->idx, 70000 % 65536);
}

static void test_every_size_can_be_filled(void **state)
{
	struct fixture *f = *state;

	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size *= 2) {
		struct fake_buffer buffer;

		start(f, size, true);
		buffer = fake_writable(&f->driver, 1);
		for (unsigned i = 0; i < size; i++)
			assert_true(fake_driver_add(&f->driver, &buffer, 1) >= 0);
		assert_int_equal(fake_driver_add(&f->driver, &buffer, 1), -1);
		fake_driver_publish(&f->driver);
		for (unsigned i = 0; i < size; i++)
			assert_int_equal(pop(f), 1);
		assert_int_equal(pop(f), 0);
	}
}

static void test_chains_go_back_in_any_order(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 4);
	u16 heads[3];

	for (unsigned i = 0; i < 3; i++)
		fake_driver_add(&f->driver, &buffer, 1);
	fake_driver_publish(&f->driver);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pop(f), 1);
		heads[i] = f->chain.head;
	}
	queue_push_head(&f->queue, heads[2], 3);
	queue_push_head(&f->queue, heads[0], 1);
	queue_push(&f->queue, &f->chain, 4);
	assert_used(f, heads[2], 3);
	assert_used(f, heads[0], 1);
	assert_used(f, heads[2], 4);
}

static void test_start_forgets_the_past(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 4);

	fake_driver_add(&f->driver, &buffer, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 4);
	queue_suppress(&f->queue);

	start(f, SIZE, false);
	assert_int_equal(pop(f), 0);
	buffer = fake_writable(&f->driver, 4);
	fake_driver_add(&f->driver, &buffer, 1);
	assert_true(fake_driver_publish(&f->driver));
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 2);
	assert_int_equal(queue_wants_interrupt(&f->queue, &f->violation), 1);
	assert_used(f, f->chain.head, 2);
}

/* VQ-9: never more than there is room for. */
static void test_written_length_is_clamped(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, "abc", 3),
					fake_writable(&f->driver, 5)};

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, UINT32_MAX);
	assert_used(f, f->chain.head, 5);
}

static void note_write(void *opaque, u64 gpa, u64 len)
{
	struct writes *writes = opaque;

	assert_true(writes->count < ARRAY_SIZE(writes->gpa));
	writes->gpa[writes->count] = gpa;
	writes->len[writes->count++] = len;
}

static bool was_noted(const struct writes *writes, u64 gpa, u64 len)
{
	for (unsigned i = 0; i < writes->count; i++)
		if (writes->gpa[i] == gpa && writes->len[i] == len)
			return true;
	return false;
}

static void test_writes_to_ram_are_told(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {
		fake_readable(&f->driver, "abc", 3),
		fake_writable(&f->driver, 5),
		fake_writable(&f->driver, 5),
		fake_writable(&f->driver, 5),
	};

	f->memory->written = note_write;
	f->memory->written_opaque = &f->writes;
	fake_driver_add(&f->driver, buffers, 4);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->writes.count, 0);

	queue_push(&f->queue, &f->chain, 7);
	assert_int_equal(f->writes.count, 4);
	assert_true(was_noted(&f->writes, buffers[1].gpa, 5));
	assert_true(was_noted(&f->writes, buffers[2].gpa, 2));
	assert_true(
		was_noted(&f->writes, f->driver.used_gpa + offsetof(struct vring_used, ring), 8));
	assert_true(
		was_noted(&f->writes, f->driver.used_gpa + offsetof(struct vring_used, idx), 2));

	f->writes.count = 0;
	queue_suppress(&f->queue);
	assert_int_equal(f->writes.count, 1);
	assert_true(
		was_noted(&f->writes, f->driver.used_gpa + offsetof(struct vring_used, flags), 2));
}

/* Areas (VT-6) */

struct area_case {
	u64 desc, driver, used;
	const char *text; /* NULL: fine */
};

/* The last 16-entry areas that RAM has room for: 256, 38 and 134 bytes. */
#define LAST_DESC   (RAM - 256)
#define LAST_DRIVER (RAM - 38)
#define LAST_USED   (RAM - 136) /* 134, and aligned to 4 */

static const struct area_case area_cases[] = {
	{0, 0x1000, 0x2000, NULL},
	{LAST_DESC, 0x1000, 0x2000, NULL},
	{0, LAST_DRIVER, 0x2000, NULL},
	{0, 0x1000, LAST_USED, NULL},
	{8, 0x1000, 0x2000, "VT-6: descriptor area 0x8 is not aligned to 16 bytes"},
	{0, 0x1001, 0x2000, "VT-6: driver area 0x1001 is not aligned to 2 bytes"},
	{0, 0x1000, 0x2002, "VT-6: device area 0x2002 is not aligned to 4 bytes"},
	{LAST_DESC + 16, 0x1000, 0x2000,
	 "VT-6: descriptor area 0x3fff10, 256 bytes long, does not lie inside RAM"},
	{0, LAST_DRIVER + 2, 0x2000,
	 "VT-6: driver area 0x3fffdc, 38 bytes long, does not lie inside RAM"},
	{0, 0x1000, LAST_USED + 4,
	 "VT-6: device area 0x3fff7c, 134 bytes long, does not lie inside RAM"},
	{-16ull, 0x1000, 0x2000,
	 "VT-6: descriptor area 0xfffffffffffffff0, 256 bytes long, does not lie inside RAM"},
	{0, -2ull, 0x2000,
	 "VT-6: driver area 0xfffffffffffffffe, 38 bytes long, does not lie inside RAM"},
	{0, 0x1000, -4ull,
	 "VT-6: device area 0xfffffffffffffffc, 134 bytes long, does not lie inside RAM"},
};

/* With and without EVENT_IDX alike: the event words belong to the areas. */
static void check_areas(struct fixture *f, const struct area_case *area, bool event_idx)
{
	f->queue.event_idx = event_idx;
	f->queue.desc = area->desc;
	f->queue.driver = area->driver;
	f->queue.used = area->used;
	if (!area->text) {
		assert_true(queue_start(&f->queue, &f->violation));
		return;
	}
	assert_false(queue_start(&f->queue, &f->violation));
	assert_string_equal(f->violation.text, area->text);
	assert_false(f->violation.strict_only);
}

static void test_areas_are_checked(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(area_cases); i++) {
		check_areas(*state, &area_cases[i], false);
		check_areas(*state, &area_cases[i], true);
	}
}

static void test_used_flags_must_start_at_zero_when_strict(void **state)
{
	struct fixture *f = *state;

	f->driver.used->flags = 1;
	f->queue.strict = true;
	assert_false(queue_start(&f->queue, &f->violation));
	assert_string_equal(f->violation.text,
			    "VT-6: used.flags is 1 when the queue is enabled, must be 0");
	assert_true(f->violation.strict_only);
}

/*
 * The obvious sense of rubbish in the device's own words: the device clears it, and the driver
 * notifies.
 */
static void test_start_asks_for_notifications(void **state)
{
	struct fixture *f = *state;

	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		struct fake_buffer buffer;

		start(f, SIZE, event_idx);
		f->driver.used->flags = 1;
		*fake_avail_event(&f->driver) = 0x1234;
		assert_true(queue_start(&f->queue, &f->violation));
		assert_int_equal(f->driver.used->flags, 0);
		buffer = fake_writable(&f->driver, 1);
		fake_driver_add(&f->driver, &buffer, 1);
		assert_true(fake_driver_publish(&f->driver));
	}
}

/* VQ-1 */

static void test_index_may_not_run_ahead(void **state)
{
	struct fixture *f = *state;

	f->driver.avail->idx = SIZE + 1;
	assert_refused(f,
		       "VQ-1: available index 17 runs ahead of 0 by more than the queue size 16");
}

static void test_index_may_not_go_back(void **state)
{
	struct fixture *f = *state;

	offer_raw(f, (struct vring_desc){.addr = 0, .len = 1});
	assert_int_equal(pop(f), 1);
	f->driver.avail->idx = 0;
	assert_refused(f, "VQ-1: available index 0 runs ahead of 1 by more than the queue size 16");
}

/* No more than `size` chains are ever out with the device, whatever the driver says. */
static void test_chains_out_count_as_well(void **state)
{
	struct fixture *f = *state;

	f->driver.desc[0] = (struct vring_desc){.len = 1};
	f->driver.avail->idx = SIZE;
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 0);
	f->driver.avail->idx = SIZE + 1;
	assert_refused(f, "VQ-1: available index 17 runs ahead of used index 0 by more than the "
			  "queue size 16");

	queue_push(&f->queue, &f->chain, 0);
	assert_int_equal(pop(f), 1);
}

static void test_head_must_be_in_the_table(void **state)
{
	struct fixture *f = *state;

	fake_driver_offer(&f->driver, SIZE);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: head 16 is not below the queue size 16");
}

/* VQ-2 */

static void test_loop_is_refused(void **state)
{
	struct fixture *f = *state;

	f->driver.desc[3] = (struct vring_desc){.len = 1, .flags = VRING_DESC_F_NEXT, .next = 3};
	fake_driver_offer(&f->driver, 3);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 3 has more descriptors than the queue size 16, or loops");
}

static void test_loop_of_empty_buffers_is_refused(void **state)
{
	struct fixture *f = *state;

	f->driver.desc[0] = (struct vring_desc){.flags = VRING_DESC_F_NEXT, .next = 1};
	f->driver.desc[1] = (struct vring_desc){.flags = VRING_DESC_F_NEXT, .next = 0};
	fake_driver_offer(&f->driver, 0);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 0 has more descriptors than the queue size 16, or loops");
}

static void test_next_stays_in_the_table(void **state)
{
	struct fixture *f = *state;

	offer_raw(f, (struct vring_desc){.len = 1, .flags = VRING_DESC_F_NEXT, .next = SIZE});
	assert_refused(f, "VQ-2: descriptor 0: next is 16, outside its table of 16");
}

/* Without NEXT, next is whatever was left there. */
static void test_next_without_the_flag_is_ignored(void **state)
{
	struct fixture *f = *state;

	offer_raw(f, (struct vring_desc){.len = 1, .next = 0xffff});
	assert_int_equal(pop(f), 1);
}

static void test_next_stays_in_an_indirect_table(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, NULL, 1),
					fake_readable(&f->driver, NULL, 1)};
	const int head = fake_driver_add_indirect(&f->driver, buffers, 2, 0);
	struct vring_desc *table = fake_driver_at(&f->driver, f->driver.table[head], 32);

	table[1].flags = VRING_DESC_F_NEXT;
	table[1].next = 2;
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-2: descriptor 1: next is 2, outside its table of 2");
}

static void test_longest_chains_are_accepted(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[SIZE];

	for (unsigned direct = 0; direct <= SIZE; direct++) {
		start(f, SIZE, false);
		for (unsigned i = 0; i < SIZE; i++)
			buffers[i] = fake_readable(&f->driver, &"0123456789abcdef"[i], 1);
		fake_driver_add_indirect(&f->driver, buffers, SIZE, direct);
		fake_driver_publish(&f->driver);
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->chain.readable, SIZE);
		for (unsigned i = 0; i < SIZE; i++)
			assert_int_equal(*(char *)f->chain.iov[i].iov_base, "0123456789abcdef"[i]);
	}
}

/* Ordinary descriptors and those of the table count together; the one between does not. */
static void test_chain_longer_than_the_queue_is_refused(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[SIZE + 1];

	for (unsigned i = 0; i <= SIZE; i++)
		buffers[i] = fake_readable(&f->driver, NULL, 1);
	fake_driver_add_indirect(&f->driver, buffers, SIZE + 1, 1);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 0 has more descriptors than the queue size 16, or loops");
}

static void test_loop_in_an_indirect_table_is_refused(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, NULL, 1);
	const int head = fake_driver_add_indirect(&f->driver, &buffer, 1, 0);
	struct vring_desc *table = fake_driver_at(&f->driver, f->driver.table[head], 16);

	table[0].flags = VRING_DESC_F_NEXT;
	table[0].next = 0;
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 0 has more descriptors than the queue size 16, or loops");
}

/* 2^32 bytes exactly are fine, one more is not. Nobody touches them: RAM costs nothing. */
static void test_chain_of_four_gigabytes(void **state)
{
	struct fixture *f = *state;
	struct problem problem;
	struct fake_buffer buffers[] = {{0, GiB(2), false}, {0, GiB(2), true}, {0, 1, true}};

	memory_free(f->memory);
	f->memory = memory_new(GiB(2) + RAM, &problem);
	assert_non_null(f->memory);
	start(f, SIZE, false);
	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_add(&f->driver, buffers, 3);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len + f->chain.writable_len, GiB(4));
	assert_refused(f, "VQ-2: chain at head 2 holds 4294967297 bytes, more than 2^32");
}

/* VQ-3 */

static void test_readable_after_writable_is_refused(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {fake_writable(&f->driver, 1),
					fake_readable(&f->driver, "x", 1)};

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-3: descriptor 1 is readable, but comes after a writable one");
}

static void test_readable_after_writable_through_a_table_is_refused(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {fake_writable(&f->driver, 1),
					fake_readable(&f->driver, "x", 1)};

	fake_driver_add_indirect(&f->driver, buffers, 2, 1);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-3: descriptor 0 is readable, but comes after a writable one");
}

static void test_nothing_readable_towards_the_driver(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer good = fake_writable(&f->driver, 1),
			   bad = fake_readable(&f->driver, "x", 1);

	f->queue.direction = QUEUE_IN;
	fake_driver_add(&f->driver, &good, 1);
	fake_driver_add(&f->driver, &bad, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_refused(f,
		       "VQ-3: descriptor 1 is readable, in a queue for what the driver receives");
}

static void test_nothing_writable_from_the_driver(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer good = fake_readable(&f->driver, "x", 1),
			   bad = fake_writable(&f->driver, 1);

	f->queue.direction = QUEUE_OUT;
	fake_driver_add(&f->driver, &good, 1);
	fake_driver_add(&f->driver, &bad, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_refused(f, "VQ-3: descriptor 1 is writable, in a queue for what the driver sends");
}

/* VQ-4 */

/*
 * WRITE on the descriptor of a table means nothing, not even in a queue where nothing is writable.
 */
static void test_write_flag_of_a_table_is_ignored(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, "x", 1);
	const int head = fake_driver_add_indirect(&f->driver, &buffer, 1, 0);

	f->queue.direction = QUEUE_OUT;
	f->driver.desc[head].flags |= VRING_DESC_F_WRITE;
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable, 1);
	assert_int_equal(f->chain.writable, 0);
}

/* The standard asks for no alignment of a table. */
static void test_table_may_lie_anywhere(void **state)
{
	struct fixture *f = *state;
	const struct vring_desc inner = {.addr = 0x4000, .len = 5};

	memcpy(fake_driver_at(&f->driver, 0x5001, sizeof(inner)), &inner, sizeof(inner));
	offer_raw(f,
		  (struct vring_desc){.addr = 0x5001, .len = 16, .flags = VRING_DESC_F_INDIRECT});
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len, 5);
	assert_ptr_equal(f->chain.iov[0].iov_base, fake_driver_at(&f->driver, 0x4000, 5));
}

static void test_indirect_must_be_negotiated(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, "x", 1);

	f->queue.indirect = false;
	fake_driver_add_indirect(&f->driver, &buffer, 1, 0);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-4: descriptor 0 is indirect, which was not negotiated");
}

static void test_tables_do_not_nest(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *inner = fake_driver_at(&f->driver, 0x4000, sizeof(*inner));

	*inner = (struct vring_desc){.addr = 0x4000, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	offer_raw(f, *inner);
	assert_refused(f, "VQ-4: descriptor 0 is indirect inside an indirect table");
}

struct table_case {
	u64 addr;
	u32 len;
	u16 flags;
	const char *text;
};

static const struct table_case table_cases[] = {
	{0x4000, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT,
	 "VQ-4: descriptor 0 has flags 0x5, INDIRECT and NEXT together"},
	{0x4000, 0, VRING_DESC_F_INDIRECT,
	 "VQ-4: descriptor 0: indirect table of 0 bytes, must be a non-zero multiple of 16"},
	{0x4000, 24, VRING_DESC_F_INDIRECT,
	 "VQ-4: descriptor 0: indirect table of 24 bytes, must be a non-zero multiple of 16"},
	{0x4000, 17 * 16, VRING_DESC_F_INDIRECT,
	 "VQ-4: descriptor 0: indirect table of 17 entries, more than the queue size 16"},
	{0x4000, -16u, VRING_DESC_F_INDIRECT,
	 "VQ-4: descriptor 0: indirect table of 268435455 entries, more than the queue size 16"},
	{RAM - 16, 32, VRING_DESC_F_INDIRECT,
	 "VQ-5: descriptor 0: indirect table 0x3ffff0, 32 bytes long, does not lie inside RAM"},
	{-16ull, 32, VRING_DESC_F_INDIRECT,
	 "VQ-5: descriptor 0: indirect table 0xfffffffffffffff0, 32 bytes long, does not lie "
	 "inside RAM"},
};

static void test_bad_tables_are_refused(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(table_cases); i++) {
		const struct table_case *table = &table_cases[i];

		start(f, SIZE, false);
		offer_raw(f, (struct vring_desc){.addr = table->addr,
						 .len = table->len,
						 .flags = table->flags});
		assert_refused(f, table->text);
	}
}

/* VQ-5 */

static void test_buffers_lie_in_ram(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, false);
	offer_raw(f, (struct vring_desc){.addr = RAM - 1, .len = 1});
	assert_int_equal(pop(f), 1);

	start(f, SIZE, false);
	offer_raw(f, (struct vring_desc){.addr = RAM - 1, .len = 2});
	assert_refused(
		f, "VQ-5: descriptor 0: buffer 0x3fffff, 2 bytes long, does not lie inside RAM");

	start(f, SIZE, false);
	offer_raw(f, (struct vring_desc){.addr = GiB(3), .len = 1});
	assert_refused(
		f, "VQ-5: descriptor 0: buffer 0xc0000000, 1 bytes long, does not lie inside RAM");

	start(f, SIZE, false);
	offer_raw(f, (struct vring_desc){.addr = -1ull, .len = 2});
	assert_refused(f, "VQ-5: descriptor 0: buffer 0xffffffffffffffff, 2 bytes long, does not "
			  "lie inside RAM");
}

static void test_empty_buffers_are_harmless(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffers[] = {
		{-1ull, 0, false}, fake_readable(&f->driver, "x", 1), {GiB(3), 0, false},
		{RAM, 0, true},	   fake_writable(&f->driver, 2),
	};

	fake_driver_add(&f->driver, buffers, 5);
	fake_driver_add(&f->driver, buffers, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable, 1);
	assert_int_equal(f->chain.readable_len, 1);
	assert_int_equal(f->chain.writable, 1);
	assert_int_equal(f->chain.writable_len, 2);
	queue_push(&f->queue, &f->chain, 2);

	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable + f->chain.writable, 0);
	queue_push(&f->queue, &f->chain, 1);
	assert_used(f, 0, 2);
	assert_used(f, 5, 0);
}

static void test_unknown_flags_are_ignored(void **state)
{
	struct fixture *f = *state;

	offer_raw(f, (struct vring_desc){.len = 1, .flags = 0xfff8});
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len, 1);
}

/* Once taken, a chain is what it was: the driver may rewrite the descriptor and gains nothing. */
static void test_rewritten_descriptor_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 3);

	fake_driver_add(&f->driver, &buffer, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	f->driver.desc[0] = (struct vring_desc){.addr = -1ull, .len = -1u};
	assert_int_equal(chain_write(&f->chain, 0, "abcd", 4), 3);
	queue_push(&f->queue, &f->chain, 4);
	assert_used(f, 0, 3);
}

/* VQ-6: interrupts */

static void push_one(struct fixture *f)
{
	struct fake_buffer buffer = {0, 1, true};
	u16 head;
	u32 written;

	assert_true(fake_driver_add(&f->driver, &buffer, 1) >= 0);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 1);
	assert_true(fake_driver_take(&f->driver, &head, &written));
}

static int wants_interrupt(struct fixture *f)
{
	return queue_wants_interrupt(&f->queue, &f->violation);
}

static void test_interrupts_by_flag(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(wants_interrupt(f), 0); /* for nothing, nothing */
	push_one(f);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
	assert_int_equal(wants_interrupt(f), 0);
	f->driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);
	f->driver.avail->flags = 0;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

/* Without EVENT_IDX the word behind the ring is nobody's. */
static void test_used_event_is_ignored_without_event_idx(void **state)
{
	struct fixture *f = *state;

	*fake_used_event(&f->driver) = 0x8000;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

static void test_available_flags_are_zero_or_one(void **state)
{
	struct fixture *f = *state;

	push_one(f);
	f->driver.avail->flags = 2;
	assert_int_equal(wants_interrupt(f), -EPROTO);
	assert_string_equal(f->violation.text, "VQ-6: avail.flags is 2, must be 0 or 1");
	assert_false(f->violation.strict_only);
}

static void test_interrupts_by_event_index(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, true);
	push_one(f); /* used_event is 0: the first counts */
	assert_int_equal(wants_interrupt(f), 1);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);

	*fake_used_event(&f->driver) = 4; /* once the fifth has gone back */
	push_one(f);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);

	*fake_used_event(&f->driver) = 7; /* the eighth, in the middle of a batch */
	for (unsigned i = 0; i < 5; i++)
		push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

/*
 * The very first batch after a start, of any length, and where the driver never moved used_event.
 */
static void test_first_interrupt_after_start(void **state)
{
	struct fixture *f = *state;

	for (unsigned batch = 1; batch <= SIZE; batch++) {
		start(f, SIZE, true);
		for (unsigned i = 0; i < batch; i++)
			push_one(f);
		assert_int_equal(wants_interrupt(f), 1);
		assert_int_equal(wants_interrupt(f), 0);
	}
}

static void test_event_index_wraps(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, true);
	for (unsigned i = 0; i < 65534; i++) {
		push_one(f);
		wants_interrupt(f);
	}
	*fake_used_event(&f->driver) = 65535;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);
	push_one(f); /* the 65536th */
	assert_int_equal(wants_interrupt(f), 1);
	*fake_used_event(&f->driver) = 1;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

/* A batch so long that the index comes round to where it was is not an empty batch. */
static void check_long_batch(struct fixture *f, bool event_idx, unsigned length)
{
	start(f, SIZE, event_idx);
	push_one(f);
	wants_interrupt(f);
	*fake_used_event(&f->driver) = 100;
	for (unsigned i = 0; i < length; i++)
		push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
	assert_int_equal(wants_interrupt(f), 0);
}

static void test_long_batches_interrupt(void **state)
{
	for (unsigned length = 65535; length < 65539; length++) {
		check_long_batch(*state, false, length);
		check_long_batch(*state, true, length);
	}
}

static void test_available_flags_with_event_idx(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, true);
	f->driver.avail->flags = 3;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);

	f->queue.strict = true;
	push_one(f);
	assert_int_equal(wants_interrupt(f), -EPROTO);
	assert_string_equal(f->violation.text, "VQ-6: avail.flags is 3, must be 0 with EVENT_IDX");
	assert_true(f->violation.strict_only);
}

/* VQ-6: notifications */

static bool add_and_publish(struct fixture *f)
{
	struct fake_buffer buffer = {0, 1, true};

	assert_true(fake_driver_add(&f->driver, &buffer, 1) >= 0);
	return fake_driver_publish(&f->driver);
}

static void check_suppression(struct fixture *f, bool event_idx)
{
	start(f, SIZE, event_idx);
	assert_true(add_and_publish(f));
	queue_suppress(&f->queue);
	assert_false(add_and_publish(f));
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 0);
	queue_suppress(&f->queue); /* twice is once */
	assert_false(add_and_publish(f));

	/* One slipped in while nobody was to be told: to be seen before going to sleep. */
	assert_true(queue_unsuppress(&f->queue));
	assert_int_equal(pop(f), 1);
	assert_false(queue_unsuppress(&f->queue));
	assert_int_equal(f->driver.used->flags, 0);
	assert_true(add_and_publish(f));
}

static void test_notifications_are_suppressed(void **state)
{
	check_suppression(*state, false);
	check_suppression(*state, true);
}

static void test_used_flags_stay_zero_with_event_idx(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, true);
	queue_suppress(&f->queue);
	assert_int_equal(f->driver.used->flags, 0);
	queue_unsuppress(&f->queue);
	assert_int_equal(f->driver.used->flags, 0);
}

static void test_words_of_event_idx_are_left_alone_without_it(void **state)
{
	struct fixture *f = *state;

	*fake_avail_event(&f->driver) = 0x1234;
	queue_suppress(&f->queue);
	assert_int_equal(f->driver.used->flags, VRING_USED_F_NO_NOTIFY);
	queue_unsuppress(&f->queue);
	assert_int_equal(*fake_avail_event(&f->driver), 0x1234);
}

/* Suppressed before the driver has ever notified: not even the first chain is worth a word. */
static void check_suppression_from_the_start(struct fixture *f, bool event_idx)
{
	start(f, SIZE, event_idx);
	queue_suppress(&f->queue);
	assert_false(add_and_publish(f));
	assert_true(queue_unsuppress(&f->queue));
}

static void test_notifications_are_suppressed_from_the_start(void **state)
{
	check_suppression_from_the_start(*state, false);
	check_suppression_from_the_start(*state, true);
}

/* A device that never suppresses still hears of everything that comes after it looked. */
static void test_unsuppress_alone_asks_again(void **state)
{
	struct fixture *f = *state;

	start(f, SIZE, true);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(add_and_publish(f));
		assert_int_equal(pop(f), 1);
		assert_false(queue_unsuppress(&f->queue));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(empty_queue_gives_nothing),
		TEST(chain_arrives_in_order_and_goes_back),
		TEST(framing_does_not_matter),
		TEST(reading_far_past_the_end_gives_nothing),
		TEST(indices_wrap),
		TEST(every_size_can_be_filled),
		TEST(chains_go_back_in_any_order),
		TEST(start_forgets_the_past),
		TEST(written_length_is_clamped),
		TEST(writes_to_ram_are_told),
		TEST(areas_are_checked),
		TEST(used_flags_must_start_at_zero_when_strict),
		TEST(start_asks_for_notifications),
		TEST(index_may_not_run_ahead),
		TEST(index_may_not_go_back),
		TEST(chains_out_count_as_well),
		TEST(head_must_be_in_the_table),
		TEST(loop_is_refused),
		TEST(loop_of_empty_buffers_is_refused),
		TEST(next_stays_in_the_table),
		TEST(next_without_the_flag_is_ignored),
		TEST(next_stays_in_an_indirect_table),
		TEST(longest_chains_are_accepted),
		TEST(chain_longer_than_the_queue_is_refused),
		TEST(loop_in_an_indirect_table_is_refused),
		TEST(chain_of_four_gigabytes),
		TEST(readable_after_writable_is_refused),
		TEST(readable_after_writable_through_a_table_is_refused),
		TEST(nothing_readable_towards_the_driver),
		TEST(nothing_writable_from_the_driver),
		TEST(write_flag_of_a_table_is_ignored),
		TEST(table_may_lie_anywhere),
		TEST(indirect_must_be_negotiated),
		TEST(tables_do_not_nest),
		TEST(bad_tables_are_refused),
		TEST(buffers_lie_in_ram),
		TEST(empty_buffers_are_harmless),
		TEST(unknown_flags_are_ignored),
		TEST(rewritten_descriptor_changes_nothing),
		TEST(interrupts_by_flag),
		TEST(used_event_is_ignored_without_event_idx),
		TEST(available_flags_are_zero_or_one),
		TEST(interrupts_by_event_index),
		TEST(first_interrupt_after_start),
		TEST(event_index_wraps),
		TEST(long_batches_interrupt),
		TEST(available_flags_with_event_idx),
		TEST(notifications_are_suppressed),
		TEST(notifications_are_suppressed_from_the_start),
		TEST(used_flags_stay_zero_with_event_idx),
		TEST(words_of_event_idx_are_left_alone_without_it),
		TEST(unsuppress_alone_asks_again),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
