/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serial port: a National Semiconductor 16550A, as its data sheet has it.
 *
 * Being software has its comforts. The wire is infinitely fast: a byte has been
 * sent when the write returns, so the transmitter is always empty, and the
 * divisor is kept for its reader's pleasure. It is also noiseless: no parity or
 * framing errors. What remains is the part that drivers look at closely: which
 * interrupt is reported when, and what makes it go away.
 *
 * vCPU threads come in through the bus, the main thread through serial_pump().
 * Every visit ends in serial_settle(), which tells the others what changed: the
 * IOAPIC of the interrupt line, the main thread of room in the FIFO.
 *
 * Tour 3.110
 */
#include "board/serial.h"

#include "board/layout.h"

#include <linux/serial_reg.h>

#define SERIAL_PORTS  8
#define SERIAL_SOURCE 0 /* nobody shares our pin of the IOAPIC */

/*
 * The bits that exist. The rest reads 0, which is how drivers tell us from our fancier descendants.
 */
#define IER_BITS  (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI)
#define MCR_BITS  (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP)
#define FCR_BITS  (UART_FCR_ENABLE_FIFO | UART_FCR_DMA_SELECT | UART_FCR_TRIGGER_MASK)
#define IIR_FIFOS 0xc0 /* in IIR, while the FIFOs are enabled */

/*
 * Looks at LSR in vain, with no other access between, by which we know a guest that waits for
 * input. Who only makes sure that the transmitter is empty looks once, as it always is, and
 * drivers that set up or drain a port turn to another register after a few.
 */
#define LOOKS_OF_WAITING 16

/* A cable with somebody at the other end. */
#define MSR_CONNECTED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

/*
 * For each visit; see serial_settle(). A guest that toggles faster than that is not after
 * interrupts.
 */
#define PUBLISH_ROUNDS 64

static unsigned fifo_size(const struct serial *serial)
{
	return serial->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO : 1;
}

static unsigned fifo_trigger(const struct serial *serial)
{
	static const u8 levels[] = {1, 4, 8, 14};

	/* FCR is 0 without FIFOs, and so this is 1. */
	return levels[(serial->fcr & UART_FCR_TRIGGER_MASK) >> 6];
}

static void fifo_put(struct serial *serial, u8 byte)
{
	serial->fifo[(serial->fifo_head + serial->fifo_count) % SERIAL_FIFO] = byte;
	serial->fifo_count++;
}

static u8 fifo_take(struct serial *serial)
{
	u8 byte;

	if (!serial->fifo_count)
		return 0;
	byte = serial->fifo[serial->fifo_head];
	serial->fifo_head = (serial->fifo_head + 1) % SERIAL_FIFO;
	serial->fifo_count--;
	return byte;
}

/*
 * A byte comes back in loopback mode, whether it is convenient or not. ("Line Status Register",
 * overrun: with FIFOs the newcomer is lost, without them the one that was not fetched in time.)
 */
static void loop_back(struct serial *serial, u8 byte)
{
	if (serial->fifo_count == fifo_size(serial)) {
		serial->errors |= UART_LSR_OE;
		if (serial->fcr & UART_FCR_ENABLE_FIFO)
			return;
		fifo_take(serial);
	}
	fifo_put(serial, byte);
}

/* Bytes that the terminal may send now. */
static unsigned serial_room(const struct serial *serial)
{
	if (serial->mcr & UART_MCR_LOOP)
		return 0;
	if (!(serial->mcr & UART_MCR_RTS) && !serial->polled)
		return 0;
	return fifo_size(serial) - serial->fifo_count;
}

/* The upper half of MSR: in loopback mode our own outputs, bent around. */
static u8 modem_lines(const struct serial *serial)
{
	u8 lines = 0;

	if (!(serial->mcr & UART_MCR_LOOP))
		return MSR_CONNECTED;
	if (serial->mcr & UART_MCR_RTS)
		lines |= UART_MSR_CTS;
	if (serial->mcr & UART_MCR_DTR)
		lines |= UART_MSR_DSR;
	if (serial->mcr & UART_MCR_OUT1)
		lines |= UART_MSR_RI;
	if (serial->mcr & UART_MCR_OUT2)
		lines |= UART_MSR_DCD;
	return lines;
}

/*
 * What IIR reports: of all that is enabled and pending the most important ("Interrupt
 * Identification Register", in that order).
 *
 * Characters below the trigger level time out when nobody touches the FIFO for the length of four.
 * On a wire of infinite speed that is at once, and again at once if some are left: so there is no
 * timer here.
 *
 * Tour 3.111: Which interrupt it is
 */
static u8 interrupt_cause(const struct serial *serial)
{
	if ((serial->ier & UART_IER_RLSI) && serial->errors)
		return UART_IIR_RLSI;
	if ((serial->ier & UART_IER_RDI) && serial->fifo_count)
		return serial->fifo_count >= fifo_trigger(serial) ? UART_IIR_RDI
								  : UART_IIR_RX_TIMEOUT;
	if ((serial->ier & UART_IER_THRI) && serial->tx_pending)
		return UART_IIR_THRI;
	if ((serial->ier & UART_IER_MSI) && serial->msr_delta)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/*
 * The interrupt line. PCs lead it through a gate that OUT2 opens. (Theirs is shut in loopback mode.
 * Ours is not: the data sheet wants interrupts to be tested there.)
 */
static bool interrupt_line(const struct serial *serial)
{
	return (serial->mcr & UART_MCR_OUT2) && interrupt_cause(serial) != UART_IIR_NO_INT;
}

/* Is there something to tell the IOAPIC? If so, *level is it, and counts as told. */
static bool next_level(struct serial *serial, bool *level)
{
	bool line = interrupt_line(serial);

	if (serial->told == line && !(line && serial->fell))
		return false;
	/* Low and high again since: it must see both, or an edge is lost. */
	*level = !serial->told;
	serial->told = *level;
	serial->fell = false;
	return true;
}

/*
 * The end of every visit: tell others what it changed. Comes with the lock, leaves without.
 *
 * No lock may be held across ioapic_set(), which may call the engine's msi(); yet the IOAPIC must
 * hear of the changes in the order in which they happened, or it believes for ever what was true a
 * moment ago. So only one thread at a time talks to it: whoever finds `publishing` clear. It looks
 * again after each call, with the lock, until the IOAPIC has been told what is true at that moment.
 * Who finds `publishing` set leaves it to the other, who will look again after this change was
 * made. A fall that was followed by a rise while the other was busy shows in `fell`: the pin is
 * edge-triggered, and the driver that saw IIR quiet waits for that edge.
 *
 * A guest could keep a thread in that loop with another vCPU that does nothing but raise and lower
 * the line, and the main thread has better things to do. So it gives up after some rounds, and has
 * the main thread come back (serial_pump()) for the rest.
 *
 * Tour 3.112: Telling the IOAPIC, and nothing twice
 */
static void serial_settle(struct serial *serial)
{
	bool wake = serial->backlog && serial_room(serial);
	unsigned rounds = 0;
	bool level;

	if (wake)
		serial->backlog = false;
	if (!interrupt_line(serial))
		serial->fell = true;
	if (!serial->publishing) {
		serial->publishing = true;
		while (rounds < PUBLISH_ROUNDS && next_level(serial, &level)) {
			pthread_mutex_unlock(&serial->lock);
			ioapic_set(serial->ioapic, GSI_SERIAL, SERIAL_SOURCE, level);
			pthread_mutex_lock(&serial->lock);
			rounds++;
		}
		serial->publishing = false;
	}
	pthread_mutex_unlock(&serial->lock);
	if (wake || rounds == PUBLISH_ROUNDS)
		machine_wake(serial->terminal->machine);
}

static u8 read_lsr(struct serial *serial)
{
	u8 value = UART_LSR_TEMT | UART_LSR_THRE | serial->errors;

	serial->errors = 0;
	if (serial->fifo_count) {
		serial->fruitless_looks = 0;
		return value | UART_LSR_DR;
	}
	if (++serial->fruitless_looks == LOOKS_OF_WAITING)
		serial->polled = true;
	return value;
}

static u8 read_register(struct serial *serial, u64 number)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;
	u8 value = 0;

	if (number != UART_LSR)
		serial->fruitless_looks = 0;
	switch (number) {
	case UART_RX:
		return divisor ? (u8)serial->divisor : fifo_take(serial);
	case UART_IER:
		return divisor ? serial->divisor >> 8 : serial->ier;
	case UART_IIR:
		value = interrupt_cause(serial);
		/* To report it is to acknowledge it; the others go away with their cause. */
		if (value == UART_IIR_THRI)
			serial->tx_pending = false;
		if (serial->fcr & UART_FCR_ENABLE_FIFO)
			value |= IIR_FIFOS;
		return value;
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return read_lsr(serial);
	case UART_MSR:
		value = modem_lines(serial) | serial->msr_delta;
		serial->msr_delta = 0;
		return value;
	case UART_SCR:
		return serial->scr;
	}
	return value;
}

/* Called with the lock, which is open while the terminal has no room. */
static void transmit(struct serial *serial, u8 byte)
{
	if (serial->mcr & UART_MCR_LOOP) {
		loop_back(serial, byte);
	} else {
		pthread_mutex_unlock(&serial->lock);
		terminal_put(serial->terminal, &byte, 1, serial->terminal->machine->stop_fd);
		pthread_mutex_lock(&serial->lock);
	}
	serial->tx_pending = true;
}

static void write_ier(struct serial *serial, u8 value)
{
	value &= IER_BITS;
	/*
	 * The transmitter is empty, and enabling the interrupt says so at once: Linux tests that we
	 * do.
	 */
	if (value & ~serial->ier & UART_IER_THRI)
		serial->tx_pending = true;
	serial->ier = value;
}

static void write_fcr(struct serial *serial, u8 value)
{
	/* Without FIFOs, no other bit of FCR can be programmed. */
	if (!(value & UART_FCR_ENABLE_FIFO))
		value = 0;
	if ((value & UART_FCR_CLEAR_RCVR) || ((value ^ serial->fcr) & UART_FCR_ENABLE_FIFO))
		serial->fifo_count = 0;
	serial->fcr = value & FCR_BITS;
}

static void write_mcr(struct serial *serial, u8 value)
{
	u8 before = modem_lines(serial), now;

	serial->mcr = value & MCR_BITS;
	serial->polled = false;
	now = modem_lines(serial);

	/* Each delta bit is four below its line. RI only counts when it stops ringing. */
	serial->msr_delta |= ((before ^ now) & (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)) >> 4;
	if (before & ~now & UART_MSR_RI)
		serial->msr_delta |= UART_MSR_TERI;
}

static void write_register(struct serial *serial, u64 number, u8 value)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	serial->fruitless_looks = 0;
	switch (number) {
	case UART_TX:
		if (divisor)
			serial->divisor = (serial->divisor & 0xff00) | value;
		else
			transmit(serial, value);
		break;
	case UART_IER:
		if (divisor)
			serial->divisor = (serial->divisor & 0x00ff) | value << 8;
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		serial->scr = value;
		break;
	}
}

/* The chip has eight data lines: what is wider comes as bytes to neighbouring ports. */
static u64 serial_read(void *opaque, u64 offset, unsigned len)
{
	struct serial *serial = opaque;
	u64 value = 0;

	for (unsigned i = 0; i < len; i++) {
		pthread_mutex_lock(&serial->lock);
		value |= (u64)read_register(serial, offset + i) << (8 * i);
		serial_settle(serial);
	}
	return value;
}

static void serial_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct serial *serial = opaque;

	for (unsigned i = 0; i < len; i++) {
		pthread_mutex_lock(&serial->lock);
		write_register(serial, offset + i, value >> (8 * i));
		serial_settle(serial);
	}
}

static const struct region_ops serial_ops = {
	.read = serial_read,
	.write = serial_write,
};

void serial_pump(struct serial *serial)
{
	u8 data[SERIAL_FIFO];
	unsigned room;
	size_t len = 0;

	pthread_mutex_lock(&serial->lock);
	room = serial_room(serial);
	/* Our lock, then the terminal's; it never calls us, and never waits here. */
	if (room)
		len = terminal_take(serial->terminal, INPUT_SERIAL, data, room);
	for (size_t i = 0; i < len; i++)
		fifo_put(serial, data[i]);
	/*
	 * If there was room to spare, the terminal has no more, and speaks up by itself when it
	 * has.
	 */
	serial->backlog = len == room;
	serial_settle(serial);
}

void serial_init(struct serial *serial, struct bus *bus, struct ioapic *ioapic,
		 struct terminal *terminal)
{
	*serial = (struct serial){
		.terminal = terminal,
		.ioapic = ioapic,
		.region = {.base = PORT_SERIAL,
			   .size = SERIAL_PORTS,
			   .ops = &serial_ops,
			   .opaque = serial,
			   .name = "serial port"},
		.backlog = true,
	};
	pthread_mutex_init(&serial->lock, NULL);
	bus_add(bus, PORT, &serial->region);
}

/* The line falls with the rest, and the IOAPIC hears of it. */
void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->ier = serial->fcr = serial->lcr = serial->mcr = serial->scr = 0;
	serial->errors = serial->msr_delta = 0;
	serial->divisor = 0;
	serial->fifo_head = serial->fifo_count = 0;
	serial->fruitless_looks = 0;
	serial->tx_pending = serial->polled = false;
	serial->backlog = true;
	serial_settle(serial);
}

void serial_destroy(struct serial *serial)
{
	pthread_mutex_destroy(&serial->lock);
}
