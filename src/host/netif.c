/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network back ends: see netif.h.
 */
#include "host/netif.h"

#include <errno.h>

int netif_open(struct netif *netif, const struct netif_options *options, unsigned index,
	       struct problem *why)
{
	(void)index;
	netif->options = options;
	return problem(why, ENOSYS, "networks are not part of this version yet");
}

void netif_close(struct netif *netif)
{
	netif->ops->close(netif);
}
