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
	return page_tells_of_host(page, false) == BARE_CODE_REFUSED;
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

/* Three pages in a row, the middle one of which is looked at. */
struct pages {
	u8 before[PAGE_SIZE], page[PAGE_SIZE], after[PAGE_SIZE];
};

static bool edges_tell(const struct pages *pages)
{
	return page_edges_tell(pages->before, pages->page, pages->after, false);
}

/* Code that begins so many bytes after the beginning of the middle page. */
static struct pages pages_with(const void *code, size_t length, int at)
{
	struct pages pages;

	memset(&pages, 0x90, sizeof(pages));
	memcpy((u8 *)&pages + PAGE_SIZE + at, code, length);
	return pages;
}

/* What goes on in the next page, or began in the one before, is known if that is there. */
static void test_edges(void **state)
{
	static const u8 xgetbv[] = {0x0f, 0x01, 0xd0}, jump[] = {0x0f, 0x84, 0x53, 0x0f, 0, 0};
	struct pages pages;

	(void)state;
	for (unsigned at = PAGE_SIZE - 2; at < PAGE_SIZE; at++) {
		pages = pages_with(xgetbv, sizeof(xgetbv), at);
		assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_DEPENDS);
		assert_true(edges_tell(&pages));
		pages = pages_with(jump, sizeof(jump), at);
		assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_DEPENDS);
		assert_false(edges_tell(&pages));
		/* It could be anything. */
		assert_true(page_edges_tell(pages.before, pages.page, NULL, false));
	}
	for (int at = 0; at < 16; at++) {
		pages = pages_with(xgetbv, sizeof(xgetbv), at);
		assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_DEPENDS);
		assert_true(edges_tell(&pages));
		assert_true(page_edges_tell(NULL, pages.page, pages.after, false));
	}
	for (int at = -3; at < 16; at++) {
		pages = pages_with(jump, sizeof(jump), at);
		assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_DEPENDS);
		assert_false(edges_tell(&pages));
	}
	/* Within the page that is looked at and nowhere else. */
	pages = pages_with(xgetbv, sizeof(xgetbv), -3);
	assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_FINE);
	pages = pages_with(xgetbv, sizeof(xgetbv), PAGE_SIZE);
	assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_FINE);
	pages = pages_with(xgetbv, sizeof(xgetbv), PAGE_SIZE - 3);
	assert_int_equal(page_tells_of_host(pages.page, false), BARE_CODE_REFUSED);
}

/* Where it does not fault. */
static void test_cpuid(void **state)
{
	u8 page[PAGE_SIZE];

	(void)state;
	memset(page, 0x90, sizeof(page));
	memcpy(page + PLACE, "\x0f\xa2", 2);
	assert_int_equal(page_tells_of_host(page, true), BARE_CODE_REFUSED);
	assert_int_equal(page_tells_of_host(page, false), BARE_CODE_FINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_cpuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
