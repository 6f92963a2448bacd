/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal and the machine's end, on pipes and on a pty.
 *
 * Standard input and output are the test's own: each test puts others in their
 * place, and gives them back before it asserts anything that could print.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/log.h"
#include "host/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
	struct machine machine;
	struct terminal terminal;
	int saved[2];
};

static struct fixture *new_fixture(int input, int output)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fflush(stdout);
	for (int fd = 0; fd < 2; fd++)
		f->saved[fd] = dup(fd);
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	assert_int_equal(machine_init(&f->machine), 0);
	assert_int_equal(terminal_init(&f->terminal, &f->machine), 0);
	return f;
}

static void free_fixture(struct fixture *f)
{
	terminal_destroy(&f->terminal);
	machine_destroy(&f->machine);
	for (int fd = 0; fd < 2; fd++) {
		dup2(f->saved[fd], fd);
		close(f->saved[fd]);
	}
	free(f);
}

static bool fd_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void test_input_goes_to_its_owner(void **state)
{
	struct fixture *f;
	int in[2], out[2];
	char data[8];

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	f = new_fixture(in[0], out[1]);
	assert_int_equal(write(in[1], "abc", 3), 3);
	assert_int_equal(terminal_input_events(&f->terminal), POLLIN);
	terminal_read_ready(&f->terminal);
	assert_int_equal(terminal_take(&f->terminal, INPUT_VIRTIO, data, 8), 0);
	assert_false(fd_ready(f->terminal.input_fd));
	assert_int_equal(terminal_take(&f->terminal, INPUT_SERIAL, data, 1), 1);
	assert_int_equal(data[0], 'a');

	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	assert_true(fd_ready(f->terminal.input_fd));
	assert_int_equal(terminal_take(&f->terminal, INPUT_SERIAL, data, 8), 0);
	assert_int_equal(terminal_take(&f->terminal, INPUT_VIRTIO, data, 8), 2);
	assert_false(fd_ready(f->terminal.input_fd));

	/* The end of input is no news for the guest. */
	close(in[1]);
	terminal_read_ready(&f->terminal);
	assert_int_equal(terminal_input_events(&f->terminal), 0);
	assert_true(machine_running(&f->machine));
	free_fixture(f);
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void type(struct fixture *f, int in, const char *text)
{
	assert_int_equal(write(in, text, strlen(text)), strlen(text));
	terminal_read_ready(&f->terminal);
}

static void test_three_interrupts(void **state)
{
	struct fixture *f;
	int in[2], out[2];
	char data[16];

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	f = new_fixture(in[0], out[1]);
	type(f, in[1], "\3\3\3");
	type(f, in[1], "\3");
	type(f, in[1], "\3");
	type(f, in[1], "x");
	type(f, in[1], "\3");
	type(f, in[1], "\3");
	assert_true(machine_running(&f->machine));
	type(f, in[1], "\3");
	assert_false(machine_running(&f->machine));
	assert_int_equal(f->machine.status, 130);
	/* All of them were for the guest, too. */
	assert_int_equal(terminal_take(&f->terminal, INPUT_SERIAL, data, sizeof(data)), 9);
	free_fixture(f);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

/* Nobody reads, and nobody says "enough". */
static void test_flush_has_an_end(void **state)
{
	static char data[TERMINAL_RING];
	struct fixture *f;
	int in[2], out[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	do
		n = write(out[1], data, sizeof(data));
	while (n > 0);
	assert_int_equal(fcntl(out[1], F_SETFL, 0), 0);
	f = new_fixture(in[0], out[1]);
	assert_int_equal(terminal_put(&f->terminal, "x", 1, -1), 1);
	terminal_flush(&f->terminal, -1, 20);
	assert_int_equal(terminal_output_events(&f->terminal), POLLOUT);
	free_fixture(f);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

static void *put_more(void *opaque)
{
	struct fixture *f = opaque;
	static char data[2 * TERMINAL_RING];

	return (void *)terminal_put(&f->terminal, data, sizeof(data), f->machine.stop_fd);
}

static void test_stuck_output_can_be_left(void **state)
{
	struct fixture *f;
	int in[2], out[2];
	pthread_t thread;
	void *taken;

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	f = new_fixture(in[0], out[1]);
	assert_int_equal(pthread_create(&thread, NULL, put_more, f), 0);
	/* Nobody drains: it takes a ring full, and waits. */
	while (fd_ready(f->terminal.room_fd))
		usleep(1000);
	machine_stop(&f->machine, 5, "enough");
	pthread_join(thread, &taken);
	assert_int_equal((size_t)taken, TERMINAL_RING);
	assert_int_equal(f->machine.status, 5);
	free_fixture(f);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

static void test_output_arrives(void **state)
{
	struct fixture *f;
	int in[2], out[2];
	pthread_t thread;
	void *taken;
	size_t seen = 0;
	static char data[65536];

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	f = new_fixture(in[0], out[1]);
	assert_int_equal(pthread_create(&thread, NULL, put_more, f), 0);
	while (seen < 2 * TERMINAL_RING) {
		if (terminal_output_events(&f->terminal))
			terminal_write_ready(&f->terminal);
		while (fd_ready(out[0]))
			seen += read(out[0], data, sizeof(data));
	}
	pthread_join(thread, &taken);
	assert_int_equal((size_t)taken, 2 * TERMINAL_RING);
	assert_int_equal(terminal_output_events(&f->terminal), 0);
	free_fixture(f);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

static void test_failed_output_is_swallowed(void **state)
{
	struct fixture *f;
	int in[2], full = open("/dev/full", O_WRONLY);
	int errors[2], saved = dup(STDERR_FILENO);
	char text[512];
	ssize_t length;

	(void)state;
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(errors), 0);
	dup2(errors[1], STDERR_FILENO);
	f = new_fixture(in[0], full);
	for (int i = 0; i < 3; i++) {
		terminal_put(&f->terminal, "hello", 5, f->machine.stop_fd);
		terminal_write_ready(&f->terminal);
	}
	dup2(saved, STDERR_FILENO);
	length = read(errors[0], text, sizeof(text) - 1);
	assert_true(length > 0);
	text[length] = '\0';
	/* Said once, in one line. */
	assert_non_null(strstr(text, "cannot write to standard output"));
	assert_ptr_equal(strchr(text, '\n'), text + length - 1);
	assert_int_equal(terminal_output_events(&f->terminal), 0);
	assert_true(machine_running(&f->machine));
	free_fixture(f);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(errors[i]);
	}
	close(full);
	close(saved);
}

/* On a pty of its own: raw while it runs, and then exactly as before. */
static void test_raw_and_back(void **state)
{
	struct winsize size = {.ws_row = 33, .ws_col = 77};
	struct termios before, raw, after;
	int master, status;
	pid_t child;

	(void)state;
	child = forkpty(&master, NULL, NULL, &size);
	assert_true(child >= 0);
	if (!child) {
		struct machine machine;
		struct terminal terminal;
		u16 columns = 0, rows = 0;
		bool good;

		/* So that padding compares equal, too. */
		memset(&before, 0, sizeof(before));
		memset(&after, 0, sizeof(after));
		tcgetattr(0, &before);
		machine_init(&machine);
		terminal_init(&terminal, &machine);
		good = terminal_size(&terminal, &columns, &rows) && columns == 77 && rows == 33;
		terminal_set_raw(&terminal);
		tcgetattr(0, &raw);
		good = good && !(raw.c_lflag & (ICANON | ECHO | ISIG)) &&
		       raw.c_oflag == before.c_oflag;
		terminal_restore(&terminal);
		terminal_restore(&terminal);
		tcgetattr(0, &after);
		good = good && !memcmp(&before, &after, sizeof(before));
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	close(master);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* On a terminal that is not our session's: nobody can put us into its background. */
static void test_foreign_terminal(void **state)
{
	struct termios before, raw, after;
	struct fixture *f;
	int master, slave;
	char data[4];
	bool was_raw;

	(void)state;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	tcgetattr(slave, &before);
	f = new_fixture(slave, slave);
	terminal_set_raw(&f->terminal);
	tcgetattr(slave, &raw);
	was_raw = !(raw.c_lflag & ICANON);
	assert_int_equal(write(master, "ab", 2), 2);
	terminal_read_ready(&f->terminal);
	assert_int_equal(terminal_take(&f->terminal, INPUT_SERIAL, data, 4), 2);
	/* A read that finds nothing after all does not wait, and ends nothing. */
	terminal_read_ready(&f->terminal);
	assert_int_equal(terminal_input_events(&f->terminal), POLLIN);
	terminal_restore(&f->terminal);
	tcgetattr(slave, &after);
	free_fixture(f);
	close(master);
	close(slave);
	assert_true(was_raw);
	assert_int_equal(before.c_lflag, after.c_lflag);
	assert_int_equal(before.c_iflag, after.c_iflag);
}

/* A terminal whose other side does not read takes some, and then does not block us. */
static void test_stalled_terminal(void **state)
{
	static char data[TERMINAL_RING];
	struct fixture *f;
	int master, slave;
	unsigned before;

	(void)state;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	f = new_fixture(slave, slave);
	memset(data, 'x', sizeof(data));
	terminal_put(&f->terminal, data, sizeof(data), f->machine.stop_fd);
	do {
		before = f->terminal.output.tail;
		terminal_write_ready(&f->terminal);
	} while (f->terminal.output.tail != before);
	assert_int_equal(terminal_output_events(&f->terminal), POLLOUT);
	free_fixture(f);
	close(master);
	close(slave);
}

/* Nobody reads what we say: no thread waits for that, and the gap is told. */
static void test_log_is_never_stuck(void **state)
{
	static char text[1 << 20];
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t length;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	for (int i = 0; i < 10000; i++)
		log_line("line %d of many that nobody reads, %0100d", i, i);
	length = read(fds[0], text, sizeof(text));
	log_line("somebody reads");
	dup2(saved, STDERR_FILENO);
	close(fds[1]);
	assert_true(length > 0);
	length = read(fds[0], text, sizeof(text) - 1);
	assert_true(length > 0);
	text[length] = '\0';
	assert_non_null(strstr(text, "lines were lost here\nlguest: somebody reads\n"));
	close(fds[0]);
	close(saved);
}

static void test_first_word_counts(void **state)
{
	struct machine machine;

	(void)state;
	assert_int_equal(machine_init(&machine), 0);
	machine.no_reboot = false;
	assert_false(fd_ready(machine.stop_fd));
	machine_reset(&machine);
	assert_int_equal(machine.state, MACHINE_RESETTING);
	assert_true(fd_ready(machine.stop_fd));
	assert_true(machine_restart(&machine));
	assert_true(machine_running(&machine));
	assert_false(fd_ready(machine.stop_fd));

	machine_reset(&machine);
	machine_stop(&machine, 2, "number %d", 1);
	machine_stop(&machine, 3, "number %d", 2);
	machine_reset(&machine);
	assert_false(machine_restart(&machine));
	assert_int_equal(machine.status, 2);
	assert_string_equal(machine.why, "number 1");
	assert_true(fd_ready(machine.stop_fd));
	machine_destroy(&machine);

	assert_int_equal(machine_init(&machine), 0);
	machine.no_reboot = true;
	machine_reset(&machine);
	assert_int_equal(machine.state, MACHINE_STOPPED);
	assert_int_equal(machine.status, 0);
	machine_destroy(&machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_input_goes_to_its_owner),
		cmocka_unit_test(test_three_interrupts),
		cmocka_unit_test(test_flush_has_an_end),
		cmocka_unit_test(test_stuck_output_can_be_left),
		cmocka_unit_test(test_output_arrives),
		cmocka_unit_test(test_failed_output_is_swallowed),
		cmocka_unit_test(test_raw_and_back),
		cmocka_unit_test(test_foreign_terminal),
		cmocka_unit_test(test_stalled_terminal),
		cmocka_unit_test(test_log_is_never_stuck),
		cmocka_unit_test(test_first_word_counts),
	};

	return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
