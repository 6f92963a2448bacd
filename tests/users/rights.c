/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A user's program, static, for a stock kernel in a guest: code that is written and then run, as
 * those do who compile while they run. What runs is always what was written last, be it that the
 * memory is written at one address and run at another, that the page may be either written or
 * executed, or that it has another owner by now; wherever the program is; and on several CPUs.
 *
 * On the soft engine its pages are in a cell (engine/soft/bare.c), some executed as they are, and
 * some, with an instruction that would tell of the host, translated: to each of these a write has
 * to be noticed. A test of its own wants every way into the cell: --soft-without=doubt. And none
 * of this program's own pages must be one that tells.
 */
#define CELL_STUB
#include "engine/soft/cell.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES  64
#define ROUNDS 5
#define TIMES  200

#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)

static void check(bool fine, const char *what)
{
	printf("rights: %s%s\n", fine ? "ok: " : "FAILURE: ", what);
	if (!fine)
		exit(1);
}

static u8 *map(void *where, size_t length, int protection, int flags, int fd)
{
	u8 *at = mmap(where, length, protection, flags, fd, 0);

	if (at == MAP_FAILED)
		perror("rights: mmap");
	return at == MAP_FAILED ? NULL : at;
}

/* A page that nobody else has. */
static u8 *new_page(int protection)
{
	return map(NULL, PAGE_SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* What a piece of code says of where it runs: behind it there may be one that nobody reaches. */
enum kind {
	PLAIN,	 /* mov $value, %eax; ret */
	TELLING, /* the same, and XGETBV behind it: its page is never run as it is */
	ASKING,	 /* xor %ecx, %ecx; xgetbv; ret */
};

static void put(u8 *at, enum kind kind, u32 value)
{
	static const u8 asking[] = {0x31, 0xc9, 0x0f, 0x01, 0xd0, 0xc3};
	u8 code[6 + sizeof(asking)] = {0xb8, 0, 0, 0, 0, 0xc3};

	memcpy(code + 1, &value, sizeof(value));
	if (kind == ASKING)
		memcpy(code, asking, sizeof(asking));
	else if (kind == TELLING)
		memcpy(code + 6, asking, sizeof(asking));
	memcpy(at, code, sizeof(code));
}

/*
 * What comes behind code that must be translated is translated, too, until the kernel has been
 * called; and who was found to be no case for a cell is one again after some ticks.
 */
static void come_back(void)
{
	syscall(SYS_getppid);
}

static void take_time(void)
{
	clock_t until = clock() + CLOCKS_PER_SEC / 50;

	while (clock() < until)
		;
}

static u32 call(const u8 *code)
{
	return ((u32(*)(void))code)();
}

/* The same memory twice: what is written at the first address is run at the second. */
static u8 *two[2];

static bool map_twice(void)
{
	int fd = memfd_create("code", 0);

	if (fd < 0 || ftruncate(fd, PAGES * PAGE_SIZE))
		return false;
	two[0] = map(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	two[1] = map(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
	return two[0] && two[1];
}

static bool runs_what_was_written(enum kind kind)
{
	bool fine = true;

	for (u32 round = 0; round < ROUNDS; round++) {
		for (u32 page = 0; page < PAGES; page++) {
			put(two[0] + page * PAGE_SIZE, kind, round << 8 | page);
			fine &= call(two[1] + page * PAGE_SIZE) == (round << 8 | page);
			come_back();
		}
		for (u32 page = 0; page < PAGES; page++)
			put(two[0] + page * PAGE_SIZE, kind, ~page);
		for (u32 page = 0; page < PAGES; page++)
			fine &= call(two[1] + page * PAGE_SIZE) == ~page;
		come_back();
	}
	return fine;
}

/* Code that was run as it is, for some time, and is then one that asks; and back. */
static bool tells_no_tales(void)
{
	u8 *new = new_page(PROT_ALL);
	bool fine = new;
	u32 truth;

	if (!new)
		return false;
	put(new, ASKING, 0);
	truth = call(new);
	for (u32 page = 0; page < PAGES; page++) {
		u8 *at = two[0] + page * PAGE_SIZE, *code = two[1] + page * PAGE_SIZE;

		put(at, PLAIN, page);
		for (unsigned i = 0; i < 10; i++)
			fine &= call(code) == page;
		put(at, ASKING, 0);
		fine &= call(code) == truth;
		put(at, PLAIN, ~page);
		fine &= call(code) == ~page;
	}
	return fine;
}

static bool takes_turns(enum kind kind)
{
	u8 *code = new_page(PROT_READ | PROT_WRITE);
	bool fine = code;

	for (u32 i = 0; fine && i < 100; i++) {
		put(code, kind, i);
		fine = !mprotect(code, PAGE_SIZE, PROT_READ | PROT_EXEC) && call(code) == i &&
		       !mprotect(code, PAGE_SIZE, PROT_READ | PROT_WRITE);
	}
	return fine;
}

static bool changes_itself(enum kind kind)
{
	u8 *code = new_page(PROT_ALL);
	bool fine = code;

	for (u32 i = 0; fine && i < TIMES; i++) {
		put(code, kind, i);
		fine = call(code) == i;
		come_back();
	}
	return fine;
}

/* A child changes its own copy, and nobody else's. */
static bool is_its_own(enum kind kind)
{
	u8 *code = new_page(PROT_ALL);
	bool fine = code;
	int status = -1;
	pid_t child;

	for (u32 i = 0; fine && i < 10; i++) {
		put(code, kind, i);
		fine = call(code) == i;
		child = fork();
		if (!child) {
			fine = call(code) == i;
			put(code, kind, ~i);
			_exit(!fine || call(code) != ~i);
		}
		fine &= waitpid(child, &status, 0) == child && !status && call(code) == i;
	}
	return fine;
}

/* Where a cell has something of its own: which is seen only if the pages are there already. */
static bool is_anywhere(void)
{
	const size_t length = CELL_END - CELL_BASE + 2 * PAGE_SIZE;
	u8 *area = map((void *)(CELL_BASE - PAGE_SIZE), length, PROT_ALL,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1);
	bool fine = area;

	for (u32 round = 0; fine && round < ROUNDS; round++) {
		take_time();
		for (u32 at = 0; at < length; at += PAGE_SIZE)
			put(area + at, PLAIN, round + at);
		for (u32 at = 0; at < length; at += PAGE_SIZE)
			fine &= call(area + at) == round + at;
	}
	if (area)
		munmap(area, length);
	return fine;
}

/* One writes and the other runs, each on a CPU of its own if there are two. */
static _Atomic u32 written, run;

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void serialize(void)
{
	u32 a = 0, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void *write_for_another(void *kind)
{
	stay_on(1);
	for (u32 i = 1; i <= TIMES; i++) {
		put(two[0] + i % 4 * PAGE_SIZE, *(enum kind *)kind, i);
		written = i;
		while (run != i)
			sched_yield();
	}
	return NULL;
}

static bool is_seen_by_others(enum kind kind)
{
	pthread_t writer;
	bool fine = true;

	written = run = 0;
	stay_on(0);
	if (pthread_create(&writer, NULL, write_for_another, &kind))
		return false;
	for (u32 i = 1; i <= TIMES; i++) {
		while (written != i)
			sched_yield();
		serialize();
		fine &= call(two[1] + i % 4 * PAGE_SIZE) == i;
		run = i;
	}
	return !pthread_join(writer, NULL) && fine;
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	check(map_twice(), "memory at two addresses");
	check(runs_what_was_written(PLAIN), "written here, and run there");
	check(runs_what_was_written(TELLING), "written here, and run there by the translator");
	check(tells_no_tales(), "plain code that becomes a question");
	check(takes_turns(PLAIN) && takes_turns(TELLING), "either written or executed");
	check(changes_itself(PLAIN) && changes_itself(TELLING), "written and run at one address");
	check(is_its_own(PLAIN) && is_its_own(TELLING), "a copy of one's own");
	check(is_anywhere(), "where a cell has its own pages");
	check(is_seen_by_others(PLAIN) && is_seen_by_others(TELLING), "written by another CPU");
	puts("rights: all is well");
	return 0;
}
