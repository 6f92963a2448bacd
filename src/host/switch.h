/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Ethernet switch of --sharenet: a small process that guests of one user are
 * plugged into, each by a socket that keeps its frames apart (SOCK_SEQPACKET). It
 * belongs to none of the guests, and ends with the last.
 *
 * The first message that a guest gets is a struct switch_welcome; all others, in
 * both directions, are frames.
 *
 * Tour 4.530: The switch between them
 */
#ifndef HOST_SWITCH_H
#define HOST_SWITCH_H

#include "host/types.h"

#include <linux/if_ether.h>

#define SWITCH_PORTS 1024

/* The longest frame, 802.1Q tag and all; and the shortest, which is only a header. */
#define SWITCH_FRAME_MAX (ETH_HLEN + 4 + ETH_DATA_LEN)
#define SWITCH_FRAME_MIN ETH_HLEN

#define SWITCH_MAGIC   0x7473656c /* "lest": anybody else's socket would not begin so */
#define SWITCH_VERSION 1

struct switch_welcome {
	u32 magic, version;
	u32 port; /* the lowest that was free; SWITCH_PORTS: none is */
};

struct ether_switch;

/* Without ports. NULL: no memory. */
struct ether_switch *switch_new(void);
/* Closes what is plugged in. */
void switch_free(struct ether_switch *ether_switch);

/*
 * Plug in a guest: its welcome is sent, and the socket is the switch's from now on, or closed.
 * False: no port is free, or nobody is there to be welcome.
 */
bool switch_plug(struct ether_switch *ether_switch, int socket);

/*
 * Wait for frames, at most so many ms, -1: for ever, and pass them on. `listening`: a socket that
 * ends the wait as well when it is readable; or -1.
 */
void switch_turn(struct ether_switch *ether_switch, int listening, int timeout);

/* How many guests are plugged in and have not left. */
unsigned switch_guests(const struct ether_switch *ether_switch);

/* Unplug those that have left: for them, that is the answer. */
void switch_unplug_left(struct ether_switch *ether_switch);

/* Where guests and their switch meet; all of it is open. */
struct switch_place {
	int folder, listening, lock;
	u32 user;			     /* nobody else's guests are let in */
	const char *socket_name, *lock_name; /* in that folder */
};

/*
 * The life of the process: switches for those who come, until no guest is left and nobody is just
 * coming, which is what the lock tells. Then both files are removed, and this returns.
 */
void switch_run(const struct switch_place *place);

#endif
