/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the machine runs, and why it ended.
 *
 * Any thread may end it: a vCPU that wrote the power-off register, a device
 * under --strict, the user. The first word counts. The main thread then wakes,
 * stops everybody, and leaves by one path. A reset is the same, but for what
 * happens next.
 *
 * Tour 1.120: Whether the machine runs
 */
#ifndef HOST_MACHINE_H
#define HOST_MACHINE_H

#include "host/types.h"

#include <pthread.h>
#include <stdatomic.h>

/* Exit statuses of the launcher; a signal n gives 128 + n. */
enum exit_status {
	EXIT_POWERED_OFF = 0,
	EXIT_LAUNCHER = 1, /* bad usage, or lguest itself failed */
	EXIT_CRASHED = 2,  /* triple fault, engine failure, --strict, a device died */
	EXIT_PANICKED = 3, /* the guest kernel said so */
	EXIT_SIGNAL = 128,
};

enum machine_state {
	MACHINE_RUNNING,
	MACHINE_RESETTING, /* the guest asked to start afresh */
	MACHINE_STOPPED,
};

struct machine {
	bool strict;	/* --strict: the first violation ends the machine */
	bool no_reboot; /* --no-reboot: a reset is a power-off */

	_Atomic enum machine_state state;
	int stop_fd; /* eventfd, readable from the first word on until machine_restart() */
	int wake_fd; /* eventfd, for the main thread: something wants its attention */

	pthread_mutex_t lock; /* guards the two below */
	int status;
	char why[256]; /* "" for an ordinary end */
};

/* -errno. */
int machine_init(struct machine *machine);
void machine_destroy(struct machine *machine);

/* End it with this exit status. `format` NULL: there is nothing to explain. Any thread; returns. */
void machine_stop(struct machine *machine, int status, const char *format, ...) PRINTF(3, 4);

/*
 * The guest wants to reboot. Any thread; returns. A stop that comes later wins, one that came
 * before stays.
 */
void machine_reset(struct machine *machine);

/*
 * After a reset, with every vCPU and device at rest: run again. False if it was stopped meanwhile.
 */
bool machine_restart(struct machine *machine);

static inline bool machine_running(const struct machine *machine)
{
	return atomic_load_explicit(&machine->state, memory_order_acquire) == MACHINE_RUNNING;
}

/* It has ended, and not merely to start afresh. */
static inline bool machine_stopped(const struct machine *machine)
{
	return atomic_load_explicit(&machine->state, memory_order_acquire) == MACHINE_STOPPED;
}

/* Have the main thread look at the terminal again. Any thread. */
void machine_wake(struct machine *machine);

#endif
