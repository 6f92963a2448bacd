/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way in for a debugger: see gdb.h.
 *
 * A socket that was made before the sandbox was shut, and one connection at a time: a second
 * caller is hung up on. Nothing here waits for anybody. A debugger that does not fetch its
 * answers gets no more of them, since nothing is read from it before it has taken what it was
 * sent.
 *
 * The file of a Unix socket is left behind: who is locked in cannot remove files. So the next
 * one takes away what nobody answers at.
 *
 * Tour 8.60
 */
#include "gdb/gdb.h"

#include "gdb/session.h"
#include "host/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Of callers that nobody has looked at yet. */
#define BACKLOG 4

struct gdb {
	const struct gdb_options *options;
	int listening;
	int fd;	    /* the debugger; -1: none */
	bool heard; /* it has said something */
	bool has_session;
	struct gdb_session session;
	struct gdb_receiver receiver;
	struct gdb_reply reply;
	char in[4096];
	size_t in_at, in_length;
	/* The last frame, for as long as it may have to be sent again. */
	char frame[GDB_FRAME_MAX];
	size_t frame_length;
	/* What is being sent: acknowledgements, then perhaps that frame. */
	char out[GDB_FRAME_MAX + 2];
	size_t out_at, out_length;
};

/* ------------------------------------------------------------------ listening */

static int listen_at(int fd, const void *address, socklen_t size)
{
	if (bind(fd, address, size) || listen(fd, BACKLOG))
		return -errno;
	return 0;
}

/*
 * Is somebody there? Else what is there has been left behind. A socket of another type cannot be
 * connected to a listener's, but is told why; as a real caller we would have stopped his guest, or
 * let it go if he had us waited for.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
		       errno == ECONNREFUSED;
	struct stat stat;

	if (fd >= 0)
		close(fd);
	/* A file that is no socket refuses as well. */
	return refused && !lstat(address->sun_path, &stat) && S_ISSOCK(stat.st_mode);
}

static int listen_unix(struct gdb *gdb, const char *path, struct problem *why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int err;

	if (strlen(path) >= sizeof(address.sun_path))
		return problem(why, ENAMETOOLONG,
			       "--gdb=%s: the path of a socket has %zu characters at most", path,
			       sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	gdb->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Linux gives the file the mode of the socket: there is no moment for anybody else. */
	if (gdb->listening < 0 || fchmod(gdb->listening, 0600))
		return problem(why, errno, "--gdb=%s: cannot make a socket: %s", path,
			       strerror(errno));
	err = listen_at(gdb->listening, &address, sizeof(address));
	if (err == -EADDRINUSE && is_abandoned(&address) && !unlink(path))
		err = listen_at(gdb->listening, &address, sizeof(address));
	if (err == -EADDRINUSE)
		return problem(why, -err, "--gdb=%s: exists already, and is no socket or is in use",
			       path);
	if (err)
		return problem(why, -err, "--gdb=%s: cannot listen there: %s", path,
			       strerror(-err));
	return 0;
}

static int listen_tcp(struct gdb *gdb, unsigned port, struct problem *why)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
	};
	const int on = 1;
	int err;

	gdb->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Connections inherit the latter: small packets that are answered shall not wait. */
	if (gdb->listening < 0 ||
	    setsockopt(gdb->listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(gdb->listening, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return problem(why, errno, "--gdb=%u: cannot make a socket: %s", port,
			       strerror(errno));
	err = listen_at(gdb->listening, &address, sizeof(address));
	if (err == -EADDRINUSE)
		return problem(why, -err, "--gdb=%u: somebody else listens at that port", port);
	if (err)
		return problem(why, -err, "--gdb=%u: cannot listen at that port: %s", port,
			       strerror(-err));
	return 0;
}

int gdb_open(struct gdb **result, const struct gdb_options *options, struct problem *why)
{
	struct gdb *gdb;
	int err;

	*result = NULL;
	if (!options->path && !options->port)
		return 0;
	gdb = calloc(1, sizeof(*gdb));
	if (!gdb)
		return problem(why, ENOMEM, "out of memory");
	gdb->options = options;
	gdb->listening = gdb->fd = -1;
	err = options->path ? listen_unix(gdb, options->path, why)
			    : listen_tcp(gdb, options->port, why);
	if (err)
		gdb_close(gdb);
	else
		*result = gdb;
	return err;
}

void gdb_close(struct gdb *gdb)
{
	if (!gdb)
		return;
	if (gdb->has_session)
		gdb_session_destroy(&gdb->session);
	if (gdb->fd >= 0)
		close(gdb->fd);
	if (gdb->listening >= 0)
		close(gdb->listening);
	free(gdb);
}

/* ------------------------------------------------------------------ the connection */

static void hang_up(struct gdb *gdb)
{
	log_verbose("the debugger is gone");
	close(gdb->fd);
	gdb->fd = -1;
	gdb_session_end(&gdb->session);
}

static void send_again(struct gdb *gdb)
{
	memcpy(gdb->out + gdb->out_length, gdb->frame, gdb->frame_length);
	gdb->out_length += gdb->frame_length;
}

static void send_reply(struct gdb *gdb)
{
	gdb->frame_length = gdb_frame(&gdb->reply, gdb->frame);
	send_again(gdb);
}

static void acknowledge(struct gdb *gdb, char ack)
{
	if (!gdb->session.no_ack)
		gdb->out[gdb->out_length++] = ack;
}

/* One byte of the debugger's, when nothing waits to be sent. */
static void take(struct gdb *gdb, u8 byte)
{
	struct gdb_session *session = &gdb->session;
	struct gdb_receiver *receiver = &gdb->receiver;
	bool replies = false;

	gdb_reply_begin(&gdb->reply);
	switch (gdb_receive(receiver, byte)) {
	case GDB_PACKET:
		acknowledge(gdb, '+');
		replies = gdb_session_packet(session, receiver->payload, receiver->length,
					     &gdb->reply);
		break;
	case GDB_INTERRUPT:
		replies = gdb_session_interrupt(session, &gdb->reply);
		break;
	case GDB_BAD_PACKET:
		acknowledge(gdb, '-');
		break;
	case GDB_NAK:
		if (!session->no_ack)
			send_again(gdb);
		break;
	case GDB_ACK:
	case GDB_NOTHING:
		break;
	}
	if (replies)
		send_reply(gdb);
}

/* False: it is gone. */
static bool flush(struct gdb *gdb)
{
	ssize_t n;

	if (gdb->out_at < gdb->out_length) {
		n = send(gdb->fd, gdb->out + gdb->out_at, gdb->out_length - gdb->out_at,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		gdb->out_at += n;
	}
	if (gdb->out_at == gdb->out_length)
		gdb->out_at = gdb->out_length = 0;
	return true;
}

/* False: it is gone. */
static bool receive(struct gdb *gdb)
{
	ssize_t n = recv(gdb->fd, gdb->in, sizeof(gdb->in), MSG_DONTWAIT);

	gdb->in_at = 0;
	gdb->in_length = n > 0 ? n : 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/*
 * What was read, until there is an answer that does not go out at once. False: it is gone, or has
 * to go. A page in somebody's browser can have a request sent to a port of localhost, with packets
 * in it; but not at its beginning.
 */
static bool work(struct gdb *gdb)
{
	for (;;) {
		if (!flush(gdb))
			return false;
		if (gdb->out_length)
			return true;
		if (gdb->session.detached)
			return false;
		if (gdb->in_at == gdb->in_length)
			return true;
		if (!gdb->heard && !gdb_may_begin(gdb->in[gdb->in_at])) {
			log_verbose("that is no debugger");
			return false;
		}
		gdb->heard = true;
		take(gdb, gdb->in[gdb->in_at++]);
	}
}

static void answer_caller(struct gdb *gdb)
{
	int fd = accept4(gdb->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), err;

	if (fd < 0)
		return;
	if (gdb->fd >= 0) {
		log_verbose("a second debugger is turned away");
		close(fd);
		return;
	}
	gdb->fd = fd;
	gdb->heard = false;
	gdb->receiver.state = GDB_BETWEEN;
	gdb->in_at = gdb->in_length = gdb->out_at = gdb->out_length = gdb->frame_length = 0;
	err = gdb_session_begin(&gdb->session);
	if (err)
		log_line("--gdb: the guest's registers cannot be had: %s", strerror(-err));
	else
		log_verbose("a debugger is attached, and the guest stopped");
	if (err)
		hang_up(gdb);
}

/* ------------------------------------------------------------------ the launcher's side */

static void say_how(const struct gdb_options *options)
{
	if (options->path)
		log_line("waiting for a debugger: gdb -ex 'target remote %s'", options->path);
	else
		log_line("waiting for a debugger: gdb -ex 'target remote localhost:%u'",
			 options->port);
}

int gdb_attach(struct gdb *gdb, struct engine *engine, struct machine *machine, unsigned vcpus,
	       struct problem *why)
{
	int err;

	if (!gdb)
		return 0;
	if (!engine->ops->debug)
		return problem(why, ENOSYS, "--gdb: the %s engine cannot be debugged",
			       engine->ops->name);
	err = gdb_session_init(&gdb->session, engine, machine, vcpus, gdb->options->wait);
	if (err)
		return problem(why, -err, "--gdb: cannot begin: %s", strerror(-err));
	gdb->has_session = true;
	if (gdb->options->wait)
		say_how(gdb->options);
	return 0;
}

void gdb_meanwhile(struct gdb *gdb, void (*look_after)(void *opaque), void *opaque)
{
	if (!gdb)
		return;
	gdb->session.meanwhile = look_after;
	gdb->session.opaque = opaque;
}

void gdb_power_on(struct gdb *gdb)
{
	if (gdb)
		gdb_session_power_on(&gdb->session);
}

void gdb_ended(struct gdb *gdb, int status)
{
	if (!gdb || gdb->fd < 0)
		return;
	gdb_reply_begin(&gdb->reply);
	if (!gdb->out_length && gdb_session_ended(&gdb->session, status, &gdb->reply)) {
		send_reply(gdb);
		flush(gdb);
	}
	close(gdb->fd);
	gdb->fd = -1;
}

/* What stopped is told when what was said before has been heard. */
unsigned gdb_poll(const struct gdb *gdb, struct pollfd *fds)
{
	if (!gdb)
		return 0;
	fds[0] = (struct pollfd){.fd = gdb->listening, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = gdb->fd, .events = POLLIN};
	fds[2] = (struct pollfd){.fd = gdb->session.wake_fd, .events = POLLIN};
	if (gdb->out_length) {
		fds[1].events = POLLOUT;
		fds[2].fd = -1;
	}
	return GDB_DESCRIPTORS;
}

void gdb_polled(struct gdb *gdb, const struct pollfd *fds, unsigned count)
{
	bool there = true;

	if (!count)
		return;
	gdb_reply_begin(&gdb->reply);
	if (fds[2].revents && gdb_session_stopped(&gdb->session, &gdb->reply))
		send_reply(gdb);
	if (fds[1].revents && !gdb->out_length)
		there = receive(gdb);
	if (gdb->fd >= 0 && (!there || !work(gdb)))
		hang_up(gdb);
	if (fds[0].revents)
		answer_caller(gdb);
}
