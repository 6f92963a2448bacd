/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device (virtio: Network Device).
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "host/netif.h"
#include "virtio/virtio.h"

struct net {
	struct virtio_device virtio; /* virtio.name is set before net_init() */
	struct netif *netif;
};

/*
 * Plugs itself in. The back end is the caller's, and outlives it. -errno with *problem filled.
 */
int net_init(struct net *net, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct netif *netif, struct problem *problem);

/* The process behind the back end has ended: the link is down. Main thread. */
void net_link_lost(struct net *net);

#endif
