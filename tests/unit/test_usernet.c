/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --net=user on the host's side: frames over a stream that is cut wherever it can
 * be cut, the lives of helper processes, and passt and libslirp themselves, as far
 * as a test that speaks ARP to them can tell.
 */
#include "host/child.h"
#include "host/frames.h"
#include "host/iovec.h"
#include "host/netif.h"
#include "host/slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Frames */

struct line {
	struct frames *ours;
	int theirs;
};

static int make_line(void **state)
{
	struct line *line = malloc(sizeof(*line));
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	line->ours = malloc(sizeof(*line->ours));
	frames_init(line->ours, ends[0]);
	line->theirs = ends[1];
	*state = line;
	return 0;
}

static int free_line(void **state)
{
	struct line *line = *state;

	close(line->ours->fd);
	if (line->theirs >= 0)
		close(line->theirs);
	free(line->ours);
	free(line);
	return 0;
}

/* Byte i of a frame of this length. */
static u8 byte_of(size_t length, size_t i)
{
	return length * 31 + i * 7 + (i >> 8);
}

static void fill_frame(u8 *frame, size_t length)
{
	for (size_t i = 0; i < length; i++)
		frame[i] = byte_of(length, i);
}

static void assert_frame(const u8 *frame, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (frame[i] != byte_of(length, i))
			fail_msg("byte %zu of a frame of %zu", i, length);
}

/* A frame as it is on the stream: returns its length there. */
static size_t encode(u8 *to, size_t length)
{
	const u32 prefix = htonl(length);

	memcpy(to, &prefix, FRAMES_LENGTH);
	fill_frame(to + FRAMES_LENGTH, length);
	return FRAMES_LENGTH + length;
}

static void they_send(struct line *line, const void *bytes, size_t count)
{
	assert_int_equal(send(line->theirs, bytes, count, 0), count);
}

static void expect_frame(struct line *line, size_t length)
{
	const u8 *frame;

	assert_int_equal(frames_receive(line->ours, &frame), length);
	assert_frame(frame, length);
}

static void expect_none(struct line *line, int why)
{
	const u8 *frame;

	assert_int_equal(frames_receive(line->ours, &frame), why);
}

static void test_receives_in_any_two_pieces(void **state)
{
	struct line *line = *state;
	u8 stream[3 * (FRAMES_LENGTH + 60)];
	const size_t end = encode(stream, 14);
	const size_t second = end + encode(stream + end, 60);
	const size_t total = second + encode(stream + second, 33);

	for (size_t cut = 0; cut <= total; cut++) {
		they_send(line, stream, cut);
		if (cut >= end)
			expect_frame(line, 14);
		if (cut >= second)
			expect_frame(line, 60);
		if (cut >= total)
			expect_frame(line, 33);
		expect_none(line, -EAGAIN);
		they_send(line, stream + cut, total - cut);
		if (cut < end)
			expect_frame(line, 14);
		if (cut < second)
			expect_frame(line, 60);
		if (cut < total)
			expect_frame(line, 33);
		expect_none(line, -EAGAIN);
	}
}

static void test_receives_byte_by_byte(void **state)
{
	struct line *line = *state;
	u8 stream[FRAMES_LENGTH + 40];
	const size_t total = encode(stream, 40);

	for (size_t i = 0; i < total; i++) {
		expect_none(line, -EAGAIN);
		they_send(line, &stream[i], 1);
	}
	expect_frame(line, 40);
}

/* More than the buffer holds, so that each frame begins at another place in it. */
static void test_receives_the_longest_ones(void **state)
{
	struct line *line = *state;
	u8 *stream = malloc(FRAMES_LENGTH + FRAMES_MAX);
	static const size_t lengths[] = {FRAMES_MAX, 14, FRAMES_MAX - 1, FRAMES_MAX, 1514};

	for (unsigned round = 0; round < 4; round++)
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
			const size_t total = encode(stream, lengths[i]);
			const size_t half = total / 2 + round;

			they_send(line, stream, half);
			expect_none(line, -EAGAIN);
			they_send(line, stream + half, total - half);
			expect_frame(line, lengths[i]);
		}
	free(stream);
}

static void test_refuses_lengths_that_cannot_be(void **state)
{
	static const u32 lengths[] = {0, FRAMES_MAX + 1, 0x80000000, 0xffffffff};
	struct line *line;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const u32 prefix = htonl(lengths[i]);
		void *own;

		make_line(&own);
		line = own;
		they_send(line, &prefix, sizeof(prefix));
		expect_none(line, -EPROTO);
		/* And nothing makes it better. */
		they_send(line, "all is well, is it not?", 23);
		expect_none(line, -EPROTO);
		free_line(&own);
	}
}

static void test_hears_that_it_was_hung_up(void **state)
{
	struct line *line = *state;
	u8 stream[2 * (FRAMES_LENGTH + 40)];
	const size_t one = encode(stream, 40);

	encode(stream + one, 40);
	they_send(line, stream, one + 20);
	close(line->theirs);
	line->theirs = -1;
	/* What came as a whole still counts. */
	expect_frame(line, 40);
	expect_none(line, -ECONNRESET);
}

/* What was sent arrives as it was said, however little the other end takes at a time. */
static void test_sends_through_a_narrow_socket(void **state)
{
	struct line *line = *state;
	const size_t lengths[] = {1, 1514, FRAMES_MAX, 60, FRAMES_MAX};
	u8 *frame = malloc(FRAMES_MAX), *got = malloc(4 * (FRAMES_LENGTH + FRAMES_MAX));
	size_t sent = 0, expected = 0, have = 0, at = 0;
	bool was_unfinished = false;

	setsockopt(line->ours->fd, SOL_SOCKET, SO_SNDBUF, &(int){8192}, sizeof(int));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		expected += FRAMES_LENGTH + lengths[i];
	while (have < expected) {
		ssize_t taken;

		if (sent < ARRAY_SIZE(lengths)) {
			/* In three parts, one of them empty. */
			const size_t half = lengths[sent] / 2;
			const struct iovec iov[] = {
				{frame, half}, {NULL, 0}, {frame + half, lengths[sent] - half}};
			int err;

			fill_frame(frame, lengths[sent]);
			err = frames_send(line->ours, iov, 3);
			if (!err)
				sent++;
			else
				assert_int_equal(err, -EAGAIN);
			/* A guest's buffers are its own again. */
			memset(frame, 0xee, FRAMES_MAX);
		} else {
			assert_in_set(frames_flush(line->ours),
				      ((LargestIntegralType[]){0, -EAGAIN}), 2);
		}
		was_unfinished |= frames_unfinished(line->ours);
		taken = recv(line->theirs, got + have, 4 * FRAMES_MAX - have > 3000 ? 3000 : 1, 0);
		if (taken > 0)
			have += taken;
	}
	assert_true(was_unfinished);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		u32 prefix;

		memcpy(&prefix, got + at, FRAMES_LENGTH);
		assert_int_equal(ntohl(prefix), lengths[i]);
		assert_frame(got + at + FRAMES_LENGTH, lengths[i]);
		at += FRAMES_LENGTH + lengths[i];
	}
	free(frame);
	free(got);
}

static void test_sends_no_frame_that_cannot_be(void **state)
{
	struct line *line = *state;
	u8 *frame = calloc(1, FRAMES_MAX + 1);
	u8 byte;

	assert_int_equal(frames_send(line->ours, &(struct iovec){frame, FRAMES_MAX + 1}, 1),
			 -EMSGSIZE);
	assert_int_equal(frames_send(line->ours, NULL, 0), -EMSGSIZE);
	assert_int_equal(recv(line->theirs, &byte, 1, 0), -1);
	free(frame);
}

static void test_sends_to_nobody(void **state)
{
	struct line *line = *state;
	u8 frame[60] = {0};

	close(line->theirs);
	line->theirs = -1;
	assert_int_equal(frames_send(line->ours, &(struct iovec){frame, 60}, 1), -EPIPE);
}

static void test_knows_the_last_frame(void **state)
{
	struct line *line = *state;
	u8 frame[60];
	const struct iovec whole = {frame, 60}, shorter = {frame, 59};
	const struct iovec parts[] = {{frame, 20}, {frame + 20, 40}};

	fill_frame(frame, sizeof(frame));
	assert_false(frames_was_last(line->ours, &whole, 1));
	assert_int_equal(frames_send(line->ours, &whole, 1), 0);
	assert_true(frames_was_last(line->ours, parts, 2));
	assert_false(frames_was_last(line->ours, &shorter, 1));
	frame[59]++;
	assert_false(frames_was_last(line->ours, &whole, 1));
}

static void test_scatters_and_gathers(void **state)
{
	u8 from[10], to[12] = {0}, back[8];
	const struct iovec iov[] = {{to, 3}, {to + 3, 0}, {to + 3, 4}, {to + 7, 5}};

	(void)state;
	fill_frame(from, sizeof(from));
	assert_int_equal(iov_scatter(iov, 4, 2, from, 10), 10);
	assert_memory_equal(to + 2, from, 10);
	assert_int_equal(iov_scatter(iov, 4, 5, from, 10), 7);
	assert_int_equal(iov_scatter(iov, 4, 12, from, 10), 0);
	assert_int_equal(iov_length(iov, 4), sizeof(to));
	assert_int_equal(iov_gather(iov, 4, 2, back, sizeof(back)), sizeof(back));
	assert_memory_equal(back, to + 2, sizeof(back));
	assert_int_equal(iov_gather(iov, 4, 5, back, sizeof(back)), 7);
	assert_memory_equal(back, to + 5, 7);
}

/* Children */

static void say_and_leave(void *opaque)
{
	fprintf(stderr, "some words\n%s", (const char *)opaque);
	_exit(7);
}

static void serve_until_hung_up(void *opaque)
{
	u8 byte;

	(void)opaque;
	child_become_nobody();
	child_serves(STDOUT_FILENO);
	if (read(CHILD_FD, &byte, 1) == 0)
		_exit(0);
}

static void serve_for_ever(void *opaque)
{
	(void)opaque;
	child_serves(STDOUT_FILENO);
	for (;;)
		pause();
}

/* Says what it has got: descriptors, a session, signals. */
static void report_on_itself(void *opaque)
{
	sigset_t blocked;
	unsigned open = 0;

	(void)opaque;
	for (int i = 0; i < 100; i++)
		open += fcntl(i, F_GETFD) >= 0;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	fprintf(stderr, "%u descriptors, %s session, USR1 %s, PIPE %s", open,
		getsid(0) == getpid() ? "own" : "our",
		sigismember(&blocked, SIGUSR1) ? "blocked" : "open",
		signal(SIGPIPE, SIG_DFL) == SIG_IGN ? "ignored" : "deadly");
	_exit(0);
}

static void test_child_tells_why_it_fails(void **state)
{
	struct child child;
	char why[100];

	(void)state;
	assert_int_equal(child_start(&child, NULL, 0, say_and_leave, "port 80 is taken\n"), 0);
	assert_int_equal(child_await(&child, why, sizeof(why)), -ECHILD);
	assert_string_equal(why, "ended with status 7: port 80 is taken");
	child_end(&child);
	assert_int_equal(child.fd, -1);
	/* Buried. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_child_that_talks_much(void **state)
{
	struct child child;
	char why[400];
	char *words = malloc(50000);

	(void)state;
	memset(words, 'x', 49999);
	words[49999] = 0;
	memcpy(words + 49900, "\nthe end", 8);
	assert_int_equal(child_start(&child, NULL, 0, say_and_leave, words), 0);
	assert_int_equal(child_await(&child, why, sizeof(why)), -ECHILD);
	assert_non_null(strstr(why, "7: the endxxx"));
	child_end(&child);
	free(words);
}

static void test_child_is_on_its_own(void **state)
{
	int ends[2], other = dup(0);
	struct child child;
	sigset_t usr1, before;
	char why[200];

	(void)state;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &before);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(child_start(&child, ends, 2, report_on_itself, NULL), 0);
	assert_int_equal(child_await(&child, why, sizeof(why)), -ECHILD);
	assert_string_equal(why, "ended with status 0: 5 descriptors, own session, USR1 open, "
				 "PIPE deadly");
	child_end(&child);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[0]);
	close(ends[1]);
	close(other);
}

static struct child start_serving(int *socket, void (*run)(void *))
{
	struct child child;
	char why[100];
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	/* Ours is no affair of the child's, or it could not be hung up. */
	assert_int_equal(child_start(&child, &ends[1], 1, run, NULL), 0);
	close(ends[1]);
	assert_int_equal(child_await(&child, why, sizeof(why)), 0);
	*socket = ends[0];
	return child;
}

static void test_child_leaves_when_hung_up(void **state)
{
	siginfo_t info = {0};
	int socket;
	struct child child = start_serving(&socket, serve_until_hung_up);

	(void)state;
	close(socket);
	assert_int_equal(waitid(P_PIDFD, child.fd, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(info.si_code, CLD_EXITED);
	assert_int_equal(info.si_status, 0);
	child_end(&child);
}

static void test_child_that_does_not_leave(void **state)
{
	int socket;
	struct child child = start_serving(&socket, serve_for_ever);

	(void)state;
	close(socket);
	child_kill(&child);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_child_killed_is_told(void **state)
{
	int socket;
	struct child child = start_serving(&socket, serve_until_hung_up);
	struct pollfd fd = {.fd = child.fd, .events = POLLIN};
	siginfo_t info = {0};
	char how[100];

	(void)state;
	assert_int_equal(poll(&fd, 1, 0), 0);
	waitid(P_PIDFD, child.fd, &info, WEXITED | WNOHANG | WNOWAIT);
	assert_int_equal(info.si_pid, 0);
	syscall(424 /* pidfd_send_signal */, child.fd, SIGKILL, NULL, 0);
	assert_int_equal(poll(&fd, 1, -1), 1);
	child_obituary(&child, how, sizeof(how));
	assert_string_equal(how, "ended by signal 9 (Killed)");
	child_end(&child);
	close(socket);
}

/* A launcher that is killed cannot say good-bye. */
static void test_child_dies_with_its_parent(void **state)
{
	int pids[2], status, child = 0;
	pid_t parent;

	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(pipe(pids), 0);
	parent = fork();
	if (parent == 0) {
		int socket;
		struct child own = start_serving(&socket, serve_for_ever);
		char path[64], line[64];
		FILE *info;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", own.fd);
		info = fopen(path, "re");
		while (info && fgets(line, sizeof(line), info))
			if (sscanf(line, "Pid: %d", &child) == 1)
				break;
		if (write(pids[1], &child, sizeof(child)) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	assert_int_equal(read(pids[0], &child, sizeof(child)), sizeof(child));
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	close(pids[0]);
	close(pids[1]);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* Those who serve */

#define GATEWAY "\x0a\x00\x02\x02"
#define GUEST	"\x0a\x00\x02\x0f"
#define MAC	"\x52\x54\x00\x12\x34\x56"

/* "Who has 10.0.2.2? Tell 10.0.2.15", with a header in front. */
static const u8 question[NETIF_HEADER + 42] =
	"\0\0\0\0\0\0\0\0\0\0\0\0"
	"\xff\xff\xff\xff\xff\xff" MAC "\x08\x06"
	"\x00\x01\x08\x00\x06\x04\x00\x01" MAC GUEST "\0\0\0\0\0\0" GATEWAY;

static ssize_t receive_one(struct netif *netif, u8 *frame, size_t size)
{
	struct pollfd fd = {.fd = netif->fd, .events = POLLIN};
	const struct iovec iov[] = {{frame, 5}, {frame + 5, size - 5}};
	ssize_t got;

	while ((got = netif->ops->receive(netif, iov, 2)) == -EAGAIN)
		assert_int_equal(poll(&fd, 1, -1), 1);
	return got;
}

static void ask_for_gateway(struct netif *netif)
{
	const struct iovec iov[] = {{(void *)question, NETIF_HEADER},
				    {(u8 *)question + NETIF_HEADER, 20},
				    {(u8 *)question + NETIF_HEADER + 20, 22}};

	assert_int_equal(netif->ops->send(netif, iov, 3), 0);
}

/* A port that is free, bound: whoever closes the socket may hope to get it. */
static int take_port(bool udp, u16 *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	if (!udp)
		assert_int_equal(listen(fd, 1), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static void assert_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static char *copy_path(void)
{
	const char *path = getenv("PATH");

	return strdup(path ? path : "");
}

/* Without a PATH there is no passt. */
static void test_libslirp_where_there_is_no_passt(void **state)
{
	char *path = copy_path();
	struct netif_options options = {.kind = NETIF_USER, .forward_count = 1};
	struct problem why;
	struct netif netif;
	u8 frame[NETIF_FRAME_MAX];
	int err;

	(void)state;
	close(take_port(false, &options.forwards[0].host_port));
	options.forwards[0].guest_port = 80;
	setenv("PATH", "/nowhere", 1);
	err = netif_open(&netif, &options, 0, &why);
	setenv("PATH", path, 1);
	free(path);
	if (err)
		fail_msg("%s", why.text);
	assert_string_equal(netif.name, "libslirp");
	assert_int_equal(netif.mac[0] & 3, 2);
	ask_for_gateway(&netif);
	do
		assert_true(receive_one(&netif, frame, sizeof(frame)) >= NETIF_HEADER + 42);
	while (memcmp(frame + NETIF_HEADER + 12, "\x08\x06", 2) != 0);
	assert_memory_equal(frame, question, NETIF_HEADER);
	assert_memory_equal(frame + NETIF_HEADER, MAC, 6);
	assert_memory_equal(frame + NETIF_HEADER + 28, GATEWAY, 4);
	netif_close(&netif);
	assert_no_child();
}

static void test_busy_port(void **state)
{
	struct netif_options options = {.kind = NETIF_USER, .forward_count = 2};
	struct problem why;
	struct netif netif;
	char words[64];

	(void)state;
	for (unsigned udp = 0; udp < 2; udp++) {
		struct netif_forward *busy = &options.forwards[1];
		int fd;

		close(take_port(false, &options.forwards[0].host_port));
		options.forwards[0].guest_port = 80;
		fd = take_port(udp, &busy->host_port);
		busy->guest_port = 80;
		busy->udp = udp;
		assert_int_equal(netif_open(&netif, &options, 0, &why), -EADDRINUSE);
		snprintf(words, sizeof(words), "%s port %u", udp ? "UDP" : "TCP", busy->host_port);
		assert_non_null(strstr(why.text, words));
		assert_no_child();
		close(fd);
	}
}

/* Whoever serves: its death is seen at both of its descriptors. */
static void test_death_of_who_serves(void **state)
{
	struct netif_options options = {.kind = NETIF_USER};
	struct problem why;
	struct netif netif;
	struct pollfd fd;
	u8 frame[NETIF_FRAME_MAX];
	ssize_t got;

	(void)state;
	if (netif_open(&netif, &options, 0, &why))
		fail_msg("%s", why.text);
	fd = (struct pollfd){.fd = netif.child_fd, .events = POLLIN};
	assert_int_equal(poll(&fd, 1, 0), 0);
	syscall(424 /* pidfd_send_signal */, netif.child_fd, SIGKILL, NULL, 0);
	assert_int_equal(poll(&fd, 1, -1), 1);
	do
		got = receive_one(&netif, frame, sizeof(frame));
	while (got > 0);
	assert_int_equal(got, -ECONNRESET);
	netif_close(&netif);
	assert_no_child();
}

/* Somebody else of the name passt, first in the PATH. */

struct impostor {
	char folder[32], *path;
};

static struct impostor send_impostor(const char *script)
{
	struct impostor impostor = {"/tmp/test-usernet-XXXXXX", copy_path()};
	char name[64], path[4096];
	int fd;

	assert_non_null(mkdtemp(impostor.folder));
	chmod(impostor.folder, 0755);
	snprintf(name, sizeof(name), "%s/passt", impostor.folder);
	fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	dprintf(fd, "#!/bin/sh\n%s\n", script);
	fchmod(fd, 0755);
	close(fd);
	snprintf(path, sizeof(path), "%s:%s", impostor.folder, impostor.path);
	setenv("PATH", path, 1);
	return impostor;
}

static void dismiss(struct impostor *impostor)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/passt", impostor->folder);
	unlink(name);
	rmdir(impostor->folder);
	setenv("PATH", impostor->path, 1);
	free(impostor->path);
}

#define SERVE "echo $$\n"
#define LONG  60000

/* A long one that begins with its number; header and frame, the latter in two parts. */
static int send_long(struct netif *netif, u8 number)
{
	static u8 header[NETIF_HEADER], frame[LONG];
	const struct iovec iov[] = {{header, NETIF_HEADER}, {frame, 14}, {frame + 14, LONG - 14}};

	fill_frame(frame, LONG);
	frame[0] = number;
	return netif->ops->send(netif, iov, 3);
}

static struct netif open_echo(struct impostor *echo, const struct netif_options *options)
{
	struct problem why;
	struct netif netif;

	*echo = send_impostor(SERVE "exec cat <&3 >&3");
	if (netif_open(&netif, options, 0, &why))
		fail_msg("%s", why.text);
	assert_string_equal(netif.name, "passt");
	setsockopt(netif.fd, SOL_SOCKET, SO_SNDBUF, &(int){16384}, sizeof(int));
	return netif;
}

/* While it stands still the socket fills, however quick it is. */
static void stop_echo(const struct netif *netif)
{
	siginfo_t info;

	syscall(424 /* pidfd_send_signal */, netif->child_fd, SIGSTOP, NULL, 0);
	assert_int_equal(waitid(P_PIDFD, netif->child_fd, &info, WSTOPPED), 0);
}

static void let_echo_go(const struct netif *netif)
{
	syscall(424 /* pidfd_send_signal */, netif->child_fd, SIGCONT, NULL, 0);
}

/* Those that have come back: they are frame number `received` and so on. */
static void receive_long(struct netif *netif, unsigned *received)
{
	static u8 back[NETIF_FRAME_MAX];
	const struct iovec iov = {back, sizeof(back)};
	ssize_t got;

	while ((got = netif->ops->receive(netif, &iov, 1)) > 0) {
		assert_int_equal(got, NETIF_HEADER + LONG);
		assert_int_equal(back[NETIF_HEADER], *received);
		for (size_t i = 1; i < LONG; i++)
			if (back[NETIF_HEADER + i] != byte_of(LONG, i))
				fail_msg("byte %zu of frame %u", i, *received);
		++*received;
	}
	assert_int_equal(got, -EAGAIN);
}

/* So long that a socket takes them by halves only; each comes back from an echo, once. */
static void test_long_frames_there_and_back(void **state)
{
	enum { FRAMES = 40 };
	static const struct netif_options options = {.kind = NETIF_USER};
	struct impostor echo;
	struct netif netif = open_echo(&echo, &options);
	unsigned sent = 0, received = 0;

	(void)state;
	stop_echo(&netif);
	assert_int_equal(send_long(&netif, 0), -EAGAIN);
	let_echo_go(&netif);
	while (received < FRAMES) {
		struct pollfd fd = {.fd = netif.fd, .events = POLLIN};

		if (sent < FRAMES) {
			const int err = send_long(&netif, sent);

			if (err)
				assert_int_equal(err, -EAGAIN);
			sent += !err;
			fd.events |= POLLOUT;
		}
		assert_int_equal(poll(&fd, 1, -1), 1);
		receive_long(&netif, &received);
	}
	netif_close(&netif);
	assert_no_child();
	dismiss(&echo);
}

/* A driver was reset when its frame was half sent: the next one says another, and both arrive. */
static void test_half_a_frame_and_then_another(void **state)
{
	static const struct netif_options options = {.kind = NETIF_USER};
	struct impostor echo;
	struct netif netif = open_echo(&echo, &options);
	unsigned received = 0;
	int err = -EAGAIN;

	(void)state;
	stop_echo(&netif);
	assert_int_equal(send_long(&netif, 0), -EAGAIN);
	let_echo_go(&netif);
	while (received < 2) {
		struct pollfd fd = {.fd = netif.fd, .events = POLLIN};

		if (err) {
			err = send_long(&netif, 1);
			fd.events |= POLLOUT;
		}
		assert_int_equal(poll(&fd, 1, -1), 1);
		receive_long(&netif, &received);
	}
	netif_close(&netif);
	assert_no_child();
	dismiss(&echo);
}

static void test_gibberish(void **state)
{
	struct impostor impostor =
		send_impostor(SERVE "printf '\\377\\377\\377\\377oh' >&3; exec cat <&3");
	struct netif_options options = {.kind = NETIF_USER};
	struct problem why;
	struct netif netif;
	u8 frame[NETIF_FRAME_MAX];

	(void)state;
	if (netif_open(&netif, &options, 0, &why))
		fail_msg("%s", why.text);
	assert_int_equal(receive_one(&netif, frame, sizeof(frame)), -EPROTO);
	netif_close(&netif);
	assert_no_child();
	dismiss(&impostor);
}

static void test_libslirp_where_passt_fails(void **state)
{
	struct impostor impostor = send_impostor("echo 'not in the mood' >&2; exit 1");
	struct netif_options options = {.kind = NETIF_USER};
	struct problem why;
	struct netif netif;

	(void)state;
	if (netif_open(&netif, &options, 0, &why))
		fail_msg("%s", why.text);
	assert_string_equal(netif.name, "libslirp");
	netif_close(&netif);
	assert_no_child();
	dismiss(&impostor);
}

/* The same port twice: one at a time it is free, but whoever serves cannot have it twice. */
static void test_neither(void **state)
{
	struct impostor impostor = send_impostor("echo \"$*\" >&2; exit 1");
	struct netif_options options = {.kind = NETIF_USER, .forward_count = 3};
	struct problem why;
	struct netif netif;
	char words[100];

	(void)state;
	close(take_port(false, &options.forwards[0].host_port));
	options.forwards[0].guest_port = 22;
	options.forwards[1] = options.forwards[0];
	options.forwards[2] = options.forwards[0];
	options.forwards[2].udp = true;
	assert_int_equal(netif_open(&netif, &options, 0, &why), -ECHILD);
	snprintf(words, sizeof(words), "--tcp-ports %u:22,%u:22 --udp-ports %u:22;",
		 options.forwards[0].host_port, options.forwards[0].host_port,
		 options.forwards[0].host_port);
	if (!strstr(why.text, words))
		fail_msg("%s", why.text);
	snprintf(words, sizeof(words), "cannot forward TCP port %u: Address already in use",
		 options.forwards[0].host_port);
	if (!strstr(why.text, words))
		fail_msg("%s", why.text);
	assert_no_child();
	dismiss(&impostor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define LINE(name) cmocka_unit_test_setup_teardown(name, make_line, free_line)
		LINE(test_receives_in_any_two_pieces),
		LINE(test_receives_byte_by_byte),
		LINE(test_receives_the_longest_ones),
		cmocka_unit_test(test_refuses_lengths_that_cannot_be),
		LINE(test_hears_that_it_was_hung_up),
		LINE(test_sends_through_a_narrow_socket),
		LINE(test_sends_no_frame_that_cannot_be),
		LINE(test_sends_to_nobody),
		LINE(test_knows_the_last_frame),
		cmocka_unit_test(test_scatters_and_gathers),
		cmocka_unit_test(test_child_tells_why_it_fails),
		cmocka_unit_test(test_child_that_talks_much),
		cmocka_unit_test(test_child_is_on_its_own),
		cmocka_unit_test(test_child_leaves_when_hung_up),
		cmocka_unit_test(test_child_that_does_not_leave),
		cmocka_unit_test(test_child_killed_is_told),
		cmocka_unit_test(test_child_dies_with_its_parent),
		cmocka_unit_test(test_libslirp_where_there_is_no_passt),
		cmocka_unit_test(test_long_frames_there_and_back),
		cmocka_unit_test(test_half_a_frame_and_then_another),
		cmocka_unit_test(test_gibberish),
		cmocka_unit_test(test_libslirp_where_passt_fails),
		cmocka_unit_test(test_neither),
		cmocka_unit_test(test_busy_port),
		cmocka_unit_test(test_death_of_who_serves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
