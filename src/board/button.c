/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The power button: one wire to the IOAPIC, pulled and let go.
 *
 * It has no registers, and so there is nothing here but the wire. What the guest
 * makes of the edge is written in its own language, in dsdt.asl: the Generic Event
 * Device that owns the interrupt says that the button device has something to tell,
 * and the guest's driver takes it from there (ACPI: "Generic Event Device",
 * "Control Method Power Button"). Whether it then shuts down is between it and its user
 * space.
 *
 * Tour 3.190
 */
#include "board/button.h"

#define BUTTON_SOURCE 0 /* nobody else is on that wire */

void button_press(struct ioapic *ioapic)
{
	ioapic_set(ioapic, GSI_BUTTON, BUTTON_SOURCE, true);
	ioapic_set(ioapic, GSI_BUTTON, BUTTON_SOURCE, false);
}
