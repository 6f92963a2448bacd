/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --sharenet=NAME: an Ethernet segment for all guests of this user that say the
 * same name. A switch (switch.h) is at the middle of it, a process of its own,
 * since no guest should miss another when it leaves; whoever comes first starts
 * it. This file is how one finds it, starts it, and talks to it.
 *
 * In the runtime folder there are, for each name, the socket that the switch
 * listens on and a lock. Who joins holds the lock from before it looks for the
 * socket until it is welcome; a switch that wants to end must get it. So two that
 * come at once do not start two switches, and nobody joins one that is just
 * leaving.
 *
 * Tour 4.520: A network of guests
 */
#include "host/child.h"
#include "host/iovec.h"
#include "host/log.h"
#include "host/netif.h"
#include "host/runtime.h"
#include "host/sandbox.h"
#include "host/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Whoever holds the lock needs milliseconds; a switch answers at once. In ms. */
#define LOCK_MS	 10000
#define REPLY_MS 5000
#define LEAVE_MS 1000
#define RETRY_MS 5

#define QUEUED_GUESTS 128

struct share {
	const char *name;
	struct runtime_folder folder;
	int lock;
	char lock_name[NETIF_SHARE_MAX + 8], socket_name[NETIF_SHARE_MAX + 8];
};

/* Frames */

static ssize_t sharenet_receive(struct netif *netif, const struct iovec *iov, unsigned count)
{
	u8 frame[NETIF_HEADER + SWITCH_FRAME_MAX] = {0};
	ssize_t length;

	do
		length = recv(netif->fd, frame + NETIF_HEADER, SWITCH_FRAME_MAX, MSG_DONTWAIT);
	while (length < 0 && errno == EINTR);
	if (length <= 0)
		return length < 0 ? -errno : -ECONNRESET;
	return iov_scatter(iov, count, 0, frame, NETIF_HEADER + length);
}

static int sharenet_send(struct netif *netif, const struct iovec *iov, unsigned count)
{
	u8 frame[SWITCH_FRAME_MAX];
	const size_t length = iov_length(iov + 1, count - 1);

	if (length > sizeof(frame))
		return -EMSGSIZE;
	iov_gather(iov + 1, count - 1, 0, frame, length);
	return send(netif->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Say good-bye, and wait a little for the answer: if we are the last, the switch tidies up. */
static void sharenet_close(struct netif *netif)
{
	struct pollfd fd = {.fd = netif->fd, .events = POLLIN};
	u8 frame[SWITCH_FRAME_MAX];

	/* An empty message: shutdown() would say as much, but we are locked in. */
	if (send(netif->fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		fd.fd = -1;
	while (fd.fd >= 0 && poll(&fd, 1, LEAVE_MS) > 0 &&
	       recv(netif->fd, frame, sizeof(frame), 0) > 0)
		;
	close(netif->fd);
}

static const struct netif_ops sharenet_ops = {
	.receive = sharenet_receive,
	.send = sharenet_send,
	.close = sharenet_close,
};

/* The lock */

/* Not for ever: what is held by a process that was stopped is worth a word. */
static int wait_for_lock(int lock)
{
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};

	for (unsigned waited = 0; waited < LOCK_MS; waited += RETRY_MS) {
		if (flock(lock, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

/* -ESTALE: a switch that ended has taken it away, and one begins anew. */
static int take_lock(struct share *share)
{
	struct stat stat;
	int err;

	share->lock = openat(share->folder.fd, share->lock_name,
			     O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (share->lock < 0)
		return -errno;
	err = wait_for_lock(share->lock);
	if (!err && fstat(share->lock, &stat) < 0)
		err = -errno;
	if (!err && !stat.st_nlink)
		err = -ESTALE;
	if (err)
		close(share->lock);
	return err;
}

static int open_share(struct share *share, struct problem *why)
{
	struct problem folder_why;
	int err;

	snprintf(share->lock_name, sizeof(share->lock_name), "%s.lock", share->name);
	snprintf(share->socket_name, sizeof(share->socket_name), "%s.sock", share->name);
	err = runtime_folder_open(&share->folder, &folder_why);
	if (err)
		return problem(why, -err, "--sharenet=%s: %s", share->name, folder_why.text);
	do
		err = take_lock(share);
	while (err == -ESTALE);
	if (err)
		runtime_folder_close(&share->folder);
	if (err)
		return problem(why, -err, "--sharenet=%s: cannot lock %s/%s: %s", share->name,
			       share->folder.path, share->lock_name, strerror(-err));
	return 0;
}

static void close_share(struct share *share)
{
	/* A switch that we started has it open as well, for a moment: this lets go all the same. */
	flock(share->lock, LOCK_UN);
	close(share->lock);
	runtime_folder_close(&share->folder);
}

/* The socket */

/* Through the folder's descriptor: no symlink can lead astray, and no path is too long. */
static void socket_address(const struct share *share, struct sockaddr_un *address)
{
	address->sun_family = AF_UNIX;
	snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s",
		 share->folder.fd, share->socket_name);
}

static int new_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

/* Where the switch will listen. Who died with its switch half made has left another. */
static int listen_at(const struct share *share)
{
	struct sockaddr_un address;
	int fd = new_socket();

	socket_address(share, &address);
	unlinkat(share->folder.fd, share->socket_name, 0);
	if (fd < 0 || fchmod(fd, 0600) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, QUEUED_GUESTS) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	return fd;
}

enum switch_fd { SWITCH_LISTENING = CHILD_FD, SWITCH_FOLDER };

/* A descriptor for each port and some to spare. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * All that it needs is opened here, and then the door is shut. What it has of whoever started us,
 * the two pipes, goes when it serves: others wait for their end.
 */
static void be_switch(const struct share *share)
{
	const int ready = dup(STDOUT_FILENO), words = dup(STDERR_FILENO);
	struct switch_place place = {
		.folder = SWITCH_FOLDER,
		.user = geteuid(),
		.socket_name = share->socket_name,
		.lock_name = share->lock_name,
		.listening = SWITCH_LISTENING,
		/* Opened anew: a copy of our descriptor would be the same lock. */
		.lock = openat(SWITCH_FOLDER, share->lock_name, O_RDWR | O_NOFOLLOW),
	};
	struct problem why;

	raise_limit();
	if (ready < 0 || words < 0 || place.lock < 0 || dup2(STDIN_FILENO, STDOUT_FILENO) < 0 ||
	    dup2(STDIN_FILENO, STDERR_FILENO) < 0) {
		dprintf(words, "has not got its descriptors: %s\n", strerror(errno));
		return;
	}
	if (sandbox_helper(SANDBOX_SWITCH, SWITCH_FOLDER, &why)) {
		dprintf(words, "%s\n", why.text);
		return;
	}
	child_serves(ready);
	close(ready);
	close(words);
	switch_run(&place);
}

/* In the child, which is only there to have a child that is nobody's. */
static void switch_main(void *opaque)
{
	const pid_t pid = fork();

	if (pid < 0)
		fprintf(stderr, "cannot fork: %s\n", strerror(errno));
	if (pid)
		_exit(pid < 0);
	prctl(PR_SET_NAME, "lguest-switch");
	be_switch(opaque);
	_exit(0);
}

/* No switch is there to do it. We have the lock; who waits for it sees that it is no more. */
static void remove_files(const struct share *share)
{
	unlinkat(share->folder.fd, share->socket_name, 0);
	unlinkat(share->folder.fd, share->lock_name, 0);
}

static int start_switch(struct share *share, struct problem *why)
{
	int fds[] = {listen_at(share), share->folder.fd};
	struct child child;
	char words[200];
	int err;

	if (fds[0] < 0) {
		remove_files(share);
		return problem(why, -fds[0], "--sharenet=%s: cannot listen in %s: %s", share->name,
			       share->folder.path, strerror(-fds[0]));
	}
	err = child_start(&child, fds, ARRAY_SIZE(fds), switch_main, share);
	close(fds[0]);
	if (err) {
		remove_files(share);
		return problem(why, -err, "--sharenet=%s: cannot start a switch: %s", share->name,
			       strerror(-err));
	}
	err = child_await(&child, words, sizeof(words));
	if (err)
		child_kill(&child);
	else
		child_end(&child);
	if (err) {
		remove_files(share);
		return problem(why, -err, "--sharenet=%s: cannot start a switch: it %s",
			       share->name, words);
	}
	log_verbose("--sharenet=%s: a switch is started", share->name);
	return 0;
}

/* The guest's end, or -errno: -ECONNREFUSED and -ENOENT: there is no switch. */
static int connect_to(const struct share *share)
{
	const struct timeval patience = {.tv_sec = REPLY_MS / 1000};
	struct sockaddr_un address;
	int fd = new_socket();

	socket_address(share, &address);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	return fd;
}

/* Which port we have. -errno with *why filled. */
static int be_welcome(const struct share *share, int fd, struct problem *why)
{
	struct switch_welcome welcome;
	const ssize_t got = recv(fd, &welcome, sizeof(welcome), 0);

	if (got < 0)
		return problem(why, errno, "--sharenet=%s: its switch does not answer: %s",
			       share->name,
			       errno == EAGAIN ? "it takes too long" : strerror(errno));
	if (got != sizeof(welcome) || welcome.magic != SWITCH_MAGIC ||
	    welcome.version != SWITCH_VERSION)
		return problem(why, EPROTO,
			       "--sharenet=%s: its switch is of another version of lguest",
			       share->name);
	if (welcome.port >= SWITCH_PORTS)
		return problem(why, EUSERS, "--sharenet=%s: all of its %u ports are taken",
			       share->name, SWITCH_PORTS);
	return welcome.port;
}

/* With the lock held. */
static int join(struct netif *netif, struct share *share, struct problem *why)
{
	char seed[NETIF_SHARE_MAX + 32];
	int port, fd = connect_to(share);

	if (fd == -ECONNREFUSED || fd == -ENOENT) {
		int err = start_switch(share, why);

		if (err)
			return err;
		fd = connect_to(share);
	}
	if (fd < 0)
		return problem(why, -fd, "--sharenet=%s: cannot reach its switch: %s", share->name,
			       strerror(-fd));
	port = be_welcome(share, fd, why);
	if (port < 0) {
		close(fd);
		return port;
	}
	netif->fd = fd;
	netif->ops = &sharenet_ops;
	snprintf(netif->name, sizeof(netif->name), "the switch");
	/* No two that are plugged in at one time have the same port. */
	snprintf(seed, sizeof(seed), "share %s %d", share->name, port);
	netif_set_mac(netif, seed);
	log_verbose("--sharenet=%s: at port %d", share->name, port);
	return 0;
}

int sharenet_open(struct netif *netif, struct problem *why)
{
	struct share share = {.name = netif->options->name};
	int err = open_share(&share, why);

	if (err)
		return err;
	err = join(netif, &share, why);
	close_share(&share);
	return err;
}
