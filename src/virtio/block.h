/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device (virtio: Block Device): a disk.
 */
#ifndef VIRTIO_BLOCK_H
#define VIRTIO_BLOCK_H

#include "host/disk.h"
#include "virtio/virtio.h"

#define BLOCK_QUEUES_MAX 16

struct block {
	struct virtio_device virtio; /* virtio.name is set before block_init() */
	struct disk *disk;
};

/*
 * Plugs itself in with `queues` request queues, 1 to BLOCK_QUEUES_MAX. The disk is the caller's,
 * and outlives it. -errno with *problem filled.
 */
int block_init(struct block *block, struct pci_bus *pci, unsigned slot, struct machine *machine,
	       const struct memory *memory, struct disk *disk, unsigned queues,
	       struct problem *problem);

#endif
