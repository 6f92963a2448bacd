/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What pci.c and msix.c know of each other, and nobody else.
 *
 * Tour 3.240: Interrupts without wires
 */
#ifndef BOARD_MSIX_H
#define BOARD_MSIX_H

#include "board/pci.h"

/* Messages that became due; to be sent once the device's lock is dropped. */
struct msix_outbox {
	unsigned count;
	struct msix_message {
		u64 address;
		u32 data;
	} messages[PCI_MSIX_MAX];
};

/* The 16 bits at that offset of configuration space. Device's lock held. */
static inline u16 pci_config_word(const struct pci_device *device, unsigned offset)
{
	return device->config[offset] | device->config[offset + 1] << 8;
}

/* The device's lock is held for these. */
bool msix_enabled(const struct pci_device *device);
void msix_reset(struct pci_device *device);

/* Configuration space or the table changed: take what is pending and may be sent now. */
void msix_collect(struct pci_device *device, struct msix_outbox *outbox);

/* And not for this one. */
void msix_deliver(struct pci_device *device, const struct msix_outbox *outbox);

#endif
