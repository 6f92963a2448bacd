/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program of small kernels (kernels.h): runs each for a while and says how many of its
 * operations it did in a second. One binary, linked statically, for the bare host and for
 * guests with nothing else in them; bench/speed.c runs it and compares.
 *
 *   kernels [--ms=N] [NAME...]	prints NAME OPERATIONS-PER-SECOND UNIT of all, or of those
 *   kernels --list
 */
#include "kernels.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define DEFAULT_MS 300
#define MAX_MS	   60000

struct group {
	const struct kernel *kernels;
	const size_t *count;
};

static const struct group groups[] = {
	{processor_kernels, &processor_kernels_count},
	{memory_kernels, &memory_kernels_count},
	{system_kernels, &system_kernels_count},
};

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("kernels: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void *take(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("no memory: %s", strerror(errno));
	/* A kernel without huge pages has no such advice, and needs none. */
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
	return memory;
}

void give_back(void *memory, size_t size)
{
	munmap(memory, size);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void do_chunk(const struct kernel *kernel, void *data)
{
	u64 result = kernel->chunk(data);

	if (result != kernel->result)
		fail("%s comes to %llu instead of %llu", kernel->name, (unsigned long long)result,
		     (unsigned long long)kernel->result);
}

/* The first chunk is for caches to fill: those of the machine and those of a translator. */
static void run(const struct kernel *kernel, double seconds)
{
	void *data = kernel->prepare ? kernel->prepare() : NULL;
	double start, elapsed;
	u64 chunks = 0;

	do_chunk(kernel, data);
	start = now();
	do {
		do_chunk(kernel, data);
		chunks++;
		elapsed = now() - start;
	} while (elapsed < seconds);
	printf("%s %.6g %s\n", kernel->name, chunks * kernel->operations / elapsed, kernel->unit);
	fflush(stdout);
	if (kernel->release)
		kernel->release(data);
}

static bool wanted(const struct kernel *kernel, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (strcmp(*names, kernel->name) == 0)
			return true;
	return false;
}

static bool is_kernel(const char *name)
{
	for (size_t group = 0; group < COUNT(groups); group++)
		for (size_t i = 0; i < *groups[group].count; i++)
			if (strcmp(name, groups[group].kernels[i].name) == 0)
				return true;
	return false;
}

/* A guest may have but one CPU, and two processes on one take turns: so here as well. */
static void stay_on_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		fail("cannot stay on one CPU: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	bool list = false;
	unsigned long ms = DEFAULT_MS;
	char **names = argv + 1;

	for (; *names && strncmp(*names, "--", 2) == 0; names++) {
		if (strcmp(*names, "--list") == 0)
			list = true;
		else if (strncmp(*names, "--ms=", 5) == 0)
			ms = strtoul(*names + 5, NULL, 10);
		else
			break;
	}
	for (char **name = names; *name; name++)
		if (!is_kernel(*name))
			fail("no kernel '%s': see --list", *name);
	if (argc < 1 || ms < 1 || ms > MAX_MS)
		fail("usage: kernels [--list] [--ms=1..%d] [NAME...]", MAX_MS);
	stay_on_one_cpu();
	for (size_t group = 0; group < COUNT(groups); group++) {
		for (size_t i = 0; i < *groups[group].count; i++) {
			const struct kernel *kernel = &groups[group].kernels[i];

			if (!wanted(kernel, names))
				continue;
			if (list)
				printf("%s\n", kernel->name);
			else
				run(kernel, ms / 1e3);
		}
	}
	return 0;
}
