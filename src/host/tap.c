/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tap device: a network interface of the host's whose other end we hold. What
 * the host's kernel sends into it we read, and what we write it receives, frame by
 * frame, with a struct virtio_net_hdr in front that leaves checksums and the
 * cutting of long TCP segments to whoever does them best.
 *
 * Either the host has an address of its own there and routes (NETIF_TAP), or the
 * interface becomes a port of a bridge that somebody made (NETIF_BRIDGED). It is
 * gone when its descriptor is closed, however the process may end, and so nothing
 * that is set up here is ever taken down.
 *
 * Tour 4.440: A network of the host's kernel
 */
#include "host/netif.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN_DEVICE "/dev/net/tun"

static ssize_t tap_receive(struct netif *netif, const struct iovec *iov, unsigned count)
{
	ssize_t length = readv(netif->fd, iov, count);

	return length < 0 ? -errno : length;
}

/* The kernel takes a frame whole or not at all. */
static int tap_send(struct netif *netif, const struct iovec *iov, unsigned count)
{
	return writev(netif->fd, iov, count) < 0 ? -errno : 0;
}

/* A segment that its receiver cuts up itself has no checksum either: so says the kernel. */
static int tap_set_offloads(struct netif *netif, const struct netif_offloads *offloads)
{
	unsigned flags = 0;

	if (offloads->checksum)
		flags |= TUN_F_CSUM;
	if (offloads->tso4)
		flags |= TUN_F_TSO4;
	if (offloads->tso6)
		flags |= TUN_F_TSO6;
	if (offloads->ecn)
		flags |= TUN_F_TSO_ECN;
	return ioctl(netif->fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static void tap_close(struct netif *netif)
{
	close(netif->fd);
}

static const struct netif_ops tap_ops = {
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.close = tap_close,
};

/* What the user may do about it. */
static const char *advice(int err)
{
	switch (err) {
	case EPERM:
	case EACCES:
		return " (that takes root, or CAP_NET_ADMIN; --net=user takes neither)";
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return " (the kernel's module tun brings it; --net=user does without)";
	default:
		return "";
	}
}

/* `name` is what the kernel has called it: the lowest number that is free. */
static int make_interface(int fd, char name[IFNAMSIZ], struct problem *why)
{
	struct ifreq request = {
		.ifr_name = "lguest%d",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
	};
	int header = NETIF_HEADER;

	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return problem(why, errno, "--tunnet: cannot make a tap device: %s%s",
			       strerror(errno), advice(errno));
	memcpy(name, request.ifr_name, IFNAMSIZ);
	return 0;
}

static struct ifreq request_for(const char *name)
{
	struct ifreq request = {0};

	memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	return request;
}

static int set_address(int control, unsigned long what, const char *name, u32 address)
{
	struct ifreq request = request_for(name);
	struct sockaddr_in inet = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(address),
	};

	memcpy(&request.ifr_addr, &inet, sizeof(inet));
	return ioctl(control, what, &request) < 0 ? -errno : 0;
}

static int give_address(int control, const char *name, const struct netif_options *options,
			struct problem *why)
{
	const u32 mask = ~0u << (32 - options->bits);
	/* RFC 3021: where two stations are all, none is left to be everybody's: it is the guest's.
	 */
	const u32 everybody = options->bits < 31 ? options->address | ~mask : INADDR_ANY;
	int err = set_address(control, SIOCSIFADDR, name, options->address);

	if (!err)
		err = set_address(control, SIOCSIFNETMASK, name, mask);
	if (!err)
		err = set_address(control, SIOCSIFBRDADDR, name, everybody);
	if (err)
		return problem(why, -err, "--tunnet: cannot give %s the address %s/%u: %s", name,
			       inet_ntoa((struct in_addr){htonl(options->address)}), options->bits,
			       strerror(-err));
	return 0;
}

/*
 * A bridge that was not given an address of its own takes the lowest among those of its ports. Ours
 * is to come and go without changing it, and so begins with the highest byte that is no group's.
 */
static int raise_mac(int control, const char *name, const u8 guest[ETH_ALEN])
{
	struct ifreq request = request_for(name);

	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, guest, ETH_ALEN);
	request.ifr_hwaddr.sa_data[0] = guest[0] == 0xfe ? 0xfa : 0xfe;
	return ioctl(control, SIOCSIFHWADDR, &request) < 0 ? -errno : 0;
}

static int join_bridge(int control, const struct netif *netif, const char *name,
		       struct problem *why)
{
	const char *bridge = netif->options->name;
	struct ifreq request = request_for(bridge);
	int err;

	if (ioctl(control, SIOCGIFINDEX, &request) < 0)
		return problem(why, errno,
			       "--tunnet=bridge:%s: there is no %s; it is yours to make (ip link "
			       "add %s type bridge)",
			       bridge, bridge, bridge);
	err = raise_mac(control, name, netif->mac);
	request.ifr_ifindex = if_nametoindex(name);
	if (!err && ioctl(control, SIOCBRADDIF, &request) < 0)
		err = -errno;
	if (err == -EOPNOTSUPP || err == -ENOTTY || err == -EINVAL)
		return problem(why, -err, "--tunnet=bridge:%s: %s is not a bridge", bridge, bridge);
	if (err)
		return problem(why, -err, "--tunnet=bridge:%s: cannot add %s to it: %s%s", bridge,
			       name, strerror(-err), advice(-err));
	return 0;
}

static int bring_up(int control, const char *name, struct problem *why)
{
	struct ifreq request = request_for(name);
	int err = ioctl(control, SIOCGIFFLAGS, &request);

	request.ifr_flags |= IFF_UP;
	if (!err)
		err = ioctl(control, SIOCSIFFLAGS, &request);
	if (err)
		return problem(why, errno, "--tunnet: cannot bring %s up: %s", name,
			       strerror(errno));
	return 0;
}

static int configure(const struct netif *netif, const char *name, struct problem *why)
{
	const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err;

	if (control < 0)
		return problem(why, errno, "--tunnet: cannot make a socket: %s", strerror(errno));
	if (netif->options->kind == NETIF_BRIDGED)
		err = join_bridge(control, netif, name, why);
	else
		err = give_address(control, name, netif->options, why);
	if (!err)
		err = bring_up(control, name, why);
	close(control);
	return err;
}

/* Two guests at a time have interfaces of different names, and two networks different words. */
static void choose_mac(struct netif *netif, const char *name)
{
	const struct netif_options *options = netif->options;
	char seed[64];

	if (options->kind == NETIF_BRIDGED)
		snprintf(seed, sizeof(seed), "%s bridge %s", name, options->name);
	else
		snprintf(seed, sizeof(seed), "%s %08x/%u", name, options->address, options->bits);
	netif_set_mac(netif, seed);
}

int tap_open(struct netif *netif, struct problem *why)
{
	char name[IFNAMSIZ];
	int err;

	netif->fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (netif->fd < 0)
		return problem(why, errno,
			       "--tunnet: cannot make a tap device: " TUN_DEVICE ": %s%s",
			       strerror(errno), advice(errno));
	err = make_interface(netif->fd, name, why);
	if (!err) {
		choose_mac(netif, name);
		err = configure(netif, name, why);
	}
	if (err) {
		close(netif->fd);
		return err;
	}
	netif->ops = &tap_ops;
	snprintf(netif->name, sizeof(netif->name), "tap %s", name);
	return 0;
}
