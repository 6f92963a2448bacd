/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Echoes what comes in at the serial port, until a 'q'. For tests of the terminal
 * and of input in general. What is not printable is told in hexadecimal, so that
 * a test sees each byte and its order.
 */
#include "lib/guest.h"

void guest_main(const struct boot *boot)
{
	(void)boot;
	print("echo: ready\n");
	for (;;) {
		u8 c = serial_get();

		if (c >= ' ' && c < 0x7f)
			serial_put((char)c);
		else
			print("<%02x>", c);
		if (c == 'q')
			break;
	}
	print("\necho: done\n");
}
