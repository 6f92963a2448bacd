/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serial port, driven through the bus as a guest drives it, with its
 * interrupts counted by a fake engine behind the real IOAPIC. The test is both
 * the guest and the terminal: it types into the input ring and reads the output
 * ring.
 */
#include "board/bus.h"
#include "board/ioapic.h"
#include "board/layout.h"
#include "board/serial.h"
#include "fake_engine.h"

#include <linux/serial_reg.h>
#include <semaphore.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define VECTOR	  0x24
#define OPEN	  (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2) /* as a driver has it in use */
#define FIFO_ON	  UART_FCR_ENABLE_FIFO
#define IIR_FIFOS 0xc0

#define PUMPED 4096 /* bytes, in the test with threads */

struct fixture {
	struct machine machine;
	struct terminal terminal;
	struct fake_engine engine;
	struct bus *bus;
	struct ioapic ioapic;
	struct serial serial;
	unsigned calls; /* of the on_msi hooks below */
	sem_t interrupts;
	u8 received[PUMPED];
	size_t count;
	_Atomic bool driver_gave_up;
};

static void ioapic_register(struct fixture *f, u32 index, u32 value)
{
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC, 4, index);
	bus_write(f->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4, value);
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;

	*f = (struct fixture){.bus = bus_new()};
	assert_non_null(f->bus);
	assert_int_equal(machine_init(&f->machine), 0);
	assert_int_equal(terminal_init(&f->terminal, &f->machine), 0);
	fake_engine_init(&f->engine);
	sem_init(&f->interrupts, 0, 0);
	ioapic_init(&f->ioapic, f->bus);
	serial_init(&f->serial, f->bus, &f->ioapic, &f->terminal);
	ioapic_reset(&f->ioapic, &f->engine.engine);
	serial_reset(&f->serial);

	/* Pin 4: edge, fixed, unmasked, to CPU 0. */
	ioapic_register(f, 0x11 + 2 * GSI_SERIAL, 0);
	ioapic_register(f, 0x10 + 2 * GSI_SERIAL, VECTOR);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_destroy(&f->serial);
	ioapic_destroy(&f->ioapic);
	sem_destroy(&f->interrupts);
	fake_engine_destroy(&f->engine);
	terminal_destroy(&f->terminal);
	machine_destroy(&f->machine);
	bus_free(f->bus);
	return 0;
}

static u8 in(struct fixture *f, unsigned number)
{
	return bus_read(f->bus, PORT, PORT_SERIAL + number, 1);
}

static void out(struct fixture *f, unsigned number, u8 value)
{
	bus_write(f->bus, PORT, PORT_SERIAL + number, 1, value);
}

/* The user types. The main thread is not told: a test that wants it to look calls serial_pump(). */
static void type(struct fixture *f, const char *text)
{
	struct terminal_ring *ring = &f->terminal.input;

	pthread_mutex_lock(&f->terminal.lock);
	for (; *text; text++)
		ring->data[ring->head++ % TERMINAL_RING] = *text;
	pthread_mutex_unlock(&f->terminal.lock);
}

static void type_and_pump(struct fixture *f, const char *text)
{
	type(f, text);
	serial_pump(&f->serial);
}

/* What the user would see next. */
static void assert_output(struct fixture *f, const char *expected)
{
	struct terminal_ring *ring = &f->terminal.output;
	size_t length = strlen(expected);

	assert_int_equal(ring->head - ring->tail, length);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(ring->data[ring->tail++ % TERMINAL_RING], (u8)expected[i]);
}

/* Interrupts that arrived since the last call. */
static unsigned edges(struct fixture *f)
{
	struct fake_message message;
	unsigned count = 0;

	while (fake_engine_take(&f->engine, &message)) {
		assert_int_equal(message.data & 0xff, VECTOR);
		count++;
	}
	return count;
}

static bool main_thread_woken(struct fixture *f)
{
	eventfd_t count;

	return !eventfd_read(f->machine.wake_fd, &count);
}

/* Everything that a guest types in one go: FIFOs on, lines raised, these interrupts enabled. */
static void open_port(struct fixture *f, u8 fcr, u8 ier)
{
	out(f, UART_FCR, fcr);
	out(f, UART_MCR, OPEN);
	out(f, UART_IER, ier);
	in(f, UART_MSR);
	main_thread_woken(f);
	edges(f);
}

/* The questions that Linux' 8250 driver asks to find out which of twenty chips this is. */
static void test_is_a_16550a(void **state)
{
	struct fixture *f = *state;
	u8 before;

	/* Is anybody there? */
	out(f, UART_IER, 0x00);
	assert_int_equal(in(f, UART_IER), 0x00);
	out(f, UART_IER, 0xff);
	assert_int_equal(in(f, UART_IER), 0x0f); /* and no XScale, which has bit 6 */
	out(f, UART_IER, 0x00);
	out(f, UART_SCR, 0xa5);
	assert_int_equal(in(f, UART_SCR), 0xa5);
	out(f, UART_SCR, 0x5a);
	assert_int_equal(in(f, UART_SCR), 0x5a);

	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(f, UART_MCR, 0);

	/* Extended features live at 2 while LCR is 0xBF: not here. */
	out(f, UART_LCR, UART_LCR_CONF_MODE_B);
	out(f, UART_EFR, 0);
	out(f, UART_LCR, 0);
	out(f, UART_FCR, FIFO_ON);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);
	out(f, UART_LCR, UART_LCR_CONF_MODE_A);
	assert_int_not_equal(in(f, UART_EFR), 0);
	out(f, UART_LCR, UART_LCR_CONF_MODE_B);
	assert_int_not_equal(in(f, UART_EFR), 0);

	/* A 16750 has FIFOs of 64 bytes, enabled with the divisor latch open. */
	out(f, UART_LCR, UART_LCR_CONF_MODE_A);
	out(f, UART_FCR, FIFO_ON | 0x20);
	assert_int_equal(in(f, UART_IIR) & 0xe0, IIR_FIFOS);
	out(f, UART_LCR, 0);

	/* A National SuperIO chip shows MCR's loopback bit at 2 while LCR is 0xE0. */
	before = in(f, UART_MCR);
	out(f, UART_MCR, before ^ UART_MCR_LOOP);
	out(f, UART_LCR, 0xe0);
	assert_int_equal(in(f, 2) & UART_MCR_LOOP, 0);
	out(f, UART_LCR, 0);

	out(f, UART_FCR, 0);
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
}

static void test_idle_port(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(f, UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(edges(f), 0);
}

static void test_divisor_hides_data_and_ier(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_RDI);
	out(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(f, UART_DLL, 0x34);
	out(f, UART_DLM, 0x12);
	assert_int_equal(in(f, UART_DLL), 0x34);
	assert_int_equal(in(f, UART_DLM), 0x12);
	assert_output(f, "");
	out(f, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(f, UART_LCR), UART_LCR_WLEN8);
	assert_int_equal(in(f, UART_IER), UART_IER_RDI);
	assert_int_equal(in(f, UART_RX), 0);
}

static void test_sends(void **state)
{
	struct fixture *f = *state;

	for (const char *p = "hello\r\n"; *p; p++)
		out(f, UART_TX, *p);
	assert_output(f, "hello\r\n");
	assert_true(main_thread_woken(f));
}

/* What Linux' test for a broken THRE interrupt wants to see, and then some. */
static void test_transmitter_interrupt(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0);
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);

	out(f, UART_IER, UART_IER_THRI); /* it was on already */
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);
	assert_int_equal(edges(f), 0);
	out(f, UART_IER, 0);
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_THRI);

	out(f, UART_TX, 'x');
	assert_int_equal(edges(f), 1);
	out(f, UART_TX, 'y'); /* still up */
	assert_int_equal(edges(f), 0);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);

	/* Who switches it off does not find it pending. */
	out(f, UART_TX, 'z');
	out(f, UART_IER, 0);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);
	assert_output(f, "xyz");
}

static void test_out2_is_the_gate(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 0);
	out(f, UART_MCR, UART_MCR_OUT2);
	assert_int_equal(edges(f), 1);
	out(f, UART_MCR, 0);
	out(f, UART_MCR, UART_MCR_OUT2);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
}

static void check_trigger(struct fixture *f, u8 fcr, unsigned trigger)
{
	out(f, UART_FCR, fcr | UART_FCR_CLEAR_RCVR);
	for (unsigned i = 1; i <= SERIAL_FIFO; i++) {
		type_and_pump(f, "x");
		assert_int_equal(in(f, UART_IIR) & 0x0f,
				 i < trigger ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI);
	}
	/* One edge in all: the line was up from the first byte on. */
	assert_int_equal(edges(f), 1);
	for (unsigned i = SERIAL_FIFO; i; i--) {
		assert_int_equal(in(f, UART_IIR) & 0x0f,
				 i < trigger ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI);
		assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, UART_LSR_DR);
		assert_int_equal(in(f, UART_RX), 'x');
	}
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_NO_INT);
}

static void test_receive_triggers(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, UART_IER_RDI);
	check_trigger(f, FIFO_ON | UART_FCR_TRIGGER_1, 1);
	check_trigger(f, FIFO_ON | UART_FCR_TRIGGER_4, 4);
	check_trigger(f, FIFO_ON | UART_FCR_TRIGGER_8, 8);
	check_trigger(f, FIFO_ON | UART_FCR_TRIGGER_14, 14);
}

static void test_receives_in_order(void **state)
{
	struct fixture *f = *state;
	const char text[] = "The quick brown fox jumps over the lazy dog";
	char got[sizeof(text)] = "";
	size_t n = 0;

	open_port(f, FIFO_ON, 0);
	type(f, text);
	for (unsigned visits = 0; visits < 10; visits++) {
		serial_pump(&f->serial);
		for (unsigned i = 0; i < 7 && in(f, UART_LSR) & UART_LSR_DR; i++)
			got[n++] = in(f, UART_RX);
	}
	assert_string_equal(got, text);
}

/*
 * One byte at a time without FIFOs; the others wait in the terminal, and come when they are called.
 */
static void test_without_fifos(void **state)
{
	struct fixture *f = *state;

	open_port(f, 0, UART_IER_RDI);
	type_and_pump(f, "ab");
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), UART_IIR_RDI);
	assert_false(main_thread_woken(f));
	assert_int_equal(in(f, UART_RX), 'a');
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	assert_true(main_thread_woken(f));
	serial_pump(&f->serial);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_RX), 'b');
	assert_int_equal(in(f, UART_RX), 0);
}

/* The main thread is called for each batch, and not for each byte. */
static void test_wakes_the_main_thread_for_more(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0);
	type_and_pump(f, "0123456789abcdefghij");
	assert_false(main_thread_woken(f));
	in(f, UART_RX);
	assert_true(main_thread_woken(f));
	in(f, UART_RX);
	assert_false(main_thread_woken(f));
	serial_pump(&f->serial); /* two more */
	for (unsigned i = 0; i < 3; i++)
		in(f, UART_RX);
	assert_true(main_thread_woken(f));
	serial_pump(&f->serial); /* and the last two: there is room to spare */
	while (in(f, UART_LSR) & UART_LSR_DR)
		in(f, UART_RX);
	assert_false(main_thread_woken(f));
}

static void test_fcr_clears(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, UART_IER_RDI);
	type_and_pump(f, "abc");
	out(f, UART_FCR, FIFO_ON | UART_FCR_CLEAR_XMIT | UART_FCR_TRIGGER_8);
	assert_int_equal(in(f, UART_RX), 'a');
	out(f, UART_FCR, FIFO_ON | UART_FCR_CLEAR_RCVR);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);

	/* So does switching them on or off. */
	type_and_pump(f, "abc");
	out(f, UART_FCR, 0);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	type_and_pump(f, "d");
	out(f, UART_FCR, FIFO_ON);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	edges(f);

	/* A full FIFO that is cleared has room again. */
	type_and_pump(f, "0123456789abcdefghij");
	main_thread_woken(f);
	out(f, UART_FCR, FIFO_ON | UART_FCR_CLEAR_RCVR);
	assert_true(main_thread_woken(f));
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_RX), 'g');
}

/* Input that came early, through all that a driver does to a port before it uses it. */
static void test_early_input_is_not_lost(void **state)
{
	struct fixture *f = *state;

	type_and_pump(f, "early");
	test_is_a_16550a(state);
	serial_pump(&f->serial);
	out(f, UART_FCR, FIFO_ON | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(f, UART_FCR, 0);
	in(f, UART_LSR);
	in(f, UART_RX);
	serial_pump(&f->serial);
	out(f, UART_FCR, FIFO_ON);
	out(f, UART_MCR, UART_MCR_DTR | UART_MCR_OUT2);
	serial_pump(&f->serial);
	in(f, UART_LSR);
	in(f, UART_RX);
	out(f, UART_IER, UART_IER_RDI);
	main_thread_woken(f);

	out(f, UART_MCR, OPEN);
	assert_true(main_thread_woken(f));
	serial_pump(&f->serial);
	assert_int_equal(edges(f), 1);
	for (const char *p = "early"; *p; p++)
		assert_int_equal(in(f, UART_RX), *p);

	/* And a driver that lowers RTS is left in peace. */
	out(f, UART_MCR, UART_MCR_DTR | UART_MCR_OUT2);
	type_and_pump(f, "late");
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
}

/* Looks for input until the main thread is asked for it. How many looks that took, 99 at most. */
static unsigned looks_in_vain(struct fixture *f)
{
	unsigned looks = 0;

	main_thread_woken(f);
	do {
		assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
		looks++;
	} while (!main_thread_woken(f) && looks < 99);
	return looks;
}

/* A program that only knows LSR and the data register. */
static void test_three_wires_are_enough(void **state)
{
	struct fixture *f = *state;

	type_and_pump(f, "qr");
	assert_int_equal(looks_in_vain(f), 16);
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 'q');

	/* It need not prove itself for each byte, though it echoes. */
	out(f, UART_TX, 'q');
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 'r');
}

/* One that sets MCR to 0 first, as small kernels do, or to all but RTS. */
static void test_waiting_is_as_good_as_rts(void **state)
{
	struct fixture *f = *state;
	static const u8 lines[] = {0, UART_MCR_DTR | UART_MCR_OUT2};

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		out(f, UART_MCR, lines[i]);
		type_and_pump(f, "x");
		assert_int_equal(looks_in_vain(f), 16);
		serial_pump(&f->serial);
		assert_int_equal(in(f, UART_RX), 'x');

		/* Until it says what it wants. */
		out(f, UART_MCR, lines[i]);
		type_and_pump(f, "y");
		assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
		out(f, UART_MCR, OPEN);
		serial_pump(&f->serial);
		assert_int_equal(in(f, UART_RX), 'y');
	}
}

/* Not even a wait gets anything over a wire that is cut. */
static void test_waiting_in_loopback(void **state)
{
	struct fixture *f = *state;

	out(f, UART_MCR, UART_MCR_LOOP);
	type_and_pump(f, "x");
	assert_int_equal(looks_in_vain(f), 99);
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
}

/* A guest that prints, or sets up the port, looks often, and means something else. */
static void test_other_looks_are_not_waiting(void **state)
{
	struct fixture *f = *state;

	type_and_pump(f, "early");
	for (unsigned other = 0; other < 8; other++) {
		for (unsigned i = 0; i < 15; i++)
			in(f, UART_LSR);
		if (other == UART_LSR)
			out(f, other, 0);
		else
			in(f, other);
	}
	for (unsigned other = 0; other < 8; other++) {
		for (unsigned i = 0; i < 15; i++)
			in(f, UART_LSR);
		out(f, other, 0);
	}
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
}

static void test_input_for_the_other_console(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, UART_IER_RDI);
	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	type_and_pump(f, "x");
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	assert_int_equal(edges(f), 0);
}

static void test_loopback(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0);
	out(f, UART_MCR, OPEN | UART_MCR_LOOP);
	out(f, UART_TX, 'a');
	out(f, UART_TX, 'b');
	assert_output(f, "");

	/* The wire is cut: what is typed now comes when it is mended. */
	type_and_pump(f, "c");
	assert_int_equal(in(f, UART_RX), 'a');
	assert_int_equal(in(f, UART_RX), 'b');
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
	main_thread_woken(f);
	out(f, UART_MCR, OPEN);
	assert_true(main_thread_woken(f));
	serial_pump(&f->serial);
	assert_int_equal(in(f, UART_RX), 'c');
	out(f, UART_TX, 'd');
	assert_output(f, "d");
}

static void test_overrun_with_fifo(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, UART_IER_RLSI);
	out(f, UART_MCR, OPEN | UART_MCR_LOOP);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		out(f, UART_TX, i);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, 0);
	assert_int_equal(edges(f), 0);
	out(f, UART_TX, 0xff);
	assert_int_equal(edges(f), 1);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_RLSI);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, UART_LSR_OE);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_OE, 0);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		assert_int_equal(in(f, UART_RX), i);
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
}

static void test_overrun_without_fifo(void **state)
{
	struct fixture *f = *state;

	open_port(f, 0, 0);
	out(f, UART_MCR, UART_MCR_LOOP);
	out(f, UART_TX, 'a');
	out(f, UART_TX, 'b');
	assert_int_equal(in(f, UART_LSR) & (UART_LSR_OE | UART_LSR_DR), UART_LSR_OE | UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 'b');
	assert_int_equal(in(f, UART_LSR) & UART_LSR_DR, 0);
}

static void test_modem_status(void **state)
{
	static const struct {
		u8 output, input, delta;
	} wires[] = {
		{UART_MCR_RTS, UART_MSR_CTS, UART_MSR_DCTS},
		{UART_MCR_DTR, UART_MSR_DSR, UART_MSR_DDSR},
		{UART_MCR_OUT2, UART_MSR_DCD, UART_MSR_DDCD},
	};
	struct fixture *f = *state;

	out(f, UART_MCR, UART_MCR_LOOP);
	in(f, UART_MSR);
	for (unsigned i = 0; i < ARRAY_SIZE(wires); i++) {
		out(f, UART_MCR, UART_MCR_LOOP | wires[i].output);
		assert_int_equal(in(f, UART_MSR), wires[i].input | wires[i].delta);
		assert_int_equal(in(f, UART_MSR), wires[i].input);
		out(f, UART_MCR, UART_MCR_LOOP);
		assert_int_equal(in(f, UART_MSR), wires[i].delta);
	}
	/* The bell counts when it stops. */
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
	assert_int_equal(in(f, UART_MSR), UART_MSR_RI);
	out(f, UART_MCR, UART_MCR_LOOP);
	assert_int_equal(in(f, UART_MSR), UART_MSR_TERI);
	assert_int_equal(in(f, UART_MSR), 0);
}

/* All four at once, and what makes each go away. */
static void test_priorities(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0x0f);
	out(f, UART_MCR, OPEN | UART_MCR_LOOP); /* DSR, CTS and DCD stay; nothing rings */
	in(f, UART_MSR);
	out(f, UART_MCR, UART_MCR_OUT2 | UART_MCR_LOOP); /* DSR and CTS fall */
	for (unsigned i = 0; i <= SERIAL_FIFO; i++)
		out(f, UART_TX, 'x');
	edges(f);

	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_RLSI);
	in(f, UART_LSR);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_RDI);
	while (in(f, UART_LSR) & UART_LSR_DR)
		in(f, UART_RX);
	/* To read IIR acknowledged nothing so far; now it does. */
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_MSI);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_MSI);
	assert_int_equal(edges(f), 0); /* the line was up all the time */
	in(f, UART_MSR);
	assert_int_equal(in(f, UART_IIR) & 0x0f, UART_IIR_NO_INT);
}

static void test_word_access_is_two_bytes(void **state)
{
	struct fixture *f = *state;

	bus_write(f->bus, PORT, PORT_SERIAL, 2, UART_IER_RDI << 8 | 'w');
	assert_output(f, "w");
	assert_int_equal(in(f, UART_IER), UART_IER_RDI);
	out(f, UART_SCR, 0x77);
	assert_int_equal(bus_read(f->bus, PORT, PORT_SERIAL + 4, 4), 0x77b06000);
}

static void test_reset_is_power_on(void **state)
{
	struct fixture *f = *state;
	static const u8 power_on[8] = {
		0,
		0,
		UART_IIR_NO_INT,
		0,
		0,
		UART_LSR_TEMT | UART_LSR_THRE,
		UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS,
		0,
	};

	open_port(f, FIFO_ON, 0x0f);
	out(f, UART_LCR, UART_LCR_DLAB);
	out(f, UART_DLL, 1);
	out(f, UART_LCR, 0);
	out(f, UART_SCR, 1);
	type_and_pump(f, "x");
	edges(f);
	serial_reset(&f->serial);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(in(f, i), power_on[i]);

	/* The line fell: the next life gets its first interrupt. */
	open_port(f, FIFO_ON, 0);
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 1);
}

/* A guest that answers from within msi(), as another vCPU might: acknowledge, and send again. */
static void acknowledge_and_send(void *opaque)
{
	struct fixture *f = opaque;

	if (f->calls++)
		return;
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_NO_INT);
	out(f, UART_TX, 'x');
}

/* No lock is held across msi(); and the edge that came meanwhile is sent. */
static void test_edge_during_an_edge(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0);
	f->engine.opaque = f;
	f->engine.on_msi = acknowledge_and_send;
	out(f, UART_IER, UART_IER_THRI);
	assert_int_equal(edges(f), 2);
	assert_int_equal(in(f, UART_IIR), IIR_FIFOS | UART_IIR_THRI);
	out(f, UART_TX, 'y');
	assert_int_equal(edges(f), 1);
}

static void acknowledge_and_send_always(void *opaque)
{
	struct fixture *f = opaque;

	f->calls++;
	in(f, UART_IIR);
	out(f, UART_LCR, 0);
	out(f, UART_IER, 0);
	out(f, UART_IER, UART_IER_THRI);
}

/*
 * A guest that never stops does not keep the thread that happened to come by; nor is its last edge
 * lost.
 */
static void test_endless_edges(void **state)
{
	struct fixture *f = *state;

	open_port(f, FIFO_ON, 0);
	f->engine.opaque = f;
	f->engine.on_msi = acknowledge_and_send_always;
	out(f, UART_IER, UART_IER_THRI);
	assert_true(edges(f) > 1);
	assert_true(main_thread_woken(f));
	f->engine.on_msi = NULL;
	serial_pump(&f->serial);
	assert_int_equal(edges(f), 1);
	assert_false(main_thread_woken(f));
}

/*
 * Two vCPUs and the main thread. The driver sleeps until an edge comes and goes back to sleep when
 * IIR says that all is done: an edge that got lost leaves it asleep, and the test fails after a
 * minute.
 */
static void post(void *opaque)
{
	struct fixture *f = opaque;

	sem_post(&f->interrupts);
}

static void *driver_main(void *opaque)
{
	struct fixture *f = opaque;
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 60;
	while (f->count < PUMPED) {
		if (sem_timedwait(&f->interrupts, &deadline)) {
			atomic_store(&f->driver_gave_up, true);
			break;
		}
		while (!(in(f, UART_IIR) & UART_IIR_NO_INT))
			while (f->count < PUMPED && in(f, UART_LSR) & UART_LSR_DR)
				f->received[f->count++] = in(f, UART_RX);
	}
	return NULL;
}

static void *sender_main(void *opaque)
{
	struct fixture *f = opaque;

	/* Less than the terminal takes without being read. */
	for (unsigned i = 0; i < TERMINAL_RING / 2; i++)
		out(f, UART_TX, 's');
	return NULL;
}

static bool input_waits(struct fixture *f)
{
	bool waits;

	pthread_mutex_lock(&f->terminal.lock);
	waits = f->terminal.input.head != f->terminal.input.tail;
	pthread_mutex_unlock(&f->terminal.lock);
	return waits;
}

static void test_no_edge_is_lost(void **state)
{
	struct fixture *f = *state;
	pthread_t driver, sender;

	open_port(f, FIFO_ON | UART_FCR_TRIGGER_8, 0);
	f->engine.opaque = f;
	f->engine.on_msi = post;
	out(f, UART_IER, UART_IER_RDI | UART_IER_THRI);
	assert_int_equal(pthread_create(&driver, NULL, driver_main, f), 0);
	assert_int_equal(pthread_create(&sender, NULL, sender_main, f), 0);
	for (unsigned i = 0; i < PUMPED; i++) {
		char text[2] = {'!' + i % 64, '\0'};

		type_and_pump(f, text);
	}
	while (input_waits(f) && !atomic_load(&f->driver_gave_up))
		serial_pump(&f->serial);
	pthread_join(driver, NULL);
	pthread_join(sender, NULL);
	assert_int_equal(f->count, PUMPED);
	for (unsigned i = 0; i < PUMPED; i++)
		assert_int_equal(f->received[i], '!' + i % 64);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_is_a_16550a),
		TEST(test_idle_port),
		TEST(test_divisor_hides_data_and_ier),
		TEST(test_sends),
		TEST(test_transmitter_interrupt),
		TEST(test_out2_is_the_gate),
		TEST(test_receive_triggers),
		TEST(test_receives_in_order),
		TEST(test_without_fifos),
		TEST(test_wakes_the_main_thread_for_more),
		TEST(test_fcr_clears),
		TEST(test_early_input_is_not_lost),
		TEST(test_three_wires_are_enough),
		TEST(test_waiting_is_as_good_as_rts),
		TEST(test_waiting_in_loopback),
		TEST(test_other_looks_are_not_waiting),
		TEST(test_input_for_the_other_console),
		TEST(test_loopback),
		TEST(test_overrun_with_fifo),
		TEST(test_overrun_without_fifo),
		TEST(test_modem_status),
		TEST(test_priorities),
		TEST(test_word_access_is_two_bytes),
		TEST(test_reset_is_power_on),
		TEST(test_edge_during_an_edge),
		TEST(test_endless_edges),
		TEST(test_no_edge_is_lost),
	};

	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
