/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways a guest ends by its own hand.
 *
 * A modern kernel writes the ACPI sleep control register to power off and the
 * ACPI reset register to reboot. One that does not believe in ACPI asks the
 * keyboard controller, which since the PC/AT has been wired to the CPU's reset
 * line, because it had a pin to spare. There is no keyboard; there is still that
 * pin. Authors of small kernels get a port that ends the machine with a status
 * of their choice (--debug-exit).
 *
 * Nobody is stopped here: machine_stop() and machine_reset() say what is to
 * happen, and the vCPU that wrote comes to rest like the others.
 *
 * Tour 3.170
 */
#include "board/power.h"

#include "board/layout.h"

#include <stdatomic.h>
#include <string.h>

/* ACPI: "Sleep Control and Status Registers" */
#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK	 0x07
#define SLEEP_ENABLE	 0x20 /* write-only: reads as 0 */
#define WAKE_STATUS	 0x80

/* The keyboard controller: its status port's "output buffer full", and "pulse the reset line". */
#define KEYBOARD_FULL  0x01
#define KEYBOARD_RESET 0xfe
#define KEYBOARD_NONE  0xff /* what the data port says: what an absent port says */

enum { REGISTER_RESET, REGISTER_CONTROL, REGISTER_STATUS, REGISTER_COUNT };

_Static_assert(PORT_ACPI_CONTROL == PORT_ACPI_RESET + REGISTER_CONTROL, "one region for all three");
_Static_assert(PORT_ACPI_STATUS == PORT_ACPI_RESET + REGISTER_STATUS, "one region for all three");

static u8 acpi_read_register(struct power *power, u64 number)
{
	switch (number) {
	case REGISTER_CONTROL:
		return atomic_load(&power->sleep_control);
	case REGISTER_STATUS:
		/*
		 * Who can ask is awake. One that tried to sleep in another way than S5 is up again
		 * at once.
		 */
		return WAKE_STATUS;
	}
	return 0;
}

/*
 * The guest's last word. If it says S5, it means off; and if somebody writes the reset value,
 * once more from the top.
 *
 * Tour 3.171: Switched off
 */
static void acpi_write_register(struct power *power, u64 number, u8 value)
{
	if (number == REGISTER_RESET && value == ACPI_RESET_VALUE)
		machine_reset(power->machine);
	if (number != REGISTER_CONTROL)
		return;

	atomic_store(&power->sleep_control, value & ~SLEEP_ENABLE);
	if ((value & SLEEP_ENABLE) && (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == ACPI_S5_TYPE)
		machine_stop(power->machine, EXIT_POWERED_OFF, NULL);
}

static u64 acpi_read(void *opaque, u64 offset, unsigned len)
{
	u64 value = 0;

	for (unsigned i = 0; i < len; i++)
		value |= (u64)acpi_read_register(opaque, offset + i) << (8 * i);
	return value;
}

static void acpi_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	for (unsigned i = 0; i < len; i++)
		acpi_write_register(opaque, offset + i, value >> (8 * i));
}

static const struct region_ops acpi_ops = {
	.read = acpi_read,
	.write = acpi_write,
};

/*
 * RUN-6. The status port says that a key waits, so that kernels that ask "is anybody there?" get an
 * answer. Those that first drain the buffer read the data port until the status port says that it
 * is empty, and it had better say so.
 */
static u64 keyboard_data_read(void *opaque, u64 offset, unsigned len)
{
	struct power *power = opaque;

	(void)offset, (void)len;
	atomic_store(&power->drained, true);
	return KEYBOARD_NONE;
}

static void keyboard_data_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	(void)opaque, (void)offset, (void)len, (void)value;
}

static u64 keyboard_read(void *opaque, u64 offset, unsigned len)
{
	struct power *power = opaque;

	(void)offset, (void)len;
	return atomic_load(&power->drained) ? 0 : KEYBOARD_FULL;
}

static void keyboard_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct power *power = opaque;

	(void)offset, (void)len;
	if ((u8)value == KEYBOARD_RESET)
		machine_reset(power->machine);
}

static const struct region_ops keyboard_data_ops = {
	.read = keyboard_data_read,
	.write = keyboard_data_write,
};

static const struct region_ops keyboard_ops = {
	.read = keyboard_read,
	.write = keyboard_write,
};

/* A read finds nothing, as on a machine without --debug-exit. */
static u64 debug_exit_read(void *opaque, u64 offset, unsigned len)
{
	(void)opaque, (void)offset, (void)len;
	return ~0ull;
}

/*
 * The lowest bit is always set: whatever the guest says, it cannot pass for an ordinary power-off.
 */
static void debug_exit_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct power *power = opaque;

	(void)offset, (void)len;
	machine_stop(power->machine, ((u8)value << 1 | 1) & 0xff, NULL);
}

static const struct region_ops debug_exit_ops = {
	.read = debug_exit_read,
	.write = debug_exit_write,
};

static void power_add(struct power *power, struct bus *bus, struct region *region, u64 port,
		      u64 size, const struct region_ops *ops, const char *name)
{
	*region = (struct region){
		.base = port,
		.size = size,
		.ops = ops,
		.opaque = power,
		.name = name,
	};
	bus_add(bus, PORT, region);
}

void power_init(struct power *power, struct bus *bus, struct machine *machine, bool debug_exit)
{
	power->machine = machine;
	power_reset(power);
	power_add(power, bus, &power->acpi, PORT_ACPI_RESET, REGISTER_COUNT, &acpi_ops, "ACPI");
	power_add(power, bus, &power->keyboard_data, PORT_KEYBOARD_DATA, 1, &keyboard_data_ops,
		  "keyboard data");
	power_add(power, bus, &power->keyboard, PORT_KEYBOARD, 1, &keyboard_ops, "keyboard");
	if (debug_exit)
		power_add(power, bus, &power->debug_exit, PORT_DEBUG_EXIT, 1, &debug_exit_ops,
			  "debug exit");
}

void power_reset(struct power *power)
{
	atomic_store(&power->drained, false);
	atomic_store(&power->sleep_control, 0);
}

/*
 * Linux on a hardware-reduced machine believes that only EFI can reboot it; without EFI it goes
 * back to real mode and jumps to where a PC's firmware begins. No firmware waits there, but
 * seven bytes that do what was wanted.
 *
 * Tour 3.172: Seven bytes of firmware
 */
void power_place_vector(struct memory *memory)
{
	static const u8 code[] = {
		0xb0, KEYBOARD_RESET, /* mov al, 0xfe */
		0xe6, PORT_KEYBOARD,  /* out 0x64, al */
		0xf4,		      /* hlt */
		0xeb, 0xfd,	      /* jmp to the hlt */
	};
	void *vector = memory_at(memory, LAYOUT_RESET_VECTOR, sizeof(code));

	memcpy(vector, code, sizeof(code));
	guest_ram_written(memory, LAYOUT_RESET_VECTOR, sizeof(code));
}
