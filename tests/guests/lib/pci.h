/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI configuration space through the two ports of mechanism 1, on bus 0.
 */
#ifndef LIB_PCI_H
#define LIB_PCI_H

#include "lib/guest.h"

#define PCI_SLOTS      32
#define PCI_ADDRESS_ON 0x80000000u

/* What is written to 0xCF8. */
static inline u32 pci_address(unsigned bus, unsigned slot, unsigned function, unsigned offset)
{
	return PCI_ADDRESS_ON | bus << 16 | slot << 11 | function << 8 | (offset & 0xfc);
}

static inline u16 pci_select(unsigned slot, unsigned offset)
{
	out32(PORT_PCI_ADDRESS, pci_address(0, slot, 0, offset));
	return (u16)(PORT_PCI_DATA + (offset & 3));
}

static inline u8 pci_read8(unsigned slot, unsigned offset)
{
	return in8(pci_select(slot, offset));
}

static inline u16 pci_read16(unsigned slot, unsigned offset)
{
	return in16(pci_select(slot, offset));
}

static inline u32 pci_read32(unsigned slot, unsigned offset)
{
	return in32(pci_select(slot, offset));
}

static inline void pci_write8(unsigned slot, unsigned offset, u8 value)
{
	out8(pci_select(slot, offset), value);
}

static inline void pci_write16(unsigned slot, unsigned offset, u16 value)
{
	out16(pci_select(slot, offset), value);
}

static inline void pci_write32(unsigned slot, unsigned offset, u32 value)
{
	out32(pci_select(slot, offset), value);
}

/* The next capability with that id after `from` (0: the first). 0: none. */
unsigned pci_find_capability(unsigned slot, u8 id, unsigned from);

/* Where a memory BAR is. */
u64 pci_bar(unsigned slot, unsigned bar);

/* The slot of the first device with these ids; PCI_SLOTS if there is none. */
unsigned pci_find(u16 vendor, u16 device);

#endif
