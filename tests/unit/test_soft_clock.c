/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock of the soft engine: sums at their limits, and what guests find in their
 * memory. How exactly the TSC is measured is not for a test to say that may be kept off
 * the CPU.
 */
#include "engine/soft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define PAGES 2
#define GPA   0x10000u
#define APART (GPA + 2 * PAGE_SIZE)

static struct soft soft;
static struct vcpu vcpu;
static _Alignas(PAGE_SIZE) u8 memory[PAGES][PAGE_SIZE];
static u64 invalidated;

/* Two pages that are neighbours, and one that is only one for the guest. */
u8 *ram_at(const struct soft *unused, u64 gpa)
{
	static u8 elsewhere[PAGE_SIZE];

	(void)unused;
	if (gpa >= GPA && gpa < APART)
		return &memory[0][0] + (gpa - GPA);
	if (gpa >= APART && gpa < APART + PAGE_SIZE)
		return elsewhere + (gpa - APART);
	return NULL;
}

bool cache_written(struct vcpu *unused, u64 gpa, u64 length)
{
	(void)unused;
	(void)length;
	invalidated = gpa;
	return false;
}

void vectors_save(struct vcpu *unused)
{
	(void)unused;
}

static int setup(void **state)
{
	(void)state;
	memset(&soft, 0, sizeof(soft));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(memory, 0, sizeof(memory));
	invalidated = 0;
	vcpu.soft = &soft;
	return 0;
}

static void test_sums(void **state)
{
	(void)state;
	soft.tsc_hz = 2500000000;
	assert_int_equal(clock_tsc_to_ns(&soft, 2500), 1000);
	assert_int_equal(clock_ns_to_tsc(&soft, 1000), 2500);
	assert_int_equal(clock_tsc_to_ns(&soft, 0), 0);
	/* A century, and the end of all numbers. */
	assert_int_equal(clock_ns_to_tsc(&soft, 3155760000ull * 1000000000),
			 7889400000000000000ull);
	assert_int_equal(clock_ns_to_tsc(&soft, UINT64_MAX), UINT64_MAX);
	assert_int_equal(clock_tsc_to_ns(&soft, UINT64_MAX), 7378697629483820646ull);
	soft.tsc_hz = 1;
	assert_int_equal(clock_tsc_to_ns(&soft, UINT64_MAX), UINT64_MAX);
}

/* Time does not stand still, and begins now. */
static void test_measure(void **state)
{
	u64 before = clock_tsc();

	(void)state;
	clock_measure(&soft);
	assert_in_range(soft.tsc_start, before, clock_tsc());
	assert_in_range(soft.tsc_hz, 100000000, 20000000000);
}

struct time_info {
	u32 version, pad;
	u64 tsc, ns;
	u32 multiplier;
	int8_t shift;
	u8 flags, pad2[2];
};

static struct time_info published(void)
{
	struct time_info info;

	memcpy(&info, memory[0], sizeof(info));
	return info;
}

/* As Linux computes it. */
static u64 guest_ns(const struct time_info *info, u64 tsc)
{
	u64 ticks = tsc - info->tsc;

	ticks = info->shift < 0 ? ticks >> -info->shift : ticks << info->shift;
	return info->ns + (u64)((unsigned __int128)ticks * info->multiplier >> 32);
}

static void test_system_time(void **state)
{
	static const u64 rates[] = {700000000, 1000000000, 1000000001, 2500000000, 5123456789};

	(void)state;
	vcpu.kvm_system_time = GPA | 1;
	soft.tsc_start = 123456789;
	for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
		struct time_info info;
		u64 hour;

		soft.tsc_hz = rates[i];
		clock_publish_system_time(&vcpu);
		info = published();
		assert_int_equal(info.flags, 1);
		assert_int_equal(guest_ns(&info, soft.tsc_start), 0);
		/* An hour later it is right to 10 microseconds: 3 parts in a billion. */
		hour = guest_ns(&info, soft.tsc_start + 3600 * rates[i]);
		assert_in_range(hour, 3600000000000ull - 10000, 3600000000000ull);
		assert_int_equal(info.version, 2 * (i + 1));
	}
	assert_int_equal(invalidated, GPA);
}

/* The guest's TSC is what counts. */
static void test_system_time_adjusted(void **state)
{
	struct time_info info;

	(void)state;
	vcpu.kvm_system_time = GPA | 1;
	vcpu.tsc_adjust = -1000;
	soft.tsc_hz = 2000000000;
	soft.tsc_start = 5000;
	memory[0][0] = 7; /* what was there was not ours */
	clock_publish_system_time(&vcpu);
	info = published();
	assert_int_equal(info.version, 8);
	assert_int_equal(info.tsc, 4000);
}

static void test_system_time_nowhere(void **state)
{
	static const u64 values[] = {
		GPA,				/* not enabled */
		(GPA + 2) | 1,			/* not aligned */
		(GPA + 2 * PAGE_SIZE - 16) | 1, /* the second half is elsewhere */
		(APART + PAGE_SIZE - 16) | 1,	/* or nowhere */
		0xfee00001,
		0xffffffffffffffff,
		0xfffffffffffffff1,
		1,
	};
	static const u8 zeros[sizeof(memory)];

	(void)state;
	soft.tsc_hz = 2000000000;
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		vcpu.kvm_system_time = values[i];
		clock_publish_system_time(&vcpu);
		assert_memory_equal(memory, zeros, sizeof(memory));
	}
	/* Across two neighbours is fine. */
	vcpu.kvm_system_time = (GPA + PAGE_SIZE - 16) | 1;
	clock_publish_system_time(&vcpu);
	assert_int_equal(memory[0][PAGE_SIZE - 16], 2);
	assert_int_equal(memory[1][13], 1);
}

static void test_wall_clock(void **state)
{
	struct timespec before, after;
	u32 values[3];
	u64 ns, up;

	(void)state;
	clock_measure(&soft);
	vcpu.kvm_wall_clock = GPA;
	clock_gettime(CLOCK_REALTIME, &before);
	clock_publish_wall_clock(&vcpu);
	memcpy(values, memory, sizeof(values));
	ns = values[1] * 1000000000ull + values[2];
	/* What it is now, less the system time of now. */
	up = clock_tsc_to_ns(&soft, clock_tsc() - soft.tsc_start);
	clock_gettime(CLOCK_REALTIME, &after);
	assert_int_equal(values[0], 2);
	assert_in_range(ns, before.tv_sec * 1000000000ull + before.tv_nsec - up,
			after.tv_sec * 1000000000ull + after.tv_nsec);
	assert_true(values[2] < 1000000000);

	vcpu.kvm_wall_clock = 0xfee00000;
	clock_publish_wall_clock(&vcpu);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sums),
		TEST(test_measure),
		TEST(test_system_time),
		TEST(test_system_time_adjusted),
		TEST(test_system_time_nowhere),
		TEST(test_wall_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
