/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O APIC: 24 pins, each turned into a message-signalled interrupt.
 *
 * It is ours on every engine; the engine only delivers. A level-triggered pin
 * keeps the set of sources that assert it, and is sent again at the end of the
 * interrupt while any still does.
 *
 * Tour 3.200: From wires to messages
 */
#ifndef BOARD_IOAPIC_H
#define BOARD_IOAPIC_H

#include "board/bus.h"
#include "board/layout.h"
#include "engine/engine.h"

struct ioapic {
	struct engine *engine;
	pthread_mutex_t lock; /* never held across msi() */
	struct region region;
	u8 select;
	u8 id;
	struct ioapic_pin {
		u64 entry;   /* the redirection entry, with delivery status and remote IRR */
		u64 sources; /* bit n: source n asserts the pin */
	} pins[GSI_COUNT];
};

/* Adds its region to the bus. */
void ioapic_init(struct ioapic *ioapic, struct bus *bus);
void ioapic_destroy(struct ioapic *ioapic);

/* As at power-on; from now on `engine` delivers. No vCPU runs. */
void ioapic_reset(struct ioapic *ioapic, struct engine *engine);

/*
 * Source 0..63 asserts or releases the pin. An edge-triggered pin sends when the first source
 * asserts it. Any thread.
 */
void ioapic_set(struct ioapic *ioapic, unsigned pin, unsigned source, bool asserted);

/* A level-triggered interrupt of that vector was finished by a local APIC. Any vCPU thread. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);

#endif
