/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtqueues (virtio/queue.c) against a small driver, on one thread: what goes
 * around comes back, and each rule of VQ that does not depend on the kind of ring is seen
 * to bite, in both kinds. test_queue_split.c and test_queue_packed.c have what
 * is special to one; test_queue_threads.c has two threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue_fixture.h"

#include <string.h>

/* What works */

static void test_empty_queue_gives_nothing(void **state)
{
	struct queue_fixture *f = *state;

	assert_false(queue_pending(&f->queue));
	assert_int_equal(pop(f), 0);
}

static void test_chain_arrives_in_order_and_goes_back(void **state)
{
	struct queue_fixture *f = *state;
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
static void check_framing(struct queue_fixture *f, unsigned cut, unsigned offset)
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
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, "x", 1),
					fake_writable(&f->driver, 1)};
	char byte;

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(chain_read(&f->chain, UINT64_MAX, &byte, 1), 0);
	assert_int_equal(chain_write(&f->chain, UINT64_MAX, "y", 1), 0);
}

static void test_chains_go_round_and_round(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 4);

	for (unsigned i = 0; i < 70000; i++) {
		const int head = fake_driver_add(&f->driver, &buffer, 1);

		fake_driver_publish(&f->driver);
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, i % 5);
		assert_used(f, head, i % 5);
	}
}

static void test_every_size_can_be_filled(void **state)
{
	struct queue_fixture *f = *state;

	/* Any size will do for a packed ring. */
	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size += f->kind == PACKED ? 1 : size) {
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
	struct queue_fixture *f = *state;
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
	queue_push_head(&f->queue, heads[1], 0);
	assert_used(f, heads[2], 3);
	assert_used(f, heads[0], 1);
	assert_used(f, heads[1], 0);
}

/* What a driver finds, looking after each write that the device makes. */
struct lookout {
	struct fake_driver *driver;
	unsigned writes, found_at;
};

static void look_out(void *opaque, u64 gpa, u64 len)
{
	struct lookout *lookout = opaque;
	u16 head;
	u32 written;

	(void)gpa;
	(void)len;
	lookout->writes++;
	if (!lookout->found_at && fake_driver_take(lookout->driver, &head, &written))
		lookout->found_at = lookout->writes;
}

/* virtio: Multi-buffer requests: all of them, or none. Also where the ring ends between them. */
static void test_several_come_back_at_once(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = {0, 4, true};

	for (unsigned before = 0; before < 8; before++) {
		struct lookout lookout = {.driver = &f->driver};
		struct queue_used used[3];

		start(f, 4, false);
		for (unsigned i = 0; i < before; i++)
			push_one(f);
		for (unsigned i = 0; i < 3; i++) {
			used[i].head = fake_driver_add(&f->driver, &buffer, 1);
			used[i].written = i + 1;
		}
		fake_driver_publish(&f->driver);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pop(f), 1);
		f->memory->written = look_out;
		f->memory->written_opaque = &lookout;
		queue_push_heads(&f->queue, used, 3);
		f->memory->written = NULL;
		assert_true(lookout.writes > 3);
		assert_int_equal(lookout.found_at, lookout.writes);
		assert_used(f, used[1].head, 2);
		assert_used(f, used[2].head, 3);
		assert_int_equal(wants_interrupt(f), 1);
	}
}

static void test_none_come_back(void **state)
{
	struct queue_fixture *f = *state;

	push_one(f);
	wants_interrupt(f);
	note_writes(f);
	queue_push_heads(&f->queue, NULL, 0);
	assert_int_equal(f->writes.count, 0);
	assert_int_equal(wants_interrupt(f), 0);
}

/* In the middle of a lap, with chains out, an interrupt due and notifications off. */
static void test_start_forgets_the_past(void **state)
{
	struct queue_fixture *f = *state;

	push_one(f);
	for (unsigned i = 0; i < 3; i++) {
		add_and_publish(f);
		assert_int_equal(pop(f), 1);
	}
	queue_push(&f->queue, &f->chain, 1);
	queue_suppress(&f->queue);

	fake_driver_init(&f->driver, f->memory, AREA, RAM - AREA, SIZE, f->kind);
	assert_true(queue_start(&f->queue, &f->violation));
	assert_int_equal(wants_interrupt(f), 0);
	assert_int_equal(pop(f), 0);
	assert_true(add_and_publish(f));
	queue_suppress(&f->queue);
	for (unsigned i = 1; i < SIZE; i++)
		assert_false(add_and_publish(f));
	for (unsigned i = 0; i < SIZE; i++) {
		assert_int_equal(pop(f), 1);
		queue_push(&f->queue, &f->chain, 1);
		assert_used(f, i, 1);
	}
	assert_int_equal(wants_interrupt(f), 1);
}

/* VQ-9: never more than there is room for. */
static void test_written_length_is_clamped(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {fake_readable(&f->driver, "abc", 3),
					fake_writable(&f->driver, 5)};

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, UINT32_MAX);
	assert_used(f, f->chain.head, 5);
}

/* VQ-2 */

static void test_longest_chains_are_accepted(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[SIZE];

	/* Ordinary ones and then a table go together in split rings only. */
	for (unsigned direct = 0; direct <= SIZE; direct += f->kind == PACKED ? SIZE : 1) {
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

/* 2^32 bytes exactly are fine, one more is not. Nobody touches them: RAM costs nothing. */
static void test_chain_of_four_gigabytes(void **state)
{
	struct queue_fixture *f = *state;
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
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {fake_writable(&f->driver, 1),
					fake_readable(&f->driver, "x", 1)};

	fake_driver_add(&f->driver, buffers, 2);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-3: descriptor 1 is readable, but comes after a writable one");
}

static void test_nothing_readable_towards_the_driver(void **state)
{
	struct queue_fixture *f = *state;
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
	struct queue_fixture *f = *state;
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
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, "x", 1);
	const int head = fake_driver_add_indirect(&f->driver, &buffer, 1, 0);

	f->queue.direction = QUEUE_OUT;
	if (f->kind == PACKED)
		f->driver.first_flags |= VRING_DESC_F_WRITE;
	else
		f->driver.desc[head].flags |= VRING_DESC_F_WRITE;
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable, 1);
	assert_int_equal(f->chain.writable, 0);
}

/* The standard asks for no alignment of a table. */
static void test_table_may_lie_anywhere(void **state)
{
	struct queue_fixture *f = *state;
	const struct vring_desc inner = {.addr = 0x4000, .len = 5};

	memcpy(fake_driver_at(&f->driver, 0x5001, sizeof(inner)), &inner, sizeof(inner));
	offer_raw(f, 0x5001, 16, VRING_DESC_F_INDIRECT);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.readable_len, 5);
	assert_ptr_equal(f->chain.iov[0].iov_base, fake_driver_at(&f->driver, 0x4000, 5));
}

static void test_indirect_must_be_negotiated(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = fake_readable(&f->driver, "x", 1);

	f->queue.indirect = false;
	fake_driver_add_indirect(&f->driver, &buffer, 1, 0);
	fake_driver_publish(&f->driver);
	assert_refused(f, "VQ-4: descriptor 0 is indirect, which was not negotiated");
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
	struct queue_fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(table_cases); i++) {
		const struct table_case *table = &table_cases[i];

		start(f, SIZE, false);
		offer_raw(f, table->addr, table->len, table->flags);
		assert_refused(f, table->text);
	}
}

/* VQ-5 */

static void test_buffers_lie_in_ram(void **state)
{
	struct queue_fixture *f = *state;

	start(f, SIZE, false);
	offer_raw(f, RAM - 1, 1, 0);
	assert_int_equal(pop(f), 1);

	start(f, SIZE, false);
	offer_raw(f, RAM - 1, 2, 0);
	assert_refused(
		f, "VQ-5: descriptor 0: buffer 0x3fffff, 2 bytes long, does not lie inside RAM");

	start(f, SIZE, false);
	offer_raw(f, GiB(3), 1, 0);
	assert_refused(
		f, "VQ-5: descriptor 0: buffer 0xc0000000, 1 bytes long, does not lie inside RAM");

	start(f, SIZE, false);
	offer_raw(f, -1ull, 2, 0);
	assert_refused(f, "VQ-5: descriptor 0: buffer 0xffffffffffffffff, 2 bytes long, does not "
			  "lie inside RAM");
}

static void test_empty_buffers_are_harmless(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffers[] = {
		{-1ull, 0, false}, fake_readable(&f->driver, "x", 1), {GiB(3), 0, false},
		{RAM, 0, true},	   fake_writable(&f->driver, 2),
	};
	int heads[2];

	heads[0] = fake_driver_add(&f->driver, buffers, 5);
	heads[1] = fake_driver_add(&f->driver, buffers, 1);
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
	assert_used(f, heads[0], 2);
	assert_used(f, heads[1], 0);
}

/* Once taken, a chain is what it was: the driver may rewrite the descriptor and gains nothing. */
static void test_rewritten_descriptor_changes_nothing(void **state)
{
	struct queue_fixture *f = *state;
	struct fake_buffer buffer = fake_writable(&f->driver, 3);

	fake_driver_add(&f->driver, &buffer, 1);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	memset(fake_driver_at(&f->driver, f->driver.desc_gpa, sizeof(struct vring_desc)), 0xff,
	       sizeof(struct vring_desc));
	assert_int_equal(chain_write(&f->chain, 0, "abcd", 4), 3);
	queue_push(&f->queue, &f->chain, 4);
	assert_used(f, 0, 3);
}

/* VQ-6: interrupts */

/*
 * The very first batch after a start, of any length, and where the driver never moved used_event.
 */
static void test_first_interrupt_after_start(void **state)
{
	struct queue_fixture *f = *state;

	for (unsigned batch = 1; batch <= SIZE; batch++) {
		start(f, SIZE, true);
		for (unsigned i = 0; i < batch; i++)
			push_one(f);
		assert_int_equal(wants_interrupt(f), 1);
		assert_int_equal(wants_interrupt(f), 0);
	}
}

/* VQ-6: notifications */

static void check_suppression(struct queue_fixture *f, bool event_idx)
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
	assert_true(add_and_publish(f));
}

static void test_notifications_are_suppressed(void **state)
{
	check_suppression(*state, false);
	check_suppression(*state, true);
}

/* Suppressed before the driver has ever notified: not even the first chain is worth a word. */
static void check_suppression_from_the_start(struct queue_fixture *f, bool event_idx)
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
	struct queue_fixture *f = *state;

	start(f, SIZE, true);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(add_and_publish(f));
		assert_int_equal(pop(f), 1);
		assert_false(queue_unsuppress(&f->queue));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(empty_queue_gives_nothing),
		TEST_BOTH(chain_arrives_in_order_and_goes_back),
		TEST_BOTH(framing_does_not_matter),
		TEST_BOTH(reading_far_past_the_end_gives_nothing),
		TEST_BOTH(chains_go_round_and_round),
		TEST_BOTH(every_size_can_be_filled),
		TEST_BOTH(chains_go_back_in_any_order),
		TEST_BOTH(several_come_back_at_once),
		TEST_BOTH(none_come_back),
		TEST_BOTH(start_forgets_the_past),
		TEST_BOTH(written_length_is_clamped),
		TEST_BOTH(longest_chains_are_accepted),
		TEST_BOTH(chain_of_four_gigabytes),
		TEST_BOTH(readable_after_writable_is_refused),
		TEST_BOTH(nothing_readable_towards_the_driver),
		TEST_BOTH(nothing_writable_from_the_driver),
		TEST_BOTH(write_flag_of_a_table_is_ignored),
		TEST_BOTH(table_may_lie_anywhere),
		TEST_BOTH(indirect_must_be_negotiated),
		TEST_BOTH(bad_tables_are_refused),
		TEST_BOTH(buffers_lie_in_ram),
		TEST_BOTH(empty_buffers_are_harmless),
		TEST_BOTH(rewritten_descriptor_changes_nothing),
		TEST_BOTH(first_interrupt_after_start),
		TEST_BOTH(notifications_are_suppressed),
		TEST_BOTH(notifications_are_suppressed_from_the_start),
		TEST_BOTH(unsuppress_alone_asks_again),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
