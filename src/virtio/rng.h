/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio entropy device (virtio: Entropy Device): random bytes from the host.
 *
 * Tour 4.200: The simplest device
 */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include "virtio/virtio.h"

struct rng {
	struct virtio_device virtio; /* virtio.name is set before rng_init() */
};

/* Plugs itself in. -errno with *problem filled. */
int rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct problem *problem);

#endif
