/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets the machine as old kernels do: by the line that the keyboard controller
 * used to have to the CPU (RUN-6).
 */
#include "lib/guest.h"

#define KEYBOARD_PULSE_RESET 0xfe

void guest_main(const struct boot *boot)
{
	(void)boot;
	print("reset-keyboard: now\n");
	out8(PORT_KEYBOARD, KEYBOARD_PULSE_RESET);
	linger();
	give_up("the machine resets");
}
