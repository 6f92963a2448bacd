/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways a guest ends: what the machine makes of each register.
 */
#include "board/bus.h"
#include "board/layout.h"
#include "board/power.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SLP_EN	   0x20
#define SLP_TYP(n) ((n) << 2)

struct fixture {
	struct machine machine;
	struct bus *bus;
	struct power power;
};

static int setup_with(void **state, bool debug_exit)
{
	static struct fixture fixture;

	fixture = (struct fixture){.bus = bus_new()};
	assert_non_null(fixture.bus);
	assert_int_equal(machine_init(&fixture.machine), 0);
	power_init(&fixture.power, fixture.bus, &fixture.machine, debug_exit);
	*state = &fixture;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, false);
}

static int setup_debug_exit(void **state)
{
	return setup_with(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	machine_destroy(&f->machine);
	bus_free(f->bus);
	return 0;
}

static u64 in(struct fixture *f, u64 port)
{
	return bus_read(f->bus, PORT, port, 1);
}

static void out(struct fixture *f, u64 port, u8 value)
{
	bus_write(f->bus, PORT, port, 1, value);
}

static void assert_stopped(struct fixture *f, int status)
{
	assert_int_equal(atomic_load(&f->machine.state), MACHINE_STOPPED);
	assert_int_equal(f->machine.status, status);
	assert_string_equal(f->machine.why, "");
}

static void test_s5_powers_off(void **state)
{
	out(*state, PORT_ACPI_CONTROL, SLP_TYP(ACPI_S5_TYPE) | SLP_EN);
	assert_stopped(*state, 0);
}

/* First the type, then both, as some write it; unknown bits do not matter. */
static void test_sleep_type_alone_does_nothing(void **state)
{
	struct fixture *f = *state;

	out(f, PORT_ACPI_CONTROL, SLP_TYP(ACPI_S5_TYPE));
	assert_true(machine_running(&f->machine));
	assert_int_equal(in(f, PORT_ACPI_CONTROL), SLP_TYP(ACPI_S5_TYPE));
	out(f, PORT_ACPI_CONTROL, 0xc3 | SLP_TYP(ACPI_S5_TYPE) | SLP_EN);
	assert_stopped(f, 0);
}

static void test_other_sleeps_are_short(void **state)
{
	struct fixture *f = *state;

	for (unsigned type = 0; type < 8; type++) {
		if (type == ACPI_S5_TYPE)
			continue;
		out(f, PORT_ACPI_CONTROL, SLP_TYP(type) | SLP_EN);
		assert_true(machine_running(&f->machine));
		/* WAK_STS; and SLP_EN reads as 0. */
		assert_int_equal(in(f, PORT_ACPI_STATUS), 0x80);
		assert_int_equal(in(f, PORT_ACPI_CONTROL), SLP_TYP(type));
	}
}

static void test_reset_register(void **state)
{
	struct fixture *f = *state;

	for (unsigned value = 0; value < 256; value++)
		if (value != ACPI_RESET_VALUE)
			out(f, PORT_ACPI_RESET, value);
	assert_true(machine_running(&f->machine));
	out(f, PORT_ACPI_RESET, ACPI_RESET_VALUE);
	assert_int_equal(atomic_load(&f->machine.state), MACHINE_RESETTING);
}

static void test_no_reboot(void **state)
{
	struct fixture *f = *state;

	f->machine.no_reboot = true;
	out(f, PORT_ACPI_RESET, ACPI_RESET_VALUE);
	assert_stopped(f, 0);
}

/* RUN-6 */
static void test_keyboard_reset(void **state)
{
	struct fixture *f = *state;

	for (unsigned value = 0; value < 256; value++)
		if (value != 0xfe)
			out(f, 0x64, value);
	out(f, 0x60, 0xfe);
	assert_true(machine_running(&f->machine));
	out(f, 0x64, 0xfe);
	assert_int_equal(atomic_load(&f->machine.state), MACHINE_RESETTING);
}

/* What a CPU would do that jumps to the reset vector in real mode. */
static void test_reset_vector(void **state)
{
	struct fixture *f = *state;
	struct problem why;
	struct memory *memory = memory_new(MiB(4), &why);
	const u8 *code;

	assert_non_null(memory);
	power_place_vector(memory);
	code = memory_at(memory, 0xffff0, 16);
	/* mov al, imm8; out imm8, al */
	assert_int_equal(code[0], 0xb0);
	assert_int_equal(code[2], 0xe6);
	bus_write(f->bus, PORT, code[3], 1, code[1]);
	assert_int_equal(f->machine.state, MACHINE_RESETTING);
	memory_free(memory);
}

/* RUN-6, and a loop that drains the keyboard comes to its end. */
static void test_keyboard_can_be_drained(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, 0x64), 1);
	assert_int_equal(in(f, 0x64), 1);
	in(f, 0x60);
	assert_int_equal(in(f, 0x64), 0);
	assert_int_equal(in(f, 0x64), 0);

	power_reset(&f->power);
	assert_int_equal(in(f, 0x64), 1);
}

static void test_debug_exit(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, PORT_DEBUG_EXIT), 0xff);
	out(f, PORT_DEBUG_EXIT, 0x10);
	assert_stopped(f, 0x21);
}

/* The status of a process has eight bits, and the lowest is taken. */
static void test_debug_exit_top_bit(void **state)
{
	out(*state, PORT_DEBUG_EXIT, 0xff);
	assert_stopped(*state, 0xff);
}

/* outl is what C libraries of small kernels happen to have. */
static void test_debug_exit_of_any_width(void **state)
{
	struct fixture *f = *state;

	bus_write(f->bus, PORT, PORT_DEBUG_EXIT, 4, 0x00000003);
	assert_stopped(f, 7);
}

static void test_no_debug_exit_unless_asked_for(void **state)
{
	struct fixture *f = *state;

	out(f, PORT_DEBUG_EXIT, 0x10);
	assert_true(machine_running(&f->machine));
}

int main(void)
{
#define TEST(name)	      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_DEBUG_EXIT(name) cmocka_unit_test_setup_teardown(name, setup_debug_exit, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_s5_powers_off),
		TEST(test_sleep_type_alone_does_nothing),
		TEST(test_other_sleeps_are_short),
		TEST(test_reset_register),
		TEST(test_no_reboot),
		TEST(test_keyboard_reset),
		TEST(test_reset_vector),
		TEST(test_keyboard_can_be_drained),
		TEST_DEBUG_EXIT(test_debug_exit),
		TEST_DEBUG_EXIT(test_debug_exit_top_bit),
		TEST_DEBUG_EXIT(test_debug_exit_of_any_width),
		TEST(test_no_debug_exit_unless_asked_for),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
