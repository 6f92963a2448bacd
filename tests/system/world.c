/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small world for guests with networks: the network namespace in which lguest
 * runs, and a far one, joined by a cable. In the far one are two servers: one sends
 * numbered words for as long as somebody listens, the other takes such words back and
 * says whether it is they. So a guest that passes on what it gets has carried it both
 * ways, and nothing can be lost, doubled or changed unnoticed.
 *
 * A row's process makes it, in prepare() of runner.c, and takes it along when it
 * ends: namespaces last as long as the threads in them. The near namespace, and what
 * it has of its own, is network.c's.
 */
#include "systest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536 /* bytes that are made, or looked at, at once */

struct world {
	const char *there;
	pid_t near; /* the thread whose namespace the cable leads to */
	sem_t done;
	const char *failed; /* what, or NULL */
	int error;
};

/* Shell commands; where one fails, false. */
static bool run_commands(const char *commands)
{
	return system(suite_text("{ set -e; PATH=$PATH:/usr/sbin:/sbin; %s; } >/dev/null 2>&1",
				 commands)) == 0;
}

/* The word number n of what is sent: each is different, and none is zero. */
static uint64_t word(uint64_t n)
{
	n += 0x9e3779b97f4a7c15;
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
	return (n ^ n >> 31) | 1ull << 63;
}

static void make_piece(uint64_t *words, uint64_t from)
{
	for (unsigned i = 0; i < PIECE / sizeof(*words); i++)
		words[i] = word(from / sizeof(*words) + i);
}

static void send_words(int client, uint64_t count)
{
	uint64_t words[PIECE / sizeof(uint64_t)];

	for (uint64_t at = 0; at < count; at += PIECE) {
		ssize_t sent = 0, part;

		make_piece(words, at);
		for (; sent < PIECE; sent += part) {
			part = send(client, (char *)words + sent, PIECE - sent, MSG_NOSIGNAL);
			if (part < 0)
				return;
		}
	}
}

/* How many bytes came before the end, or before one that was not what had been sent there. */
static bool take_words(int client, uint64_t *count)
{
	uint64_t words[PIECE / sizeof(uint64_t)];
	char piece[PIECE];

	for (*count = 0;;) {
		const size_t at = *count % PIECE;
		const ssize_t got = recv(client, piece, PIECE - at, 0);

		if (got <= 0)
			return got == 0;
		if (!at)
			make_piece(words, *count);
		if (memcmp(piece, (char *)words + at, got) != 0)
			return false;
		*count += got;
	}
}

static void take_and_answer(int client)
{
	uint64_t count;
	const bool same = take_words(client, &count);
	char *answer = suite_text("%" PRIu64 " bytes, %s\n", count,
				  same ? "as they were sent" : "and then others than were sent");

	send(client, answer, strlen(answer), MSG_NOSIGNAL);
}

static void *serve(void *opaque)
{
	const int server = *(int *)opaque;
	struct sockaddr_in name = {0};
	socklen_t length = sizeof(name);

	getsockname(server, (struct sockaddr *)&name, &length);
	for (;;) {
		const int client = accept(server, NULL, NULL);

		switch (ntohs(name.sin_port)) {
		case WORLD_SENDS:
			send_words(client, 64 << 20);
			break;
		case WORLD_SENDS_LONG:
			send_words(client, 1 << 30);
			break;
		case WORLD_TAKES:
			take_and_answer(client);
			break;
		}
		close(client);
	}
	return NULL;
}

static bool start_server(unsigned port)
{
	const struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
	int *server = malloc(sizeof(*server));
	pthread_t thread;

	*server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return *server >= 0 && bind(*server, (const struct sockaddr *)&name, sizeof(name)) == 0 &&
	       listen(*server, 8) == 0 && pthread_create(&thread, NULL, serve, server) == 0;
}

static const char *make_far_end(const struct world *world)
{
	if (unshare(CLONE_NEWNET) < 0)
		return "another network namespace";
	if (!run_commands(suite_text("ip link set lo up; "
				     "ip link add cable type veth peer name cable netns %d; "
				     "ip link set cable up; %s",
				     (int)world->near, world->there)))
		return "the far end of the cable";
	if (!start_server(WORLD_SENDS) || !start_server(WORLD_SENDS_LONG) ||
	    !start_server(WORLD_TAKES))
		return "its servers";
	return NULL;
}

/* The thread stays, and the namespace with it. */
static void *far_end(void *opaque)
{
	struct world *world = opaque;

	world->failed = make_far_end(world);
	world->error = errno;
	sem_post(&world->done);
	for (;;)
		pause();
	return NULL;
}

bool world_make(const char *here, const char *there, char *why, size_t size)
{
	/* The thread keeps it for good. */
	struct world *world = calloc(1, sizeof(*world));
	sigset_t all, before;
	pthread_t thread;

	world->near = getpid();
	world->there = there;
	sem_init(&world->done, 0, 0);
	/* Signals are the runner's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	if (pthread_create(&thread, NULL, far_end, world) != 0) {
		world->failed = "a thread";
		world->error = EAGAIN;
	} else {
		while (sem_wait(&world->done) < 0)
			;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!world->failed && !run_commands(suite_text("ip link set cable up; %s", here)))
		world->failed = "the near end of the cable";
	if (world->failed)
		snprintf(why, size, "cannot make %s: %s", world->failed, strerror(world->error));
	return !world->failed;
}

bool world_is_clean(char *why, size_t size)
{
	struct if_nameindex *all = if_nameindex();
	bool clean = all;

	snprintf(why, size, "cannot list interfaces: %s", strerror(errno));
	for (struct if_nameindex *one = all; one && one->if_index; one++)
		if (strncmp(one->if_name, "lguest", strlen("lguest")) == 0) {
			snprintf(why, size, "an interface was left behind: %s", one->if_name);
			clean = false;
		}
	if_freenameindex(all);
	return clean;
}

bool world_run(const char *commands)
{
	return run_commands(commands);
}
