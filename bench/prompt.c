/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest takes of its host when nothing much happens. A stock kernel is brought to
 * the prompt of its shell (scripts/guest); then two figures:
 *  - idle: the share of one CPU that the launcher takes while nobody types;
 *  - memory: what is resident outside guest RAM after some seconds of small commands, which
 *    are still going on.
 * memory_beside_ram() is for start.c as well.
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROMPT	  "guest:/#"
#define APPEND	  "console=ttyS0 quiet panic=-1"
#define SETTLE_MS 3000 /* until all that a boot leaves to be done is done */
#define IDLE_MS	  10000
#define BUSY_MS	  10000
/* New processes, pipes, files, and busybox from one end to the other. */
#define BUSY                                                                                       \
	"while :; do find / -xdev | sort | md5sum; gzip -c /bin/busybox | gunzip | wc; "           \
	"ps; cat /proc/*/maps; vi --help; awk 'BEGIN { print 1 }'; done >/dev/null 2>&1\n"

struct prompt {
	struct launcher launcher;
	double idle[MAX_ROUNDS];			/* of one CPU */
	double resident[MAX_ROUNDS], share[MAX_ROUNDS]; /* KiB */
};

/* One mapping of /proc/PID/smaps. */
struct mapping {
	uint64_t start, end;
	struct memory memory;
	bool accessible;
};

/* The next one that has its first line, its Rss line and, behind that, its Pss line. */
static bool read_mapping(FILE *smaps, struct mapping *mapping)
{
	char line[512], access;

	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", &mapping->start, &mapping->end,
			   &access) == 3)
			mapping->accessible = access == 'r';
		else if (sscanf(line, "Pss: %lf", &mapping->memory.share) == 1)
			return true;
		else
			sscanf(line, "Rss: %lf", &mapping->memory.resident);
	}
	return false;
}

static void add(struct memory *sum, const struct memory *memory)
{
	sum->resident += memory->resident;
	sum->share += memory->share;
}

/*
 * RAM is recognised as the neighbouring accessible mappings (a kernel's file may be mapped into
 * the middle) that make up its size.
 */
struct memory memory_beside_ram(const struct launcher *launcher, const struct process *process,
				uint64_t ram_size)
{
	struct memory all = {0}, here = {0}, ram = {.resident = -1};
	struct mapping mapping = {.accessible = false};
	uint64_t start = 0, end = 0;
	char path[64];
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", process->pid);
	smaps = fopen(path, "re");
	if (!smaps)
		fail("%s: %s", path, strerror(errno));
	while (read_mapping(smaps, &mapping)) {
		add(&all, &mapping.memory);
		if (!mapping.accessible)
			continue;
		if (mapping.start != end || mapping.end - start > ram_size) {
			start = mapping.start;
			here = (struct memory){0};
		}
		end = mapping.end;
		add(&here, &mapping.memory);
		if (end - start == ram_size)
			ram = here;
	}
	fclose(smaps);
	if (ram.resident < 0)
		fail("%s: no guest RAM among its mappings", launcher->label);
	return (struct memory){all.resident - ram.resident, all.share - ram.share};
}

static void sleep_ms(unsigned ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&time, NULL);
}

/* Of all threads that the launcher has or had. */
static double cpu_ms(const struct launcher *launcher, const struct process *process)
{
	struct timespec time;
	clockid_t clock;

	if (clock_getcpuclockid(process->pid, &clock) || clock_gettime(clock, &time) < 0)
		fail_launcher(launcher, process, "it is gone");
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void look_once(struct prompt *prompt, unsigned round, const struct stock *stock)
{
	const struct launcher *launcher = &prompt->launcher;
	struct process process = start(launcher, stock);
	struct memory memory;
	double cpu, since;

	wait_for(launcher, &process, PROMPT);
	sleep_ms(SETTLE_MS);
	cpu = cpu_ms(launcher, &process);
	since = now_ms();
	sleep_ms(IDLE_MS);
	prompt->idle[round] = (cpu_ms(launcher, &process) - cpu) / (now_ms() - since);

	if (write(process.input, BUSY, sizeof(BUSY) - 1) != sizeof(BUSY) - 1)
		fail_launcher(launcher, &process, "does not listen");
	sleep_ms(BUSY_MS);
	memory = memory_beside_ram(launcher, &process, STOCK_MEMORY);
	prompt->resident[round] = memory.resident;
	prompt->share[round] = memory.share;
	kill(process.pid, SIGKILL);
	wait_for_end(&process);
	close(process.errors);
}

void bench_prompts(const struct choices *choices)
{
	struct launcher both[STOCK_LAUNCHERS];
	const struct stock stock = {.folder = choices->folder, .append = APPEND};
	struct prompt *prompts = calloc(STOCK_LAUNCHERS, sizeof(*prompts));

	if (!prompts)
		fail("out of memory");
	stock_launchers(choices, both);
	for (unsigned i = 0; i < STOCK_LAUNCHERS; i++)
		prompts[i].launcher = both[i];
	for (unsigned round = 0; round < choices->rounds; round++)
		for (unsigned i = 0; i < STOCK_LAUNCHERS; i++)
			look_once(&prompts[i], round, &stock);
	printf("%-20s %14s %26s %22s\n", "", "idle", "memory beside RAM, busy",
	       "pages counted once");
	for (unsigned i = 0; i < STOCK_LAUNCHERS; i++)
		printf("%-20s %7.2f%% of CPU %22.1f MiB %18.1f MiB\n", prompts[i].launcher.label,
		       median(prompts[i].idle, choices->rounds) * 100,
		       median(prompts[i].resident, choices->rounds) / 1024,
		       median(prompts[i].share, choices->rounds) / 1024);
	printf("medians of %u rounds, in turns\n", choices->rounds);
	free(prompts);
}
