/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it costs to start a guest and to have one.
 *
 * On KVM and beside the microvm, three figures each, as medians:
 *  - first instruction: from before the fork until a byte that the guest writes in
 *    its first instructions (beacon) can be read from standard output;
 *  - whole process: until the process of that guest, which then powers off, is gone;
 *  - memory: resident memory less that of guest RAM while a guest (spin) runs.
 *
 * Without KVM and beside qemu's translator, a stock kernel:
 *  - user space: until the first word of the init in its initramfs (scripts/guest);
 *  - whole process: as above. The init powers off at once.
 */
#include "bench.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM_MIB	    "256"
#define RAM_SIZE    (256UL << 20)
#define LAUNCHERS   3
#define PEER	    (LAUNCHERS - 1)
#define BOOT_APPEND "console=ttyS0 quiet panic=-1 test=poweroff"
/* What the beacon's debug exit gives where its power-off does not exist: 2 * 0x10 + 1. */
#define DEBUG_EXIT 33

struct timed {
	struct launcher launcher;
	double first[MAX_ROUNDS], whole[MAX_ROUNDS]; /* milliseconds */
	double memory[MAX_ROUNDS];		     /* KiB */
};

static void become_lguest(const struct launcher *launcher, const void *guest)
{
	execl(launcher->path, "lguest", launcher->engine, RAM_MIB, guest, (char *)NULL);
}

static void become_microvm(const struct launcher *launcher, const void *guest)
{
	execlp(launcher->path, "qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m",
	       RAM_MIB, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
	       "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-kernel", guest, (char *)NULL);
}

static void time_once(struct timed *timed, unsigned round, const void *guest, const char *mark)
{
	struct process process = start(&timed->launcher, guest);
	int status;

	wait_for(&timed->launcher, &process, mark);
	timed->first[round] = now_ms() - process.started;
	status = wait_for_end(&process);
	timed->whole[round] = now_ms() - process.started;
	check_status(&timed->launcher, &process, status);
	close(process.errors);
}

static void weigh_once(struct timed *timed, unsigned round, const char *guest)
{
	struct process process = start(&timed->launcher, guest);

	wait_for(&timed->launcher, &process, "ready");
	timed->memory[round] = memory_beside_ram(&timed->launcher, &process, RAM_SIZE).resident;
	kill(process.pid, SIGKILL);
	wait_for_end(&process);
	close(process.errors);
}

static void report_guests(struct timed *timed, unsigned rounds)
{
	double first[LAUNCHERS], whole[LAUNCHERS], memory[LAUNCHERS];

	for (unsigned i = 0; i < LAUNCHERS; i++) {
		first[i] = median(timed[i].first, rounds);
		whole[i] = median(timed[i].whole, rounds);
		memory[i] = median(timed[i].memory, rounds) / 1024;
	}
	printf("%-20s %22s %22s %23s\n", "", "first instruction", "whole process",
	       "memory beside RAM");
	for (unsigned i = 0; i < LAUNCHERS; i++)
		printf("%-20s %10.2f ms (%6.3f) %10.2f ms (%6.3f) %10.2f MiB (%6.3f)\n",
		       timed[i].launcher.label, first[i], first[i] / first[PEER], whole[i],
		       whole[i] / whole[PEER], memory[i], memory[i] / memory[PEER]);
	printf("medians of %u rounds, in turns; in brackets: as a share of the last line\n",
	       rounds);
}

static void report_boots(struct timed *timed, unsigned count, unsigned rounds)
{
	double first[LAUNCHERS], whole[LAUNCHERS];

	for (unsigned i = 0; i < count; i++) {
		first[i] = median(timed[i].first, rounds);
		whole[i] = median(timed[i].whole, rounds);
	}
	printf("%-20s %22s %22s\n", "", "user space", "whole process");
	for (unsigned i = 0; i < count; i++)
		printf("%-20s %10.0f ms (%6.3f) %10.0f ms (%6.3f)\n", timed[i].launcher.label,
		       first[i], first[i] / first[count - 1], whole[i],
		       whole[i] / whole[count - 1]);
	printf("medians of %u rounds, in turns; in brackets: as a share of the last line\n",
	       rounds);
}

static struct timed *new_timed(const struct launcher *launchers, unsigned count)
{
	struct timed *timed = calloc(count, sizeof(*timed));

	if (!timed)
		fail("out of memory");
	for (unsigned i = 0; i < count; i++)
		timed[i].launcher = launchers[i];
	return timed;
}

void bench_guests(const struct choices *choices)
{
	const struct launcher all[LAUNCHERS] = {
		{.label = "lguest",
		 .path = choices->lguest,
		 .become = become_lguest,
		 .engine = "--engine=auto"},
		{.label = "lguest --engine=kvm",
		 .path = choices->lguest,
		 .become = become_lguest,
		 .engine = "--engine=kvm"},
		{.label = "qemu -M microvm",
		 .path = choices->qemu,
		 .become = become_microvm,
		 .status = DEBUG_EXIT},
	};
	struct timed *timed = new_timed(all, LAUNCHERS);
	char beacon[PATH_MAX], spin[PATH_MAX];

	snprintf(beacon, sizeof(beacon), "%s/beacon", choices->folder);
	snprintf(spin, sizeof(spin), "%s/spin", choices->folder);
	for (unsigned round = 0; round < choices->rounds; round++) {
		for (unsigned i = 0; i < LAUNCHERS; i++) {
			time_once(&timed[i], round, beacon, "!");
			weigh_once(&timed[i], round, spin);
		}
	}
	report_guests(timed, choices->rounds);
	free(timed);
}

void bench_boots(const struct choices *choices)
{
	struct launcher both[STOCK_LAUNCHERS];
	const struct stock stock = {.folder = choices->folder, .append = BOOT_APPEND};
	struct timed *timed;

	stock_launchers(choices, both);
	timed = new_timed(both, STOCK_LAUNCHERS);
	for (unsigned round = 0; round < choices->rounds; round++)
		for (unsigned i = 0; i < STOCK_LAUNCHERS; i++)
			time_once(&timed[i], round, &stock, "poweroff");
	report_boots(timed, STOCK_LAUNCHERS, choices->rounds);
	free(timed);
}
