/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The switch of --sharenet: see switch.h.
 *
 * It learns behind which port an address is from the frames that come from there,
 * as IEEE 802.1D has it, and sends to all ports what it does not know better. It
 * never waits for a guest: one that takes no frames loses them, and the others do
 * not notice.
 *
 * Tour 4.540
 */
#include "host/switch.h"

#include "host/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* IEEE 802.1D, Table 7-5: Ageing time, the recommended value; in seconds. */
#define AGEING 300

/*
 * Addresses: some per guest, however many a hostile one makes up. Where the few places that an
 * address could have are taken, the one that was silent for longest has to go.
 */
#define MAC_SETS 1024
#define MAC_WAYS 4

/* Frames that one guest may send before it is the others' turn. */
#define BATCH 64

/*
 * How soon a switch without guests looks again whether the one who was just coming has come, and
 * one that cannot let anybody in, whether it can.
 */
#define RETRY_MS 20

struct mac_entry {
	u8 mac[ETH_ALEN];
	u16 port;
	u64 seen; /* seconds; 0: nothing is here */
};

struct port {
	int fd; /* -1: free */
	bool left;
};

struct ether_switch {
	struct port ports[SWITCH_PORTS];
	unsigned end; /* ports from here on are free */
	struct mac_entry macs[MAC_SETS][MAC_WAYS];
	u64 now; /* seconds, never 0 */
	u8 frame[SWITCH_FRAME_MAX + 1];
	struct pollfd fds[1 + SWITCH_PORTS];
};

struct ether_switch *switch_new(void)
{
	struct ether_switch *ether_switch = calloc(1, sizeof(*ether_switch));

	for (unsigned i = 0; ether_switch && i < SWITCH_PORTS; i++)
		ether_switch->ports[i].fd = -1;
	return ether_switch;
}

void switch_free(struct ether_switch *ether_switch)
{
	for (unsigned i = 0; i < ether_switch->end; i++)
		if (ether_switch->ports[i].fd >= 0)
			close(ether_switch->ports[i].fd);
	free(ether_switch);
}

/* Addresses */

static bool is_group(const u8 *mac)
{
	return mac[0] & 1;
}

/* FNV-1a, 32 bits. */
static struct mac_entry *set_of(struct ether_switch *ether_switch, const u8 *mac)
{
	u32 hash = 0x811c9dc5;

	for (unsigned i = 0; i < ETH_ALEN; i++)
		hash = (hash ^ mac[i]) * 0x01000193;
	return ether_switch->macs[(hash ^ hash >> 16) % MAC_SETS];
}

static bool is_live(const struct ether_switch *ether_switch, const struct mac_entry *entry)
{
	return entry->seen && ether_switch->now - entry->seen < AGEING;
}

static struct mac_entry *find(struct ether_switch *ether_switch, const u8 *mac)
{
	struct mac_entry *set = set_of(ether_switch, mac);

	for (unsigned i = 0; i < MAC_WAYS; i++)
		if (is_live(ether_switch, &set[i]) && !memcmp(set[i].mac, mac, ETH_ALEN))
			return &set[i];
	return NULL;
}

static void learn(struct ether_switch *ether_switch, const u8 *mac, unsigned port)
{
	struct mac_entry *entry = find(ether_switch, mac);

	if (!entry) {
		struct mac_entry *set = set_of(ether_switch, mac);

		entry = set;
		for (unsigned i = 1; i < MAC_WAYS; i++)
			if (set[i].seen < entry->seen)
				entry = &set[i];
		memcpy(entry->mac, mac, ETH_ALEN);
	}
	entry->port = port;
	entry->seen = ether_switch->now;
}

static void forget_port(struct ether_switch *ether_switch, unsigned port)
{
	for (unsigned i = 0; i < MAC_SETS; i++)
		for (unsigned j = 0; j < MAC_WAYS; j++)
			if (ether_switch->macs[i][j].port == port)
				ether_switch->macs[i][j].seen = 0;
}

/* Ports */

bool switch_plug(struct ether_switch *ether_switch, int socket)
{
	struct switch_welcome welcome = {SWITCH_MAGIC, SWITCH_VERSION, 0};
	struct port *port = ether_switch->ports;

	while (welcome.port < SWITCH_PORTS && port->fd >= 0) {
		welcome.port++;
		port++;
	}
	if (send(socket, &welcome, sizeof(welcome), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ||
	    welcome.port == SWITCH_PORTS) {
		close(socket);
		return false;
	}
	*port = (struct port){.fd = socket};
	ether_switch->end = MAX(ether_switch->end, welcome.port + 1);
	return true;
}

void switch_unplug_left(struct ether_switch *ether_switch)
{
	for (unsigned i = 0; i < ether_switch->end; i++) {
		struct port *port = &ether_switch->ports[i];

		if (port->fd < 0 || !port->left)
			continue;
		close(port->fd);
		port->fd = -1;
		/* Who comes next to this port is somebody else. */
		forget_port(ether_switch, i);
	}
	while (ether_switch->end && ether_switch->ports[ether_switch->end - 1].fd < 0)
		ether_switch->end--;
}

unsigned switch_guests(const struct ether_switch *ether_switch)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ether_switch->end; i++)
		count += ether_switch->ports[i].fd >= 0 && !ether_switch->ports[i].left;
	return count;
}

/* Frames */

static void send_to(struct ether_switch *ether_switch, unsigned port, size_t length)
{
	const struct port *to = &ether_switch->ports[port];

	/* Lost, if there is no room: that is a matter between this guest and its own buffer. */
	if (to->fd >= 0 && !to->left)
		send(to->fd, ether_switch->frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/*
 * Note where the sender is; if it is known where the receiver is, send it there, and else to
 * everybody. Twenty lines do what a box with blinking lights does.
 *
 * Tour 4.541: A switch, all of it
 */
static void pass_on(struct ether_switch *ether_switch, unsigned from, size_t length)
{
	const struct ethhdr *header = (const struct ethhdr *)ether_switch->frame;
	const struct mac_entry *known = NULL;

	/* A group sends nothing: such a frame is nobody's. */
	if (length < SWITCH_FRAME_MIN || length > SWITCH_FRAME_MAX || is_group(header->h_source))
		return;
	learn(ether_switch, header->h_source, from);
	if (!is_group(header->h_dest))
		known = find(ether_switch, header->h_dest);
	for (unsigned i = 0; i < ether_switch->end; i++)
		if (i != from && (!known || known->port == i))
			send_to(ether_switch, i, length);
}

static void serve(struct ether_switch *ether_switch, unsigned index)
{
	struct port *port = &ether_switch->ports[index];

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t length = recv(port->fd, ether_switch->frame, sizeof(ether_switch->frame),
				      MSG_DONTWAIT);

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return;
		/* An empty message is no frame: the guest has shut its side, or died. */
		if (length <= 0) {
			port->left = true;
			return;
		}
		pass_on(ether_switch, index, length);
	}
}

void switch_turn(struct ether_switch *ether_switch, int listening, int timeout)
{
	ether_switch->fds[0] = (struct pollfd){.fd = listening, .events = POLLIN};
	for (unsigned i = 0; i < ether_switch->end; i++)
		ether_switch->fds[1 + i] =
			(struct pollfd){.fd = ether_switch->ports[i].fd, .events = POLLIN};
	if (poll(ether_switch->fds, 1 + ether_switch->end, timeout) <= 0)
		return;
	ether_switch->now = clock_ns() / 1000000000 + 1;
	for (unsigned i = 0; i < ether_switch->end; i++)
		if (ether_switch->ports[i].fd >= 0 && ether_switch->fds[1 + i].revents)
			serve(ether_switch, i);
}

/* The process */

/* The folder keeps others out; but a descriptor of it may have been handed on. */
static bool is_of(int socket, u32 user)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == user;
}

/* False: somebody waits for whom there is no descriptor, or no memory, just now. */
static bool admit(struct ether_switch *ether_switch, const struct switch_place *place)
{
	int socket;

	while ((socket = accept4(place->listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (is_of(socket, place->user))
			switch_plug(ether_switch, socket);
		else
			close(socket);
	}
	return errno == EAGAIN;
}

/*
 * Whoever comes holds the lock until it is plugged in. So if we get it, nobody is coming; and while
 * we hold it, nobody will: by the time that it is free, there is no socket to come to.
 *
 * Tour 4.542: The last one leaves
 */
static bool end(const struct switch_place *place)
{
	struct pollfd fd = {.fd = place->listening, .events = POLLIN};

	if (flock(place->lock, LOCK_EX | LOCK_NB) < 0)
		return false;
	if (poll(&fd, 1, 0) != 0) {
		flock(place->lock, LOCK_UN);
		return false;
	}
	unlinkat(place->folder, place->socket_name, 0);
	unlinkat(place->folder, place->lock_name, 0);
	return true;
}

void switch_run(const struct switch_place *place)
{
	struct ether_switch *ether_switch = switch_new();
	bool open = true;

	if (!ether_switch)
		return;
	for (;;) {
		/* Whoever waits before a closed door would have us turn without a rest. */
		switch_turn(ether_switch, open ? place->listening : -1,
			    open && switch_guests(ether_switch) ? -1 : RETRY_MS);
		open = admit(ether_switch, place);
		/* The last one's leave is answered when nothing is left to be seen of us. */
		if (!switch_guests(ether_switch) && end(place))
			break;
		switch_unplug_left(ether_switch);
	}
	switch_free(ether_switch);
}
