/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --sharenet: the switch with its ports in this very process, the folder where
 * guests meet and who must not have been there before, and many who come and go at
 * once.
 */
#include "host/netif.h"
#include "host/runtime.h"
#include "host/switch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* The switch */

#define GUESTS 4

struct segment {
	struct ether_switch *ether_switch;
	int guests[GUESTS];
};

static int plug(struct segment *segment)
{
	struct switch_welcome welcome;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	assert_true(switch_plug(segment->ether_switch, ends[1]));
	assert_int_equal(recv(ends[0], &welcome, sizeof(welcome), 0), sizeof(welcome));
	assert_int_equal(welcome.magic, SWITCH_MAGIC);
	assert_in_range(welcome.port, 0, GUESTS - 1);
	segment->guests[welcome.port] = ends[0];
	return welcome.port;
}

static int make_segment(void **state)
{
	struct segment *segment = calloc(1, sizeof(*segment));

	segment->ether_switch = switch_new();
	for (int i = 0; i < GUESTS; i++)
		assert_int_equal(plug(segment), i);
	*state = segment;
	return 0;
}

static int free_segment(void **state)
{
	struct segment *segment = *state;

	for (unsigned i = 0; i < GUESTS; i++)
		close(segment->guests[i]);
	switch_free(segment->ether_switch);
	free(segment);
	return 0;
}

#define TO_ALL	 0xff
#define TO_GROUP 0x33

/* Guest n has the address 2n:...:2n; a frame's payload is its number. */
static void address(u8 *mac, unsigned whose)
{
	memset(mac, whose == TO_ALL || whose == TO_GROUP ? whose : 2 * (whose + 1), ETH_ALEN);
}

static void send_frame(const struct segment *segment, unsigned from, unsigned to, size_t length,
		       u8 number)
{
	u8 frame[SWITCH_FRAME_MAX + 100];

	memset(frame, number, sizeof(frame));
	address(frame, to);
	address(frame + ETH_ALEN, from);
	assert_int_equal(send(segment->guests[from], frame, length, 0), length);
	switch_turn(segment->ether_switch, -1, 0);
}

/* Has this guest got just this frame, or none (length 0)? */
static void expect(const struct segment *segment, unsigned guest, size_t length, u8 number)
{
	u8 frame[SWITCH_FRAME_MAX + 100];
	const ssize_t got = recv(segment->guests[guest], frame, sizeof(frame), 0);

	if (got != (length ? (ssize_t)length : -1))
		fail_msg("guest %u got %zd bytes, not %zu", guest, got, length);
	for (size_t i = 2 * ETH_ALEN; i < length; i++)
		assert_int_equal(frame[i], number);
	if (length)
		assert_int_equal(recv(segment->guests[guest], frame, sizeof(frame), 0), -1);
}

static void expect_only(const struct segment *segment, unsigned guests, size_t length, u8 number)
{
	for (unsigned i = 0; i < GUESTS; i++)
		expect(segment, i, guests >> i & 1 ? length : 0, number);
}

#define GUEST(n) (1u << (n))

static void test_floods_what_it_does_not_know(void **state)
{
	const struct segment *segment = *state;

	send_frame(segment, 0, 1, 60, 1);
	expect_only(segment, GUEST(1) | GUEST(2) | GUEST(3), 60, 1);
	send_frame(segment, 1, TO_ALL, 60, 2);
	expect_only(segment, GUEST(0) | GUEST(2) | GUEST(3), 60, 2);
	send_frame(segment, 2, TO_GROUP, 60, 3);
	expect_only(segment, GUEST(0) | GUEST(1) | GUEST(3), 60, 3);
}

static void test_learns(void **state)
{
	const struct segment *segment = *state;

	send_frame(segment, 0, TO_ALL, 60, 1);
	expect_only(segment, GUEST(1) | GUEST(2) | GUEST(3), 60, 1);
	send_frame(segment, 1, 0, 60, 2);
	expect_only(segment, GUEST(0), 60, 2);
	send_frame(segment, 0, 1, SWITCH_FRAME_MAX, 3);
	expect_only(segment, GUEST(1), SWITCH_FRAME_MAX, 3);
	/* To itself: that is where it came from. */
	send_frame(segment, 0, 0, 60, 4);
	expect_only(segment, 0, 60, 4);
}

/* The address of guest 0 turns up behind the port of guest 3. */
static void test_learns_anew(void **state)
{
	const struct segment *segment = *state;
	u8 frame[60] = {0};

	send_frame(segment, 0, TO_ALL, 60, 1);
	expect_only(segment, GUEST(1) | GUEST(2) | GUEST(3), 60, 1);
	address(frame, TO_ALL);
	address(frame + ETH_ALEN, 0);
	assert_int_equal(send(segment->guests[3], frame, 60, 0), 60);
	switch_turn(segment->ether_switch, -1, 0);
	expect_only(segment, GUEST(0) | GUEST(1) | GUEST(2), 60, 0);
	send_frame(segment, 1, 0, 60, 2);
	expect_only(segment, GUEST(3), 60, 2);
}

static void test_drops_what_is_no_frame(void **state)
{
	const struct segment *segment = *state;
	u8 frame[60];

	send_frame(segment, 0, TO_ALL, 1, 1);
	send_frame(segment, 0, TO_ALL, SWITCH_FRAME_MIN - 1, 1);
	send_frame(segment, 0, TO_ALL, SWITCH_FRAME_MAX + 1, 1);
	send_frame(segment, 0, TO_ALL, SWITCH_FRAME_MAX + 100, 1);
	/* From a group. */
	memset(frame, 0xff, sizeof(frame));
	assert_int_equal(send(segment->guests[0], frame, sizeof(frame), 0), sizeof(frame));
	switch_turn(segment->ether_switch, -1, 0);
	expect_only(segment, 0, 60, 1);
	send_frame(segment, 0, TO_ALL, SWITCH_FRAME_MIN, 2);
	expect_only(segment, GUEST(1) | GUEST(2) | GUEST(3), SWITCH_FRAME_MIN, 2);
}

static void test_guest_that_hangs_disturbs_nobody(void **state)
{
	const struct segment *segment = *state;
	struct pollfd hung = {.fd = segment->guests[3], .events = POLLIN};
	unsigned kept = 0;
	u8 frame[60];

	/* Far more than a socket holds. Guest 3 never reads. */
	for (unsigned i = 0; i < 5000; i++) {
		send_frame(segment, 0, TO_ALL, 60, i);
		expect(segment, 1, 60, i);
		expect(segment, 2, 60, i);
	}
	while (poll(&hung, 1, 0) > 0 && recv(hung.fd, frame, sizeof(frame), 0) > 0)
		kept++;
	assert_in_range(kept, 1, 4999);
	/* Awake again, it is served again. */
	send_frame(segment, 0, TO_ALL, 60, 7);
	expect(segment, 3, 60, 7);
}

static void test_guest_that_leaves_frees_its_port(void **state)
{
	struct segment *segment = *state;
	u8 byte;

	send_frame(segment, 1, TO_ALL, 60, 1);
	expect_only(segment, GUEST(0) | GUEST(2) | GUEST(3), 60, 1);
	assert_int_equal(switch_guests(segment->ether_switch), GUESTS);

	shutdown(segment->guests[1], SHUT_WR);
	switch_turn(segment->ether_switch, -1, 0);
	assert_int_equal(switch_guests(segment->ether_switch), GUESTS - 1);
	/* Its good-bye is answered when it is unplugged, not before. */
	assert_int_equal(recv(segment->guests[1], &byte, 1, 0), -1);
	switch_unplug_left(segment->ether_switch);
	assert_int_equal(recv(segment->guests[1], &byte, 1, 0), 0);

	/* Whoever comes next is another one: nothing is known of it. */
	close(segment->guests[1]);
	assert_int_equal(plug(segment), 1);
	send_frame(segment, 0, 1, 60, 2);
	expect_only(segment, GUEST(1) | GUEST(2) | GUEST(3), 60, 2);
}

static void test_guest_that_dies_frees_its_port(void **state)
{
	struct segment *segment = *state;

	close(segment->guests[3]);
	switch_turn(segment->ether_switch, -1, 0);
	switch_unplug_left(segment->ether_switch);
	assert_int_equal(switch_guests(segment->ether_switch), GUESTS - 1);
	assert_int_equal(plug(segment), 3);
}

/* However many addresses a guest makes up, those who are there are found: by flooding at worst. */
static void test_survives_a_flood_of_addresses(void **state)
{
	const struct segment *segment = *state;
	u8 frame[60] = {0};

	for (u32 i = 0; i < 20000; i++) {
		address(frame, 3);
		memcpy(frame + ETH_ALEN + 1, &i, sizeof(i));
		assert_int_equal(send(segment->guests[0], frame, sizeof(frame), 0), sizeof(frame));
		switch_turn(segment->ether_switch, -1, 0);
		for (unsigned j = 1; j < GUESTS; j++)
			assert_int_equal(recv(segment->guests[j], frame, sizeof(frame), 0), 60);
	}
	send_frame(segment, 2, TO_ALL, 60, 1);
	expect_only(segment, GUEST(0) | GUEST(1) | GUEST(3), 60, 1);
	send_frame(segment, 1, 2, 60, 2);
	expect_only(segment, GUEST(2), 60, 2);
}

/* The folder */

static char scratch[64];

static int make_scratch(void **state)
{
	(void)state;
	snprintf(scratch, sizeof(scratch), "/tmp/test-sharenet-XXXXXX");
	assert_non_null(mkdtemp(scratch));
	return setenv("XDG_RUNTIME_DIR", scratch, 1);
}

static char *in_scratch(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	return path;
}

static int remove_scratch(void **state)
{
	(void)state;
	/* Which only succeed when nothing is left behind in them. */
	rmdir(in_scratch("lguest"));
	return rmdir(scratch);
}

static void test_folder_is_made_and_removed(void **state)
{
	struct runtime_folder folder;
	struct problem why;
	struct stat stat;

	(void)state;
	umask(0);
	assert_int_equal(runtime_folder_open(&folder, &why), 0);
	umask(022);
	assert_string_equal(folder.path, in_scratch("lguest"));
	assert_int_equal(fstat(folder.fd, &stat), 0);
	assert_int_equal(stat.st_mode & ALLPERMS, 0700);
	runtime_folder_close(&folder);
	/* The second to come finds it. */
	assert_int_equal(runtime_folder_open(&folder, &why), 0);
	runtime_folder_close(&folder);
}

static void expect_refusal(int err, const char *words)
{
	struct runtime_folder folder;
	struct problem why;

	assert_int_equal(runtime_folder_open(&folder, &why), -err);
	if (!strstr(why.text, words))
		fail_msg("%s", why.text);
	assert_non_null(strstr(why.text, in_scratch("lguest")));
	assert_int_equal(folder.fd, -1);
}

static void test_folder_that_lets_others_in(void **state)
{
	char *path = in_scratch("lguest");

	(void)state;
	mkdir(path, 0700);
	chmod(path, 0750);
	expect_refusal(EPERM, "750");
	path = in_scratch("lguest");
	chmod(path, 0702);
	expect_refusal(EPERM, "702");
	rmdir(in_scratch("lguest"));
}

static void test_folder_of_somebody_else(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	mkdir(in_scratch("lguest"), 0700);
	assert_int_equal(chown(in_scratch("lguest"), 4711, 0), 0);
	expect_refusal(EPERM, "4711");
	rmdir(in_scratch("lguest"));
}

static void test_folder_that_is_a_symlink(void **state)
{
	(void)state;
	assert_int_equal(symlink("/", in_scratch("lguest")), 0);
	expect_refusal(ENOTDIR, "cannot open");
	unlink(in_scratch("lguest"));
}

static void test_folder_that_is_a_file(void **state)
{
	(void)state;
	close(open(in_scratch("lguest"), O_CREAT | O_WRONLY, 0600));
	expect_refusal(ENOTDIR, "cannot open");
	unlink(in_scratch("lguest"));
}

/* A runtime directory that others may write to is not one. */
static void test_parent_that_is_not_ours(void **state)
{
	struct runtime_folder folder;
	struct problem why;

	(void)state;
	chmod(scratch, 0777);
	if (!runtime_folder_open(&folder, &why)) {
		assert_null(strstr(folder.path, scratch));
		runtime_folder_close(&folder);
	}
	chmod(scratch, 0700);
}

/* Meeting */

static const struct netif_options garden = {.kind = NETIF_SHARED, .name = "garden"};
static const struct netif_options attic = {.kind = NETIF_SHARED, .name = "attic"};

static void enter(struct netif *netif, const struct netif_options *options)
{
	struct problem why;

	if (netif_open(netif, options, 0, &why))
		fail_msg("%s", why.text);
}

/* A whole frame, its header in front. */
static void say(struct netif *netif, u8 number)
{
	u8 frame[60], header[NETIF_HEADER] = {0};
	const struct iovec iov[] = {
		{header, sizeof(header)}, {frame, ETH_ALEN}, {frame + ETH_ALEN, 60 - ETH_ALEN}};

	memset(frame, number, sizeof(frame));
	memset(frame, 0xff, ETH_ALEN);
	memcpy(frame + ETH_ALEN, netif->mac, ETH_ALEN);
	assert_int_equal(netif->ops->send(netif, iov, 3), 0);
}

static void hear(struct netif *netif, u8 number)
{
	struct pollfd fd = {.fd = netif->fd, .events = POLLIN};
	u8 frame[NETIF_HEADER + SWITCH_FRAME_MAX];
	const struct iovec iov = {frame, sizeof(frame)};
	ssize_t got;

	memset(frame, 0xee, sizeof(frame));
	while ((got = netif->ops->receive(netif, &iov, 1)) == -EAGAIN)
		assert_int_equal(poll(&fd, 1, -1), 1);
	assert_int_equal(got, NETIF_HEADER + 60);
	for (unsigned i = 0; i < NETIF_HEADER; i++)
		assert_int_equal(frame[i], 0);
	assert_int_equal(frame[got - 1], number);
}

static void hear_nothing(struct netif *netif)
{
	u8 frame[NETIF_FRAME_MAX];
	const struct iovec iov = {frame, sizeof(frame)};

	assert_int_equal(netif->ops->receive(netif, &iov, 1), -EAGAIN);
}

/* The switches have ended, when the last guest's close has returned or soon after: all of them. */
static void bury_switches(unsigned count)
{
	int status;

	for (unsigned i = 0; i < count; i++) {
		assert_true(waitpid(-1, &status, 0) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
}

static void test_guests_meet(void **state)
{
	struct netif a, b, c, other;

	(void)state;
	enter(&a, &garden);
	enter(&b, &garden);
	enter(&other, &attic);
	enter(&c, &garden);
	assert_memory_not_equal(a.mac, b.mac, ETH_ALEN);
	assert_memory_not_equal(a.mac, c.mac, ETH_ALEN);
	assert_memory_not_equal(b.mac, c.mac, ETH_ALEN);
	assert_memory_not_equal(a.mac, other.mac, ETH_ALEN);
	say(&a, 1);
	hear(&b, 1);
	hear(&c, 1);
	/* Who started the switch may go. */
	netif_close(&a);
	say(&b, 2);
	hear(&c, 2);
	/* And who comes back finds its place, and its name, as they were. */
	{
		const struct netif before = a;

		enter(&a, &garden);
		assert_memory_equal(a.mac, before.mac, ETH_ALEN);
	}
	say(&c, 3);
	hear(&a, 3);
	hear(&b, 3);
	hear_nothing(&other);
	netif_close(&c);
	netif_close(&a);
	netif_close(&b);
	assert_int_equal(access(in_scratch("lguest/garden.sock"), F_OK), -1);
	assert_int_equal(access(in_scratch("lguest/attic.sock"), F_OK), 0);
	netif_close(&other);
	assert_int_equal(access(in_scratch("lguest/attic.sock"), F_OK), -1);
	bury_switches(2);
}

static pid_t switch_pid(const struct netif *netif)
{
	char path[64];
	FILE *children;
	int pid = 0;

	(void)netif;
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	children = fopen(path, "re");
	assert_non_null(children);
	assert_int_equal(fscanf(children, "%d", &pid), 1);
	fclose(children);
	return pid;
}

/* It was killed, and its socket is still lying there. */
static void test_stale_socket(void **state)
{
	struct netif a, b;
	u8 frame[NETIF_FRAME_MAX];
	const struct iovec iov = {frame, sizeof(frame)};
	struct pollfd fd;

	(void)state;
	enter(&a, &garden);
	kill(switch_pid(&a), SIGKILL);
	fd = (struct pollfd){.fd = a.fd, .events = POLLIN};
	assert_int_equal(poll(&fd, 1, -1), 1);
	assert_int_equal(a.ops->receive(&a, &iov, 1), -ECONNRESET);
	netif_close(&a);
	waitpid(-1, NULL, 0);
	assert_int_equal(access(in_scratch("lguest/garden.sock"), F_OK), 0);
	enter(&a, &garden);
	enter(&b, &garden);
	say(&a, 1);
	hear(&b, 1);
	netif_close(&a);
	netif_close(&b);
	bury_switches(1);
}

/* It has nothing of its starter's: no descriptor, no session, no folder. */
static void test_switch_is_nobodys(void **state)
{
	char path[64], link[256];
	unsigned count = 0;
	struct netif a;
	struct dirent *entry;
	int pipes[2];
	pid_t pid;
	DIR *dir;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	enter(&a, &garden);
	pid = switch_pid(&a);
	close(pipes[1]);
	/* A caller who reads our output to its end need not wait for the switch's. */
	assert_int_equal(read(pipes[0], link, 1), 0);
	close(pipes[0]);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	/* /dev/null thrice, the socket, the folder, the lock, and guest a. */
	assert_int_equal(count, 7);
	assert_int_not_equal(getsid(pid), getsid(0));
	snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
	link[readlink(path, link, sizeof(link) - 1)] = 0;
	assert_string_equal(link, "/");
	netif_close(&a);
	bury_switches(1);
}

/* It stays when its starter dies of the worst, and ends with whoever is the last. */
static void test_switch_outlives_its_starter(void **state)
{
	struct netif a, b;
	int ready[2], status;
	pid_t starter;
	u8 byte = 0;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	starter = fork();
	if (starter == 0) {
		enter(&a, &garden);
		if (write(ready[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	enter(&b, &garden);
	kill(starter, SIGKILL);
	assert_int_equal(waitpid(starter, &status, 0), starter);
	enter(&a, &garden);
	say(&a, 9);
	hear(&b, 9);
	netif_close(&a);
	netif_close(&b);
	bury_switches(1);
	close(ready[0]);
	close(ready[1]);
}

/*
 * Many that come and go at once: each must get in, and be heard by the next one that it finds. A
 * switch that ends under somebody's feet would show as an error, or as a folder left behind.
 */
static void test_first_and_last_at_once(void **state)
{
	enum { PROCESSES = 6, TIMES = 40 };
	pid_t guests[PROCESSES];

	(void)state;
	for (unsigned i = 0; i < PROCESSES; i++) {
		guests[i] = fork();
		if (guests[i] == 0) {
			for (unsigned j = 0; j < TIMES; j++) {
				struct netif netif;
				struct problem why;

				if (netif_open(&netif, &garden, 0, &why)) {
					fprintf(stderr, "%s\n", why.text);
					_exit(1);
				}
				netif_close(&netif);
			}
			_exit(0);
		}
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		int status;

		assert_int_equal(waitpid(guests[i], &status, 0), guests[i]);
		assert_int_equal(status, 0);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* Two that are first at the same time are on one segment all the same. */
static void test_one_segment(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct netif netif;
		int gone[2], status;
		pid_t other;

		assert_int_equal(pipe(gone), 0);
		other = fork();
		if (other == 0) {
			u8 byte;

			close(gone[1]);
			enter(&netif, &garden);
			hear(&netif, 5);
			say(&netif, 6);
			/* Until it was heard. */
			if (read(gone[0], &byte, 1) < 0)
				_exit(1);
			netif_close(&netif);
			_exit(0);
		}
		close(gone[0]);
		enter(&netif, &garden);
		/* The other may not be there yet: it hears the first that comes when it is. */
		for (;;) {
			struct pollfd fd = {.fd = netif.fd, .events = POLLIN};

			say(&netif, 5);
			if (poll(&fd, 1, 10) > 0)
				break;
			assert_int_equal(waitpid(other, &status, WNOHANG), 0);
		}
		hear(&netif, 6);
		close(gone[1]);
		assert_int_equal(waitpid(other, &status, 0), other);
		assert_int_equal(status, 0);
		netif_close(&netif);
		bury_switches(1);
	}
}

/*
 * A switch that ends has the lock, and takes it away under the hands of somebody who waits for it.
 * Who then has a lock that is nowhere must begin anew. (A guest that is slower than our pause sees
 * nothing of it, and passes.)
 */
static void test_lock_that_is_taken_away(void **state)
{
	int lock, status;
	pid_t guest;

	(void)state;
	mkdir(in_scratch("lguest"), 0700);
	lock = open(in_scratch("lguest/garden.lock"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	guest = fork();
	if (guest == 0) {
		struct netif netif;

		close(lock);
		enter(&netif, &garden);
		if (access(in_scratch("lguest/garden.lock"), F_OK) < 0)
			_exit(1);
		netif_close(&netif);
		_exit(0);
	}
	usleep(50000);
	unlink(in_scratch("lguest/garden.lock"));
	close(lock);
	assert_int_equal(waitpid(guest, &status, 0), guest);
	assert_int_equal(status, 0);
	bury_switches(1);
}

/* Neither a switch that cannot start, nor what it would have needed, is left. */
static void test_switch_that_cannot_start(void **state)
{
	struct netif netif;
	struct problem why;

	(void)state;
	mkdir(in_scratch("lguest"), 0700);
	/* In the way of its socket. */
	mkdir(in_scratch("lguest/garden.sock"), 0700);
	assert_true(netif_open(&netif, &garden, 0, &why) < 0);
	assert_non_null(strstr(why.text, "--sharenet=garden: cannot"));
	assert_int_equal(access(in_scratch("lguest/garden.lock"), F_OK), -1);
	rmdir(in_scratch("lguest/garden.sock"));
	rmdir(in_scratch("lguest"));
}

/* One that has just two descriptors left. */
static pid_t start_narrow_switch(int listening)
{
	struct switch_place place = {
		.folder = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.listening = listening,
		.lock = open(in_scratch("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600),
		.user = geteuid(),
		.socket_name = "none",
		.lock_name = "lock",
	};
	const pid_t pid = fork();

	if (pid == 0) {
		const rlim_t first = dup(place.lock);

		close((int)first);
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){first + 2, first + 2});
		switch_run(&place);
		_exit(0);
	}
	close(place.folder);
	close(place.lock);
	return pid;
}

static bool is_welcome(int guest, int timeout)
{
	struct pollfd fd = {.fd = guest, .events = POLLIN};
	struct switch_welcome welcome;

	return poll(&fd, 1, timeout) == 1 &&
	       recv(guest, &welcome, sizeof(welcome), 0) == sizeof(welcome);
}

/* Who cannot be let in waits until somebody leaves; and the switch does not wear itself out. */
static void test_switch_without_descriptors(void **state)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(sa_family_t); /* any name will do */
	const int listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	struct timespec worked;
	int guests[3], status;
	clockid_t clock;
	pid_t pid;

	(void)state;
	assert_int_equal(bind(listening, (struct sockaddr *)&name, size), 0);
	assert_int_equal(listen(listening, ARRAY_SIZE(guests)), 0);
	size = sizeof(name);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&name, &size), 0);
	/* First: it is not to have our ends of the guests' sockets. */
	pid = start_narrow_switch(listening);
	close(listening);
	for (unsigned i = 0; i < ARRAY_SIZE(guests); i++) {
		guests[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(guests[i], (struct sockaddr *)&name, size), 0);
	}
	assert_true(is_welcome(guests[0], -1));
	assert_true(is_welcome(guests[1], -1));
	assert_false(is_welcome(guests[2], 300));
	assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
	assert_int_equal(clock_gettime(clock, &worked), 0);
	assert_int_equal(worked.tv_sec, 0);
	assert_in_range(worked.tv_nsec, 0, 100000000);
	close(guests[0]);
	assert_true(is_welcome(guests[2], -1));
	close(guests[1]);
	close(guests[2]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_foreign_thing_at_the_socket(void **state)
{
	struct netif netif;
	struct problem why;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int listening = socket(AF_UNIX, SOCK_SEQPACKET, 0), peer;
	static const char nonsense[] = "HTTP/1.1 400 Bad Request";
	pid_t other;

	(void)state;
	mkdir(in_scratch("lguest"), 0700);
	snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", in_scratch("lguest/garden.sock"));
	assert_int_equal(bind(listening, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(listening, 1), 0);
	other = fork();
	if (other == 0) {
		peer = accept(listening, NULL, NULL);
		if (send(peer, nonsense, sizeof(nonsense), 0) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(netif_open(&netif, &garden, 0, &why), -EPROTO);
	assert_non_null(strstr(why.text, "--sharenet=garden"));
	waitpid(other, NULL, 0);
	close(listening);
	unlink(in_scratch("lguest/garden.sock"));
	unlink(in_scratch("lguest/garden.lock"));
	rmdir(in_scratch("lguest"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define SEGMENT(name) cmocka_unit_test_setup_teardown(name, make_segment, free_segment)
#define FOLDER(name)  cmocka_unit_test_setup_teardown(name, make_scratch, remove_scratch)
		SEGMENT(test_floods_what_it_does_not_know),
		SEGMENT(test_learns),
		SEGMENT(test_learns_anew),
		SEGMENT(test_drops_what_is_no_frame),
		SEGMENT(test_guest_that_hangs_disturbs_nobody),
		SEGMENT(test_guest_that_leaves_frees_its_port),
		SEGMENT(test_guest_that_dies_frees_its_port),
		SEGMENT(test_survives_a_flood_of_addresses),
		FOLDER(test_folder_is_made_and_removed),
		FOLDER(test_folder_that_lets_others_in),
		FOLDER(test_folder_of_somebody_else),
		FOLDER(test_folder_that_is_a_symlink),
		FOLDER(test_folder_that_is_a_file),
		FOLDER(test_parent_that_is_not_ours),
		FOLDER(test_guests_meet),
		FOLDER(test_stale_socket),
		FOLDER(test_switch_is_nobodys),
		FOLDER(test_switch_outlives_its_starter),
		FOLDER(test_first_and_last_at_once),
		FOLDER(test_one_segment),
		FOLDER(test_lock_that_is_taken_away),
		FOLDER(test_switch_that_cannot_start),
		FOLDER(test_switch_without_descriptors),
		FOLDER(test_foreign_thing_at_the_socket),
	};

	/* Switches are orphans: of ours, here, so that we hear of their end. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
