/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is special to split rings (virtio/split.c): areas, indices, chains that
 * jump about in their table, the two flags words and the two event words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue_fixture.h"

#include <errno.h>
#include <string.h>

/* A chain that begins at descriptor 0, as raw as the test wants it. */
static void offer_desc(struct queue_fixture *f, struct vring_desc desc)
{
	f->driver.desc[0] = desc;
	fake_driver_offer(&f->driver, 0);
	fake_driver_publish(&f->driver);
}

/* The index runs through all its values and on. */
static void test_index_wraps(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < 70000; i++)
		push_one(f);
	assert_int_equal(f->driver.used->idx, 70000 % 65536);
}

static void test_writes_to_ram_are_told(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {
		fake_readable(&f->driver, "abc", 3),
		fake_writable(&f->driver, 5),
		fake_writable(&f->driver, 5),
		fake_writable(&f->driver, 5),
	};

	fake_driver_add(&f->driver, buffers, 4);
	fake_driver_publish(&f->driver);
	note_writes(f);
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

static void test_areas_are_checked(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(area_cases); i++)
		check_areas(*state, &area_cases[i]);
}

static void test_used_flags_must_start_at_zero_when_strict(void **state)
{
	struct queue_fixture *f = *state;

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
	struct queue_fixture *f = *state;

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
	struct queue_fixture *f = *state;

	f->driver.avail->idx = SIZE + 1;
	assert_refused(f,
		       "VQ-1: available index 17 runs ahead of 0 by more than the queue size 16");
}

static void test_index_may_not_go_back(void **state)
{
	struct queue_fixture *f = *state;

	offer_raw(f, 0, 1, 0);
	assert_int_equal(pop(f), 1);
	f->driver.avail->idx = 0;
	assert_refused(f, "VQ-1: available index 0 runs ahead of 1 by more than the queue size 16");
}

/* No more than `size` chains are ever out with the device, whatever the driver says. */
static void test_chains_out_count_as_well(void **state)
{
	struct queue_fixture *f = *state;

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
	struct queue_fixture *f = *state;

	fake_driver_offer(&f->driver, SIZE);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: head 16 is not below the queue size 16");
}

/* VQ-2 */

static void test_loop_is_refused(void **state)
{
	struct queue_fixture *f = *state;

	f->driver.desc[3] = (struct vring_desc){.len = 1, .flags = VRING_DESC_F_NEXT, .next = 3};
	fake_driver_offer(&f->driver, 3);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 3 has more descriptors than the queue size 16, or loops");
}

static void test_loop_of_empty_buffers_is_refused(void **state)
{
	struct queue_fixture *f = *state;

	f->driver.desc[0] = (struct vring_desc){.flags = VRING_DESC_F_NEXT, .next = 1};
	f->driver.desc[1] = (struct vring_desc){.flags = VRING_DESC_F_NEXT, .next = 0};
	fake_driver_offer(&f->driver, 0);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 0 has more descriptors than the queue size 16, or loops");
}

static void test_next_stays_in_the_table(void **state)
{
	struct queue_fixture *f = *state;

	offer_desc(f, (struct vring_desc){.len = 1, .flags = VRING_DESC_F_NEXT, .next = SIZE});
	assert_refused(f, "VQ-2: descriptor 0: next is 16, outside its table of 16");
}

/* Without NEXT, next is whatever was left there. */
static void test_next_without_the_flag_is_ignored(void **state)
{
	struct queue_fixture *f = *state;

	offer_desc(f, (struct vring_desc){.len = 1, .next = 0xffff});
	assert_int_equal(pop(f), 1);
}

static void test_next_stays_in_an_indirect_table(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, NULL, 1),
					fake_readable(&f->driver, NULL, 1)};
	const int head = fake_driver_add_indirect(&f->driver, buffers, 2, 0);
	struct vring_desc *table = fake_driver_at(&f->driver, f->driver.table[head], 32);

	table[1].flags = VRING_DESC_F_NEXT;
	table[1].next = 2;
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-2: descriptor 1: next is 2, outside its table of 2");
}

/* Ordinary descriptors and those of the table count together; the one between does not. */
static void test_chain_longer_than_the_queue_is_refused(void **state)
{
	struct queue_fixture *f = *state;
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
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, NULL, 1);
	const int head = fake_driver_add_indirect(&f->driver, &buffer, 1, 0);
	struct vring_desc *table = fake_driver_at(&f->driver, f->driver.table[head], 16);

	table[0].flags = VRING_DESC_F_NEXT;
	table[0].next = 0;
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 0 has more descriptors than the queue size 16, or loops");
}

/* VQ-3 */

static void test_readable_after_writable_through_a_table_is_refused(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {fake_writable(&f->driver, 1),
					fake_readable(&f->driver, "x", 1)};

	fake_driver_add_indirect(&f->driver, buffers, 2, 1);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-3: descriptor 0 is readable, but comes after a writable one");
}

/* VQ-4 */

static void test_tables_do_not_nest(void **state)
{
	struct queue_fixture *f = *state;
	struct vring_desc *inner = fake_driver_at(&f->driver, 0x4000, sizeof(*inner));

	*inner = (struct vring_desc){.addr = 0x4000, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	offer_desc(f, *inner);
	assert_refused(f, "VQ-4: descriptor 0 is indirect inside an indirect table");
}

/* VQ-5 */

static void test_unknown_flags_are_ignored(void **state)
{
	struct queue_fixture *f = *state;

	offer_desc(f, (struct vring_desc){.len = 1, .flags = 0xfff8});
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len, 1);
}

/* VQ-6: interrupts */

static void test_interrupts_by_flag(void **state)
{
	struct queue_fixture *f = *state;

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
	struct queue_fixture *f = *state;

	*fake_used_event(&f->driver) = 0x8000;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

static void test_available_flags_are_zero_or_one(void **state)
{
	struct queue_fixture *f = *state;

	push_one(f);
	f->driver.avail->flags = 2;
	assert_int_equal(wants_interrupt(f), -EPROTO);
	assert_string_equal(f->violation.text, "VQ-6: avail.flags is 2, must be 0 or 1");
	assert_false(f->violation.strict_only);
}

static void test_interrupts_by_event_index(void **state)
{
	struct queue_fixture *f = *state;

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

static void test_event_index_wraps(void **state)
{
	struct queue_fixture *f = *state;

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
static void check_long_batch(struct queue_fixture *f, bool event_idx, unsigned length)
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
	struct queue_fixture *f = *state;

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

static void test_used_flags_stay_zero_with_event_idx(void **state)
{
	struct queue_fixture *f = *state;

	start(f, SIZE, true);
	queue_suppress(&f->queue);
	assert_int_equal(f->driver.used->flags, 0);
	queue_unsuppress(&f->queue);
	assert_int_equal(f->driver.used->flags, 0);
}

static void test_words_of_event_idx_are_left_alone_without_it(void **state)
{
	struct queue_fixture *f = *state;

	*fake_avail_event(&f->driver) = 0x1234;
	queue_suppress(&f->queue);
	assert_int_equal(f->driver.used->flags, VRING_USED_F_NO_NOTIFY);
	queue_unsuppress(&f->queue);
	assert_int_equal(*fake_avail_event(&f->driver), 0x1234);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPLIT_TEST(index_wraps),
		SPLIT_TEST(writes_to_ram_are_told),
		SPLIT_TEST(areas_are_checked),
		SPLIT_TEST(used_flags_must_start_at_zero_when_strict),
		SPLIT_TEST(start_asks_for_notifications),
		SPLIT_TEST(index_may_not_run_ahead),
		SPLIT_TEST(index_may_not_go_back),
		SPLIT_TEST(chains_out_count_as_well),
		SPLIT_TEST(head_must_be_in_the_table),
		SPLIT_TEST(loop_is_refused),
		SPLIT_TEST(loop_of_empty_buffers_is_refused),
		SPLIT_TEST(next_stays_in_the_table),
		SPLIT_TEST(next_without_the_flag_is_ignored),
		SPLIT_TEST(next_stays_in_an_indirect_table),
		SPLIT_TEST(chain_longer_than_the_queue_is_refused),
		SPLIT_TEST(loop_in_an_indirect_table_is_refused),
		SPLIT_TEST(readable_after_writable_through_a_table_is_refused),
		SPLIT_TEST(tables_do_not_nest),
		SPLIT_TEST(unknown_flags_are_ignored),
		SPLIT_TEST(interrupts_by_flag),
		SPLIT_TEST(used_event_is_ignored_without_event_idx),
		SPLIT_TEST(available_flags_are_zero_or_one),
		SPLIT_TEST(interrupts_by_event_index),
		SPLIT_TEST(event_index_wraps),
		SPLIT_TEST(long_batches_interrupt),
		SPLIT_TEST(available_flags_with_event_idx),
		SPLIT_TEST(used_flags_stay_zero_with_event_idx),
		SPLIT_TEST(words_of_event_idx_are_left_alone_without_it),
	};

	return cmocka_run_group_tests_name("split queue", tests, NULL, NULL);
}
