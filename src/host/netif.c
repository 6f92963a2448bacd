/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network back ends, as far as they are all alike: see netif.h.
 *
 * Tour 4.430
 */
#include "host/netif.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int netif_open(struct netif *netif, const struct netif_options *options, unsigned index,
	       struct problem *why)
{
	memset(netif, 0, sizeof(*netif));
	netif->options = options;
	netif->index = index;
	netif->fd = -1;
	netif->child_fd = -1;
	netif->mtu = ETH_DATA_LEN;
	switch (options->kind) {
	case NETIF_TAP:
	case NETIF_BRIDGED:
		return tap_open(netif, why);
	case NETIF_USER:
		return usernet_open(netif, why);
	case NETIF_SHARED:
		return sharenet_open(netif, why);
	}
	return 0;
}

void netif_close(struct netif *netif)
{
	netif->ops->close(netif);
}

void netif_reap(struct netif *netif, char *text, size_t size)
{
	snprintf(text, size, "has ended");
	if (netif->child_fd < 0)
		return;
	if (netif->ops->obituary)
		netif->ops->obituary(netif, text, size);
	/* A process that somebody else has started is somebody else's to wait for. */
	waitid(P_PIDFD, netif->child_fd, &(siginfo_t){0}, WEXITED);
	close(netif->child_fd);
	netif->child_fd = -1;
}

/* FNV-1a, with the usual constants for 64 bits. */
static u64 hash(u64 so_far, const char *bytes, size_t count)
{
	while (count--)
		so_far = (so_far ^ (u8)*bytes++) * 0x100000001b3;
	return so_far;
}

#define HASH_START 0xcbf29ce484222325

/* What tells this machine from others: systemd's number for it, or else its name. */
static u64 hash_machine(void)
{
	char id[128] = "";
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, id, sizeof(id));

	if (fd >= 0)
		close(fd);
	if (length <= 0) {
		gethostname(id, sizeof(id) - 1);
		length = strlen(id);
	}
	return hash(HASH_START, id, length);
}

void netif_set_mac(struct netif *netif, const char *seed)
{
	u64 number;

	if (netif->options->has_mac) {
		memcpy(netif->mac, netif->options->mac, ETH_ALEN);
		return;
	}
	number = hash(hash_machine(), seed, strlen(seed));
	/* The low bits of this hash say little about the last letters, the high ones all. */
	number ^= number >> 32;
	for (unsigned i = 0; i < ETH_ALEN; i++)
		netif->mac[i] = number >> 8 * i;
	/* IEEE 802: locally administered, one station's. */
	netif->mac[0] = (netif->mac[0] & 0xfc) | 0x02;
}
