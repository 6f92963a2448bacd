/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets the machine through the register that the FADT names, which must exist
 * and be a port (ACPI: Reset Register). With --no-reboot that is the end.
 */
#include "lib/acpi.h"
#include "lib/guest.h"

void guest_main(const struct boot *boot)
{
	const struct acpi_fadt *fadt = acpi_find(boot, "FACP");

	if (!fadt)
		give_up("there is a FADT");
	if (!(fadt->flags & FADT_RESET_SUPPORTED) || fadt->reset.space != ACPI_SPACE_PORT)
		give_up("the FADT names a reset port");
	print("reset-acpi: now\n");
	out8((u16)fadt->reset.address, fadt->reset_value);
	linger();
	give_up("the machine resets");
}
