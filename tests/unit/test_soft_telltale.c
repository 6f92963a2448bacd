/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of code must not run as they are: those with an instruction that tells of the host,
 * and not those that only have its bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/soft/internal.h"

#include <string.h>

#define PLACE 100

static bool tells(const void *code, size_t length, unsigned at)
{
	u8 page[PAGE_SIZE];

	memset(page, 0x90, sizeof(page));
	memcpy(page + at, code, length);
	return page_tells_of_host(page, false);
}

static void test_instructions(void **state)
{
	static const struct {
		u8 code[6];
		u8 length;
		bool tells;
	} cases[] = {
		{{0x0f, 0x01, 0xd0}, 3, true},			 /* xgetbv */
		{{0x0f, 0xae, 0x20}, 3, true},			 /* xsave (%rax) */
		{{0x48, 0x0f, 0xae, 0x6c, 0x24, 0x40}, 6, true}, /* xrstor64 0x40(%rsp) */
		{{0x48, 0x0f, 0xc7, 0x64, 0x24, 0x40}, 6, true}, /* xsavec64 0x40(%rsp) */
		{{0x0f, 0x03, 0xc0}, 3, true},			 /* lsl */
		{{0xf3, 0x0f, 0xc7, 0xf8}, 4, true},		 /* rdpid */
		{{0x0f, 0x34}, 2, true},			 /* sysenter */
		{{0x0f, 0x01, 0xef}, 3, true},			 /* wrpkru */
		{{0x0f, 0xae, 0xe8}, 3, false},			 /* lfence */
		{{0x0f, 0xae, 0x1c, 0x24}, 4, false},		 /* stmxcsr (%rsp) */
		{{0xf3, 0x0f, 0xae, 0xd0}, 4, false},		 /* wrfsbase */
		{{0x0f, 0xc7, 0xf0}, 3, false},			 /* rdrand */
		{{0x0f, 0xc7, 0x0e}, 3, false},			 /* cmpxchg8b (%rsi) */
		{{0x0f, 0x05}, 2, false},			 /* syscall: it stops */
		{{0xb8, 0x0f, 0x01, 0xd0, 0x00}, 5, false},	 /* mov $0xd0010f, %eax */
		{{0xe8, 0x00, 0x0f, 0x34, 0x00}, 5, false},	 /* call */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (tells(cases[i].code, cases[i].length, PLACE) != cases[i].tells)
			fail_msg("case %zu", i);
}

/* What may go on in the next page, or began in the one before, counts. */
static void test_ends(void **state)
{
	(void)state;
	assert_true(tells("\x0f", 1, PAGE_SIZE - 1));
	assert_true(tells("\x0f\x01", 2, PAGE_SIZE - 2));
	assert_true(tells("\x0f\x34", 2, PAGE_SIZE - 2));
	assert_true(tells("\x0f\x01\xd0", 3, PAGE_SIZE - 3));
	assert_true(tells("\x01\xd0", 2, 0) == false);
	assert_true(tells("\x0f\x01\xd0", 3, 0));
	assert_false(tells("\x0f\x05", 2, PAGE_SIZE - 2));
}

/* Where it does not fault. */
static void test_cpuid(void **state)
{
	u8 page[PAGE_SIZE];

	(void)state;
	memset(page, 0x90, sizeof(page));
	memcpy(page + PLACE, "\x0f\xa2", 2);
	assert_true(page_tells_of_host(page, true));
	assert_false(page_tells_of_host(page, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_cpuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
