/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's state: see machine.h.
 *
 * Tour 1.130
 */
#include "host/machine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

int machine_init(struct machine *machine)
{
	atomic_init(&machine->state, MACHINE_RUNNING);
	machine->status = EXIT_POWERED_OFF;
	machine->why[0] = '\0';
	machine->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->stop_fd < 0)
		return -errno;
	machine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->wake_fd < 0) {
		int err = -errno;

		close(machine->stop_fd);
		return err;
	}
	pthread_mutex_init(&machine->lock, NULL);
	return 0;
}

void machine_destroy(struct machine *machine)
{
	close(machine->stop_fd);
	close(machine->wake_fd);
	pthread_mutex_destroy(&machine->lock);
}

/*
 * Any thread may say this, and several may at once: a vCPU triple-faults while the user types
 * ^C. Whoever comes first has the last word. stop_fd wakes the main thread, which does the
 * rest.
 *
 * Tour 1.131, 2 items: The first word counts
 */
void machine_stop(struct machine *machine, int status, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&machine->lock);
	if (atomic_load(&machine->state) != MACHINE_STOPPED) {
		machine->status = status;
		machine->why[0] = '\0';
		if (format) {
			va_start(args, format);
			vsnprintf(machine->why, sizeof(machine->why), format, args);
			va_end(args);
		}
		atomic_store(&machine->state, MACHINE_STOPPED);
		eventfd_write(machine->stop_fd, 1);
	}
	pthread_mutex_unlock(&machine->lock);
}

void machine_reset(struct machine *machine)
{
	if (machine->no_reboot) {
		machine_stop(machine, EXIT_POWERED_OFF, NULL);
		return;
	}
	pthread_mutex_lock(&machine->lock);
	if (atomic_load(&machine->state) == MACHINE_RUNNING) {
		atomic_store(&machine->state, MACHINE_RESETTING);
		eventfd_write(machine->stop_fd, 1);
	}
	pthread_mutex_unlock(&machine->lock);
}

bool machine_restart(struct machine *machine)
{
	bool again;
	eventfd_t count;

	pthread_mutex_lock(&machine->lock);
	again = atomic_load(&machine->state) == MACHINE_RESETTING;
	if (again) {
		eventfd_read(machine->stop_fd, &count);
		atomic_store(&machine->state, MACHINE_RUNNING);
	}
	pthread_mutex_unlock(&machine->lock);
	return again;
}

void machine_wake(struct machine *machine)
{
	eventfd_write(machine->wake_fd, 1);
}
