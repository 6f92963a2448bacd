/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio entropy device: see rng.h.
 */
#include "virtio/rng.h"

#include <errno.h>

int rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct problem *why)
{
	(void)rng, (void)pci, (void)slot, (void)machine, (void)memory;
	return problem(why, ENOSYS, "the source of random numbers is not part of this version yet");
}
