/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device (virtio: Network Device).
 *
 * Tour 4.400: A network card
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "host/netif.h"
#include "virtio/virtio.h"

/* What has passed in one direction since the driver came. */
struct net_count {
	u64 frames, bytes; /* MAC headers included, ours not */
	u64 longer;	   /* of the frames: than the MTU allows, and so to be cut up by somebody */
	u64 dropped;
	u64 kicks; /* of the queue, when the count began */
};

struct net_receive;

struct net {
	struct virtio_device virtio; /* virtio.name is set before net_init() */
	struct netif *netif;
	_Atomic bool lost; /* nobody is behind the back end any more */
	bool link_up;	   /* as the configuration says it */

	/* The receive queue's, and the transmit queue's; at rest anybody's. */
	struct net_receive *receive;
	struct net_batch {
		u64 woken; /* when the driver's last notification was served */
		u64 since; /* when the first of this many did, in quick succession */
		unsigned streak, patience;
	} batch;
	struct net_count received, sent;
};

/*
 * Plugs itself in. The back end is the caller's, and outlives it. -errno with *problem filled.
 */
int net_init(struct net *net, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct netif *netif, struct problem *problem);

/* The process behind the back end has ended: the link is down. Main thread. */
void net_link_lost(struct net *net);

#endif
