/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that the user asked for: see devices.h.
 *
 * A new kind of device is a case in each of three functions here, and a line in
 * the table of options.c.
 */
#include "devices.h"

#include "board/board.h"
#include "host/log.h"

#include <stdio.h>

static int open_device(struct device *device, unsigned index, struct problem *why)
{
	switch (device->options->kind) {
	case DEVICE_BLOCK:
		return disk_open(&device->disk, &device->options->disk, why);
	case DEVICE_NET:
		return netif_open(&device->netif, &device->options->netif, index, why);
	case DEVICE_RNG:
		return 0;
	}
	return 0;
}

static void close_device(struct device *device)
{
	switch (device->options->kind) {
	case DEVICE_BLOCK:
		disk_close(&device->disk);
		break;
	case DEVICE_NET:
		netif_close(&device->netif);
		break;
	case DEVICE_RNG:
		break;
	}
}

int devices_open(struct devices *devices, const struct options *options, struct problem *why)
{
	devices->count = 0;
	for (unsigned i = 0; i < options->device_count; i++) {
		struct device *device = &devices->list[i];
		int err;

		device->options = &options->devices[i];
		err = open_device(device, i, why);
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
	while (devices->count)
		close_device(&devices->list[--devices->count]);
}

/* "block0", "net1": the how-manieth of its kind it is, as the guest's kernel will count them. */
static void name_device(const struct devices *devices, const struct device *device,
			struct virtio_device *virtio)
{
	static const char *const kinds[] = {
		[DEVICE_BLOCK] = "block", [DEVICE_NET] = "net", [DEVICE_RNG] = "rng"};
	unsigned before = 0;

	for (const struct device *other = devices->list; other < device; other++)
		before += other->options->kind == device->options->kind;
	snprintf(virtio->name, sizeof(virtio->name), "%s%u", kinds[device->options->kind], before);
}

static int plug_device(struct devices *devices, struct device *device, struct pci_bus *pci,
		       struct machine *machine, const struct memory *memory, unsigned vcpus,
		       struct problem *why)
{
	const unsigned slot = SLOT_FIRST + (device - devices->list);
	struct virtio_device *virtio = NULL;
	int err = 0;

	switch (device->options->kind) {
	case DEVICE_BLOCK:
		virtio = &device->block.virtio;
		name_device(devices, device, virtio);
		err = block_init(&device->block, pci, slot, machine, memory, &device->disk,
				 MIN(vcpus, BLOCK_QUEUES_MAX), why);
		break;
	case DEVICE_NET:
		virtio = &device->net.virtio;
		name_device(devices, device, virtio);
		err = net_init(&device->net, pci, slot, machine, memory, &device->netif, why);
		break;
	case DEVICE_RNG:
		virtio = &device->rng.virtio;
		name_device(devices, device, virtio);
		err = rng_init(&device->rng, pci, slot, machine, memory, why);
		break;
	}
	if (!err)
		device->virtio = virtio;
	return err;
}

int devices_plug(struct devices *devices, struct pci_bus *pci, struct machine *machine,
		 const struct memory *memory, unsigned vcpus, struct problem *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < devices->count; i++)
		err = plug_device(devices, &devices->list[i], pci, machine, memory, vcpus, why);
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

unsigned devices_poll(const struct devices *devices, struct pollfd *fds)
{
	unsigned count = 0;

	for (const struct device *device = devices->list; device < devices->list + devices->count;
	     device++)
		if (device->options->kind == DEVICE_NET && device->netif.child_fd >= 0)
			fds[count++] =
				(struct pollfd){.fd = device->netif.child_fd, .events = POLLIN};
	return count;
}

static void polled(struct devices *devices, int fd)
{
	for (struct device *device = devices->list; device < devices->list + devices->count;
	     device++)
		if (device->options->kind == DEVICE_NET && device->netif.child_fd == fd)
			net_link_lost(&device->net);
}

void devices_polled(struct devices *devices, const struct pollfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fds[i].revents)
			polled(devices, fds[i].fd);
}
