/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board's small things, and the large empty spaces between them: ports and
 * addresses where nothing is, keyboard controller, clock, serial port, ACPI tables.
 */
#include "lib/acpi.h"
#include "lib/guest.h"

#include <linux/serial_reg.h>

#define PORT_NOBODY   0x5678 /* nobody's */
#define PORT_OLD_PIC  0x20   /* whose owners are gone: */
#define PORT_OLD_PIT  0x40
#define PORT_POST     0x80
#define ADDRESS_HPET  0xfed00000 /* where other boards have one */
#define ADDRESS_EMPTY 0xfebf0000 /* near the end of the PCI window */

/* RUN-6: reads of nothing give all ones, writes go nowhere; whatever the width. */
static void check_empty_ports(void)
{
	static const u16 ports[] = {PORT_NOBODY, PORT_OLD_PIC, PORT_OLD_PIT, 0xffff - 3};

	for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
		out8(ports[i], 0x5a);
		out16(ports[i], 0x5a5a);
		out32(ports[i], 0x5a5a5a5a);
		check_equal(in8(ports[i]), 0xff, "port %x: 8 bits of nothing", ports[i]);
		check_equal(in16(ports[i]), 0xffff, "port %x: 16 bits of nothing", ports[i]);
		check_equal(in32(ports[i]), 0xffffffff, "port %x: 32 bits of nothing", ports[i]);
	}
	out8(PORT_POST, 0x5a);
	check_equal(in8(PORT_POST), 0xff, "port %x: nothing, though everybody writes there",
		    PORT_POST);
}

static void check_empty_memory(void)
{
	static const u64 addresses[] = {ADDRESS_HPET, ADDRESS_EMPTY};

	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
		u64 at = addresses[i];

		write8(at, 0x5a);
		write16(at, 0x5a5a);
		write32(at, 0x5a5a5a5a);
		write64(at, 0x5a5a5a5a5a5a5a5a);
		check_equal(read8(at), 0xff, "address %lx: 8 bits of nothing", at);
		check_equal(read16(at), 0xffff, "address %lx: 16 bits of nothing", at);
		check_equal(read32(at), 0xffffffff, "address %lx: 32 bits of nothing", at);
		check_equal(read64(at), ~0ull, "address %lx: 64 bits of nothing", at);
		check_equal(read32(at + 0xffd), 0xffffffff, "address %lx: 32 bits across a page",
			    at + 0xffd);
	}
}

/* String instructions are the one way to many accesses for one instruction. */
static void check_string_ports(void)
{
	u8 bytes[8];
	u16 words[4];
	void *to = bytes;
	unsigned long count = sizeof(bytes);
	bool ones = true;

	memset(bytes, 0, sizeof(bytes));
	asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"((u16)PORT_NOBODY) : "memory");
	for (unsigned i = 0; i < sizeof(bytes); i++)
		ones &= bytes[i] == 0xff;
	check(ones && !count, "rep insb fills a buffer with nothing");

	memset(words, 0, sizeof(words));
	to = words;
	count = ARRAY_SIZE(words);
	ones = true;
	asm volatile("rep insw" : "+D"(to), "+c"(count) : "d"((u16)PORT_NOBODY) : "memory");
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		ones &= words[i] == 0xffff;
	check(ones && !count, "rep insw fills a buffer with nothing");
}

static void check_string_output(void)
{
	static const char line[] = "ok: rep outsb is heard\n";
	const void *from = line;
	unsigned long count = sizeof(line) - 1;

	asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"((u16)PORT_SERIAL) : "memory");
	check(!count && from == line + sizeof(line) - 1, "rep outsb goes to its end");
}

/*
 * RUN-6: a keyboard that is always busy until somebody fetches what it has to say, and then never
 * again.
 */
static void check_keyboard(void)
{
	check_equal(in8(PORT_KEYBOARD), 1, "port 64 reads 1");
	check_equal(in8(PORT_KEYBOARD), 1, "port 64 reads 1 again");
	in8(PORT_KEYBOARD_DATA);
	check_equal(in8(PORT_KEYBOARD), 0, "port 64 reads 0 after port 60 was read");
	check_equal(in8(PORT_KEYBOARD), 0, "and stays so");
	out8(PORT_KEYBOARD, 0xad); /* disable keyboard: any command but the one that resets */
	check_equal(in8(PORT_KEYBOARD) & 2, 0, "port 64 is ready for another command");
}

#define RTC_SECONDS 0
#define RTC_MINUTES 2
#define RTC_HOURS   4
#define RTC_DAY	    7
#define RTC_MONTH   8
#define RTC_YEAR    9
#define RTC_A	    10
#define RTC_B	    11
#define RTC_D	    13
#define RTC_CENTURY 0x32

#define RTC_A_UPDATING 0x80
#define RTC_B_24_HOURS 0x02
#define RTC_B_BINARY   0x04
#define RTC_D_VALID    0x80

static u8 rtc_raw(u8 index)
{
	out8(PORT_RTC, index);
	return in8(PORT_RTC + 1);
}

static unsigned rtc_read(u8 index)
{
	u8 value = rtc_raw(index);

	return rtc_raw(RTC_B) & RTC_B_BINARY ? value : value / 16 * 10 + value % 16;
}

static void check_clock(void)
{
	unsigned year, month, day, hour, minute, second;

	check(rtc_raw(RTC_D) & RTC_D_VALID, "the clock has a battery");
	check(rtc_raw(RTC_B) & RTC_B_24_HOURS, "and 24 hours");
	check(wait_for(!(rtc_raw(RTC_A) & RTC_A_UPDATING)), "and is not for ever being updated");
	do {
		second = rtc_read(RTC_SECONDS);
		minute = rtc_read(RTC_MINUTES);
		hour = rtc_read(RTC_HOURS);
		day = rtc_read(RTC_DAY);
		month = rtc_read(RTC_MONTH);
		year = rtc_read(RTC_CENTURY) * 100 + rtc_read(RTC_YEAR);
	} while (second != rtc_read(RTC_SECONDS));
	check(year >= 2024 && year < 2100 && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
		      hour < 24 && minute < 60 && second < 61,
	      "the time is plausible: %u-%02u-%02u %02u:%02u:%02u", year, month, day, hour, minute,
	      second);
	check(wait_for(rtc_read(RTC_SECONDS) != second), "time passes");

	out8(PORT_RTC, 0x40); /* some byte of the memory that the battery keeps */
	out8(PORT_RTC + 1, 0xa5);
	check_equal(rtc_raw(0x40), 0xa5, "CMOS memory keeps what is written");
}

static u8 serial_read(unsigned reg)
{
	return in8((u16)(PORT_SERIAL + reg));
}

static void serial_write(unsigned reg, u8 value)
{
	out8((u16)(PORT_SERIAL + reg), value);
}

/* As Linux' 8250 driver finds out what it has: no text may go out in between. */
static void check_serial(void)
{
	u8 msr, looped, waits, iir_on, iir_off, low, high, scratch, ier;

	serial_write(UART_SCR, 0xa5);
	scratch = serial_read(UART_SCR);

	serial_write(UART_IER, 0xff);
	ier = serial_read(UART_IER);
	serial_write(UART_IER, 0);

	serial_write(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	serial_write(UART_DLL, 0x0c);
	serial_write(UART_DLM, 0x01);
	low = serial_read(UART_DLL);
	high = serial_read(UART_DLM);
	serial_write(UART_DLL, 1);
	serial_write(UART_DLM, 0);
	serial_write(UART_LCR, UART_LCR_WLEN8);

	serial_write(UART_FCR, UART_FCR_ENABLE_FIFO);
	iir_on = serial_read(UART_IIR);
	serial_write(UART_FCR, 0);
	iir_off = serial_read(UART_IIR);

	serial_write(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	msr = serial_read(UART_MSR);
	serial_write(UART_TX, 'L');
	waits = serial_read(UART_LSR);
	looped = serial_read(UART_RX);
	serial_write(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	serial_write(UART_FCR, UART_FCR_ENABLE_FIFO);

	check_equal(scratch, 0xa5, "serial: scratch register");
	check_equal(ier, 0x0f, "serial: IER has four bits");
	check_equal(high << 8 | low, 0x10c, "serial: divisor");
	check_equal(iir_on & 0xc0, 0xc0, "serial: FIFOs on");
	check_equal(iir_off & 0xc0, 0, "serial: FIFOs off");
	check_equal(msr & 0xf0, UART_MSR_DCD | UART_MSR_CTS, "serial: loopback of modem lines");
	check(waits & UART_LSR_DR, "serial: loopback of data");
	check_equal(looped, 'L', "serial: it is the same byte");
	check_equal(serial_read(UART_LSR) & (UART_LSR_TEMT | UART_LSR_THRE),
		    UART_LSR_TEMT | UART_LSR_THRE, "serial: transmitter empty");
}

static bool check_table(const void *table, const char *signature)
{
	const struct acpi_header *header = table;

	if (!check(header != NULL, "ACPI: there is a table %s", signature))
		return false;
	check(!memcmp(header->signature, signature, 4), "ACPI: %s: signature", signature);
	return check(header->len >= sizeof(*header) && acpi_sums_to_zero(header, header->len),
		     "ACPI: %s: checksum", signature);
}

static void check_fadt(const struct acpi_fadt *fadt)
{
	if (!check_table(fadt, "FACP"))
		return;
	check(fadt->header.revision >= 6, "FADT: revision 6 or later");
	check(fadt->flags & FADT_HARDWARE_REDUCED, "FADT: hardware-reduced");
	check(!(fadt->boot_flags & FADT_HAS_8042), "FADT: no keyboard controller");
	check(fadt->boot_flags & FADT_NO_VGA, "FADT: no VGA");
	check(fadt->flags & FADT_RESET_SUPPORTED, "FADT: reset register");
	check_equal(fadt->reset.space, ACPI_SPACE_PORT, "FADT: reset register is a port");
	check_equal(fadt->reset.address, PORT_ACPI_RESET, "FADT: reset register");
	check_equal(fadt->reset_value, ACPI_RESET_VALUE, "FADT: reset value");
	check_equal(fadt->sleep_control.address, PORT_ACPI_CONTROL, "FADT: sleep control register");
	check_equal(fadt->sleep_status.address, PORT_ACPI_STATUS, "FADT: sleep status register");
}

static void check_madt(const struct acpi_madt *madt)
{
	unsigned cpus = 0, ioapics = 0;

	if (!check_table(madt, "APIC"))
		return;
	check_equal(madt->lapic, LAYOUT_LAPIC, "MADT: local APIC");
	for (const u8 *entry = madt->entries;
	     entry < (const u8 *)madt + madt->header.len && entry[1]; entry += entry[1]) {
		u32 address, first;

		cpus += entry[0] == MADT_LOCAL_APIC;
		if (entry[0] != MADT_IOAPIC)
			continue;
		/* type, length, id, reserved, address, first GSI */
		memcpy(&address, entry + 4, sizeof(address));
		memcpy(&first, entry + 8, sizeof(first));
		check_equal(address, LAYOUT_IOAPIC, "MADT: IOAPIC");
		check_equal(first, 0, "MADT: its first GSI");
		ioapics++;
	}
	check(cpus > 0, "MADT: %u CPUs", cpus);
	check_equal(ioapics, 1, "MADT: IOAPICs");
}

static void check_acpi(const struct boot *boot)
{
	const struct acpi_rsdp *rsdp = acpi_rsdp(boot);
	const struct boot search = {.rsdp = 0};

	if (!check(rsdp != NULL, "ACPI: there is an RSDP"))
		return;
	check(acpi_rsdp(&search) == rsdp, "ACPI: searching for the RSDP finds the same (%lx)",
	      (u64)rsdp);
	check(acpi_sums_to_zero(rsdp, ACPI_RSDP_V1_LEN), "RSDP: checksum");
	check(rsdp->revision >= 2, "RSDP: revision 2 or later");
	check(acpi_sums_to_zero(rsdp, rsdp->len), "RSDP: extended checksum");
	check_table((const void *)rsdp->xsdt, "XSDT");
	check_fadt(acpi_find(boot, "FACP"));
	check_madt(acpi_find(boot, "APIC"));
	check_table(acpi_find(boot, "DSDT"), "DSDT");
}

void guest_main(const struct boot *boot)
{
	check_empty_ports();
	check_string_ports();
	check_string_output();
	check_empty_memory();
	check_keyboard();
	check_serial();
	check_clock();
	check_acpi(boot);
}
