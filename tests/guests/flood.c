/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes to the serial port for ever: what happens when nobody reads it?
 */
#include "lib/guest.h"

void guest_main(const struct boot *boot)
{
	(void)boot;
	print("flood: ready\n");
	for (unsigned line = 0;; line++)
		print("flood: %08u and counting, whether anybody listens or not\n", line);
}
