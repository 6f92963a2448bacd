/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cell with a few instructions in it: what it tells when it stops, what it may map, and what it
 * may not do. What a guest does in one is a matter for guests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/soft/cell.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE 0x400000ull
#define DATA 0x7f0000000000ull

struct fixture {
	struct cell *cell;
	u8 *ram;
	int fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why = {"?"};

	f->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, 16 * PAGE_SIZE), 0);
	f->ram = mmap(NULL, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	f->cell = cell_new(f->fd, &why);
	if (!f->cell)
		fail_msg("%s", why.text);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	cell_free(f->cell);
	munmap(f->ram, 16 * PAGE_SIZE);
	close(f->fd);
	free(f);
	return 0;
}

static greg_t *regs(struct fixture *f)
{
	return f->cell->context->uc_mcontext.gregs;
}

static void run(struct fixture *f, u64 rip)
{
	regs(f)[REG_RIP] = rip;
	assert_true(cell_run(f->cell, 0x1000, 0x2000));
}

static void put_code(struct fixture *f, const void *code, size_t length)
{
	memcpy(f->ram, code, length);
	cell_map(f->cell, CODE, PAGE_SIZE, 0, PROT_READ | PROT_EXEC);
}

static void test_fault(void **state)
{
	static const u8 code[] = {0x48, 0x8b, 0x03, 0x48, 0xff, 0xc0}; /* mov (%rbx),%rax; inc */
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	regs(f)[REG_RBX] = DATA;
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true((u64)f->cell->info->si_addr == DATA);
	assert_true(regs(f)[REG_RIP] == CODE);
	assert_true(cell_fs(f->cell) == 0x1000 && cell_gs(f->cell) == 0x2000);
	cell_map(f->cell, DATA, PAGE_SIZE, PAGE_SIZE, PROT_READ);
	f->ram[PAGE_SIZE] = 41;
	run(f, CODE);
	/* Behind the code there is nothing but zeros: add %al,(%rax). */
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true(regs(f)[REG_RAX] == 42);
	assert_true((u64)f->cell->info->si_addr == 42);
}

static void test_system_call(void **state)
{
	static const u8 code[] = {0x0f, 0x05, 0x90, 0xcd, 0x80};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	regs(f)[REG_RAX] = 60;
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSYS);
	assert_true(regs(f)[REG_RAX] == 60);
	assert_true(regs(f)[REG_RIP] == CODE + 2);
	run(f, CODE + 3);
	assert_true(f->cell->signal == SIGSYS || f->cell->signal == SIGSEGV);
}

static void test_denied_instructions(void **state)
{
	static const u8 code[] = {0x0f, 0x31, 0x0f, 0xa2}; /* rdtsc; cpuid */
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true(regs(f)[REG_RIP] == CODE);
	run(f, CODE + 2);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true(regs(f)[REG_RIP] == CODE + 2);
}

static void test_empty(void **state)
{
	static const u8 code[] = {0x0f, 0x0b};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGILL);
	cell_empty(f->cell);
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGSEGV);
	assert_true((u64)f->cell->info->si_addr == CODE);
}

/* A loop, and somebody who wants it back. */
static void *kick(void *cell)
{
	usleep(20000);
	cell_kick(cell);
	return NULL;
}

static void test_kick(void **state)
{
	static const u8 code[] = {0xeb, 0xfe};
	struct fixture *f = *state;
	pthread_t thread;

	put_code(f, code, sizeof(code));
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, kick, f->cell);
		run(f, CODE);
		pthread_join(thread, NULL);
		assert_int_equal(f->cell->signal, SIGURG);
		assert_true(regs(f)[REG_RIP] == CODE);
		assert_true(f->cell->spent > 0);
	}
}

/* One that comes while it is stopped is not lost. */
static void test_early_kick(void **state)
{
	static const u8 code[] = {0xeb, 0xfe};
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	cell_kick(f->cell);
	run(f, CODE);
	assert_int_equal(f->cell->signal, SIGURG);
}

/* The stub's own stop, made by the guest: with a context of its own making, or with none. */
static void test_forged_stop(void **state)
{
	static const u8 code[] = {0xb8, CELL_STOP_CALL, 0, 0, 0, 0xff, 0xe3}; /* mov; jmp *%rbx */
	const u8 *stub = cell_image, *at = memmem(stub, PAGE_SIZE, "\x0f\x05", 2);
	struct fixture *f = *state;

	put_code(f, code, sizeof(code));
	assert_non_null(at);
	regs(f)[REG_RBX] = CELL_BASE + (at - stub);
	regs(f)[REG_RSI] = CELL_STACK;
	regs(f)[REG_RDX] = CELL_END - 8;
	regs(f)[REG_RIP] = CODE;
	assert_false(cell_run(f->cell, 0, 0));
	assert_true(f->cell->lost);
	/* And it stays so. */
	assert_false(cell_run(f->cell, 0, 0));
}

/* An order that cannot be carried out: nobody knows what the cell has, so it is not used any more.
 */
static void test_map_refused(void **state)
{
	struct fixture *f = *state;

	cell_map(f->cell, CODE + 1, PAGE_SIZE, 0, PROT_READ);
	assert_false(cell_run(f->cell, 0, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fault, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_system_call, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_denied_instructions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kick, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_early_kick, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_forged_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_map_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
