/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it costs to start a guest and to have one: lguest beside qemu's microvm, in
 * one run, taking turns, so that whatever else the machine does hits both.
 *
 *   bench --guests=DIR [--lguest=PATH] [--qemu=PATH] [--rounds=N]
 *
 * Three figures each, as medians:
 *  - first instruction: from before the fork until a byte that the guest writes in
 *    its first instructions (DIR/beacon) can be read from standard output;
 *  - whole process: until the process of that guest, which then powers off, is gone;
 *  - memory: resident memory less that of guest RAM while a guest (DIR/spin) runs.
 * A launcher that fails at any of it ends the benchmark: no figure is made up.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RAM_MIB	   "256"
#define RAM_SIZE   (256UL << 20)
#define MAX_ROUNDS 1000
#define LAUNCHERS  3
#define PEER	   (LAUNCHERS - 1)
/* What the beacon's debug exit gives where its power-off does not exist: 2 * 0x10 + 1. */
#define DEBUG_EXIT 33

struct launcher {
	const char *label;
	const char *path;
	const char *engine; /* an option of lguest's; NULL: this is qemu */

	double first[MAX_ROUNDS], whole[MAX_ROUNDS]; /* milliseconds */
	double memory[MAX_ROUNDS];		     /* KiB */
};

struct process {
	pid_t pid;
	int output; /* the reading end of its standard output */
	double started;
};

static void __attribute__((format(printf, 1, 2), noreturn)) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void exec_launcher(const struct launcher *launcher, const char *guest)
{
	if (launcher->engine)
		execl(launcher->path, "lguest", launcher->engine, RAM_MIB, guest, (char *)NULL);
	else
		execlp(launcher->path, "qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m",
		       RAM_MIB, "-nodefaults", "-no-user-config", "-display", "none", "-serial",
		       "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-kernel", guest,
		       (char *)NULL);
}

static struct process start(const struct launcher *launcher, const char *guest)
{
	struct process process = {.started = now_ms()};
	int ends[2];

	if (pipe(ends) < 0)
		fail("pipe: %s", strerror(errno));
	process.pid = fork();
	if (process.pid < 0)
		fail("fork: %s", strerror(errno));
	if (process.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		exec_launcher(launcher, guest);
		_exit(127);
	}
	close(ends[1]);
	process.output = ends[0];
	return process;
}

/* Until the guest has written `mark`, whatever firmware may have said before. */
static void wait_for(const struct launcher *launcher, const struct process *process, char mark)
{
	char byte;

	do {
		if (read(process->output, &byte, 1) != 1)
			fail("%s: no guest was heard of", launcher->label);
	} while (byte != mark);
}

static void time_once(struct launcher *launcher, unsigned round, const char *guest)
{
	struct process process = start(launcher, guest);
	int status;

	wait_for(launcher, &process, '!');
	launcher->first[round] = now_ms() - process.started;
	waitpid(process.pid, &status, 0);
	launcher->whole[round] = now_ms() - process.started;
	close(process.output);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != (launcher->engine ? 0 : DEBUG_EXIT))
		fail("%s: ended with status %#x", launcher->label, status);
}

/* One mapping of /proc/PID/smaps. */
struct mapping {
	uint64_t start, end, resident;
	bool accessible;
};

/* The next one that has both its first line and its Rss line. */
static bool read_mapping(FILE *smaps, struct mapping *mapping)
{
	char line[512], access;

	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", &mapping->start, &mapping->end,
			   &access) == 3)
			mapping->accessible = access == 'r';
		else if (sscanf(line, "Rss: %" SCNu64, &mapping->resident) == 1)
			return true;
	}
	return false;
}

/*
 * Resident KiB outside guest RAM. RAM is recognised as the neighbouring accessible
 * mappings (a kernel's file may be mapped into the middle) that make up its size.
 */
static double memory_beside_ram(const struct launcher *launcher, pid_t pid)
{
	struct mapping mapping = {.accessible = false};
	uint64_t start = 0, end = 0, resident = 0, total = 0, ram = UINT64_MAX;
	char path[64];
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	smaps = fopen(path, "re");
	if (!smaps)
		fail("%s: %s", path, strerror(errno));
	while (read_mapping(smaps, &mapping)) {
		total += mapping.resident;
		if (!mapping.accessible)
			continue;
		if (mapping.start != end || mapping.end - start > RAM_SIZE) {
			start = mapping.start;
			resident = 0;
		}
		end = mapping.end;
		resident += mapping.resident;
		if (end - start == RAM_SIZE)
			ram = resident;
	}
	fclose(smaps);
	if (ram == UINT64_MAX)
		fail("%s: no guest RAM among its mappings", launcher->label);
	return total - ram;
}

static void weigh_once(struct launcher *launcher, unsigned round, const char *guest)
{
	struct process process = start(launcher, guest);

	/* "spin: ready\n" */
	wait_for(launcher, &process, 'y');
	launcher->memory[round] = memory_beside_ram(launcher, process.pid);
	kill(process.pid, SIGKILL);
	waitpid(process.pid, NULL, 0);
	close(process.output);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void report(struct launcher *launchers, unsigned rounds)
{
	double first[LAUNCHERS], whole[LAUNCHERS], memory[LAUNCHERS];

	for (unsigned i = 0; i < LAUNCHERS; i++) {
		first[i] = median(launchers[i].first, rounds);
		whole[i] = median(launchers[i].whole, rounds);
		memory[i] = median(launchers[i].memory, rounds) / 1024;
	}
	printf("%-20s %22s %22s %23s\n", "", "first instruction", "whole process",
	       "memory beside RAM");
	for (unsigned i = 0; i < LAUNCHERS; i++)
		printf("%-20s %10.2f ms (%6.3f) %10.2f ms (%6.3f) %10.2f MiB (%6.3f)\n",
		       launchers[i].label, first[i], first[i] / first[PEER], whole[i],
		       whole[i] / whole[PEER], memory[i], memory[i] / memory[PEER]);
	printf("medians of %u rounds, in turns; in brackets: as a share of the last line\n",
	       rounds);
}

static const char *option(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

int main(int argc, char **argv)
{
	const char *guests = NULL, *lguest = "build/lguest", *qemu = "qemu-system-x86_64", *value;
	unsigned rounds = 21;

	for (int i = 1; i < argc; i++) {
		if ((value = option(argv[i], "--guests=")))
			guests = value;
		else if ((value = option(argv[i], "--lguest=")))
			lguest = value;
		else if ((value = option(argv[i], "--qemu=")))
			qemu = value;
		else if ((value = option(argv[i], "--rounds=")))
			rounds = strtoul(value, NULL, 10);
		else
			fail("unknown argument '%s'", argv[i]);
	}
	if (!guests || !rounds || rounds > MAX_ROUNDS)
		fail("usage: bench --guests=DIR [--lguest=PATH] [--qemu=PATH] [--rounds=1..%d]",
		     MAX_ROUNDS);

	char beacon[PATH_MAX], spin[PATH_MAX];
	struct launcher *launchers = calloc(LAUNCHERS, sizeof(*launchers));

	if (!launchers)
		fail("out of memory");
	launchers[0] =
		(struct launcher){.label = "lguest", .path = lguest, .engine = "--engine=auto"};
	launchers[1] = (struct launcher){
		.label = "lguest --engine=kvm", .path = lguest, .engine = "--engine=kvm"};
	launchers[PEER] = (struct launcher){.label = "qemu -M microvm", .path = qemu};
	snprintf(beacon, sizeof(beacon), "%s/beacon", guests);
	snprintf(spin, sizeof(spin), "%s/spin", guests);
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < LAUNCHERS; i++) {
			time_once(&launchers[i], round, beacon);
			weigh_once(&launchers[i], round, spin);
		}
	}
	report(launchers, rounds);
	free(launchers);
	return 0;
}
