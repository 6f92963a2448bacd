/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it costs to have a guest: lguest beside qemu, in one run, taking turns, so
 * that whatever else the machine does hits both. bench.c reads the command line,
 * start.c times starts and boots, prompt.c looks at one that is idle, speed.c how fast one runs,
 * devices.c disks and networks; stock.c boots a stock kernel, process.c runs a launcher and listens
 * to its guest.
 *
 * A launcher that fails at any of it ends the benchmark: no figure is made up.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_ROUNDS 1000

struct choices {
	const char *folder; /* of guests, kernels and so on: see bench.c */
	const char *engine, *lguest, *qemu;
	const char *also;   /* a second lguest to compare with, or NULL */
	const char *filter; /* of kernels or programs, with commas between them: empty for all */
	bool with_native, with_tcg;
	unsigned rounds, ms; /* of each kernel */
	double scale; /* of the work in a round: less where the processor itself is emulated */
};

/* One of those that are compared; whoever compares knows what more there is to it. */
struct launcher {
	const char *label;
	const char *path;
	const char *engine; /* an option of lguest's */
	/* exec it, in the child, with this guest */
	void (*become)(const struct launcher *launcher, const void *guest);
	int status; /* that it leaves with when all was well */
};

struct process {
	pid_t pid;
	int input;  /* the writing end of its standard input */
	int output; /* the reading end of its standard output */
	int errors; /* what it said on standard error: shown if it fails */
	double started;
};

/* A folder with vmlinuz and initrd.img, and the kernel's command line. */
struct stock {
	const char *folder;
	const char *append;
	const char *disk; /* an image that is only read, or NULL */
};

#define STOCK_MEMORY (512UL << 20)

void become_stock_lguest(const struct launcher *launcher, const void *stock);
void become_stock_tcg(const struct launcher *launcher, const void *stock);

/* Both, with a label each, and qemu's behind ours. */
#define STOCK_LAUNCHERS 2
void stock_launchers(const struct choices *choices, struct launcher both[STOCK_LAUNCHERS]);

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* What the launcher has to say about it comes first. */
void fail_launcher(const struct launcher *launcher, const struct process *process, const char *what)
	__attribute__((noreturn));

double now_ms(void);

struct process start(const struct launcher *launcher, const void *guest);

/* Until the guest has written `mark`, whatever firmware may have said before. */
void wait_for(const struct launcher *launcher, const struct process *process, const char *mark);

/* What there is up to the end of a line or of all, without that end. False if there is none. */
bool next_line(const struct process *process, char *line, size_t size);

/* The same, of a guest that must say something. */
void read_line(const struct launcher *launcher, const struct process *process, char *line,
	       size_t size);

/* What else it has to say; then its status, as waitpid() gives it. Closes all but errors. */
int wait_for_end(const struct process *process);

/* That status is the one it should be. */
void check_status(const struct launcher *launcher, const struct process *process, int status);

/* In KiB. What is mapped more than once is resident as often, but only a share of it each time. */
struct memory {
	double resident, share;
};

/* All that is not guest RAM, which is of that many bytes. */
struct memory memory_beside_ram(const struct launcher *launcher, const struct process *process,
				uint64_t ram_size);

/* Sorts them. */
double median(double *values, unsigned count);

void bench_guests(const struct choices *choices);
void bench_boots(const struct choices *choices);
void bench_prompts(const struct choices *choices);
void bench_kernels(const struct choices *choices);
void bench_programs(const struct choices *choices);
void bench_devices(const struct choices *choices);

#endif
