/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that the user asked for: see devices.h.
 *
 * A new kind of device is a line in the table here, and one in that of options.c.
 *
 * Tour 4.250
 */
#include "devices.h"

#include "board/board.h"
#include "host/log.h"

#include <stdio.h>

/* Where a device is plugged in. */
struct socket {
	struct pci_bus *pci;
	unsigned slot;
	struct machine *machine;
	const struct memory *memory;
	unsigned vcpus;
};

static int block_open(struct device *device, unsigned index, struct problem *why)
{
	(void)index;
	return disk_open(&device->disk, &device->options->disk, why);
}

static void block_close(struct device *device)
{
	disk_close(&device->disk);
}

static int block_plug(struct device *device, const struct socket *socket, struct problem *why)
{
	return block_init(&device->block, socket->pci, socket->slot, socket->machine,
			  socket->memory, &device->disk, MIN(socket->vcpus, BLOCK_QUEUES_MAX), why);
}

static int net_open(struct device *device, unsigned index, struct problem *why)
{
	return netif_open(&device->netif, &device->options->netif, index, why);
}

static void net_close(struct device *device)
{
	netif_close(&device->netif);
}

static int net_plug(struct device *device, const struct socket *socket, struct problem *why)
{
	return net_init(&device->net, socket->pci, socket->slot, socket->machine, socket->memory,
			&device->netif, why);
}

static int rng_plug(struct device *device, const struct socket *socket, struct problem *why)
{
	return rng_init(&device->rng, socket->pci, socket->slot, socket->machine, socket->memory,
			why);
}

/*
 * A row is a kind of device: what is behind it is opened before the door is shut, what is in
 * front of it is plugged in afterwards.
 *
 * Tour 4.251
 */
static const struct kind {
	const char *name;
	size_t virtio; /* where in a struct device its struct virtio_device is */

	/* What is behind it on the host. NULL: there is nothing. */
	int (*open)(struct device *device, unsigned index, struct problem *why);
	void (*close)(struct device *device);

	int (*plug)(struct device *device, const struct socket *socket, struct problem *why);
} kinds[] = {
	[DEVICE_BLOCK] = {"block", offsetof(struct device, block.virtio), block_open, block_close,
			  block_plug},
	[DEVICE_NET] = {"net", offsetof(struct device, net.virtio), net_open, net_close, net_plug},
	[DEVICE_RNG] = {"rng", offsetof(struct device, rng.virtio), NULL, NULL, rng_plug},
};

static const struct kind *kind_of(const struct device *device)
{
	return &kinds[device->options->kind];
}

int devices_open(struct devices *devices, const struct options *options, struct problem *why)
{
	devices->count = 0;
	for (unsigned i = 0; i < options->device_count; i++) {
		struct device *device = &devices->list[i];
		int err = 0;

		device->options = &options->devices[i];
		if (kind_of(device)->open)
			err = kind_of(device)->open(device, i, why);
		if (err) {
			devices_close(devices);
			return err;
		}
		devices->count++;
	}
	return 0;
}

void devices_close(struct devices *devices)
{
	while (devices->count) {
		struct device *device = &devices->list[--devices->count];

		if (kind_of(device)->close)
			kind_of(device)->close(device);
	}
}

/* "block0", "net1": the how-manieth of its kind it is, as the guest's kernel will count them. */
static void name_device(const struct devices *devices, const struct device *device,
			struct virtio_device *virtio)
{
	unsigned before = 0;

	for (const struct device *other = devices->list; other < device; other++)
		before += other->options->kind == device->options->kind;
	snprintf(virtio->name, sizeof(virtio->name), "%s%u", kind_of(device)->name, before);
}

int devices_plug(struct devices *devices, struct pci_bus *pci, struct machine *machine,
		 const struct memory *memory, unsigned vcpus, struct problem *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < devices->count; i++) {
		struct device *device = &devices->list[i];
		const struct socket socket = {pci, SLOT_FIRST + i, machine, memory, vcpus};
		struct virtio_device *virtio = (void *)((u8 *)device + kind_of(device)->virtio);

		name_device(devices, device, virtio);
		err = kind_of(device)->plug(device, &socket, why);
		if (!err)
			device->virtio = virtio;
	}
	return err;
}

void devices_unplug(struct devices *devices)
{
	for (unsigned i = devices->count; i-- > 0;) {
		if (devices->list[i].virtio)
			virtio_unplug(devices->list[i].virtio);
		devices->list[i].virtio = NULL;
	}
}

void devices_rest(struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		virtio_power_on(devices->list[i].virtio);
}

/* Of the child that carries its frames, or -1. */
static int child_fd(const struct device *device)
{
	return device->options->kind == DEVICE_NET ? device->netif.child_fd : -1;
}

unsigned devices_poll(const struct devices *devices, struct pollfd *fds)
{
	unsigned count = 0;

	for (unsigned i = 0; i < devices->count; i++) {
		const int fd = child_fd(&devices->list[i]);

		if (fd >= 0)
			fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	return count;
}

static void polled(struct devices *devices, int fd)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (child_fd(&devices->list[i]) == fd)
			net_link_lost(&devices->list[i].net);
}

void devices_polled(struct devices *devices, const struct pollfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fds[i].revents)
			polled(devices, fds[i].fd);
}
