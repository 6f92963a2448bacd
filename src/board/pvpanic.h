/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic on PCI: the guest kernel writes a bit when it panics.
 *
 * Tour 3.260: The shortest PCI device there is
 */
#ifndef BOARD_PVPANIC_H
#define BOARD_PVPANIC_H

#include "board/pci.h"
#include "host/machine.h"

struct pvpanic {
	struct machine *machine;
	struct pci_device pci;
	_Atomic bool crash_told;
};

/* Plugs itself in at that slot. -errno as pci_add(). */
int pvpanic_init(struct pvpanic *pvpanic, struct pci_bus *pci, unsigned slot,
		 struct machine *machine);

#endif
