/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One row while it runs: what runner.c and steps.c share, and nobody else sees.
 */
#ifndef SYSTEM_RUNNER_H
#define SYSTEM_RUNNER_H

#include "systest.h"

struct text {
	char *bytes;   /* a string: no zeros, no carriage returns */
	size_t length; /* of it */
	size_t total;  /* bytes that came, kept or not */
	size_t at;     /* what was expected so far ends here */
};

/* The guest's clock, and two moments on ours between which it was read; seconds. */
struct clock_reading {
	double before, guest, after;
};

struct run {
	const struct test *test;
	const struct settings *settings;
	const char *engine;
	char *files, *directory;
	char *arguments[MAX_ARGS + 4];

	struct wires wires;
	struct text output, errors;
	bool reads_output;
	double deadline;

	pid_t pid;
	pid_t frozen; /* a thread of it, or 0 */
	bool ended;
	int status; /* as in struct test, once it has ended */

	struct run *others[MAX_OTHERS]; /* NULL: not started yet */

	int debugger; /* our end; 0 or -1: there is none */
	char answer[4096];
	size_t answer_length;

	struct resources remembered;
	struct clock_reading clock;

	bool failed;
	char why[sizeof(((struct verdict *)NULL)->why)];
};

/* The monotonic clock. */
double seconds_now(void);

/* Always false, so that a check can return it. Only the first reason is kept. */
bool run_fail(struct run *run, const char *format, ...) PRINTF(2, 3);

/*
 * Wait a little, take in what was written, notice the end. False: lguest has ended, the
 * row has failed, or time is up; then nothing new will come.
 */
bool run_turn(struct run *run);

/* {assets}, {files} and so on in there, as arguments have them. */
char *run_expand(const struct run *run, const char *argument);

/* Another guest of this row's, started. NULL: the row has failed. */
struct run *run_start_other(struct run *run, unsigned index);

#define NOBODY 65534

/* network.c. */
bool network_make(void);			/* in the empty namespace that this process is in */
bool network_deny_namespaces(void);		/* for this process, and those that it starts */
bool network_has_user_namespaces(void);		/* may a user without rights make one? */
bool network_serve(int port, const char *text); /* false with errno */
bool network_fetch(int port, const char *wanted);

/* debugger.c. Each is false where it cannot be done yet, or at all. */
bool debugger_call(struct run *run); /* at {files}/gdb */
void debugger_leave(struct run *run);
bool debugger_say(struct run *run, const char *text);
bool debugger_hears(struct run *run, const char **answer); /* since it said something */

/* All steps of the row, or those up to the first that fails. */
void run_steps(struct run *run);

#endif
