/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The switch of --sharenet (host/switch.h) among guests that send it anything,
 * come, go, and take no frames. Beside it stands the simplest switch there could be,
 * which keeps a list of who was seen where; what each guest gets must be what that one
 * would have sent.
 *
 * Input: moves, each a byte and its arguments.
 */
#include "input.h"

#include "host/switch.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define GUESTS	  6
#define ADDRESSES 8 /* so few that none has to be forgotten for another */
#define NOWHERE	  GUESTS

struct fuzzed {
	struct ether_switch *ether_switch;
	int fds[GUESTS]; /* the guest's end, -1: nobody is at this port */
	bool deaf[GUESTS];
	unsigned seen_at[ADDRESSES]; /* port, or NOWHERE */
};

static u8 frame[2 * SWITCH_FRAME_MAX];

/* The first two are a group's and everybody's. */
static void put_address(u8 *at, unsigned address)
{
	static const u8 group[ETH_ALEN] = {0x01, 0, 0x5e},
			everybody[ETH_ALEN] = {
				0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			};
	const u8 single[ETH_ALEN] = {0x02, 0, 0, 0, 0, address};

	memcpy(at, address > 1 ? single : address ? everybody : group, ETH_ALEN);
}

static void come(struct fuzzed *fuzzed)
{
	struct switch_welcome welcome;
	unsigned port = 0;
	int ends[2];

	while (port < GUESTS && fuzzed->fds[port] >= 0)
		port++;
	if (port == GUESTS)
		return;
	MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	MUST(switch_plug(fuzzed->ether_switch, ends[0]));
	MUST(recv(ends[1], &welcome, sizeof(welcome), MSG_DONTWAIT) == sizeof(welcome));
	MUST(welcome.magic == SWITCH_MAGIC && welcome.version == SWITCH_VERSION);
	MUST(welcome.port == port);
	fuzzed->fds[port] = ends[1];
	fuzzed->deaf[port] = false;
}

/* It says so, or is just not there any more. */
static void leave(struct fuzzed *fuzzed, unsigned port, bool politely)
{
	const unsigned before = switch_guests(fuzzed->ether_switch);
	u8 byte;

	if (politely)
		send(fuzzed->fds[port], NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		close(fuzzed->fds[port]);
	switch_turn(fuzzed->ether_switch, -1, 0);
	MUST(switch_guests(fuzzed->ether_switch) == before - 1);
	switch_unplug_left(fuzzed->ether_switch);
	if (politely) {
		while (recv(fuzzed->fds[port], &byte, 1, MSG_DONTWAIT) > 0)
			;
		/* Its answer: nobody is at the other end any more. */
		MUST(recv(fuzzed->fds[port], &byte, 1, MSG_DONTWAIT) == 0);
		close(fuzzed->fds[port]);
	}
	fuzzed->fds[port] = -1;
	for (unsigned i = 0; i < ADDRESSES; i++)
		if (fuzzed->seen_at[i] == port)
			fuzzed->seen_at[i] = NOWHERE;
}

/* The simplest switch there could be: does this guest get the frame? */
static bool is_for(const struct fuzzed *fuzzed, unsigned port, unsigned from, unsigned to)
{
	if (port == from)
		return false;
	return fuzzed->seen_at[to] == NOWHERE || fuzzed->seen_at[to] == port;
}

static void must_get(struct fuzzed *fuzzed, unsigned port, bool wanted, size_t len)
{
	static u8 got[sizeof(frame)];
	ssize_t length;

	if (fuzzed->fds[port] < 0 || fuzzed->deaf[port])
		return;
	length = recv(fuzzed->fds[port], got, sizeof(got), MSG_DONTWAIT);
	MUST(wanted ? length == (ssize_t)len : length < 0);
	MUST(!wanted || !memcmp(got, frame, len));
	MUST(recv(fuzzed->fds[port], got, sizeof(got), MSG_DONTWAIT) < 0);
}

static void say(struct fuzzed *fuzzed, unsigned from, struct input *input)
{
	const u8 addresses = take(input, 1);
	const unsigned source = addresses % ADDRESSES, to = addresses / ADDRESSES % ADDRESSES;
	const size_t len = 1 + (addresses & 0x80 ? take(input, 2) % sizeof(frame)
						 : SWITCH_FRAME_MIN + take(input, 1));
	const bool fit = len >= SWITCH_FRAME_MIN && len <= SWITCH_FRAME_MAX && source > 1;

	memset(frame, addresses, sizeof(frame));
	put_address(frame, to);
	put_address(frame + ETH_ALEN, source);
	if (send(fuzzed->fds[from], frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
	switch_turn(fuzzed->ether_switch, -1, 0);
	if (fit)
		fuzzed->seen_at[source] = from;
	for (unsigned i = 0; i < GUESTS; i++)
		must_get(fuzzed, i, fit && is_for(fuzzed, i, from, to), len);
}

static void move(struct fuzzed *fuzzed, struct input *input)
{
	const u8 what = take(input, 1);
	const unsigned port = what / 8 % GUESTS;
	u8 byte;

	if (what % 8 == 0)
		come(fuzzed);
	else if (fuzzed->fds[port] < 0)
		return;
	else if (what % 8 == 1)
		leave(fuzzed, port, what & 0x80);
	else if (what % 8 == 2)
		fuzzed->deaf[port] = true;
	else
		say(fuzzed, port, input);
	if (what % 8 != 3 || !fuzzed->deaf[port])
		return;
	while (recv(fuzzed->fds[port], &byte, 1, MSG_DONTWAIT) > 0)
		;
	fuzzed->deaf[port] = false;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct fuzzed fuzzed = {.ether_switch = switch_new()};
	struct input input = {data, size};

	MUST(fuzzed.ether_switch);
	memset(fuzzed.fds, 0xff, sizeof(fuzzed.fds));
	for (unsigned i = 0; i < ADDRESSES; i++)
		fuzzed.seen_at[i] = NOWHERE;
	come(&fuzzed);
	come(&fuzzed);
	while (input.left)
		move(&fuzzed, &input);
	switch_free(fuzzed.ether_switch);
	for (unsigned i = 0; i < GUESTS; i++)
		if (fuzzed.fds[i] >= 0)
			close(fuzzed.fds[i]);
	return 0;
}
