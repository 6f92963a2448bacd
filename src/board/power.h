/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways a guest ends: ACPI sleep and reset registers, the keyboard
 * controller's reset line, and (--debug-exit) port 0xF4.
 *
 * Tour 3.160: Ways to end
 */
#ifndef BOARD_POWER_H
#define BOARD_POWER_H

#include "board/bus.h"
#include "host/machine.h"
#include "host/memory.h"

struct power {
	struct machine *machine;
	struct region acpi, keyboard_data, keyboard, debug_exit;
	_Atomic bool drained; /* port 0x60 was read: port 0x64 says so */
	_Atomic u8 sleep_control;
};

void power_init(struct power *power, struct bus *bus, struct machine *machine, bool debug_exit);
void power_reset(struct power *power);

/* Put code where a real-mode jump to the reset vector finds it: it asks for a reset. */
void power_place_vector(struct memory *memory);

#endif
