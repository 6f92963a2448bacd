/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels that keep the other kind of kernel busy (kernels.h): system calls, page faults,
 * processes that come and go, and two that wait for each other.
 */
#include "kernels.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS	    10000
#define PAGE	    4096
#define PAGES	    1024
#define FORKS	    10
#define FORK_STATUS 7
#define ROUND_TRIPS 1000

static u64 null_calls(void *data)
{
	pid_t parent = getppid();
	u64 right = 0;

	(void)data;
	for (unsigned i = 0; i < CALLS; i++)
		right += syscall(SYS_getppid) == parent;
	return right;
}

/* Fresh memory is all zeroes, as is each page's first byte. */
static u64 faults(void *data)
{
	u8 *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	u64 fresh = 0;

	(void)data;
	if (memory == MAP_FAILED)
		fail("no memory: %s", strerror(errno));
	madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PAGES * PAGE; i += PAGE)
		fresh += memory[i]++ == 0;
	munmap(memory, PAGES * PAGE);
	return fresh;
}

static u64 forks(void *data)
{
	u64 well = 0;

	(void)data;
	for (unsigned i = 0; i < FORKS; i++) {
		pid_t child = fork();
		int status;

		if (child < 0)
			fail("fork: %s", strerror(errno));
		if (child == 0)
			_exit(FORK_STATUS);
		if (waitpid(child, &status, 0) == child && WIFEXITED(status))
			well += WEXITSTATUS(status) == FORK_STATUS;
	}
	return well;
}

/* A process that gives back each byte that it is given, plus one, until there are no more. */
struct echo {
	pid_t child;
	int to, from;
};

static void *prepare_pipes(void)
{
	struct echo *echo = take(sizeof(*echo));
	int to[2], from[2];

	if (pipe(to) < 0 || pipe(from) < 0)
		fail("pipe: %s", strerror(errno));
	echo->child = fork();
	if (echo->child < 0)
		fail("fork: %s", strerror(errno));
	if (echo->child == 0) {
		u8 byte;

		close(to[1]);
		while (read(to[0], &byte, 1) == 1) {
			byte++;
			if (write(from[1], &byte, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	echo->to = to[1];
	echo->from = from[0];
	return echo;
}

static u64 round_trips(void *data)
{
	const struct echo *echo = data;
	u64 right = 0;

	for (unsigned i = 0; i < ROUND_TRIPS; i++) {
		u8 sent = i, got;

		if (write(echo->to, &sent, 1) != 1 || read(echo->from, &got, 1) != 1)
			break;
		right += got == (u8)(sent + 1);
	}
	return right;
}

static void release_pipes(void *data)
{
	struct echo *echo = data;

	close(echo->to);
	close(echo->from);
	waitpid(echo->child, NULL, 0);
	give_back(echo, sizeof(*echo));
}

const struct kernel system_kernels[] = {
	{.name = "syscall",
	 .unit = "calls",
	 .operations = CALLS,
	 .result = CALLS,
	 .chunk = null_calls},
	{.name = "faults", .unit = "faults", .operations = PAGES, .result = PAGES, .chunk = faults},
	{.name = "fork", .unit = "forks", .operations = FORKS, .result = FORKS, .chunk = forks},
	{.name = "pipes",
	 .unit = "round-trips",
	 .operations = ROUND_TRIPS,
	 .result = ROUND_TRIPS,
	 .prepare = prepare_pipes,
	 .chunk = round_trips,
	 .release = release_pipes},
};
const size_t system_kernels_count = COUNT(system_kernels);
