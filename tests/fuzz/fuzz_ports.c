/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ports of the board's small parts (serial port, clock, ACPI, keyboard,
 * debug exit), written and read at random while somebody types. The input is a
 * program of four-byte instructions. Nothing may crash or wait for ever, and after
 * each instruction the serial port's books must balance: no more in the FIFO than it
 * holds, and the IOAPIC knows the state of the line.
 */
#include "board/bus.h"
#include "board/ioapic.h"
#include "board/layout.h"
#include "board/power.h"
#include "board/rtc.h"
#include "board/serial.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Where accesses go: the first port of each part, with room to miss it on both sides. */
static const u16 ports[] = {
	PORT_SERIAL, PORT_RTC, PORT_ACPI_RESET, PORT_KEYBOARD_DATA, PORT_KEYBOARD, PORT_DEBUG_EXIT,
};

struct fuzzed {
	struct machine machine;
	struct terminal terminal;
	struct bus *bus;
	struct ioapic ioapic;
	struct serial serial;
	struct rtc rtc;
	struct power power;
};

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void build(struct fuzzed *f)
{
	*f = (struct fuzzed){.bus = bus_new()};
	require(f->bus && !machine_init(&f->machine) && !terminal_init(&f->terminal, &f->machine));
	ioapic_init(&f->ioapic, f->bus);
	serial_init(&f->serial, f->bus, &f->ioapic, &f->terminal);
	rtc_init(&f->rtc, f->bus);
	power_init(&f->power, f->bus, &f->machine, true);
}

static void take_down(struct fuzzed *f)
{
	rtc_destroy(&f->rtc);
	serial_destroy(&f->serial);
	ioapic_destroy(&f->ioapic);
	terminal_destroy(&f->terminal);
	machine_destroy(&f->machine);
	bus_free(f->bus);
}

static void type(struct terminal *terminal, u8 byte, unsigned count)
{
	while (count-- && terminal->input.head - terminal->input.tail < TERMINAL_RING)
		terminal->input.data[terminal->input.head++ % TERMINAL_RING] = byte;
}

/* One thread here, so what the terminal's lock guards is ours. */
static void step(struct fuzzed *f, const u8 *code)
{
	unsigned len = 1u << (code[0] >> 1 & 3);
	u64 port = ports[code[1] % ARRAY_SIZE(ports)] + code[0] / 8 % 16 - 2;
	u64 value = (code[2] | code[3] << 8) * 0x0001000100010001ull;

	if (code[1] >= 0xf0)
		type(&f->terminal, code[2], code[3]);
	else if (code[1] >= 0xe0)
		serial_pump(&f->serial);
	else if (code[1] == 0xdf)
		serial_reset(&f->serial);
	else if (code[0] & 1)
		bus_write(f->bus, PORT, port, len, value);
	else
		require(len == 8 || bus_read(f->bus, PORT, port, len) >> (8 * len) == 0);

	/* The user reads whatever comes. */
	f->terminal.output.tail = f->terminal.output.head;

	require(f->serial.fifo_count <= (f->serial.fcr & 1 ? SERIAL_FIFO : 1));
	require(!f->serial.publishing);
	require(f->serial.told == (f->ioapic.pins[GSI_SERIAL].sources != 0));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed fuzzed;

	build(&fuzzed);
	for (; size >= 4; data += 4, size -= 4)
		step(&fuzzed, data);
	take_down(&fuzzed);
	return 0;
}
