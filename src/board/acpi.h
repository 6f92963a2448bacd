/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables: how the guest learns what is on the board.
 *
 * Tour 3.300: The note on the kitchen table
 */
#ifndef BOARD_ACPI_H
#define BOARD_ACPI_H

#include "host/memory.h"

/*
 * Write all tables into RAM, from LAYOUT_ACPI on, where the RSDP is. `cpus` is 1 to 255, with APIC
 * ids from 0.
 */
void acpi_build(struct memory *memory, unsigned cpus);

#endif
