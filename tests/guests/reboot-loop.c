/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reboots, for tests of leaks and of power-on state. RAM begins as zeros each
 * time, so it cannot count; who wants a number of reboots feeds them in:
 *
 *   (nothing)   reboots for ever
 *   input=1     asks "r or q?" at the serial port: 'r' reboots, 'q' powers off, the rest is
 * ignored. (What is typed ahead may be lost: a reset empties the port's FIFO.)
 *
 * Before it goes it soils what a reboot has to clean: RAM, the registers of the
 * serial port, an IOAPIC entry, PCI configuration. The next life checks.
 */
#include "lib/acpi.h"
#include "lib/guest.h"
#include "lib/interrupt.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/serial_reg.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define SOILED_RAM 0x90000 /* free low memory */
#define SCRATCH	   0x5a
#define SOME_PIN   GSI_INTX
#define SOME_LINE  11

static void check_clean(const struct virtio *console)
{
	const u64 *ram = (const u64 *)SOILED_RAM;
	bool zero = true;

	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*ram); i++)
		zero &= !ram[i];
	check(zero, "RAM is zero");
	check(in8(PORT_SERIAL + UART_SCR) != SCRATCH,
	      "the serial port's scratch register is fresh");
	check(ioapic_read(SOME_PIN) & IOAPIC_MASKED, "IOAPIC pins are masked");
	check(pci_read8(console->slot, PCI_INTERRUPT_LINE) != SOME_LINE,
	      "PCI configuration is fresh");
	check_equal(virtio_read8(console, VIRTIO_PCI_COMMON_STATUS), 0, "the console is in reset");
}

static void soil(const struct virtio *console)
{
	memset((void *)SOILED_RAM, 0xff, PAGE_SIZE);
	out8(PORT_SERIAL + UART_SCR, SCRATCH);
	ioapic_write(SOME_PIN, IOAPIC_LEVEL | 0x55);
	pci_write8(console->slot, PCI_INTERRUPT_LINE, SOME_LINE);
	virtio_write8(console, VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
}

void guest_main(const struct boot *boot)
{
	static struct virtio console;
	char input[2];

	print("reboot-loop: a new life\n");
	virtio_find(&console, SLOT_VIRTIO_CONSOLE);
	check_clean(&console);
	soil(&console);
	if (boot_option(boot, "input", input, sizeof(input))) {
		u8 c;

		print("reboot-loop: r or q?\n");
		do
			c = serial_get();
		while (c != 'r' && c != 'q');
		if (c == 'q') {
			print("reboot-loop: power off\n");
			acpi_power_off(boot);
			give_up("the machine powers off");
		}
	}
	print("reboot-loop: again\n");
	out8(PORT_ACPI_RESET, ACPI_RESET_VALUE);
	linger();
	give_up("the machine resets");
}
