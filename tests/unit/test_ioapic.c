/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The IOAPIC, programmed through its window as a kernel does, delivering to the
 * fake engine.
 */
#include "board/ioapic.h"

#include "fake_engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

#define ENTRY_LOWEST	 0x100ull
#define ENTRY_NMI	 0x400ull
#define ENTRY_LOGICAL	 0x800ull
#define ENTRY_STATUS	 0x1000ull
#define ENTRY_ACTIVE_LOW 0x2000ull
#define ENTRY_REMOTE_IRR 0x4000ull
#define ENTRY_LEVEL	 0x8000ull
#define ENTRY_MASKED	 0x10000ull
#define ENTRY_DEST(id)	 ((u64)(id) << 56)

struct fixture {
	struct bus *bus;
	struct ioapic ioapic;
	struct fake_engine fake;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fake_engine_init(&f->fake);
	f->bus = bus_new();
	ioapic_init(&f->ioapic, f->bus);
	ioapic_reset(&f->ioapic, &f->fake.engine);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ioapic_destroy(&f->ioapic);
	bus_free(f->bus);
	fake_engine_destroy(&f->fake);
	free(f);
	return 0;
}

static u32 get(struct fixture *f, u8 index)
{
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, index);
	return bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4);
}

static void put(struct fixture *f, u8 index, u32 value)
{
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, index);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4, value);
}

static u64 get_entry(struct fixture *f, unsigned pin)
{
	return get(f, 0x10 + 2 * pin) | (u64)get(f, 0x11 + 2 * pin) << 32;
}

static void put_entry(struct fixture *f, unsigned pin, u64 entry)
{
	put(f, 0x11 + 2 * pin, entry >> 32);
	put(f, 0x10 + 2 * pin, entry);
}

static void expect(struct fixture *f, u64 address, u32 data)
{
	struct fake_message message;

	assert_true(fake_engine_take(&f->fake, &message));
	assert_int_equal(message.address, address);
	assert_int_equal(message.data, data);
}

static void expect_nothing(struct fixture *f)
{
	struct fake_message message;

	assert_false(fake_engine_take(&f->fake, &message));
}

static void test_power_on_registers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, 0), 0);
	assert_int_equal(get(f, 1), 0x20 | 23 << 16);
	assert_int_equal(get(f, 2), 0);
	for (unsigned pin = 0; pin < GSI_COUNT; pin++)
		assert_int_equal(get_entry(f, pin), ENTRY_MASKED);
	/* Past the last entry, and between the registers. */
	assert_int_equal(get(f, 0x10 + 2 * GSI_COUNT), 0);
	assert_int_equal(get(f, 0xff), 0);
	assert_int_equal(get(f, 3), 0);
}

static void test_which_bits_stick(void **state)
{
	struct fixture *f = *state;

	put(f, 0, 0xffffffff);
	assert_int_equal(get(f, 0), 0x0f000000);
	assert_int_equal(get(f, 2), 0x0f000000);
	put(f, 1, 0);
	assert_int_equal(get(f, 1), 0x20 | 23 << 16);
	put(f, 0x10 + 2 * GSI_COUNT, 0x1234);
	put(f, 0xff, 0x1234);
	put_entry(f, 23, ~0ull);
	assert_true(get_entry(f, 23) ==
		    (0xff0000000001ffffull & ~ENTRY_STATUS & ~ENTRY_REMOTE_IRR));
	put_entry(f, 23, 0);
	assert_int_equal(get_entry(f, 23), 0);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 0x55);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC, 4), 0x55);
}

static void test_selector_takes_any_width(void **state)
{
	struct fixture *f = *state;
	static const unsigned widths[] = {1, 2, 4, 8};

	put_entry(f, 0, 0x31);
	for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
		bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 1);
		bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, widths[i], 0x10);
		assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC, widths[i]), 0x10);
		assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4), 0x31);
	}
	/* Not the bytes that follow it: they are no register. */
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 1, 1, 0x11);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC, 1), 0x10);
}

static void test_only_words_are_answered(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 0, 0x31);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 0x10);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 1, 0x99);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 8, 0x99);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x12, 4, 0x99);
	put_entry(f, 17, 0x41 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 17, 1, true);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x40, 1, 0x41);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x40, 2, 0x41);
	assert_true(get_entry(f, 17) & ENTRY_REMOTE_IRR);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 0x10);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 2), 0);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 8), 0);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x20, 4), 0);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4), 0x31);
}

static void test_message_format(void **state)
{
	static const struct {
		u64 entry, address;
		u32 data;
	} cases[] = {
		{0x31, 0xfee00000, 0x31},
		{0x31 | ENTRY_DEST(5), 0xfee05000, 0x31},
		{0x31 | ENTRY_DEST(0xff) | ENTRY_LOGICAL, 0xfeeff004, 0x31},
		{0x40 | ENTRY_LOWEST | ENTRY_LOGICAL | ENTRY_DEST(3), 0xfee0300c, 0x140},
		{0x41 | ENTRY_LEVEL, 0xfee00000, 0xc041},
		{0x41 | ENTRY_LEVEL | ENTRY_LOWEST | ENTRY_DEST(1), 0xfee01008, 0xc141},
		{0x42 | ENTRY_ACTIVE_LOW, 0xfee00000, 0x42},
		{ENTRY_NMI, 0xfee00000, 0x400},
		/* An NMI is an edge even if the guest says otherwise. */
		{ENTRY_NMI | ENTRY_LEVEL, 0xfee00000, 0x400},
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		put_entry(f, i, cases[i].entry);
		ioapic_set(&f->ioapic, i, 0, true);
		expect(f, cases[i].address, cases[i].data);
		expect_nothing(f);
	}
}

static void test_edge_sends_once_a_rise(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 4, 0x34);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 4, 0, true);
	expect(f, 0xfee00000, 0x34);
	ioapic_set(&f->ioapic, 4, 0, true);
	ioapic_set(&f->ioapic, 4, 7, true);
	ioapic_set(&f->ioapic, 4, 0, false);
	ioapic_set(&f->ioapic, 4, 0, true);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 4, 0, false);
	ioapic_set(&f->ioapic, 4, 7, false);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 4, 63, true);
	expect(f, 0xfee00000, 0x34);
	/* An EOI is none of an edge's business. */
	ioapic_eoi(&f->ioapic, 0x34);
	expect_nothing(f);
	assert_int_equal(get_entry(f, 4), 0x34);
}

static void test_edge_while_masked_is_lost(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 4, 0x34 | ENTRY_MASKED);
	ioapic_set(&f->ioapic, 4, 0, true);
	put_entry(f, 4, 0x34);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 4, 0, false);
	ioapic_set(&f->ioapic, 4, 0, true);
	expect(f, 0xfee00000, 0x34);
}

static void test_level_until_released(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL | ENTRY_DEST(1));
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee01000, 0xc051);
	assert_true(get_entry(f, 17) & ENTRY_REMOTE_IRR);

	/* While it is being handled nothing more is sent, whoever asks. */
	ioapic_set(&f->ioapic, 17, 9, true);
	ioapic_set(&f->ioapic, 17, 1, false);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect_nothing(f);

	ioapic_eoi(&f->ioapic, 0x50);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 17, 1, false);
	ioapic_eoi(&f->ioapic, 0x51);
	expect(f, 0xfee01000, 0xc051); /* source 9 is still there */
	ioapic_set(&f->ioapic, 17, 9, false);
	ioapic_eoi(&f->ioapic, 0x51);
	expect_nothing(f);
	assert_false(get_entry(f, 17) & ENTRY_REMOTE_IRR);
	ioapic_eoi(&f->ioapic, 0x51);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee01000, 0xc051);
}

static void test_level_while_masked_waits(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL | ENTRY_MASKED);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect_nothing(f);
	assert_false(get_entry(f, 17) & ENTRY_REMOTE_IRR);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	expect(f, 0xfee00000, 0xc051);

	/* The way of a threaded handler: mask, EOI, handle, unmask. */
	put_entry(f, 17, 0x51 | ENTRY_LEVEL | ENTRY_MASKED);
	assert_true(get_entry(f, 17) & ENTRY_REMOTE_IRR);
	ioapic_eoi(&f->ioapic, 0x51);
	expect_nothing(f);
	ioapic_set(&f->ioapic, 17, 1, false);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	expect_nothing(f);

	/* The same, but it came again meanwhile. */
	put_entry(f, 17, 0x51 | ENTRY_LEVEL | ENTRY_MASKED);
	ioapic_set(&f->ioapic, 17, 1, true);
	ioapic_set(&f->ioapic, 17, 1, false);
	ioapic_set(&f->ioapic, 17, 1, true);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	expect(f, 0xfee00000, 0xc051);
	expect_nothing(f);
}

static void test_guest_cannot_write_remote_irr(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL | ENTRY_REMOTE_IRR | ENTRY_STATUS);
	assert_int_equal(get_entry(f, 17), 0x51 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee00000, 0xc051);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	assert_int_equal(get_entry(f, 17), 0x51 | ENTRY_LEVEL | ENTRY_REMOTE_IRR);
	expect_nothing(f);
}

static void test_turning_into_an_edge_clears_remote_irr(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee00000, 0xc051);
	put(f, 0x10 + 2 * 17, 0x51 | ENTRY_MASKED);
	assert_int_equal(get_entry(f, 17), 0x51 | ENTRY_MASKED);
	expect_nothing(f);
	put(f, 0x10 + 2 * 17, 0x51 | ENTRY_LEVEL);
	expect(f, 0xfee00000, 0xc051);
}

static void test_eoi_register(void **state)
{
	struct fixture *f = *state;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	put_entry(f, 18, 0x51 | ENTRY_LEVEL);
	put_entry(f, 19, 0x52 | ENTRY_LEVEL);
	for (unsigned pin = 17; pin <= 19; pin++)
		ioapic_set(&f->ioapic, pin, 0, true);
	expect(f, 0xfee00000, 0xc051);
	expect(f, 0xfee00000, 0xc051);
	expect(f, 0xfee00000, 0xc052);
	ioapic_set(&f->ioapic, 18, 0, false);
	/* All pins of that vector end, those still asserted come again. */
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x40, 4, 0x51);
	expect(f, 0xfee00000, 0xc051);
	expect_nothing(f);
	assert_true(get_entry(f, 17) & ENTRY_REMOTE_IRR);
	assert_false(get_entry(f, 18) & ENTRY_REMOTE_IRR);
	assert_true(get_entry(f, 19) & ENTRY_REMOTE_IRR);
	assert_int_equal(bus_read(f->bus, MEMORY, LAYOUT_IOAPIC + 0x40, 4), 0);
}

static void test_engine_learns_routes(void **state)
{
	struct fixture *f = *state;
	struct fake_route route = fake_engine_route(&f->fake, 20);
	unsigned calls = route.calls;

	assert_int_equal(calls, 1);
	assert_true(route.masked);
	assert_false(route.level);

	put_entry(f, 20, 0x61 | ENTRY_LEVEL | ENTRY_LOGICAL | ENTRY_DEST(2));
	route = fake_engine_route(&f->fake, 20);
	assert_int_equal(route.address, 0xfee02004);
	assert_int_equal(route.data, 0xc061);
	assert_true(route.level);
	assert_false(route.masked);
	calls = route.calls;

	/* What does not change the route is not worth a system call. */
	put_entry(f, 20, 0x61 | ENTRY_LEVEL | ENTRY_LOGICAL | ENTRY_DEST(2));
	ioapic_set(&f->ioapic, 20, 0, true);
	ioapic_eoi(&f->ioapic, 0x61);
	assert_int_equal(fake_engine_route(&f->fake, 20).calls, calls);

	put(f, 0x10 + 2 * 20, 0x61 | ENTRY_MASKED);
	route = fake_engine_route(&f->fake, 20);
	assert_int_equal(route.calls, calls + 1);
	assert_true(route.masked);
	assert_false(route.level);
}

static void test_engine_without_routes(void **state)
{
	struct fixture *f = *state;

	f->fake.ops.ioapic_route = NULL;
	ioapic_reset(&f->ioapic, &f->fake.engine);
	put_entry(f, 20, 0x61 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 20, 0, true);
	expect(f, 0xfee00000, 0xc061);
}

static void test_reset(void **state)
{
	struct fixture *f = *state;
	struct fake_engine other;
	struct fake_message message;

	put(f, 0, 0x05000000);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee00000, 0xc051);

	fake_engine_init(&other);
	ioapic_reset(&f->ioapic, &other.engine);
	assert_int_equal(fake_engine_route(&other, 17).calls, 1);
	assert_true(fake_engine_route(&other, 17).masked);
	assert_int_equal(get_entry(f, 17), ENTRY_MASKED);
	assert_int_equal(get(f, 0), 0);
	put_entry(f, 17, 0x51 | ENTRY_LEVEL); /* nobody asserts it any more */
	ioapic_eoi(&f->ioapic, 0x51);
	assert_false(fake_engine_take(&other, &message));
	ioapic_set(&f->ioapic, 17, 1, true);
	assert_true(fake_engine_take(&other, &message));
	expect_nothing(f);
	fake_engine_destroy(&other);
}

/* The guest's handler may run before msi() returns, and do all that handlers do. */
static void handle_at_once(void *opaque)
{
	struct fixture *f = opaque;

	ioapic_set(&f->ioapic, 17, 1, false);
	ioapic_eoi(&f->ioapic, 0x51);
	put_entry(f, 18, 0x52 | ENTRY_MASKED);
}

static void test_no_lock_while_sending(void **state)
{
	struct fixture *f = *state;

	f->fake.on_msi = handle_at_once;
	f->fake.opaque = f;
	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	ioapic_set(&f->ioapic, 17, 1, true);
	expect(f, 0xfee00000, 0xc051);
	expect_nothing(f);
	assert_int_equal(get_entry(f, 17), 0x51 | ENTRY_LEVEL);
}

/*
 * Devices pull the wire, a CPU ends interrupts, another masks and unmasks: when all is quiet and
 * released, an EOI must leave nothing behind; when one still asserts, it must have been sent.
 */
struct race {
	struct fixture *f;
	unsigned source;
	atomic_bool *done;
};

static void *race_device(void *arg)
{
	struct race *race = arg;

	for (unsigned i = 0; i < 20000; i++)
		ioapic_set(&race->f->ioapic, 17, race->source, i % 2 == 0);
	return NULL;
}

static void *race_cpu(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(race->done)) {
		ioapic_eoi(&race->f->ioapic, 0x51);
		put(race->f, 0x10 + 2 * 17, 0x51 | ENTRY_LEVEL | ENTRY_MASKED);
		put(race->f, 0x10 + 2 * 17, 0x51 | ENTRY_LEVEL);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct fixture *f = *state;
	atomic_bool done = false;
	struct race devices[2], cpu = {.f = f, .done = &done};
	pthread_t threads[2], cpu_thread;
	struct fake_message message;

	put_entry(f, 17, 0x51 | ENTRY_LEVEL);
	assert_int_equal(pthread_create(&cpu_thread, NULL, race_cpu, &cpu), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		devices[i] = (struct race){.f = f, .source = i};
		assert_int_equal(pthread_create(&threads[i], NULL, race_device, &devices[i]), 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		pthread_join(threads[i], NULL);
	done = true;
	pthread_join(cpu_thread, NULL);

	ioapic_eoi(&f->ioapic, 0x51);
	assert_int_equal(get_entry(f, 17), 0x51 | ENTRY_LEVEL);
	while (fake_engine_take(&f->fake, &message))
		assert_int_equal(message.data, 0xc051);
	ioapic_set(&f->ioapic, 17, 0, true);
	expect(f, 0xfee00000, 0xc051);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_power_on_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_which_bits_stick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_selector_takes_any_width, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_words_are_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_message_format, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge_sends_once_a_rise, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge_while_masked_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_until_released, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_while_masked_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_cannot_write_remote_irr, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_turning_into_an_edge_clears_remote_irr, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_eoi_register, setup, teardown),
		cmocka_unit_test_setup_teardown(test_engine_learns_routes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_engine_without_routes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_lock_while_sending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
	};

	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}
