/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard input and output: see terminal.h.
 *
 * Tour 3.130
 */
#include "host/terminal.h"

#include "host/clock.h"
#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CTRL_C 3

/* What a pipe that polls writable is sure to take without blocking (POSIX: PIPE_BUF). */
#define WRITE_MAX 4096

static u32 ring_used(const struct terminal_ring *ring)
{
	return ring->head - ring->tail;
}

static u32 ring_room(const struct terminal_ring *ring)
{
	return TERMINAL_RING - ring_used(ring);
}

static size_t ring_put(struct terminal_ring *ring, const u8 *data, size_t len)
{
	len = MIN(len, ring_room(ring));
	for (size_t i = 0; i < len; i++)
		ring->data[ring->head++ % TERMINAL_RING] = data[i];
	return len;
}

static size_t ring_take(struct terminal_ring *ring, u8 *data, size_t len)
{
	len = MIN(len, ring_used(ring));
	for (size_t i = 0; i < len; i++)
		data[i] = ring->data[ring->tail++ % TERMINAL_RING];
	return len;
}

/* An eventfd as a level that others can poll. */
static void set_level(int fd, bool high)
{
	eventfd_t count;

	if (high)
		eventfd_write(fd, 1);
	else
		eventfd_read(fd, &count);
}

/*
 * A write to a terminal may block although poll() found it writable, and a read although it
 * found it readable, when somebody else was quicker; and a main thread that is blocked hears
 * no signal. So for a terminal there is an opening of our own, with O_NONBLOCK; whoever shares
 * the first does not notice. Where it cannot be had (no /proc, or the terminal is another user's),
 * the descriptor itself has to do.
 */
static int open_own(int fd, int mode)
{
	char path[32];
	int own = -1;

	if (isatty(fd)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	return own < 0 ? fd : own;
}

static void close_own(int fd)
{
	if (fd > STDERR_FILENO)
		close(fd);
}

int terminal_init(struct terminal *terminal, struct machine *machine)
{
	memset(terminal, 0, sizeof(*terminal));
	terminal->machine = machine;
	terminal->owner = INPUT_SERIAL;
	terminal->input_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (terminal->input_fd < 0)
		return -errno;
	terminal->room_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (terminal->room_fd < 0) {
		int err = -errno;

		close(terminal->input_fd);
		return err;
	}
	pthread_mutex_init(&terminal->lock, NULL);
	terminal->is_terminal = !tcgetattr(STDIN_FILENO, &terminal->saved);
	terminal->in_fd = open_own(STDIN_FILENO, O_RDONLY);
	terminal->out_fd = open_own(STDOUT_FILENO, O_WRONLY);
	return 0;
}

void terminal_destroy(struct terminal *terminal)
{
	terminal_restore(terminal);
	close_own(terminal->in_fd);
	close_own(terminal->out_fd);
	close(terminal->input_fd);
	close(terminal->room_fd);
	pthread_mutex_destroy(&terminal->lock);
}

/* A terminal that is not our session's has no foreground that we could be out of. */
static bool in_foreground(void)
{
	pid_t foreground = tcgetpgrp(STDIN_FILENO);

	return foreground < 0 || foreground == getpgrp();
}

/*
 * Every key goes to the guest: its terminal driver echoes, edits lines and
 * makes signals of ^C. Output is left as it was, so that our own messages keep
 * their line ends.
 */
void terminal_set_raw(struct terminal *terminal)
{
	struct termios raw = terminal->saved;

	/* A background job that changes the terminal disturbs whoever has it. */
	if (!terminal->is_terminal || !in_foreground())
		return;
	raw.c_lflag &= ~(ICANON | ECHO | ECHONL | ISIG | IEXTEN);
	raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	/* Marked first: a signal in between restores once too often rather than never. */
	atomic_store(&terminal->raw, true);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	terminal->background = false;
}

void terminal_restore(struct terminal *terminal)
{
	/* In the background it is the shell's, which has put it in order for itself. */
	if (atomic_exchange(&terminal->raw, false) && in_foreground())
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal->saved);
}

bool terminal_is_waiting(const struct terminal *terminal)
{
	return terminal->is_terminal && !terminal->raw && !terminal->input_ended;
}

size_t terminal_put(struct terminal *terminal, const void *data, size_t len, int stop_fd)
{
	struct pollfd fds[] = {
		{.fd = terminal->room_fd, .events = POLLIN},
		{.fd = stop_fd, .events = POLLIN},
	};
	size_t done = 0;

	for (;;) {
		bool was_empty;

		pthread_mutex_lock(&terminal->lock);
		was_empty = !ring_used(&terminal->output);
		done += ring_put(&terminal->output, (const u8 *)data + done, len - done);
		if (!ring_room(&terminal->output))
			set_level(terminal->room_fd, false);
		pthread_mutex_unlock(&terminal->lock);
		if (was_empty && done)
			machine_wake(terminal->machine);
		if (done == len)
			return done;

		if (poll(fds, ARRAY_SIZE(fds), -1) > 0 && fds[1].revents)
			return done;
	}
}

/* Called with the lock held, whenever the ring or its owner changed. */
static void update_input_level(struct terminal *terminal)
{
	set_level(terminal->input_fd,
		  terminal->owner == INPUT_VIRTIO && ring_used(&terminal->input));
}

size_t terminal_take(struct terminal *terminal, enum input_console console, void *data, size_t len)
{
	bool was_full;

	pthread_mutex_lock(&terminal->lock);
	if (terminal->owner != console) {
		pthread_mutex_unlock(&terminal->lock);
		return 0;
	}
	was_full = !ring_room(&terminal->input);
	len = ring_take(&terminal->input, data, len);
	update_input_level(terminal);
	pthread_mutex_unlock(&terminal->lock);
	if (was_full && len)
		machine_wake(terminal->machine);
	return len;
}

void terminal_give_input(struct terminal *terminal, enum input_console console)
{
	pthread_mutex_lock(&terminal->lock);
	terminal->owner = console;
	update_input_level(terminal);
	pthread_mutex_unlock(&terminal->lock);
	machine_wake(terminal->machine);
}

bool terminal_size(const struct terminal *terminal, u16 *columns, u16 *rows)
{
	struct winsize size;

	if (!terminal->is_terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return false;
	*columns = size.ws_col;
	*rows = size.ws_row;
	return true;
}

short terminal_input_events(struct terminal *terminal)
{
	bool room;

	if (terminal->input_ended || terminal->background)
		return 0;
	pthread_mutex_lock(&terminal->lock);
	room = ring_room(&terminal->input);
	pthread_mutex_unlock(&terminal->lock);
	/*
	 * A file or a pipe can wait until the guest takes what it has. A person cannot: the three
	 * ^C of someone whose guest is stuck must be seen. What does not fit then is lost, as on a
	 * wire.
	 */
	return room || terminal->is_terminal ? POLLIN : 0;
}

short terminal_output_events(struct terminal *terminal)
{
	bool waiting;

	pthread_mutex_lock(&terminal->lock);
	waiting = ring_used(&terminal->output);
	pthread_mutex_unlock(&terminal->lock);
	return waiting ? POLLOUT : 0;
}

/*
 * Three ^C within a second, each in a read of its own with nothing between: the
 * user wants out, whatever the guest thinks (DEV-1).
 *
 * Tour 3.131: The way out
 */
static void count_interrupts(struct terminal *terminal, const u8 *data, size_t len)
{
	u64 *times = terminal->interrupt_times;

	if (len != 1 || data[0] != CTRL_C) {
		terminal->interrupts = 0;
		return;
	}
	times[0] = times[1];
	times[1] = times[2];
	times[2] = clock_ns();
	if (++terminal->interrupts >= 3 && times[2] - times[0] <= 1000000000ull) {
		terminal->user_left = true;
		machine_stop(terminal->machine, EXIT_SIGNAL + SIGINT,
			     "three ^C: ended by the user");
	}
}

void terminal_read_ready(struct terminal *terminal)
{
	u8 data[1024];
	size_t room;
	ssize_t n;

	if (terminal->is_terminal && !in_foreground()) {
		terminal->background = true;
		return;
	}
	pthread_mutex_lock(&terminal->lock);
	room = ring_room(&terminal->input);
	pthread_mutex_unlock(&terminal->lock);
	n = read(terminal->in_fd, data,
		 terminal->is_terminal ? sizeof(data) : MIN(room, sizeof(data)));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* The foreground may have been lost since we looked. */
	if (n < 0 && terminal->is_terminal && !in_foreground()) {
		terminal->background = true;
		return;
	}
	if (n <= 0) {
		terminal->input_ended = true;
		return;
	}
	count_interrupts(terminal, data, n);

	pthread_mutex_lock(&terminal->lock);
	ring_put(&terminal->input, data, n);
	update_input_level(terminal);
	pthread_mutex_unlock(&terminal->lock);
}

void terminal_write_ready(struct terminal *terminal)
{
	struct terminal_ring *ring = &terminal->output;
	u32 start, len;
	ssize_t n;

	/*
	 * Only we take bytes out, so what is there now stays there while the lock is open for
	 * others to add.
	 */
	pthread_mutex_lock(&terminal->lock);
	start = ring->tail % TERMINAL_RING;
	len = MIN(ring_used(ring), MIN(TERMINAL_RING - start, WRITE_MAX));
	pthread_mutex_unlock(&terminal->lock);
	if (!len)
		return;

	n = write(terminal->out_fd, ring->data + start, len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		if (!terminal->write_failed)
			log_line("cannot write to standard output: %s; the guest runs on, unheard",
				 strerror(errno));
		terminal->write_failed = true;
		n = len;
	}
	pthread_mutex_lock(&terminal->lock);
	ring->tail += n;
	set_level(terminal->room_fd, true);
	pthread_mutex_unlock(&terminal->lock);
}

/* What is left of so many ms since then: for poll(). */
static int patience_left(u64 since, int patience)
{
	const u64 passed = (clock_ns() - since) / 1000000;

	if (patience < 0)
		return -1;
	return passed < (u64)patience ? patience - (int)passed : 0;
}

void terminal_flush(struct terminal *terminal, int enough_fd, int patience)
{
	const u64 start = clock_ns();
	struct pollfd fds[] = {
		{.fd = terminal->out_fd, .events = POLLOUT},
		{.fd = enough_fd, .events = POLLIN},
	};

	while (terminal_output_events(terminal)) {
		int n = poll(fds, ARRAY_SIZE(fds), patience_left(start, patience));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || fds[1].revents)
			return;
		terminal_write_ready(terminal);
	}
}
