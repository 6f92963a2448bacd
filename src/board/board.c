/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board: the parts that every guest has, wired to one another.
 *
 * Nothing happens here. The launcher builds it once, plugs virtio devices into
 * its PCI bus, and switches it on for each life of the guest. Engines find the bus in it,
 * and tell it when an interrupt was finished.
 *
 * Tour 3.20
 */
#include "board/board.h"

#include "board/acpi.h"

#include <errno.h>
#include <string.h>

/*
 * A machine in ten lines: a bus first, and then each part is told of the bus that it answers
 * on, and of the wire that it pulls.
 *
 * Tour 3.21: Who is on the board
 */
int board_init(struct board *board, struct machine *machine, struct memory *memory,
	       struct terminal *terminal, bool debug_exit, struct problem *why)
{
	int err;

	*board = (struct board){
		.machine = machine,
		.memory = memory,
		.bus = bus_new(),
	};
	if (!board->bus)
		return problem(why, ENOMEM, "cannot build the board: %s", strerror(ENOMEM));

	ioapic_init(&board->ioapic, board->bus);
	pci_init(&board->pci, board->bus, &board->ioapic);
	serial_init(&board->serial, board->bus, &board->ioapic, terminal);
	rtc_init(&board->rtc, board->bus);
	power_init(&board->power, board->bus, machine, debug_exit);
	err = pvpanic_init(&board->pvpanic, &board->pci, SLOT_PVPANIC, machine);
	if (err) {
		board_destroy(board);
		return problem(why, -err, "cannot plug in pvpanic: %s", strerror(-err));
	}
	return 0;
}

void board_destroy(struct board *board)
{
	rtc_destroy(&board->rtc);
	serial_destroy(&board->serial);
	pci_destroy(&board->pci);
	ioapic_destroy(&board->ioapic);
	bus_free(board->bus);
}

/*
 * For each life of the guest. What a part remembers of the last one goes here, and here alone.
 *
 * Tour 3.22: Switched on
 */
void board_power_on(struct board *board, struct engine *engine, unsigned cpus)
{
	board->engine = engine;
	/*
	 * The IOAPIC first: the others let go of their interrupt lines, and it should know the
	 * engine by then.
	 */
	ioapic_reset(&board->ioapic, engine);
	pci_reset(&board->pci, engine);
	serial_reset(&board->serial);
	rtc_reset(&board->rtc);
	power_reset(&board->power);
	power_place_vector(board->memory);
	acpi_build(board->memory, cpus);
}

void board_eoi(struct board *board, u8 vector)
{
	ioapic_eoi(&board->ioapic, vector);
}
