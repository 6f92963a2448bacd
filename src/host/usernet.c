/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --net=user: a network for a guest whose user has no rights to any. A process
 * of that user's speaks for the guest: what the guest sends as frames, it does with
 * sockets, and so the guest reaches whatever its user could reach.
 *
 * passt does it best, but has to make itself a user namespace to be safe in, which
 * some hosts forbid. There, or where it is not installed, libslirp does it
 * (slirp.c). Both are children of ours on a stream socket, and speak the same
 * language there (frames.h), so that from here on nobody asks which it is.
 *
 * The guest asks for its addresses by DHCP, and gets from passt those of the host
 * itself, from libslirp 10.0.2.15. With either its gateway is the host: what the
 * guest sends to that address reaches servers on the host's loopback.
 *
 * Tour 4.450: A network for users without rights
 */
#include "host/child.h"
#include "host/frames.h"
#include "host/iovec.h"
#include "host/log.h"
#include "host/netif.h"
#include "host/slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct usernet {
	struct child child;
	struct frames frames;
	bool repeat; /* a frame was sent by halves, and send() will be called with it again */
};

static ssize_t usernet_receive(struct netif *netif, const struct iovec *iov, unsigned count)
{
	static const u8 header[NETIF_HEADER];
	struct usernet *usernet = netif->own;
	const u8 *frame;
	const ssize_t length = frames_receive(&usernet->frames, &frame);

	if (length < 0)
		return length;
	return iov_scatter(iov, count, 0, header, sizeof(header)) +
	       iov_scatter(iov, count, sizeof(header), frame, length);
}

/*
 * A frame that was only begun is finished by the next call, and the next call comes when the
 * caller is told that there was no room. It comes with the same frame: unless the guest's driver
 * was reset meanwhile, and another has begun.
 */
static int usernet_send(struct netif *netif, const struct iovec *iov, unsigned count)
{
	struct usernet *usernet = netif->own;
	struct frames *frames = &usernet->frames;
	int err = frames_flush(frames);

	if (err)
		return err;
	if (usernet->repeat) {
		usernet->repeat = false;
		if (frames_was_last(frames, iov + 1, count - 1))
			return 0;
	}
	err = frames_send(frames, iov + 1, count - 1);
	if (!err && frames_unfinished(frames)) {
		usernet->repeat = true;
		err = -EAGAIN;
	}
	return err;
}

static void usernet_obituary(struct netif *netif, char *text, size_t size)
{
	struct usernet *usernet = netif->own;

	usernet->child.fd = netif->child_fd;
	child_obituary(&usernet->child, text, size);
}

static void usernet_close(struct netif *netif)
{
	struct usernet *usernet = netif->own;

	/* Hung up, it leaves by itself. */
	close(netif->fd);
	usernet->child.fd = netif->child_fd;
	child_end(&usernet->child);
	free(usernet);
}

static const struct netif_ops usernet_ops = {
	.receive = usernet_receive,
	.send = usernet_send,
	.obituary = usernet_obituary,
	.close = usernet_close,
};

/* "-t 2222:22,8080:80", or "none": passt's way to say so. */
static void forward_list(char *list, size_t size, const struct netif_options *options, bool udp)
{
	size_t at = 0;

	snprintf(list, size, "none");
	for (unsigned i = 0; i < options->forward_count; i++) {
		const struct netif_forward *forward = &options->forwards[i];

		if (forward->udp == udp)
			at += snprintf(list + at, size - at, "%s%u:%u", at ? "," : "",
				       forward->host_port, forward->guest_port);
	}
}

#define FORWARD_TEXT sizeof("65535:65535,")

struct passt_arguments {
	char fd[16], mtu[16];
	char tcp[NETIF_FORWARDS * FORWARD_TEXT], udp[NETIF_FORWARDS * FORWARD_TEXT];
};

/*
 * When it has set itself up it writes its number into the file of --pid; ours is standard output,
 * and that is how we know.
 */
static void passt_main(void *opaque)
{
	struct passt_arguments *said = opaque;

	execlp("passt", "passt", "--foreground", "--quiet", "--stderr", "--one-off", "--fd",
	       said->fd, "--pid", "/proc/self/fd/1", "--mtu", said->mtu, "--tcp-ports", said->tcp,
	       "--udp-ports", said->udp, NULL);
	fprintf(stderr, "%s\n", errno == ENOENT ? "not installed" : strerror(errno));
	_exit(127);
}

struct server {
	const char *name;
	void (*main)(void *opaque);
	void *opaque;
};

/*
 * Room for as many frames as the host allows, on the way to the guest above all: passt drops what a
 * socket does not take, and a guest's TCP takes seconds to get over it.
 */
static void widen(int socket)
{
	const int most = INT_MAX / 2; /* the kernel doubles it, and has its own idea of too much */

	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most));
}

/* 0, and the child serves on the other end of netif->fd; or -errno with `why`. */
static int start(struct netif *netif, const struct server *server, char *why, size_t size)
{
	struct usernet *usernet = netif->own;
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		snprintf(why, size, "socketpair: %s", strerror(errno));
		return -errno;
	}
	widen(ends[0]);
	widen(ends[1]);
	err = child_start(&usernet->child, &ends[1], 1, server->main, server->opaque);
	close(ends[1]);
	if (err)
		snprintf(why, size, "cannot start a process: %s", strerror(-err));
	else
		err = child_await(&usernet->child, why, size);
	if (err) {
		close(ends[0]);
		child_kill(&usernet->child);
		return err;
	}
	netif->fd = ends[0];
	netif->child_fd = usernet->child.fd;
	netif->ops = &usernet_ops;
	frames_init(&usernet->frames, netif->fd);
	snprintf(netif->name, sizeof(netif->name), "%s", server->name);
	return 0;
}

/* Whichever can. */
static int start_one(struct netif *netif, struct problem *why)
{
	struct passt_arguments arguments;
	const struct server passt = {"passt", passt_main, &arguments};
	const struct server slirp = {"libslirp", slirp_main, (void *)netif->options};
	char passt_why[200], slirp_why[200];
	int err;

	snprintf(arguments.fd, sizeof(arguments.fd), "%d", CHILD_FD);
	snprintf(arguments.mtu, sizeof(arguments.mtu), "%u", netif->mtu);
	forward_list(arguments.tcp, sizeof(arguments.tcp), netif->options, false);
	forward_list(arguments.udp, sizeof(arguments.udp), netif->options, true);
	if (!start(netif, &passt, passt_why, sizeof(passt_why))) {
		log_verbose("--net=user: served by passt");
		return 0;
	}
	err = start(netif, &slirp, slirp_why, sizeof(slirp_why));
	if (err)
		return problem(
			why, -err,
			"--net=user: neither passt nor libslirp serves: passt: %s; libslirp: %s",
			passt_why, slirp_why);
	log_verbose("--net=user: served by libslirp; passt: %s", passt_why);
	return 0;
}

/*
 * passt is content when it gets a port for IPv6 alone, which is not what the user asked for; and
 * nobody's words are clearer than ours. So we try first. Whoever takes the port between this and
 * the child's own try is reported as the child's failure.
 */
static int try_port(const struct netif_forward *forward, struct problem *why)
{
	const struct sockaddr_in any = {
		.sin_family = AF_INET,
		.sin_port = htons(forward->host_port),
	};
	const int fd = socket(AF_INET, (forward->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return problem(why, errno, "--net=user: no sockets: %s", strerror(errno));
	/* As those who forward it will: a connection that is long over is no hindrance. */
	if (!forward->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 ||
	    (!forward->udp && listen(fd, 1) < 0))
		err = problem(why, errno,
			      "--net=user: the host's %s port %u cannot be forwarded: %s",
			      forward->udp ? "UDP" : "TCP", forward->host_port, strerror(errno));
	close(fd);
	return err;
}

int usernet_open(struct netif *netif, struct problem *why)
{
	const struct netif_options *options = netif->options;
	struct usernet *usernet;
	char seed[32];
	int err = 0;

	for (unsigned i = 0; !err && i < options->forward_count; i++)
		err = try_port(&options->forwards[i], why);
	if (err)
		return err;
	usernet = calloc(1, sizeof(*usernet));
	if (!usernet)
		return problem(why, ENOMEM, "out of memory");
	netif->own = usernet;
	/* passt hands a datagram of UDP's over as it came, in a single frame. */
	netif->exceeds_mtu = true;
	/* There is nobody else on this segment, so any address of the guest's own will do. */
	snprintf(seed, sizeof(seed), "user %u", netif->index);
	netif_set_mac(netif, seed);
	err = start_one(netif, why);
	if (err)
		free(usernet);
	return err;
}
