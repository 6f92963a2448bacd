/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock: what a kernel that asks CMOS for the time is told, at times that
 * the test chooses.
 */
#include "board/bus.h"
#include "board/layout.h"
#include "board/rtc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Noteworthy moments, in seconds since the epoch: `date -u -d @...` */
#define MONDAY_AFTERNOON 1709559296 /* Mon 2024-03-04 13:34:56 */
#define NEW_YEARS_EVE	 946684799  /* Fri 1999-12-31 23:59:59 */
#define LEAP_DAY_NOON	 1709208000 /* Thu 2024-02-29 12:00:00 */
#define MILLENNIUM	 946684800  /* Sat 2000-01-01 00:00:00 */

static struct timespec monday_afternoon(void)
{
	return (struct timespec){.tv_sec = MONDAY_AFTERNOON};
}

static struct timespec new_years_eve(void)
{
	return (struct timespec){.tv_sec = NEW_YEARS_EVE};
}

static struct timespec leap_day_noon(void)
{
	return (struct timespec){.tv_sec = LEAP_DAY_NOON};
}

static struct timespec millennium(void)
{
	return (struct timespec){.tv_sec = MILLENNIUM};
}

/* 244 us before the second turns, and one ns before that. */
static struct timespec nearly_millennium(void)
{
	return (struct timespec){.tv_sec = NEW_YEARS_EVE, .tv_nsec = 999756000};
}

static struct timespec not_yet_millennium(void)
{
	return (struct timespec){.tv_sec = NEW_YEARS_EVE, .tv_nsec = 999755999};
}

static struct timespec last_of_the_century(void)
{
	return (struct timespec){.tv_sec = NEW_YEARS_EVE, .tv_nsec = 999999999};
}

struct fixture {
	struct bus *bus;
	struct rtc rtc;
};

static int setup(void **state)
{
	static struct fixture fixture;

	fixture.bus = bus_new();
	assert_non_null(fixture.bus);
	rtc_init(&fixture.rtc, fixture.bus);
	fixture.rtc.now = monday_afternoon;
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rtc_destroy(&f->rtc);
	bus_free(f->bus);
	return 0;
}

static u8 cmos_read(struct fixture *f, u8 index)
{
	bus_write(f->bus, PORT, 0x70, 1, index);
	return bus_read(f->bus, PORT, 0x71, 1);
}

static void cmos_write(struct fixture *f, u8 index, u8 value)
{
	bus_write(f->bus, PORT, 0x70, 1, index);
	bus_write(f->bus, PORT, 0x71, 1, value);
}

static void assert_time(struct fixture *f, const u8 expected[8])
{
	static const u8 registers[8] = {0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00};

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(cmos_read(f, registers[i]), expected[i]);
}

static void test_power_on_is_24_hours_bcd(void **state)
{
	assert_time(*state, (u8[]){0x20, 0x24, 0x03, 0x04, 2, 0x13, 0x34, 0x56});
}

static void test_binary(void **state)
{
	cmos_write(*state, 0x0b, 0x06);
	assert_time(*state, (u8[]){20, 24, 3, 4, 2, 13, 34, 56});
}

static void test_12_hours(void **state)
{
	struct fixture *f = *state;

	cmos_write(f, 0x0b, 0x00);
	assert_int_equal(cmos_read(f, 0x04), 0x81); /* 1 pm */
	cmos_write(f, 0x0b, 0x04);
	assert_int_equal(cmos_read(f, 0x04), 0x81);

	f->rtc.now = new_years_eve;
	assert_int_equal(cmos_read(f, 0x04), 0x80 | 11);
	cmos_write(f, 0x0b, 0x00);
	assert_int_equal(cmos_read(f, 0x04), 0x91); /* 11 pm in BCD */

	f->rtc.now = leap_day_noon;
	assert_int_equal(cmos_read(f, 0x04), 0x92); /* noon is 12 pm */
	f->rtc.now = millennium;
	assert_int_equal(cmos_read(f, 0x04), 0x12); /* and midnight 12 am */
}

static void test_turn_of_the_century(void **state)
{
	struct fixture *f = *state;

	f->rtc.now = new_years_eve;
	assert_time(f, (u8[]){0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59});
	f->rtc.now = millennium;
	assert_time(f, (u8[]){0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00});
	f->rtc.now = leap_day_noon;
	assert_time(f, (u8[]){0x20, 0x24, 0x02, 0x29, 5, 0x12, 0x00, 0x00});
}

static void test_time_cannot_be_set(void **state)
{
	static const u8 registers[] = {0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00};

	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
		cmos_write(*state, registers[i], 0x11);
	assert_time(*state, (u8[]){0x20, 0x24, 0x03, 0x04, 2, 0x13, 0x34, 0x56});
}

/* What Linux looks at before it believes that there is a clock. */
static void test_looks_alive(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cmos_read(f, 0x0d), 0x80);
	assert_int_equal(cmos_read(f, 0x0a) & 0x80, 0);
	cmos_write(f, 0x0a, 0xa6);
	assert_int_equal(cmos_read(f, 0x0a), 0x26);
	cmos_write(f, 0x0d, 0x00);
	assert_int_equal(cmos_read(f, 0x0d), 0x80);
	cmos_write(f, 0x0b, 0x72); /* all interrupts on: none comes */
	assert_int_equal(cmos_read(f, 0x0c), 0x00);
}

/* Who reads while it is clear reads one time, not parts of two. */
static void test_update_in_progress(void **state)
{
	struct fixture *f = *state;

	f->rtc.now = not_yet_millennium;
	assert_int_equal(cmos_read(f, 0x0a), 0x26);
	f->rtc.now = nearly_millennium;
	assert_int_equal(cmos_read(f, 0x0a), 0x80 | 0x26);
	f->rtc.now = last_of_the_century;
	assert_int_equal(cmos_read(f, 0x0a), 0x80 | 0x26);
	assert_time(f, (u8[]){0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59});
	cmos_write(f, 0x0a, 0x2f); /* the bit is not the guest's */
	assert_int_equal(cmos_read(f, 0x0a), 0x80 | 0x2f);
	f->rtc.now = millennium;
	assert_int_equal(cmos_read(f, 0x0a), 0x2f);
}

static void test_memory_and_alarm_keep_what_is_written(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			cmos_write(f, i, ~i);
	cmos_write(f, 0x01, 0x59);
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			assert_int_equal(cmos_read(f, i), (u8)~i);
	assert_int_equal(cmos_read(f, 0x01), 0x59);

	rtc_reset(&f->rtc);
	assert_int_equal(cmos_read(f, 0x40), 0);
	assert_int_equal(cmos_read(f, 0x0b), 0x02);
}

static void test_nmi_bit_is_not_part_of_the_index(void **state)
{
	struct fixture *f = *state;

	cmos_write(f, 0x80 | 0x40, 0x77);
	assert_int_equal(cmos_read(f, 0x40), 0x77);
}

/* One instruction can do both ports: out %ax, $0x70. */
static void test_word_access(void **state)
{
	struct fixture *f = *state;

	bus_write(f->bus, PORT, 0x70, 2, 0x5a41);
	assert_int_equal(cmos_read(f, 0x41), 0x5a);
	assert_int_equal(bus_read(f->bus, PORT, 0x70, 2), 0x5a41);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_power_on_is_24_hours_bcd),
		TEST(test_binary),
		TEST(test_12_hours),
		TEST(test_turn_of_the_century),
		TEST(test_time_cannot_be_set),
		TEST(test_looks_alive),
		TEST(test_update_in_progress),
		TEST(test_memory_and_alarm_keep_what_is_written),
		TEST(test_nmi_bit_is_not_part_of_the_index),
		TEST(test_word_access),
	};

	return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}
