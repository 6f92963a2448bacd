/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard input and output, shared by both consoles.
 *
 * Only the main thread reads and writes the descriptors; consoles take input
 * from a ring and put output into another, so that a stuck pipe blocks the
 * guest that writes and nobody else, and three ^C are seen even when the guest
 * takes no input. The descriptors stay in the mode they came in: O_NONBLOCK on a
 * shared terminal would break the user's shell, so a terminal is opened once more. A terminal on
 * standard input is put into raw mode, output processing left alone, and restored on every way out.
 *
 * Tour 3.120: The terminal on the other end
 */
#ifndef HOST_TERMINAL_H
#define HOST_TERMINAL_H

#include "host/machine.h"

#include <termios.h>

#define TERMINAL_RING 16384 /* bytes of each ring: a power of two */

/* Which console standard input goes to. */
enum input_console { INPUT_SERIAL, INPUT_VIRTIO };

struct terminal_ring {
	u32 head, tail; /* free-running; the data is at tail, modulo the size */
	u8 data[TERMINAL_RING];
};

struct terminal {
	struct machine *machine;
	struct terminal_ring input, output;
	pthread_mutex_t lock; /* guards the rings and what is below */
	enum input_console owner;
	int input_fd;		/* eventfd: readable while input waits for INPUT_VIRTIO */
	int room_fd;		/* eventfd: readable while the output ring has room */
	bool input_ended;	/* no more is to be had */
	bool background;	/* the shell's other jobs have the terminal just now */
	bool write_failed;	/* that was reported */
	unsigned interrupts;	/* ^C in a row, each in a read of its own */
	u64 interrupt_times[3]; /* of the latest three: ns, CLOCK_MONOTONIC */
	bool is_terminal;
	int in_fd,
		out_fd; /* standard input and output; our own opening of them where they are ttys */
	bool user_left; /* three ^C: whoever typed them does not want to wait */
	_Atomic bool raw;
	struct termios saved;
};

/* -errno. */
int terminal_init(struct terminal *terminal, struct machine *machine);

/*
 * Raw mode on (again, when the user brought us back to the foreground) and off;
 * off is async-signal-safe and may be called twice.
 */
void terminal_set_raw(struct terminal *terminal);

/*
 * It should be raw and is not: we are in the background. A shell that brings us to the foreground
 * need not say so, so whoever waits should try terminal_set_raw() now and then.
 */
bool terminal_is_waiting(const struct terminal *terminal);

void terminal_restore(struct terminal *terminal);
void terminal_destroy(struct terminal *terminal);

/*
 * Console side, any thread.
 * Put all of it into the output ring, waiting while that is full; gives up
 * when stop_fd becomes readable. Bytes that were taken.
 */
size_t terminal_put(struct terminal *terminal, const void *data, size_t len, int stop_fd);

/* Take up to `len` bytes of input that are for this console. Never waits; 0 if there is none. */
size_t terminal_take(struct terminal *terminal, enum input_console console, void *data, size_t len);

/* From now on input goes there. What waits already goes too. */
void terminal_give_input(struct terminal *terminal, enum input_console console);

/* Columns and rows of the terminal; false if there is none. */
bool terminal_size(const struct terminal *terminal, u16 *columns, u16 *rows);

/*
 * Main thread side.
 * Which of standard input (POLLIN) and output (POLLOUT) is worth polling now; 0 for neither.
 */
short terminal_input_events(struct terminal *terminal);
short terminal_output_events(struct terminal *terminal);

/* Standard input is readable: fetch some, count ^C. Standard output is writable: write some. */
void terminal_read_ready(struct terminal *terminal);
void terminal_write_ready(struct terminal *terminal);

/*
 * Before leaving: write what is left. Waits for the reader until enough_fd (-1: none) is
 * readable, or for `patience` ms; -1: for ever.
 */
void terminal_flush(struct terminal *terminal, int enough_fd, int patience);

#endif
