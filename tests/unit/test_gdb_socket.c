/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket of --gdb (gdb/gdb.c), with debuggers of every manner: a second one, one that
 * does not listen, one that hears badly, one that just goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_debug.h"
#include "gdb/gdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct fake_debug fake;
static struct gdb_options options;
static struct gdb *gdb;
static char directory[] = "/tmp/lguest-gdb-XXXXXX";
static char path[64];

/* The main thread, until nothing is left to be done. */
static void turn(void)
{
	struct pollfd fds[GDB_DESCRIPTORS];

	for (;;) {
		unsigned count = gdb_poll(gdb, fds);

		if (poll(fds, count, 0) <= 0)
			return;
		gdb_polled(gdb, fds, count);
	}
}

static int call(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	turn();
	return fd;
}

static void tell(int fd, const char *bytes)
{
	assert_int_equal(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), strlen(bytes));
	turn();
}

static void assert_heard(int fd, const char *wanted)
{
	char text[256] = "";
	ssize_t length = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(length >= 0 || !*wanted);
	assert_string_equal(text, wanted);
}

static bool hung_up_on(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0;
}

static int set_up(void **state)
{
	struct problem why;

	(void)state;
	fake_debug_init(&fake, 7);
	options = (struct gdb_options){.path = path};
	assert_int_equal(gdb_open(&gdb, &options, &why), 0);
	assert_int_equal(gdb_attach(gdb, &fake.engine, &fake.machine, FAKE_DEBUG_VCPUS, &why), 0);
	gdb_power_on(gdb);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	gdb_close(gdb);
	fake_debug_destroy(&fake);
	return 0;
}

static void test_nobody(void **state)
{
	static const struct gdb_options none;
	struct pollfd fds[GDB_DESCRIPTORS];
	struct gdb *nobody;
	struct problem why;

	(void)state;
	assert_int_equal(gdb_open(&nobody, &none, &why), 0);
	assert_null(nobody);
	assert_int_equal(gdb_attach(nobody, &fake.engine, &fake.machine, 1, &why), 0);
	gdb_power_on(nobody);
	assert_int_equal(gdb_poll(nobody, fds), 0);
	gdb_polled(nobody, fds, 0);
	gdb_ended(nobody, 0);
	gdb_close(nobody);
}

static void test_engine_without(void **state)
{
	struct problem why;

	(void)state;
	fake.ops.debug = NULL;
	assert_int_equal(gdb_attach(gdb, &fake.engine, &fake.machine, 1, &why), -ENOSYS);
	assert_string_equal(why.text, "--gdb: the fake engine cannot be debugged");
}

static void test_in_use(void **state)
{
	struct gdb *other;
	struct problem why;

	(void)state;
	assert_int_equal(gdb_open(&other, &options, &why), -EADDRINUSE);
	assert_null(other);
	assert_non_null(strstr(why.text, "exists already"));
	/* Of which the one that is there notices nothing. */
	turn();
	assert_int_equal(fake.resumes, 0);
}

static void test_acknowledgements(void **state)
{
	int fd = call();

	(void)state;
	assert_int_equal(fake.actions[0], DEBUG_STAY);
	tell(fd, "+$qC#b4");
	assert_heard(fd, "+$QC1#c5");
	/* It did not get that. */
	tell(fd, "-");
	assert_heard(fd, "$QC1#c5");
	/* Nor did we get this. */
	tell(fd, "+$qC#b5");
	assert_heard(fd, "-");
	tell(fd, "$QStartNoAckMode#b0");
	assert_heard(fd, "+$OK#9a");
	tell(fd, "+-$qC#b4");
	assert_heard(fd, "$QC1#c5");
	tell(fd, "$qC#b5");
	assert_heard(fd, "");
	close(fd);
	turn();
	assert_int_equal(fake.actions[0], DEBUG_RUN);
}

static void test_one_at_a_time(void **state)
{
	int fd = call(), second = call();

	(void)state;
	assert_true(hung_up_on(second));
	close(second);
	tell(fd, "$qC#b4");
	assert_heard(fd, "+$QC1#c5");
	close(fd);
	turn();
	/* The next one is welcome, and begins anew. */
	fd = call();
	tell(fd, "$qC#b4");
	assert_heard(fd, "+$QC1#c5");
	close(fd);
}

static void test_detach(void **state)
{
	int fd = call();

	(void)state;
	tell(fd, "$D#44");
	assert_heard(fd, "+$OK#9a");
	assert_true(hung_up_on(fd));
	assert_int_equal(fake.actions[0], DEBUG_RUN);
	close(fd);
}

static void test_stops(void **state)
{
	int fd = call();

	(void)state;
	tell(fd, "$c#63");
	assert_heard(fd, "+");
	fake_debug_stop(&fake, 1, DEBUG_STEPPED, NULL);
	turn();
	assert_heard(fd, "$T05thread:2;#d8");
	tell(fd, "+$c#63");
	assert_heard(fd, "+");
	tell(fd, "\x03");
	assert_heard(fd, "$T02thread:2;#d5");
	tell(fd, "+$c#63");
	assert_heard(fd, "+");
	gdb_ended(gdb, EXIT_PANICKED);
	assert_heard(fd, "$W03#ba");
	assert_true(hung_up_on(fd));
	close(fd);

	/* It stops, and who wanted to know has left. */
	fd = call();
	tell(fd, "$c#63");
	close(fd);
	fake_debug_stop(&fake, 1, DEBUG_STEPPED, NULL);
	turn();
	assert_int_equal(fake.actions[1], DEBUG_RUN);
}

/* Asks and asks, and listens to nothing: it gets no more than fits, and in the end all of it. */
static void test_deaf(void **state)
{
	enum { QUESTIONS = 5000 };
	static char answers[1 << 20];
	const char question[] = "$g#67";
	size_t asked = 0, length = 0;
	unsigned count = 0;
	int fd = call();

	(void)state;
	while (asked < QUESTIONS) {
		if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
			break;
		asked++;
		if (asked % 100 == 0)
			turn();
	}
	/* By then neither way takes any more, and nobody waits. */
	assert_true(asked > 10 && asked < QUESTIONS);
	for (;;) {
		ssize_t got = recv(fd, answers, sizeof(answers), 0);

		if (got > 0) {
			for (ssize_t i = 0; i < got; i++)
				count += answers[i] == '$';
			length += got;
		}
		turn();
		if (got <= 0 && count == asked)
			break;
		assert_true(got > 0 || errno == EAGAIN);
	}
	assert_int_equal(length % asked, 0);
	/* And can still be talked to; then it dies in the middle of an answer. */
	tell(fd, "$qC#b4");
	assert_heard(fd, "+$QC1#c5");
	for (unsigned i = 0; i < 1000; i++)
		if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
			break;
	turn();
	close(fd);
	turn();
	assert_int_equal(fake.actions[0], DEBUG_RUN);
}

/* Byte by byte, and rubbish between. */
static void test_crumbs(void **state)
{
	static const char bytes[] = "+\xff garbage +$}\x91"
				    "C#2f";
	int fd = call();

	(void)state;
	for (size_t i = 0; i < strlen(bytes); i++)
		tell(fd, (const char[]){bytes[i], 0});
	close(fd);
	turn();
	assert_int_equal(fake.actions[0], DEBUG_RUN);
}

/* What a browser says, for somebody who knows what a debugger would. */
static void test_no_debugger(void **state)
{
	int fd = call();

	(void)state;
	assert_int_equal(fake.actions[0], DEBUG_STAY);
	tell(fd, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n+$qC#b4");
	assert_true(hung_up_on(fd));
	assert_int_equal(fake.actions[0], DEBUG_RUN);
	close(fd);
	/* Behind it a debugger is as welcome as ever. */
	fd = call();
	tell(fd, "$qC#b4");
	assert_heard(fd, "+$QC1#c5");
	close(fd);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_nobody),	  CASE(test_engine_without),
		CASE(test_in_use),	  CASE(test_acknowledgements),
		CASE(test_one_at_a_time), CASE(test_detach),
		CASE(test_stops),	  CASE(test_deaf),
		CASE(test_crumbs),	  CASE(test_no_debugger),
	};
	int failed;

	if (!mkdtemp(directory))
		return 1;
	snprintf(path, sizeof(path), "%s/gdb", directory);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(directory);
	return failed;
}
