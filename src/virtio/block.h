/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device (virtio: Block Device): a disk.
 *
 * Tour 4.300: A disk, from the front
 */
#ifndef VIRTIO_BLOCK_H
#define VIRTIO_BLOCK_H

#include "host/disk.h"
#include "virtio/virtio.h"

#include <linux/virtio_blk.h>
#include <stdatomic.h>

#define BLOCK_QUEUES_MAX 16

struct block_queue; /* the requests of a queue: block.c's */

struct block {
	struct virtio_device virtio; /* virtio.name is set before block_init() */
	struct disk *disk;
	unsigned queue_count;
	struct block_queue *queues[BLOCK_QUEUES_MAX];
	struct virtio_blk_config config; /* what never changes of it */
	_Atomic bool writeback;		 /* writes may be answered before they are durable */
	_Atomic unsigned errors;	 /* of the host's, that the user was told of */
};

/*
 * Plugs itself in with `queues` request queues, 1 to BLOCK_QUEUES_MAX. The disk is the caller's,
 * and outlives it. -errno with *problem filled.
 */
int block_init(struct block *block, struct pci_bus *pci, unsigned slot, struct machine *machine,
	       const struct memory *memory, struct disk *disk, unsigned queues,
	       struct problem *problem);

#endif
