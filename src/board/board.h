/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board: what the guest sees as hardware, but for the devices that are
 * plugged into its PCI bus. A hardware-reduced ACPI machine: no PIC, no PIT, no
 * HPET.
 *
 * Tour 3.10: The board
 */
#ifndef BOARD_BOARD_H
#define BOARD_BOARD_H

#include "board/bus.h"
#include "board/ioapic.h"
#include "board/pci.h"
#include "board/power.h"
#include "board/pvpanic.h"
#include "board/rtc.h"
#include "board/serial.h"
#include "host/machine.h"
#include "host/memory.h"
#include "host/terminal.h"

/*
 * The console is always here, and pvpanic at the other end: so what the user asks for has the slots
 * from 2 on, one after the other and the same ones for good, whatever else the board may come
 * to have: that goes in at the other end.
 */
#define SLOT_CONSOLE 1
#define SLOT_FIRST   2
#define SLOT_PVPANIC 31

struct board {
	struct machine *machine;
	struct memory *memory;
	struct engine *engine; /* NULL until board_power_on() */
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct pvpanic pvpanic;
};

/* `debug_exit`: port 0xF4 ends the machine. -errno with *problem filled. */
int board_init(struct board *board, struct machine *machine, struct memory *memory,
	       struct terminal *terminal, bool debug_exit, struct problem *problem);
void board_destroy(struct board *board);

/* Everything as at power-on, ACPI tables for `cpus` CPUs in (cleared) RAM. No vCPU runs yet. */
void board_power_on(struct board *board, struct engine *engine, unsigned cpus);

/* Engines: a level-triggered interrupt was finished. Any vCPU thread. */
void board_eoi(struct board *board, u8 vector);

#endif
