/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The power button (board/button.c): a press is one edge on a wire of the IOAPIC,
 * whatever the guest has made of that pin. That the DSDT and a kernel agree on what it means
 * is for whole guests to show.
 */
#include "board/button.h"

#include "fake_engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define VECTOR	     0x51
#define ENTRY_LEVEL  0x8000
#define ENTRY_MASKED 0x10000

struct fixture {
	struct bus *bus;
	struct ioapic ioapic;
	struct fake_engine fake;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
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

static void set_entry(struct fixture *f, u32 low)
{
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, 0x10 + 2 * GSI_BUTTON);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4, low);
}

static void test_each_press_is_one_interrupt(void **state)
{
	struct fixture *f = *state;
	struct fake_message message;

	set_entry(f, VECTOR);
	for (u64 presses = 1; presses <= 3; presses++) {
		button_press(&f->ioapic);
		assert_int_equal(fake_engine_sent(&f->fake), presses);
		assert_true(fake_engine_take(&f->fake, &message));
		assert_int_equal(message.data & 0xff, VECTOR);
	}
}

static void test_nobody_listens(void **state)
{
	struct fixture *f = *state;

	button_press(&f->ioapic);
	set_entry(f, VECTOR);
	assert_int_equal(fake_engine_sent(&f->fake), 0);
	set_entry(f, VECTOR | ENTRY_MASKED);
	button_press(&f->ioapic);
	set_entry(f, VECTOR);
	assert_int_equal(fake_engine_sent(&f->fake), 0);
}

/* A guest that takes it for a level hears of it once, too: the wire has gone down by then. */
static void test_a_level_does_not_stick(void **state)
{
	struct fixture *f = *state;

	set_entry(f, VECTOR | ENTRY_LEVEL);
	button_press(&f->ioapic);
	assert_int_equal(fake_engine_sent(&f->fake), 1);
	ioapic_eoi(&f->ioapic, VECTOR);
	assert_int_equal(fake_engine_sent(&f->fake), 1);
}

static void test_before_any_engine(void **state)
{
	struct fixture *f = *state;

	ioapic_reset(&f->ioapic, NULL);
	set_entry(f, VECTOR);
	button_press(&f->ioapic);
	assert_int_equal(fake_engine_sent(&f->fake), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_press_is_one_interrupt),
		TEST(test_nobody_listens),
		TEST(test_a_level_does_not_stick),
		TEST(test_before_any_engine),
	};

	return cmocka_run_group_tests_name("button", tests, NULL, NULL);
}
