/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the launcher that the guest panicked, as Linux' pvpanic-pci module does;
 * with crashload=1 that a crash kernel will be loaded, which is not the end: such
 * a guest then powers off.
 */
#include "lib/acpi.h"
#include "lib/guest.h"
#include "lib/pci.h"

#include <misc/pvpanic.h>

#include <linux/pci_regs.h>

/* Of PCI vendor Red Hat (QEMU: docs/specs/pvpanic). */
#define PVPANIC_VENDOR 0x1b36
#define PVPANIC_DEVICE 0x0011

void guest_main(const struct boot *boot)
{
	unsigned slot = pci_find(PVPANIC_VENDOR, PVPANIC_DEVICE);
	char value[4];
	u64 address;

	if (slot == PCI_SLOTS)
		give_up("there is a pvpanic device");
	pci_write16(slot, PCI_COMMAND, pci_read16(slot, PCI_COMMAND) | PCI_COMMAND_MEMORY);
	address = pci_bar(slot, 0);
	check((read8(address) & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)) ==
		      (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED),
	      "pvpanic at slot %u knows both events", slot);

	if (boot_option(boot, "crashload", value, sizeof(value)) && value[0] == '1') {
		print("pvpanic: crash kernel loaded\n");
		write8(address, PVPANIC_CRASH_LOADED);
		linger();
		print("pvpanic: the crash kernel powers off\n");
		acpi_power_off(boot);
		give_up("the machine powers off");
	}
	print("pvpanic: panicked\n");
	write8(address, PVPANIC_PANICKED);
	linger();
	give_up("the machine ends");
}
