/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device: see net.h.
 */
#include "virtio/net.h"

#include <errno.h>

int net_init(struct net *net, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct netif *netif, struct problem *why)
{
	(void)pci, (void)slot, (void)machine, (void)memory;
	net->netif = netif;
	return problem(why, ENOSYS, "networks are not part of this version yet");
}

void net_link_lost(struct net *net)
{
	(void)net;
}
