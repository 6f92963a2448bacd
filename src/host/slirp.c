/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process with libslirp: see slirp.h.
 *
 * The library is opened here, by name, and not linked with lguest: it brings glib
 * along, which every guest would pay for and few would use. And whatever a hostile
 * packet finds in it, it finds in a process that has one socket to the launcher,
 * and no memory of the guest's.
 *
 * What the guest sees is what qemu's users know: it is 10.0.2.15 (by DHCP), the
 * host is 10.0.2.2, its loopback included, and names are resolved at 10.0.2.3.
 * IPv4 only.
 *
 * Tour 4.510
 */
#include "host/slirp.h"

#include "host/child.h"
#include "host/clock.h"
#include "host/frames.h"
#include "host/sandbox.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LIBRARY "libslirp.so.0"

/* 10.0.2.0/24 and who is who in it. */
#define NETWORK	   0x0a000200
#define NETMASK	   0xffffff00
#define HOST	   (NETWORK + 2)
#define NAMESERVER (NETWORK + 3)
#define GUEST	   (NETWORK + 15)

/* The first version of the configuration has all that we say: older libraries will do. */
#define CONFIG_VERSION 1

/*
 * A guest that takes no frames for so long, in ms, has other troubles than a lost one. Until then
 * we wait: TCP takes a loss much harder than a pause.
 */
#define PATIENCE_MS 1000

/* Frames of the guest's that are taken in one go, before its connections get their turn. */
#define BATCH 256

struct timer {
	SlirpTimerCb callback;
	void *opaque;
	s64 due; /* ms; -1: never */
	struct timer *next;
};

struct slirp_process {
	struct frames frames;
	struct {
		void *handle;
		__typeof__(&slirp_new) new;
		__typeof__(&slirp_add_hostfwd) add_hostfwd;
		__typeof__(&slirp_pollfds_fill) pollfds_fill;
		__typeof__(&slirp_pollfds_poll) pollfds_poll;
		__typeof__(&slirp_input) input;
	} library;
	Slirp *slirp;
	struct timer *timers;
	bool choked; /* the guest takes nothing: frames are dropped until it does */
	struct pollfd *fds;
	unsigned fd_count, fd_room;
};

/* What libslirp asks of us. */

/* The launcher has gone, and with it all reason to be. */
static void leave(void)
{
	_exit(0);
}

static bool wait_for_room(struct slirp_process *process)
{
	struct pollfd fd = {.fd = process->frames.fd, .events = POLLOUT};

	if (poll(&fd, 1, PATIENCE_MS) > 0 && fd.revents & (POLLHUP | POLLERR))
		leave();
	return fd.revents & POLLOUT;
}

static ssize_t send_packet(const void *packet, size_t length, void *opaque)
{
	struct slirp_process *process = opaque;
	const struct iovec iov = {(void *)packet, length};
	int err = 0;

	while (!process->choked && (err = frames_send(&process->frames, &iov, 1)) == -EAGAIN)
		process->choked = !wait_for_room(process);
	if (err && err != -EAGAIN && err != -EMSGSIZE)
		leave();
	return length;
}

static void guest_error(const char *message, void *opaque)
{
	/* The guest's affair, and as many as it likes. */
	(void)message;
	(void)opaque;
}

static s64 clock_get_ns(void *opaque)
{
	(void)opaque;
	return (s64)clock_ns();
}

static void *timer_new(SlirpTimerCb callback, void *callback_opaque, void *opaque)
{
	struct slirp_process *process = opaque;
	struct timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		_exit(1);
	*timer = (struct timer){callback, callback_opaque, -1, process->timers};
	process->timers = timer;
	return timer;
}

static void timer_free(void *timer, void *opaque)
{
	struct slirp_process *process = opaque;
	struct timer **at = &process->timers;

	while (*at != timer)
		at = &(*at)->next;
	*at = (*at)->next;
	free(timer);
}

static void timer_mod(void *timer, s64 due, void *opaque)
{
	(void)opaque;
	((struct timer *)timer)->due = due;
}

/* Descriptors are asked for anew each time. */
static void poll_fd_changed(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

/* There is one thread, and it is not asleep when this is called. */
static void notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = poll_fd_changed,
	.unregister_poll_fd = poll_fd_changed,
	.notify = notify,
};

static const struct {
	short ours;
	int theirs;
} poll_bits[] = {
	{POLLIN, SLIRP_POLL_IN},   {POLLOUT, SLIRP_POLL_OUT}, {POLLPRI, SLIRP_POLL_PRI},
	{POLLERR, SLIRP_POLL_ERR}, {POLLHUP, SLIRP_POLL_HUP},
};

static int add_poll(int fd, int events, void *opaque)
{
	struct slirp_process *process = opaque;
	struct pollfd *entry;

	if (process->fd_count == process->fd_room) {
		process->fd_room = MAX(2 * process->fd_room, 64u);
		process->fds = reallocarray(process->fds, process->fd_room, sizeof(*process->fds));
		if (!process->fds)
			_exit(1);
	}
	entry = &process->fds[process->fd_count];
	*entry = (struct pollfd){.fd = fd};
	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (events & poll_bits[i].theirs)
			entry->events |= poll_bits[i].ours;
	return process->fd_count++;
}

static int get_revents(int index, void *opaque)
{
	const struct slirp_process *process = opaque;
	int events = 0;

	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (process->fds[index].revents & poll_bits[i].ours)
			events |= poll_bits[i].theirs;
	return events;
}

/* Its life. */

static void run_timers(struct slirp_process *process)
{
	const s64 now = (s64)clock_ns() / 1000000;

	for (struct timer *timer = process->timers; timer; timer = timer->next)
		if (timer->due >= 0 && timer->due <= now) {
			timer->due = -1;
			timer->callback(timer->opaque);
		}
}

/* The least of so many ms (UINT32_MAX: for ever) and what the timers leave, for poll(). */
static int time_left(const struct slirp_process *process, u32 most)
{
	const s64 now = (s64)clock_ns() / 1000000;
	s64 left = most == UINT32_MAX ? INT32_MAX : most;

	for (const struct timer *timer = process->timers; timer; timer = timer->next)
		if (timer->due >= 0)
			left = MIN(left, MAX(timer->due - now, 0));
	return left == INT32_MAX ? -1 : (int)left;
}

/* True: there may be more. */
static bool take_frames(struct slirp_process *process)
{
	const u8 *frame;
	ssize_t length = 0;
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		length = frames_receive(&process->frames, &frame);
		if (length == -EAGAIN)
			return false;
		if (length < 0)
			leave();
		process->library.input(process->slirp, frame, length);
	}
	return true;
}

static void serve(struct slirp_process *process)
{
	bool more = false;

	for (;;) {
		const bool blocked = process->choked || frames_unfinished(&process->frames);
		u32 timeout = UINT32_MAX;
		int found;

		process->fd_count = 0;
		add_poll(process->frames.fd, SLIRP_POLL_IN | (blocked ? SLIRP_POLL_OUT : 0),
			 process);
		process->library.pollfds_fill(process->slirp, &timeout, add_poll, process);
		found = poll(process->fds, process->fd_count,
			     more ? 0 : time_left(process, timeout));
		if (found > 0 && process->fds[0].revents & POLLOUT) {
			process->choked = false;
			frames_flush(&process->frames);
		}
		if (more || (found > 0 && process->fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
			more = take_frames(process);
		process->library.pollfds_poll(process->slirp, found < 0, get_revents, process);
		run_timers(process);
	}
}

/* Its beginning. */

static bool find(struct slirp_process *process, const char *name, void *function)
{
	void *address = dlsym(process->library.handle, name);

	/* ISO C has no conversion from an object's address to a function's; POSIX does. */
	memcpy(function, &address, sizeof(address));
	return address;
}

static bool load_library(struct slirp_process *process)
{
	process->library.handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (process->library.handle && find(process, "slirp_new", &process->library.new) &&
	    find(process, "slirp_add_hostfwd", &process->library.add_hostfwd) &&
	    find(process, "slirp_pollfds_fill", &process->library.pollfds_fill) &&
	    find(process, "slirp_pollfds_poll", &process->library.pollfds_poll) &&
	    find(process, "slirp_input", &process->library.input))
		return true;
	fprintf(stderr, "%s\n", dlerror());
	return false;
}

static struct in_addr address(u32 number)
{
	return (struct in_addr){.s_addr = htonl(number)};
}

static bool start_stack(struct slirp_process *process)
{
	const SlirpConfig config = {
		.version = CONFIG_VERSION,
		.in_enabled = true,
		.vnetwork = address(NETWORK),
		.vnetmask = address(NETMASK),
		.vhost = address(HOST),
		.vdhcp_start = address(GUEST),
		.vnameserver = address(NAMESERVER),
		.if_mtu = ETH_DATA_LEN,
		.if_mru = ETH_DATA_LEN,
	};

	process->slirp = process->library.new(&config, &callbacks, process);
	if (!process->slirp)
		fputs("slirp_new() failed\n", stderr);
	return process->slirp;
}

static bool add_forwards(struct slirp_process *process, const struct netif_options *options)
{
	for (unsigned i = 0; i < options->forward_count; i++) {
		const struct netif_forward *forward = &options->forwards[i];

		if (process->library.add_hostfwd(process->slirp, forward->udp, address(INADDR_ANY),
						 forward->host_port, address(GUEST),
						 forward->guest_port) < 0) {
			fprintf(stderr, "cannot forward %s port %u: %s\n",
				forward->udp ? "UDP" : "TCP", forward->host_port, strerror(errno));
			return false;
		}
	}
	return true;
}

static bool set_up(struct slirp_process *process, const struct netif_options *options)
{
	struct problem why;

	if (!load_library(process))
		return false;
	frames_init(&process->frames, CHILD_FD);
	/* Ports below 1024 may be root's alone: they are bound before it is nobody. */
	if (!start_stack(process) || !add_forwards(process, options))
		return false;
	child_become_nobody();
	if (sandbox_helper(SANDBOX_SLIRP, -1, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return false;
	}
	return true;
}

void slirp_main(void *opaque)
{
	struct slirp_process *process = calloc(1, sizeof(*process));

	prctl(PR_SET_NAME, "lguest-slirp");
	if (process && set_up(process, opaque)) {
		child_serves(STDOUT_FILENO);
		serve(process);
	}
	free(process);
}
