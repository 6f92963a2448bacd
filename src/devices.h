/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that the user asked for: disks, networks, entropy. What is behind
 * each on the host is opened once and outlives every reboot; in front of it is a
 * virtio device in a PCI slot, in the order of the command line.
 *
 * Tour 4.240: Plugging them in
 */
#ifndef DEVICES_H
#define DEVICES_H

#include "options.h"
#include "virtio/block.h"
#include "virtio/net.h"
#include "virtio/rng.h"

#include <poll.h>

struct device {
	const struct device_options *options;
	struct virtio_device *virtio; /* NULL: not plugged in */
	union {
		struct {
			struct disk disk;
			struct block block;
		};
		struct {
			struct netif netif;
			struct net net;
		};
		struct rng rng;
	};
};

struct devices {
	unsigned count;
	struct device list[OPTIONS_DEVICES_MAX];
};

/*
 * Open files, make taps, start children: what may fail for a reason of the user's. -errno with
 * *problem filled, and nothing left behind.
 */
int devices_open(struct devices *devices, const struct options *options, struct problem *problem);
void devices_close(struct devices *devices);

/* Plug them in, from SLOT_FIRST on. -errno with *problem filled. */
int devices_plug(struct devices *devices, struct pci_bus *pci, struct machine *machine,
		 const struct memory *memory, unsigned vcpus, struct problem *problem);
void devices_unplug(struct devices *devices);

/* virtio_power_on() for each. */
void devices_rest(struct devices *devices);

/*
 * For the main thread's poll(): at most OPTIONS_DEVICES_MAX descriptors, and what to do when one of
 * them is readable.
 */
unsigned devices_poll(const struct devices *devices, struct pollfd *fds);
void devices_polled(struct devices *devices, const struct pollfd *fds, unsigned count);

#endif
