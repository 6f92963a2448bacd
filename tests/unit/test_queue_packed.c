/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is special to packed rings (virtio/packed.c): areas, marks and wrap counters, used
 * descriptors that skip the length of what was used, buffer ids, tables without NEXT,
 * the two event structures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP  (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

/* A descriptor as the next of a chain: one writable byte, and whatever flags and id. */
static void put(struct queue_fixture *f, u16 flags, u16 id)
{
	fake_driver_put(&f->driver, (struct vring_packed_desc){.len = 1,
							       .flags = flags | VRING_DESC_F_WRITE,
							       .id = id});
}

/* A chain of so many one-byte buffers. Its id. */
static u16 add_chain(struct queue_fixture *f, unsigned length)
{
	struct fake_buffer buffers[SIZE];
	int id;

	for (unsigned i = 0; i < length; i++)
		buffers[i] = (struct fake_buffer){i, 1, true};
	id = fake_driver_add(&f->driver, buffers, length);
	assert_true(id >= 0);
	fake_driver_publish(&f->driver);
	return id;
}

static void assert_slot(const struct queue_fixture *f, unsigned slot, u16 id, u32 len, u16 flags)
{
	assert_int_equal(f->driver.ring[slot].id, id);
	assert_int_equal(f->driver.ring[slot].flags, flags);
	/* Reserved where nothing was written; ours is 0. */
	assert_int_equal(f->driver.ring[slot].len, len);
}

/* VT-6 */

/* The last areas that RAM has room for: 256, 4 and 4 bytes. */
#define LAST_DESC  (RAM - 256)
#define LAST_EVENT (RAM - 4)

static const struct area_case area_cases[] = {
	{0, 0x1000, 0x2000, NULL},
	{0, 0x1004, 0x2004, NULL},
	{LAST_DESC, 0x1000, 0x2000, NULL},
	{0, LAST_EVENT, 0x2000, NULL},
	{0, 0x1000, LAST_EVENT, NULL},
	{8, 0x1000, 0x2000, "VT-6: descriptor area 0x8 is not aligned to 16 bytes"},
	{0, 0x1002, 0x2000, "VT-6: driver area 0x1002 is not aligned to 4 bytes"},
	{0, 0x1000, 0x2002, "VT-6: device area 0x2002 is not aligned to 4 bytes"},
	{LAST_DESC + 16, 0x1000, 0x2000,
	 "VT-6: descriptor area 0x3fff10, 256 bytes long, does not lie inside RAM"},
	{0, RAM, 0x2000, "VT-6: driver area 0x400000, 4 bytes long, does not lie inside RAM"},
	{0, 0x1000, RAM, "VT-6: device area 0x400000, 4 bytes long, does not lie inside RAM"},
	{-16ull, 0x1000, 0x2000,
	 "VT-6: descriptor area 0xfffffffffffffff0, 256 bytes long, does not lie inside RAM"},
	{0, -4ull, 0x2000,
	 "VT-6: driver area 0xfffffffffffffffc, 4 bytes long, does not lie inside RAM"},
};

static void test_areas_are_checked(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(area_cases); i++)
		check_areas(*state, &area_cases[i]);
}

/* 255 descriptors are 16 bytes fewer than 256. */
static void test_area_of_an_odd_size(void **state)
{
	struct queue_fixture *f = *state;

	f->queue.size = 255;
	check_areas(f, &(struct area_case){RAM - 255 * 16, 0x1000, 0x2000, NULL});
	check_areas(f, &(struct area_case){
			       RAM - 254 * 16, 0x1000, 0x2000,
			       "VT-6: descriptor area 0x3ff020, 4080 bytes long, does not lie "
			       "inside RAM"});
}

/* Rubbish in the device's own words is the device's to clear, strict or not. */
static void test_start_asks_for_notifications(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		start(f, SIZE, event_idx);
		f->driver.device_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
		f->driver.device_event->off_wrap = 0x1234;
		f->queue.strict = true;
		assert_true(queue_start(&f->queue, &f->violation));
		assert_int_equal(f->driver.device_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
		assert_true(add_and_publish(f));
	}
}

/* The driver's own is the driver's: it may have written it before. */
static void test_start_leaves_the_driver_area_alone(void **state)
{
	struct queue_fixture *f = *state;

	f->driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	assert_true(queue_start(&f->queue, &f->violation));
	push_one(f);
	assert_int_equal(wants_interrupt(f), 0);
}

/* Marks */

/* virtio: The Virtqueue Descriptor Format: the address stays, the rest is the device's. */
static void test_used_descriptor(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {{0x100, 1, false}, {0x200, 7, true}};

	for (unsigned lap = 0; lap < 4; lap++) {
		const u16 mark = lap % 2 ? 0 : AVAIL | USED;

		start(f, 2, false);
		for (unsigned i = 0; i < lap; i++) {
			fake_driver_add(&f->driver, buffers, 2);
			fake_driver_publish(&f->driver);
			assert_int_equal(pop(f), 1);
			queue_push(&f->queue, &f->chain, 1);
			assert_used(f, f->chain.head, 1);
		}
		fake_driver_add(&f->driver, buffers + 1, 1);
		fake_driver_add(&f->driver, buffers, 1);
		fake_driver_publish(&f->driver);
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, 5);
		assert_slot(f, 0, f->chain.head, 5, mark | VRING_DESC_F_WRITE);
		assert_int_equal(f->driver.ring[0].addr, 0x200);
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, 5);
		assert_slot(f, 1, f->chain.head, 0, mark);
	}
}

/* Only what was marked since: neither zeroes, nor what the device used, nor the lap before. */
static void test_marks_of_another_lap_are_nothing(void **state)
{
	static const struct {
		u16 flags;
		bool first_lap, second_lap;
	} marks[] = {
		{0, false, false},
		{AVAIL, true, false},
		{USED, false, true},
		{AVAIL | USED, false, false},
	};
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
		start(f, 1, false);
		f->driver.ring[0].flags = marks[i].flags;
		assert_int_equal(queue_pending(&f->queue), marks[i].first_lap);
		assert_int_equal(pop(f), marks[i].first_lap);

		start(f, 1, false);
		push_one(f);
		f->driver.ring[0].flags = marks[i].flags;
		assert_int_equal(queue_pending(&f->queue), marks[i].second_lap);
		assert_int_equal(pop(f), marks[i].second_lap);
	}
}

static void test_nothing_waits_while_all_is_out(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < SIZE; i++)
		add_and_publish(f);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(pop(f), 1);
	assert_false(queue_pending(&f->queue));
	assert_int_equal(pop(f), 0);
}

/*
 * virtio: Next Flag: Descriptor Chaining: the device moves on by the length of the chain that was
 * used, wherever it stood.
 */
static void test_used_descriptors_skip_what_was_used(void **state)
{
	struct queue_fixture *f = *state;
	const u16 first = add_chain(f, 3), second = add_chain(f, 1), third = add_chain(f, 2);

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pop(f), 1);
	queue_push_head(&f->queue, second, 1);
	queue_push_head(&f->queue, third, 2);
	queue_push_head(&f->queue, first, 3);
	assert_slot(f, 0, second, 1, AVAIL | USED | VRING_DESC_F_WRITE);
	assert_slot(f, 1, third, 2, AVAIL | USED | VRING_DESC_F_WRITE);
	assert_slot(f, 3, first, 3, AVAIL | USED | VRING_DESC_F_WRITE);
	assert_used(f, second, 1);
	assert_used(f, third, 2);
	assert_used(f, first, 3);
	add_and_publish(f);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 0);
	assert_slot(f, 6, f->chain.head, 0, AVAIL | USED);
}

/* A table is one descriptor of the ring, however much is in it. */
static void test_table_takes_one_descriptor(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {{0, 1, true}, {1, 1, true}, {2, 1, true}};
	const u16 id = fake_driver_add_indirect(&f->driver, buffers, 3, 0);

	fake_driver_publish(&f->driver);
	add_and_publish(f);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.writable, 3);
	queue_push(&f->queue, &f->chain, 3);
	assert_used(f, id, 3);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 1);
	assert_slot(f, 1, f->chain.head, 1, AVAIL | USED | VRING_DESC_F_WRITE);
}

/* Chains of all lengths meet the end of rings of all sizes at all places. */
static void test_chains_run_over_the_end(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned size = 1; size <= 9; size++) {
		start(f, size, true);
		for (unsigned i = 0; i < 500; i++) {
			const unsigned length = 1 + i * 7 % size;
			const u16 id = add_chain(f, length);

			assert_int_equal(pop(f), 1);
			assert_int_equal(f->chain.writable, length);
			assert_int_equal(f->chain.head, id);
			assert_int_equal(pop(f), 0);
			queue_push(&f->queue, &f->chain, length);
			assert_used(f, id, length);
		}
	}
}

/* Up to three out, the youngest back first, with the ring's end anywhere between. */
static void test_chains_overtake_each_other(void **state)
{
	struct queue_fixture *f = *state;

	start(f, 7, false);
	for (unsigned i = 0; i < 500; i++) {
		const unsigned lengths[] = {1 + i % 3, 1 + i % 2, 2};
		u16 ids[3];

		for (unsigned k = 0; k < 3; k++) {
			ids[k] = add_chain(f, lengths[k]);
			assert_int_equal(pop(f), 1);
			assert_int_equal(f->chain.head, ids[k]);
		}
		for (unsigned k = 3; k--;)
			queue_push_head(&f->queue, ids[k], lengths[k]);
		for (unsigned k = 3; k--;)
			assert_used(f, ids[k], lengths[k]);
	}
}

static void test_writes_to_ram_are_told(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {
		{0x100, 3, false}, {0x200, 5, true}, {0x300, 5, true}, {0x400, 5, true}};
	const u64 ring = f->driver.desc_gpa;

	fake_driver_add(&f->driver, buffers, 4);
	fake_driver_publish(&f->driver);
	note_writes(f);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->writes.count, 0);

	queue_push(&f->queue, &f->chain, 7);
	assert_int_equal(f->writes.count, 4);
	assert_true(was_noted(&f->writes, 0x200, 5));
	assert_true(was_noted(&f->writes, 0x300, 2));
	assert_true(was_noted(&f->writes, ring, 16));
	assert_true(was_noted(&f->writes, ring + offsetof(struct vring_packed_desc, flags), 2));

	f->writes.count = 0;
	queue_suppress(&f->queue);
	assert_int_equal(f->writes.count, 1);
	assert_true(was_noted(&f->writes,
			      f->driver.used_gpa + offsetof(struct vring_packed_desc_event, flags),
			      2));
}

/* VQ-1 */

static void test_full_ring_is_not_made_available_again(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < SIZE; i++) {
		put(f, 0, i);
		fake_driver_publish(&f->driver);
		assert_int_equal(pop(f), 1);
	}
	put(f, 0, 0);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: descriptor 0 is made available again, but was not used");
}

static void test_chain_does_not_run_into_what_is_out(void **state)
{
	struct queue_fixture *f = *state;

	add_chain(f, 2);
	assert_int_equal(pop(f), 1);
	for (unsigned i = 2; i <= SIZE; i++)
		put(f, VRING_DESC_F_NEXT, 5);
	put(f, 0, 5);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: descriptor 0 is made available again, but was not used");
}

static void test_id_is_below_the_size(void **state)
{
	struct queue_fixture *f = *state;

	put(f, 0, SIZE);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: buffer id 16 is not below the queue size 16");
}

static void test_id_is_not_used_twice(void **state)
{
	struct queue_fixture *f = *state;

	put(f, 0, 3);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	put(f, 0, 3);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: buffer id 3 is used again, but its chain was not");

	/* Once it is back, it may go out again. */
	queue_push_head(&f->queue, 3, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, 3);
}

/* virtio: Next Flag: Descriptor Chaining: in the others there may be anything. */
static void test_id_is_that_of_the_last(void **state)
{
	struct queue_fixture *f = *state;

	put(f, VRING_DESC_F_NEXT, 0xffff);
	put(f, VRING_DESC_F_NEXT, 7);
	put(f, 0, 3);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, 3);
	queue_push(&f->queue, &f->chain, 2);
	assert_slot(f, 0, 3, 2, AVAIL | USED | VRING_DESC_F_WRITE);
}

/* Marked too early: the rest of the chain is yet to be written. */
static void test_chain_must_be_complete(void **state)
{
	struct queue_fixture *f = *state;

	put(f, VRING_DESC_F_NEXT, 0);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-1: descriptor 1 continues a chain, but is not available");
}

/* A chain from before must not look as if it were the rest of this one. */
static void test_rest_of_the_chain_is_of_this_lap(void **state)
{
	struct queue_fixture *f = *state;

	start(f, 4, false);
	for (unsigned i = 0; i < 4; i++)
		push_one(f);
	f->driver.ring[0].flags = USED | VRING_DESC_F_NEXT;
	f->driver.ring[1].flags = AVAIL;
	assert_refused(f, "VQ-1: descriptor 1 continues a chain, but is not available");
}

/* VQ-2 */

static void test_endless_chain_is_refused(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < 3; i++)
		push_one(f);
	for (unsigned i = 0; i < SIZE; i++)
		put(f, VRING_DESC_F_NEXT, 0);
	fake_driver_publish(&f->driver);
	assert_refused(
		f, "VQ-2: chain at head 3 has more descriptors than the queue size 16, or loops");
}

/* VQ-4 */

static void test_table_does_not_follow_ordinary_descriptors(void **state)
{
	struct queue_fixture *f = *state;

	put(f, VRING_DESC_F_NEXT, 0);
	fake_driver_put(&f->driver, (struct vring_packed_desc){.addr = 0x4000,
							       .len = 16,
							       .flags = VRING_DESC_F_INDIRECT});
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-4: descriptor 1 is indirect, in a chain of ordinary ones");
}

static void test_tables_do_not_nest(void **state)
{
	struct queue_fixture *f = *state;
	struct vring_packed_desc *table = fake_driver_at(&f->driver, 0x4000, 2 * sizeof(*table));

	table[0] = (struct vring_packed_desc){.len = 1};
	table[1] = (struct vring_packed_desc){
		.addr = 0x4000, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	offer_raw(f, 0x4000, 32, VRING_DESC_F_INDIRECT);
	assert_refused(f, "VQ-4: descriptor 1 is indirect inside an indirect table");
}

/* virtio: Indirect Flag: Scatter-Gather Support: nothing but WRITE counts in a table. */
static void test_tables_have_no_next_and_no_id(void **state)
{
	struct queue_fixture *f = *state;
	struct vring_packed_desc *table = fake_driver_at(&f->driver, 0x4000, 3 * sizeof(*table));

	table[0] = (struct vring_packed_desc){0x100, 1, 0xffff, 0xfff8};
	table[1] = (struct vring_packed_desc){0x200, 2, 0xffff, VRING_DESC_F_WRITE};
	table[2] = (struct vring_packed_desc){0x300, 3, 0xffff,
					      VRING_DESC_F_WRITE | VRING_DESC_F_NEXT};
	fake_driver_put(&f->driver, (struct vring_packed_desc){.addr = 0x4000,
							       .len = 48,
							       .id = 9,
							       .flags = VRING_DESC_F_INDIRECT});
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, 9);
	assert_int_equal(f->chain.readable_len, 1);
	assert_int_equal(f->chain.writable, 2);
	assert_int_equal(f->chain.writable_len, 5);
}

static void test_direction_counts_inside_tables(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {{0, 1, false}, {1, 1, true}, {2, 1, false}};

	fake_driver_add_indirect(&f->driver, buffers, 3, 0);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-3: descriptor 2 is readable, but comes after a writable one");
}

static void test_unknown_flags_are_ignored(void **state)
{
	struct queue_fixture *f = *state;

	offer_raw(f, 0, 1, 0x7f78);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len, 1);
}

/* VQ-6: interrupts */

static void test_interrupts_by_flag(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		start(f, SIZE, event_idx);
		assert_int_equal(wants_interrupt(f), 0); /* for nothing, nothing */
		push_one(f);
		push_one(f);
		assert_int_equal(wants_interrupt(f), 1);
		assert_int_equal(wants_interrupt(f), 0);
		f->driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
		push_one(f);
		assert_int_equal(wants_interrupt(f), 0);
		f->driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		assert_int_equal(wants_interrupt(f), 0);
		push_one(f);
		assert_int_equal(wants_interrupt(f), 1);
	}
}

static void test_event_flags_are_known_ones(void **state)
{
	static const u16 bad[] = {3, 4, 0x8000, 0xffff, VRING_PACKED_EVENT_FLAG_DESC};
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
			char text[160];

			if (event_idx && bad[i] == VRING_PACKED_EVENT_FLAG_DESC)
				continue;
			start(f, SIZE, event_idx);
			f->driver.driver_event->flags = bad[i];
			push_one(f);
			assert_int_equal(wants_interrupt(f), -EPROTO);
			snprintf(text, sizeof(text),
				 "VQ-6: driver event flags are %u, must be 0, 1, or 2 with "
				 "EVENT_IDX",
				 bad[i]);
			assert_violation(f, text, false);
		}
	}
}

static void ask_for(struct queue_fixture *f, u16 word)
{
	f->driver.driver_event->off_wrap = word;
	f->driver.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
}

static void test_event_offset_is_in_the_ring(void **state)
{
	struct queue_fixture *f = *state;

	start(f, SIZE, true);
	ask_for(f, WRAP | SIZE);
	push_one(f);
	assert_int_equal(wants_interrupt(f), -EPROTO);
	assert_violation(f, "VQ-6: driver event offset 16 is not below the queue size 16", false);
}

/* It counts only where the flags say so. */
static void test_event_offset_is_ignored_without_the_flag(void **state)
{
	struct queue_fixture *f = *state;

	start(f, SIZE, true);
	f->driver.driver_event->off_wrap = 0x7fff;
	push_one(f);
	assert_int_equal(wants_interrupt(f), 1);
}

/*
 * Every place from which a batch may begin, every length of one, every place that may be asked
 * for: an interrupt if that place was among those passed.
 */
static void test_interrupts_by_event(void **state)
{
	enum { ENTRIES = 3, PLACES = 2 * ENTRIES };
	struct queue_fixture *f = *state;

	for (unsigned from = 0; from < PLACES; from++) {
		for (unsigned length = 1; length <= 2 * PLACES + 1; length++) {
			for (unsigned place = 0; place < PLACES; place++) {
				bool passed = false;

				start(f, ENTRIES, true);
				for (unsigned i = 0; i < from; i++)
					push_one(f);
				wants_interrupt(f);
				ask_for(f, place % ENTRIES | (place < ENTRIES ? WRAP : 0));
				for (unsigned i = 0; i < length; i++) {
					passed |= (from + i) % PLACES == place;
					push_one(f);
				}
				assert_int_equal(wants_interrupt(f), passed);
				assert_int_equal(wants_interrupt(f), 0);
			}
		}
	}
}

/* virtio: Polling of available and used descriptors: what was skipped was passed as well. */
static void test_event_inside_a_chain(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned slot = 0; slot < 6; slot++) {
		start(f, SIZE, true);
		push_one(f);
		wants_interrupt(f);
		ask_for(f, WRAP | slot);
		add_chain(f, 4);
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, 1);
		assert_int_equal(wants_interrupt(f), slot >= 1 && slot <= 4);
	}
}

/* VQ-6: notifications */

static void assert_asked(const struct queue_fixture *f, u16 flags, u16 word)
{
	assert_int_equal(f->driver.device_event->flags, flags);
	assert_int_equal(f->driver.device_event->off_wrap, word);
}

static void test_event_structure_with_event_idx(void **state)
{
	struct queue_fixture *f = *state;

	start(f, 2, true);
	queue_suppress(&f->queue);
	assert_int_equal(f->driver.device_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	assert_false(queue_unsuppress(&f->queue));
	assert_asked(f, VRING_PACKED_EVENT_FLAG_DESC, WRAP | 0);
	push_one(f);
	assert_false(queue_unsuppress(&f->queue));
	assert_asked(f, VRING_PACKED_EVENT_FLAG_DESC, WRAP | 1);
	push_one(f);
	assert_false(queue_unsuppress(&f->queue));
	assert_asked(f, VRING_PACKED_EVENT_FLAG_DESC, 0);
}

static void test_event_structure_without_event_idx(void **state)
{
	struct queue_fixture *f = *state;

	push_one(f);
	f->driver.device_event->off_wrap = 0x1234;
	queue_suppress(&f->queue);
	assert_asked(f, VRING_PACKED_EVENT_FLAG_DISABLE, 0x1234);
	queue_unsuppress(&f->queue);
	assert_asked(f, VRING_PACKED_EVENT_FLAG_ENABLE, 0x1234);
}

/* Asked for one descriptor, a driver that is faster than the device wakes up speaks once. */
static void test_one_notification_is_enough(void **state)
{
	struct queue_fixture *f = *state;

	start(f, SIZE, true);
	for (unsigned i = 0; i < 50; i++) {
		queue_suppress(&f->queue);
		assert_false(queue_unsuppress(&f->queue));
		assert_true(add_and_publish(f));
		assert_false(add_and_publish(f));
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(pop(f), 1);
			queue_push(&f->queue, &f->chain, 0);
			assert_used(f, f->chain.head, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PACKED_TEST(areas_are_checked),
		PACKED_TEST(area_of_an_odd_size),
		PACKED_TEST(start_asks_for_notifications),
		PACKED_TEST(start_leaves_the_driver_area_alone),
		PACKED_TEST(used_descriptor),
		PACKED_TEST(marks_of_another_lap_are_nothing),
		PACKED_TEST(nothing_waits_while_all_is_out),
		PACKED_TEST(used_descriptors_skip_what_was_used),
		PACKED_TEST(table_takes_one_descriptor),
		PACKED_TEST(chains_run_over_the_end),
		PACKED_TEST(chains_overtake_each_other),
		PACKED_TEST(writes_to_ram_are_told),
		PACKED_TEST(full_ring_is_not_made_available_again),
		PACKED_TEST(chain_does_not_run_into_what_is_out),
		PACKED_TEST(id_is_below_the_size),
		PACKED_TEST(id_is_not_used_twice),
		PACKED_TEST(id_is_that_of_the_last),
		PACKED_TEST(chain_must_be_complete),
		PACKED_TEST(rest_of_the_chain_is_of_this_lap),
		PACKED_TEST(endless_chain_is_refused),
		PACKED_TEST(table_does_not_follow_ordinary_descriptors),
		PACKED_TEST(tables_do_not_nest),
		PACKED_TEST(tables_have_no_next_and_no_id),
		PACKED_TEST(direction_counts_inside_tables),
		PACKED_TEST(unknown_flags_are_ignored),
		PACKED_TEST(interrupts_by_flag),
		PACKED_TEST(event_flags_are_known_ones),
		PACKED_TEST(event_offset_is_in_the_ring),
		PACKED_TEST(event_offset_is_ignored_without_the_flag),
		PACKED_TEST(interrupts_by_event),
		PACKED_TEST(event_inside_a_chain),
		PACKED_TEST(event_structure_with_event_idx),
		PACKED_TEST(event_structure_without_event_idx),
		PACKED_TEST(one_notification_is_enough),
	};

	return cmocka_run_group_tests_name("packed queue", tests, NULL, NULL);
}
