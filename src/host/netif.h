/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network interface's back end: where the guest's Ethernet frames go, and come
 * from. A tap device, a process that speaks for an unprivileged user (passt, or
 * our own with libslirp), or a switch shared with other guests.
 *
 * Frames are handed over with a struct virtio_net_hdr_mrg_rxbuf (12 bytes) in
 * front, in both directions. Back ends without offloads leave it all zero, and
 * need not look at it.
 *
 * Tour 4.420: Where frames go
 */
#ifndef HOST_NETIF_H
#define HOST_NETIF_H

#include "host/frames.h"
#include "host/problem.h"

#include <linux/if_ether.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NETIF_HEADER	12			    /* bytes in front of each frame */
#define NETIF_FRAME_MAX (NETIF_HEADER + FRAMES_MAX) /* no back end has a longer one */
#define NETIF_FORWARDS	16
#define NETIF_SHARE_MAX 32 /* letters in a shared segment's name: it becomes part of a path */

enum netif_kind {
	NETIF_TAP,     /* --tunnet=ADDRESS[/BITS][:MAC] */
	NETIF_BRIDGED, /* --tunnet=bridge:NAME[:MAC] */
	NETIF_USER,    /* --net=user[,hostfwd=tcp:PORT:PORT]... */
	NETIF_SHARED,  /* --sharenet=NAME[:MAC] */
};

struct netif_options {
	enum netif_kind kind;
	u32 address;	  /* NETIF_TAP: the host's, in host byte order */
	unsigned bits;	  /* of its netmask */
	const char *name; /* of the bridge, or of the shared segment */
	bool has_mac;
	u8 mac[ETH_ALEN];
	unsigned forward_count;
	struct netif_forward {
		bool udp;
		u16 host_port, guest_port;
	} forwards[NETIF_FORWARDS];
};

/* What a guest's driver has accepted, and what a tap may therefore hand over unfinished. */
struct netif_offloads {
	bool checksum, tso4, tso6, ecn;
};

struct netif;

struct netif_ops {
	/*
	 * A frame that waits, header first, into these buffers, NETIF_FRAME_MAX bytes in all or it
	 * may be cut: its length, header and all; -EAGAIN: none waits; other -errno: the interface
	 * is dead, and will not be asked again. What the header says is believed no further than
	 * the driver has accepted it. One thread.
	 */
	ssize_t (*receive)(struct netif *netif, const struct iovec *iov, unsigned count);

	/*
	 * Send a frame: the first buffer is its header and nothing else, and there is at least a
	 * MAC header behind it. 0; -EAGAIN: no room just now (poll netif->fd for POLLOUT, and say
	 * it again); other -errno: the frame is lost. Another thread than receive()'s.
	 */
	int (*send)(struct netif *netif, const struct iovec *iov, unsigned count);

	/*
	 * NULL: has no offloads, and nothing of the kind may be offered to the guest. A frame that
	 * waited before may still be as it was agreed on then. Any thread; neither of the two above
	 * runs. -errno.
	 */
	int (*set_offloads)(struct netif *netif, const struct netif_offloads *offloads);

	/*
	 * "ended with status 1: no such port": how the process behind child_fd came to its end, and
	 * its last words. NULL: there never is one. Main thread.
	 */
	void (*obituary)(struct netif *netif, char *text, size_t size);

	void (*close)(struct netif *netif);
};

struct netif {
	const struct netif_ops *ops;
	const struct netif_options *options; /* must outlive it */
	unsigned index;			     /* the how-manieth device of the guest's it is */
	char name[32];			     /* "tap lguest0", "passt": for messages */
	int fd;				     /* readable: a frame waits, or the other end is gone */
	int child_fd; /* a pidfd: readable when the process behind it has ended; or -1. It is closed
			 and -1 again once the main thread has seen that */
	u8 mac[ETH_ALEN]; /* the guest's */
	u16 mtu;	  /* bytes of payload: 1500 */
	bool exceeds_mtu; /* what is received may be longer all the same */
	void *own;	  /* the back end's */
};

/*
 * Open what the options ask for: tap made and configured, child started, switch joined.
 * -errno with *problem filled, and nothing left behind. `index`: which interface of this guest it
 * is.
 */
int netif_open(struct netif *netif, const struct netif_options *options, unsigned index,
	       struct problem *problem);
void netif_close(struct netif *netif);

/*
 * The child has ended, as child_fd says: how, in `text`. It is buried, if it was ours, and child_fd
 * is -1.
 */
void netif_reap(struct netif *netif, char *text, size_t size);

/*
 * The back ends. When they are called, options and index are set, fd and child_fd are -1, mtu is
 * 1500; the rest, netif_set_mac() included, is theirs. Same errors.
 */
int tap_open(struct netif *netif, struct problem *problem);
int usernet_open(struct netif *netif, struct problem *problem);
int sharenet_open(struct netif *netif, struct problem *problem);

/*
 * The guest's MAC address: the one that the user gave, or else one that is made from `seed`, which
 * tells this interface from all others that may meet it on a segment: locally administered, and the
 * same for the same seed on the same machine.
 */
void netif_set_mac(struct netif *netif, const char *seed);

#endif
