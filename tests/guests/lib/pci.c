/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The little of PCI that is more than one access.
 */
#include "lib/pci.h"

#include <linux/pci_regs.h>

unsigned pci_find_capability(unsigned slot, u8 id, unsigned from)
{
	unsigned at = pci_read8(slot, from ? from + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST);

	/* A list in 192 bytes has at most 48 elements: one that goes on is a ring. */
	for (unsigned i = 0; at && i < 48; i++) {
		if (pci_read8(slot, at + PCI_CAP_LIST_ID) == id)
			return at;
		at = pci_read8(slot, at + PCI_CAP_LIST_NEXT);
	}
	return 0;
}

u64 pci_bar(unsigned slot, unsigned bar)
{
	unsigned offset = PCI_BASE_ADDRESS_0 + 4 * bar;
	u32 low = pci_read32(slot, offset);
	u64 base = low & PCI_BASE_ADDRESS_MEM_MASK & 0xffffffff;

	if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		base |= (u64)pci_read32(slot, offset + 4) << 32;
	return base;
}

unsigned pci_find(u16 vendor, u16 device)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && pci_read32(slot, PCI_VENDOR_ID) != ((u32)device << 16 | vendor))
		slot++;
	return slot;
}
