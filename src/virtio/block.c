/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device: see block.h.
 */
#include "virtio/block.h"

#include <errno.h>

int block_init(struct block *block, struct pci_bus *pci, unsigned slot, struct machine *machine,
	       const struct memory *memory, struct disk *disk, unsigned queues, struct problem *why)
{
	(void)pci, (void)slot, (void)machine, (void)memory, (void)queues;
	block->disk = disk;
	return problem(why, ENOSYS, "disks are not part of this version yet");
}
