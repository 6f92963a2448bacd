/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that hangs, interrupts off, and never leaves guest mode by itself:
 * whoever wants to end it has to kick it out.
 */
#include "lib/guest.h"

void guest_main(const struct boot *boot)
{
	(void)boot;
	print("spin: ready\n");
	for (;;)
		barrier();
}
