/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio memory balloon, for the one thing of it that needs no user: the guest
 * says which of its pages are free, and the host gets them back.
 *
 * This is the worked example of docs/guide/new-device.md, and no part of lguest.
 */
#ifndef VIRTIO_BALLOON_H
#define VIRTIO_BALLOON_H

#include "virtio/virtio.h"

struct balloon {
	struct virtio_device virtio; /* virtio.name is set before balloon_init() */
};

/* Plugs itself in. -errno with *problem filled. */
int balloon_init(struct balloon *balloon, struct pci_bus *pci, unsigned slot,
		 struct machine *machine, const struct memory *memory, struct problem *problem);

#endif
