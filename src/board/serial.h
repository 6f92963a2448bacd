/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A serial port at 0x3F8, GSI 4: enough for Linux' 8250 driver with
 * interrupts and FIFOs. What it sends goes to the terminal at once; what it
 * receives comes when the main thread pumps.
 *
 * The terminal at the other end minds its manners: it sends only while RTS is
 * raised, so that what the user typed (or piped) early survives the FIFO clears of
 * a booting driver. Not everybody who wants input raises it: small kernels and debuggers
 * leave MCR at 0 and ask LSR again and again. Who does nothing but ask is waiting, and gets what
 * there is, until MCR is written: then RTS decides afresh.
 *
 * Tour 3.100: The serial port
 */
#ifndef BOARD_SERIAL_H
#define BOARD_SERIAL_H

#include "board/bus.h"
#include "board/ioapic.h"
#include "host/terminal.h"

#define SERIAL_FIFO 16 /* bytes */

struct serial {
	struct terminal *terminal;
	struct ioapic *ioapic;
	struct region region;
	pthread_mutex_t lock; /* guards all below; not held while sending waits, nor across msi() */
	u8 ier, fcr, lcr, mcr, scr;
	u8 errors;    /* error bits of LSR, until it is read */
	u8 msr_delta; /* change bits of MSR, until it is read */
	u16 divisor;
	u8 fifo[SERIAL_FIFO];
	unsigned fifo_head, fifo_count;
	bool tx_pending;	  /* "transmitter empty" interrupt not yet acknowledged */
	unsigned fruitless_looks; /* reads of LSR that found no data, with nothing between */
	bool polled;		  /* so many that the guest waits for input, whatever RTS says */
	bool backlog;		  /* the terminal may have more than fitted in */

	/* How the interrupt line gets to the IOAPIC: serial_settle(). */
	bool publishing; /* somebody is at it */
	bool told;	 /* what the IOAPIC was told last */
	bool fell;	 /* the line was low since */
};

void serial_init(struct serial *serial, struct bus *bus, struct ioapic *ioapic,
		 struct terminal *terminal);
void serial_reset(struct serial *serial);
void serial_destroy(struct serial *serial);

/*
 * Main thread, whenever it was woken and when input came: move waiting input into the receive FIFO
 * as far as it has room.
 */
void serial_pump(struct serial *serial);

#endif
