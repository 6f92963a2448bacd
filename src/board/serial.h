/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A serial port at 0x3F8, GSI 4: enough for Linux' 8250 driver with
 * interrupts and FIFOs. What it sends goes to the terminal at once; what it
 * receives comes when the main thread pumps.
 */
#ifndef BOARD_SERIAL_H
#define BOARD_SERIAL_H

#include "board/bus.h"
#include "board/ioapic.h"
#include "host/terminal.h"

#define SERIAL_FIFO 16	/* bytes */

struct serial {
	struct terminal *terminal;
	struct ioapic *ioapic;
	struct region region;
	pthread_mutex_t lock;	/* guards all below; not held while sending waits for the terminal */
	u8 ier, fcr, lcr, mcr, lsr, scr;
	u16 divisor;
	u8 fifo[SERIAL_FIFO];
	unsigned fifo_head, fifo_count;
	bool tx_pending;	/* "transmitter empty" interrupt not yet acknowledged */
	bool timeout_pending;	/* characters wait below the trigger level */
};

void serial_init(struct serial *serial, struct bus *bus, struct ioapic *ioapic, struct terminal *terminal);
void serial_reset(struct serial *serial);
void serial_destroy(struct serial *serial);

/* Main thread: move waiting input into the receive FIFO as far as it has room. */
void serial_pump(struct serial *serial);

#endif
