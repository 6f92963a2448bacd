/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waits for its power button to be pressed, and powers off: through the registers
 * that the FADT names. It knows the button's interrupt from layout.h, as there is no
 * interpreter in here for what the DSDT says about it.
 *
 *   reboot=1	resets the machine instead, the first time and every time
 */
#include "lib/acpi.h"
#include "lib/guest.h"
#include "lib/interrupt.h"

#define VECTOR_BUTTON 0x50

void guest_main(const struct boot *boot)
{
	const struct acpi_fadt *fadt = acpi_find(boot, "FACP");
	char value[2];

	if (!fadt)
		give_up("there is a FADT");
	interrupt_init();
	ioapic_write(GSI_BUTTON, VECTOR_BUTTON);
	print("button: ready\n");
	while (!interrupt_count(VECTOR_BUTTON))
		pause();
	print("button: pressed\n");
	linger();
	check_equal(interrupt_count(VECTOR_BUTTON), 1, "it was pressed once");
	if (boot_option(boot, "reboot", value, sizeof(value)))
		out8((u16)fadt->reset.address, fadt->reset_value);
	else
		acpi_power_off(boot);
	linger();
	give_up("the machine powers off");
}
