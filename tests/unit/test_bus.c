/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bus, with devices that remember what they were asked.
 */
#include "board/bus.h"

#include "host/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A device that is 64 bytes of RAM, and remembers the last access. */
struct box {
	struct region region;
	u8 bytes[64];
	unsigned calls;
	u64 last_offset;
	unsigned last_len;
	u64 last_value;
};

static u64 box_read(void *opaque, u64 offset, unsigned len)
{
	struct box *box = opaque;
	u64 value = 0;

	assert_true(len == 1 || len == 2 || len == 4 || len == 8);
	assert_true(offset + len <= box->region.size);
	box->calls++;
	box->last_offset = offset;
	box->last_len = len;
	memcpy(&value, box->bytes + offset, len);
	/* Devices need not care about the bits that nobody asked for. */
	return len < 8 ? value | ~0ull << (8 * len) : value;
}

static void box_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct box *box = opaque;

	assert_true(len == 1 || len == 2 || len == 4 || len == 8);
	assert_true(offset + len <= box->region.size);
	box->calls++;
	box->last_offset = offset;
	box->last_len = len;
	box->last_value = value;
	memcpy(box->bytes + offset, &value, len);
}

static const struct region_ops box_ops = {.read = box_read, .write = box_write};

static void box_init(struct box *box, u64 base, u64 size, u8 first)
{
	*box = (struct box){
		.region =
			{.base = base, .size = size, .ops = &box_ops, .opaque = box, .name = "box"},
	};
	for (unsigned i = 0; i < sizeof(box->bytes); i++)
		box->bytes[i] = first + i;
}

static int setup(void **state)
{
	*state = bus_new();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	bus_free(*state);
	return 0;
}

static void test_device_hears_offset_length_value(void **state)
{
	struct bus *bus = *state;
	struct box box;

	box_init(&box, 0xc0001000, 64, 0x10);
	bus_add(bus, MEMORY, &box.region);

	assert_int_equal(bus_read(bus, MEMORY, 0xc0001004, 4), 0x17161514);
	assert_int_equal(box.last_offset, 4);
	assert_int_equal(box.last_len, 4);
	assert_int_equal(bus_read(bus, MEMORY, 0xc0001000, 1), 0x10);
	assert_int_equal(bus_read(bus, MEMORY, 0xc0001001, 2), 0x1211);
	assert_true(bus_read(bus, MEMORY, 0xc0001008, 8) == 0x1f1e1d1c1b1a1918ull);

	bus_write(bus, MEMORY, 0xc000103e, 2, 0x1234abcd);
	assert_int_equal(box.last_offset, 62);
	assert_int_equal(box.last_len, 2);
	assert_int_equal(box.last_value, 0xabcd);
	assert_int_equal(box.calls, 5);
}

static void test_spaces_are_apart(void **state)
{
	struct bus *bus = *state;
	struct box port, memory;

	box_init(&port, 0x3f8, 8, 0x20);
	box_init(&memory, 0x3f8, 8, 0x40);
	bus_add(bus, PORT, &port.region);
	bus_add(bus, MEMORY, &memory.region);
	assert_int_equal(bus_read(bus, PORT, 0x3f8, 1), 0x20);
	assert_int_equal(bus_read(bus, MEMORY, 0x3f8, 1), 0x40);
}

static void test_nobody_answers(void **state)
{
	struct bus *bus = *state;
	struct box box;

	box_init(&box, 0x100, 16, 0);
	bus_add(bus, PORT, &box.region);
	assert_int_equal(bus_read(bus, PORT, 0xff, 1), 0xff);
	assert_int_equal(bus_read(bus, PORT, 0x110, 2), 0xffff);
	assert_int_equal(bus_read(bus, PORT, 0x110, 4), 0xffffffff);
	assert_true(bus_read(bus, MEMORY, 0x100, 8) == ~0ull);
	assert_int_equal(bus_read(bus, MEMORY, 0x100, 3), 0xffffff);
	bus_write(bus, PORT, 0x110, 4, 0);
	bus_write(bus, MEMORY, 0x100, 8, 0);
	assert_int_equal(box.calls, 0);
}

static void test_over_the_edge_is_done_by_bytes(void **state)
{
	struct bus *bus = *state;
	struct box low, high;

	box_init(&low, 0x1000, 16, 0x10);
	box_init(&high, 0x1010, 16, 0x50);
	bus_add(bus, MEMORY, &low.region);

	/* Into it, and out of it: what is not there reads as ones. */
	assert_int_equal(bus_read(bus, MEMORY, 0xffe, 4), 0x1110ffff);
	assert_int_equal(low.last_len, 1);
	assert_int_equal(bus_read(bus, MEMORY, 0x100e, 4), 0xffff1f1e);
	/* Around it: the region lies inside the access. */
	bus_remove(bus, MEMORY, &low.region);
	low.region.size = 2;
	bus_add(bus, MEMORY, &low.region);
	assert_int_equal(bus_read(bus, MEMORY, 0xfff, 4), 0xff1110ff);
	bus_remove(bus, MEMORY, &low.region);
	low.region.size = 16;
	bus_add(bus, MEMORY, &low.region);

	bus_add(bus, MEMORY, &high.region);
	assert_true(bus_read(bus, MEMORY, 0x100c, 8) == 0x535251501f1e1d1cull);
	bus_write(bus, MEMORY, 0x100f, 2, 0xbeef);
	assert_int_equal(low.bytes[15], 0xef);
	assert_int_equal(high.bytes[0], 0xbe);
	assert_int_equal(high.last_len, 1);
}

static void test_odd_lengths_are_done_by_bytes(void **state)
{
	struct bus *bus = *state;
	struct box box;

	box_init(&box, 0x1000, 16, 0x10);
	bus_add(bus, MEMORY, &box.region);
	assert_int_equal(bus_read(bus, MEMORY, 0x1000, 3), 0x121110);
	assert_int_equal(box.calls, 3);
	assert_true(bus_read(bus, MEMORY, 0x1001, 7) == 0x17161514131211ull);
	bus_write(bus, MEMORY, 0x1004, 5, 0xffeeddccbbaaull);
	assert_int_equal(box.bytes[4], 0xaa);
	assert_int_equal(box.bytes[8], 0xee);
	assert_int_equal(box.bytes[9], 0x19);
}

static void test_first_added_answers(void **state)
{
	struct bus *bus = *state;
	struct box first, second;

	box_init(&first, 0x2000, 4, 0x10);
	box_init(&second, 0x2000, 16, 0x80);
	bus_add(bus, MEMORY, &first.region);
	bus_add(bus, MEMORY, &second.region);
	assert_int_equal(bus_read(bus, MEMORY, 0x2000, 4), 0x13121110);
	assert_int_equal(bus_read(bus, MEMORY, 0x2004, 4), 0x87868584);
	/* Wholly inside the second, but not all of it is the second's to answer. */
	assert_int_equal(bus_read(bus, MEMORY, 0x2002, 4), 0x85841312);

	bus_remove(bus, MEMORY, &first.region);
	assert_int_equal(bus_read(bus, MEMORY, 0x2000, 4), 0x83828180);
	bus_add(bus, MEMORY, &first.region);
	assert_int_equal(bus_read(bus, MEMORY, 0x2000, 4), 0x83828180);
	bus_remove(bus, MEMORY, &second.region);
	assert_int_equal(bus_read(bus, MEMORY, 0x2000, 4), 0x13121110);
	bus_remove(bus, MEMORY, &second.region); /* once more: nothing happens */
	assert_int_equal(bus_read(bus, MEMORY, 0x2000, 4), 0x13121110);
}

static void test_top_of_the_address_space(void **state)
{
	struct bus *bus = *state;
	struct box top, bottom;

	box_init(&top, ~0ull - 15, 16, 0x10);
	box_init(&bottom, 0, 16, 0x50);
	bus_add(bus, MEMORY, &top.region);
	assert_true(bus_read(bus, MEMORY, ~0ull - 7, 8) == 0x1f1e1d1c1b1a1918ull);
	assert_int_equal(bus_read(bus, MEMORY, ~0ull - 1, 4), 0xffff1f1e);
	assert_true(bus_read(bus, MEMORY, 0, 8) == ~0ull);
	bus_add(bus, MEMORY, &bottom.region);
	assert_int_equal(bus_read(bus, MEMORY, ~0ull - 1, 4), 0x51501f1e);
	bus_write(bus, MEMORY, ~0ull, 2, 0xaa55);
	assert_int_equal(top.bytes[15], 0x55);
	assert_int_equal(bottom.bytes[0], 0xaa);

	bus_remove(bus, MEMORY, &top.region);
	bus_remove(bus, MEMORY, &bottom.region);
	assert_int_equal(bus_read(bus, MEMORY, ~0ull, 8) == ~0ull, 1);
}

static void test_many_regions(void **state)
{
	struct bus *bus = *state;
	static struct box boxes[200];

	for (unsigned i = 0; i < ARRAY_SIZE(boxes); i++) {
		box_init(&boxes[i], 0x10000 + i * 0x1000ull, 16, i);
		bus_add(bus, MEMORY, &boxes[i].region);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(boxes); i += 2)
		bus_remove(bus, MEMORY, &boxes[i].region);
	for (unsigned i = 0; i < ARRAY_SIZE(boxes); i++)
		assert_int_equal(bus_read(bus, MEMORY, 0x10000 + i * 0x1000ull, 1),
				 i % 2 ? i : 0xff);
}

/* What is said on standard error while `talk` runs. */
static unsigned lines_said(struct bus *bus, void (*talk)(struct bus *), char *text, size_t room)
{
	int saved = dup(STDERR_FILENO), out = memfd_create("stderr", 0);
	unsigned lines = 0;
	ssize_t length;

	assert_true(saved >= 0 && out >= 0);
	dup2(out, STDERR_FILENO);
	log_set_verbose(true);
	talk(bus);
	log_set_verbose(false);
	dup2(saved, STDERR_FILENO);
	length = pread(out, text, room - 1, 0);
	assert_true(length >= 0);
	text[length] = '\0';
	for (char *c = text; *c; c++)
		lines += *c == '\n';
	close(saved);
	close(out);
	return lines;
}

static void talk_to_one_page(struct bus *bus)
{
	bus_read(bus, MEMORY, 0xd0000123, 4);
	bus_read(bus, MEMORY, 0xd0000ffc, 4);
	bus_write(bus, MEMORY, 0xd0000000, 8, 1);
	bus_read(bus, PORT, 0x9999, 1);
}

static void talk_across_pages(struct bus *bus)
{
	bus_write(bus, MEMORY, 0xe0000ffe, 4, 0);
}

static void talk_everywhere(struct bus *bus)
{
	for (u64 page = 0; page < 100000; page++)
		bus_read(bus, MEMORY, page * PAGE_SIZE, 1);
}

static void test_pages_are_mentioned_once(void **state)
{
	static char text[65536];

	assert_int_equal(lines_said(*state, talk_to_one_page, text, sizeof(text)), 1);
	assert_non_null(strstr(text, "0xd0000000"));
	assert_int_equal(lines_said(*state, talk_to_one_page, text, sizeof(text)), 0);
	assert_int_equal(lines_said(*state, talk_across_pages, text, sizeof(text)), 2);
	assert_non_null(strstr(text, "0xe0000000"));
	assert_non_null(strstr(text, "0xe0001000"));
	/* However many pages a guest tries, a user is told of a few, and that it was not all. */
	assert_in_range(lines_said(*state, talk_everywhere, text, sizeof(text)), 10, 500);
	assert_non_null(strstr(text, "not mentioned"));
	assert_int_equal(lines_said(*state, talk_everywhere, text, sizeof(text)), 0);
}

/* A device whose handler goes back to the bus, and even takes itself off it. */
struct mover {
	struct bus *bus;
	struct region region;
};

static u64 mover_read(void *opaque, u64 offset, unsigned len)
{
	struct mover *mover = opaque;

	(void)offset, (void)len;
	bus_remove(mover->bus, MEMORY, &mover->region);
	mover->region.base += 0x1000;
	bus_add(mover->bus, MEMORY, &mover->region);
	return 0x42;
}

static void mover_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	(void)opaque, (void)offset, (void)len, (void)value;
}

static void test_device_may_move_itself(void **state)
{
	static const struct region_ops ops = {.read = mover_read, .write = mover_write};
	struct mover mover = {
		.bus = *state,
		.region = {.base = 0x5000,
			   .size = 0x1000,
			   .ops = &ops,
			   .opaque = &mover,
			   .name = "mover"},
	};

	bus_add(*state, MEMORY, &mover.region);
	assert_int_equal(bus_read(*state, MEMORY, 0x5000, 1), 0x42);
	assert_int_equal(bus_read(*state, MEMORY, 0x5000, 1), 0xff);
	assert_int_equal(bus_read(*state, MEMORY, 0x6000, 1), 0x42);
}

/* Two threads read while a third takes a region off and puts it elsewhere. */
#define RACE_ROUNDS 20000

struct race {
	struct bus *bus;
	struct region fixed, moving;
	atomic_bool done;
	atomic_uint wrong;
};

static u64 race_read(void *opaque, u64 offset, unsigned len)
{
	(void)offset, (void)len;
	return (uintptr_t)opaque;
}

static void *race_reader(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->done)) {
		u64 here = bus_read(race->bus, MEMORY, 0x10000, 4);
		u64 there = bus_read(race->bus, MEMORY, 0x20000, 4);

		if (bus_read(race->bus, MEMORY, 0x1000, 4) != 1)
			race->wrong++;
		if ((here != 2 && here != ~0u) || (there != 2 && there != ~0u))
			race->wrong++;
		bus_write(race->bus, MEMORY, 0x10000, 4, here);
	}
	return NULL;
}

static void test_moving_while_others_access(void **state)
{
	static const struct region_ops ops = {.read = race_read, .write = mover_write};
	struct race race = {
		.bus = *state,
		.fixed = {.base = 0x1000,
			  .size = 16,
			  .ops = &ops,
			  .opaque = (void *)1,
			  .name = "fixed"},
		.moving = {.base = 0x10000,
			   .size = 16,
			   .ops = &ops,
			   .opaque = (void *)2,
			   .name = "moving"},
	};
	pthread_t readers[2];

	bus_add(race.bus, MEMORY, &race.moving);
	bus_add(race.bus, MEMORY, &race.fixed);
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++)
		assert_int_equal(pthread_create(&readers[i], NULL, race_reader, &race), 0);
	for (unsigned i = 0; i < RACE_ROUNDS; i++) {
		bus_remove(race.bus, MEMORY, &race.moving);
		race.moving.base ^= 0x30000;
		bus_add(race.bus, MEMORY, &race.moving);
	}
	race.done = true;
	for (unsigned i = 0; i < ARRAY_SIZE(readers); i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(race.wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_device_hears_offset_length_value, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_spaces_are_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_over_the_edge_is_done_by_bytes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_odd_lengths_are_done_by_bytes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_first_added_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_top_of_the_address_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_regions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages_are_mentioned_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_may_move_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moving_while_others_access, setup, teardown),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
