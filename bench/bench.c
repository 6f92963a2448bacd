/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it costs to start a guest and to have one: lguest beside qemu, in one run,
 * taking turns, so that whatever else the machine does hits both.
 *
 *   bench --guests=DIR | --boot=DIR [--lguest=PATH] [--qemu=PATH] [--rounds=N]
 *
 * With --guests, on KVM and beside the microvm, three figures each, as medians:
 *  - first instruction: from before the fork until a byte that the guest writes in
 *    its first instructions (DIR/beacon) can be read from standard output;
 *  - whole process: until the process of that guest, which then powers off, is gone;
 *  - memory: resident memory less that of guest RAM while a guest (DIR/spin) runs.
 *
 * With --boot, without KVM and beside qemu's translator, a stock kernel:
 *  - user space: until the first word of the init in DIR/initrd.img (scripts/guest);
 *  - whole process: as above. The init powers off at once.
 *
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
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RAM_MIB	   "256"
#define RAM_SIZE   (256UL << 20)
#define BOOT_MIB   "512"
#define MAX_ROUNDS 1000
#define LAUNCHERS  3
#define PEER	   (LAUNCHERS - 1)
/* The same for both: no more than the two need to be comparable. */
#define BOOT_ARGUMENTS "console=ttyS0", "quiet", "panic=-1", "test=poweroff"
#define BOOT_APPEND    "console=ttyS0 quiet panic=-1 test=poweroff"
/* What the beacon's debug exit gives where its power-off does not exist: 2 * 0x10 + 1. */
#define DEBUG_EXIT 33

struct launcher {
	const char *label;
	const char *path;
	const char *engine; /* an option of lguest's */
	/* exec it, in the child, with this guest */
	void (*become)(const struct launcher *launcher, const char *guest);
	int status; /* that it leaves with when all was well */

	double first[MAX_ROUNDS], whole[MAX_ROUNDS]; /* milliseconds */
	double memory[MAX_ROUNDS];		     /* KiB */
};

struct process {
	pid_t pid;
	int output; /* the reading end of its standard output */
	int errors; /* what it said on standard error: shown if it fails */
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

/* What the launcher has to say about it comes first. */
static void __attribute__((noreturn))
fail_launcher(const struct launcher *launcher, const struct process *process, const char *what)
{
	char words[4096];
	ssize_t length = pread(process->errors, words, sizeof(words), 0);

	if (length > 0)
		fwrite(words, 1, length, stderr);
	fail("%s: %s", launcher->label, what);
}

static double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void become_lguest(const struct launcher *launcher, const char *guest)
{
	execl(launcher->path, "lguest", launcher->engine, RAM_MIB, guest, (char *)NULL);
}

static void become_microvm(const struct launcher *launcher, const char *guest)
{
	execlp(launcher->path, "qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m",
	       RAM_MIB, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
	       "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-kernel", guest, (char *)NULL);
}

static void become_booting_lguest(const struct launcher *launcher, const char *folder)
{
	char kernel[PATH_MAX], initrd[PATH_MAX];

	snprintf(kernel, sizeof(kernel), "%s/vmlinuz", folder);
	snprintf(initrd, sizeof(initrd), "--initrd=%s/initrd.img", folder);
	execl(launcher->path, "lguest", launcher->engine, BOOT_MIB, kernel, initrd, BOOT_ARGUMENTS,
	      (char *)NULL);
}

/* Not the microvm: without KVM its guests find no clock to measure the TSC with, and wait. */
static void become_tcg(const struct launcher *launcher, const char *folder)
{
	char kernel[PATH_MAX], initrd[PATH_MAX];

	snprintf(kernel, sizeof(kernel), "%s/vmlinuz", folder);
	snprintf(initrd, sizeof(initrd), "%s/initrd.img", folder);
	execlp(launcher->path, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max",
	       "-m", BOOT_MIB, "-nodefaults", "-no-user-config", "-display", "none", "-serial",
	       "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", BOOT_APPEND,
	       (char *)NULL);
}

static struct process start(const struct launcher *launcher, const char *guest)
{
	struct process process = {.errors = memfd_create("errors", MFD_CLOEXEC)};
	int ends[2];

	if (process.errors < 0 || pipe(ends) < 0)
		fail("pipe: %s", strerror(errno));
	process.started = now_ms();
	process.pid = fork();
	if (process.pid < 0)
		fail("fork: %s", strerror(errno));
	if (process.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDOUT_FILENO);
		dup2(process.errors, STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		launcher->become(launcher, guest);
		_exit(127);
	}
	close(ends[1]);
	process.output = ends[0];
	return process;
}

/*
 * Until the guest has written `mark`, whatever firmware may have said before. Its first byte
 * comes but once in it.
 */
static void wait_for(const struct launcher *launcher, const struct process *process,
		     const char *mark)
{
	const char *at = mark;
	char byte;

	while (*at) {
		if (read(process->output, &byte, 1) != 1)
			fail_launcher(launcher, process, "no guest was heard of");
		at = byte == *at ? at + 1 : mark + (byte == *mark);
	}
}

/* What else it has to say; then its status. */
static int wait_for_end(const struct process *process)
{
	char rest[4096];
	int status;

	while (read(process->output, rest, sizeof(rest)) > 0)
		;
	waitpid(process->pid, &status, 0);
	close(process->output);
	return status;
}

static void time_once(struct launcher *launcher, unsigned round, const char *guest,
		      const char *mark)
{
	struct process process = start(launcher, guest);
	int status;

	wait_for(launcher, &process, mark);
	launcher->first[round] = now_ms() - process.started;
	status = wait_for_end(&process);
	launcher->whole[round] = now_ms() - process.started;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != launcher->status)
		fail_launcher(launcher, &process, "did not end well");
	close(process.errors);
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

	wait_for(launcher, &process, "ready");
	launcher->memory[round] = memory_beside_ram(launcher, process.pid);
	kill(process.pid, SIGKILL);
	wait_for_end(&process);
	close(process.errors);
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

static void report_guests(struct launcher *launchers, unsigned rounds)
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

static void report_boots(struct launcher *launchers, unsigned count, unsigned rounds)
{
	double first[LAUNCHERS], whole[LAUNCHERS];

	for (unsigned i = 0; i < count; i++) {
		first[i] = median(launchers[i].first, rounds);
		whole[i] = median(launchers[i].whole, rounds);
	}
	printf("%-20s %22s %22s\n", "", "user space", "whole process");
	for (unsigned i = 0; i < count; i++)
		printf("%-20s %10.0f ms (%6.3f) %10.0f ms (%6.3f)\n", launchers[i].label, first[i],
		       first[i] / first[count - 1], whole[i], whole[i] / whole[count - 1]);
	printf("medians of %u rounds, in turns; in brackets: as a share of the last line\n",
	       rounds);
}

struct choices {
	const char *guests, *boot, *lguest, *qemu;
	unsigned rounds;
};

static void bench_guests(const struct choices *choices, struct launcher *launchers)
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
	char beacon[PATH_MAX], spin[PATH_MAX];

	memcpy(launchers, all, sizeof(all));
	snprintf(beacon, sizeof(beacon), "%s/beacon", choices->guests);
	snprintf(spin, sizeof(spin), "%s/spin", choices->guests);
	for (unsigned round = 0; round < choices->rounds; round++) {
		for (unsigned i = 0; i < LAUNCHERS; i++) {
			time_once(&launchers[i], round, beacon, "!");
			weigh_once(&launchers[i], round, spin);
		}
	}
	report_guests(launchers, choices->rounds);
}

static void bench_boots(const struct choices *choices, struct launcher *launchers)
{
	const struct launcher both[] = {
		{.label = "lguest --engine=soft",
		 .path = choices->lguest,
		 .become = become_booting_lguest,
		 .engine = "--engine=soft"},
		{.label = "qemu -accel tcg", .path = choices->qemu, .become = become_tcg},
	};
	const unsigned count = sizeof(both) / sizeof(both[0]);

	memcpy(launchers, both, sizeof(both));
	for (unsigned round = 0; round < choices->rounds; round++)
		for (unsigned i = 0; i < count; i++)
			time_once(&launchers[i], round, choices->boot, "poweroff");
	report_boots(launchers, count, choices->rounds);
}

static const char *option(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

static bool parse(struct choices *choices, int argc, char **argv)
{
	const char *value;

	for (int i = 1; i < argc; i++) {
		if ((value = option(argv[i], "--guests=")))
			choices->guests = value;
		else if ((value = option(argv[i], "--boot=")))
			choices->boot = value;
		else if ((value = option(argv[i], "--lguest=")))
			choices->lguest = value;
		else if ((value = option(argv[i], "--qemu=")))
			choices->qemu = value;
		else if ((value = option(argv[i], "--rounds=")))
			choices->rounds = strtoul(value, NULL, 10);
		else
			fail("unknown argument '%s'", argv[i]);
	}
	return !choices->guests == !!choices->boot && choices->rounds &&
	       choices->rounds <= MAX_ROUNDS;
}

int main(int argc, char **argv)
{
	struct choices choices = {
		.lguest = "build/lguest",
		.qemu = "qemu-system-x86_64",
		.rounds = 21,
	};
	struct launcher *launchers = calloc(LAUNCHERS, sizeof(*launchers));

	if (!launchers)
		fail("out of memory");
	if (!parse(&choices, argc, argv))
		fail("usage: bench --guests=DIR | --boot=DIR [--lguest=PATH] [--qemu=PATH]"
		     " [--rounds=1..%d]",
		     MAX_ROUNDS);
	if (choices.guests)
		bench_guests(&choices, launchers);
	else
		bench_boots(&choices, launchers);
	free(launchers);
	return 0;
}
