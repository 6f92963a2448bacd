/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables, read as an operating system reads them: from the signature
 * of the RSDP on, by offsets of the ACPI specification rather than by the
 * structs that wrote them. The DSDT is checked in its compiled form against
 * layout.h, so that what it says is where things are.
 */
#include "board/acpi.h"
#include "board/layout.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEADER 36 /* bytes of each table's header */

static u8 get8(const u8 *p)
{
	return *p;
}

static u16 get16(const u8 *p)
{
	return p[0] | p[1] << 8;
}

static u32 get32(const u8 *p)
{
	return get16(p) | (u32)get16(p + 2) << 16;
}

static u64 get64(const u8 *p)
{
	return get32(p) | (u64)get32(p + 4) << 32;
}

static u8 sum(const u8 *p, u32 len)
{
	u8 total = 0;

	while (len--)
		total += *p++;
	return total;
}

static struct memory *with_cpus(void **state, unsigned cpus)
{
	acpi_build(*state, cpus);
	return *state;
}

static int setup(void **state)
{
	struct problem problem;
	struct memory *memory = memory_new(MiB(4), &problem);

	assert_non_null(memory);
	*state = memory;
	return 0;
}

static int teardown(void **state)
{
	memory_free(*state);
	return 0;
}

/* A pointer of a table's: inside the reserved area, with a good checksum. */
static const u8 *table_at(struct memory *memory, u64 gpa, const char *signature)
{
	const u8 *table;

	assert_in_range(gpa, LAYOUT_ACPI, LAYOUT_ACPI_END - HEADER);
	table = memory_at(memory, gpa, HEADER);
	assert_memory_equal(table, signature, 4);
	assert_true(get32(table + 4) >= HEADER);
	assert_true(get32(table + 4) <= LAYOUT_ACPI_END - gpa);
	assert_int_equal(sum(table, get32(table + 4)), 0);
	return table;
}

/* As "Finding the RSDP on IA-PC Systems" has it: on a 16-byte boundary from 0xE0000 on. */
static const u8 *find_rsdp(struct memory *memory)
{
	for (u64 gpa = 0xe0000; gpa < 0x100000; gpa += 16) {
		const u8 *rsdp = memory_at(memory, gpa, 36);

		if (!memcmp(rsdp, "RSD PTR ", 8) && !sum(rsdp, 20))
			return rsdp;
	}
	fail_msg("no RSDP");
	return NULL;
}

static const u8 *find_table(struct memory *memory, const char *signature)
{
	const u8 *xsdt = table_at(memory, get64(find_rsdp(memory) + 24), "XSDT");
	u32 count = (get32(xsdt + 4) - HEADER) / 8;

	for (u32 i = 0; i < count; i++) {
		u64 gpa = get64(xsdt + HEADER + 8 * i);

		if (!memcmp(memory_at(memory, gpa, HEADER), signature, 4))
			return table_at(memory, gpa, signature);
	}
	fail_msg("no table %s", signature);
	return NULL;
}

static const u8 *find_dsdt(struct memory *memory)
{
	return table_at(memory, get64(find_table(memory, "FACP") + 140), "DSDT");
}

static void test_rsdp(void **state)
{
	struct memory *memory = with_cpus(state, 1);
	const u8 *rsdp = find_rsdp(memory);

	assert_int_equal(memory_gpa(memory, rsdp), LAYOUT_ACPI);
	assert_int_equal(get8(rsdp + 15), 2);
	assert_int_equal(get32(rsdp + 20), 36);
	assert_int_equal(sum(rsdp, 36), 0);
}

/* A "Generic Address Structure": one byte of I/O space. */
static void assert_port(const u8 *gas, u16 port)
{
	assert_int_equal(get8(gas), 1);
	assert_int_equal(get8(gas + 1), 8);
	assert_int_equal(get8(gas + 2), 0);
	assert_int_equal(get64(gas + 4), port);
}

static void test_fadt(void **state)
{
	const u8 *fadt = find_table(with_cpus(state, 1), "FACP");

	assert_int_equal(get32(fadt + 4), 276);
	assert_int_equal(get8(fadt + 8), 6);
	assert_int_equal(get32(fadt + 40), get64(fadt + 140));
	assert_int_equal(get8(fadt + 108), 0x32); /* where the RTC keeps the century */

	/* VGA absent; keyboard controller not present, CMOS clock not absent. */
	assert_int_equal(get16(fadt + 109) & (1 << 1 | 1 << 2 | 1 << 5), 1 << 2);
	/* Reset register, hardware-reduced. */
	assert_true(get32(fadt + 112) & 1 << 10);
	assert_true(get32(fadt + 112) & 1 << 20);

	assert_port(fadt + 116, PORT_ACPI_RESET);
	assert_int_equal(get8(fadt + 128), ACPI_RESET_VALUE);
	assert_port(fadt + 244, PORT_ACPI_CONTROL);
	assert_port(fadt + 256, PORT_ACPI_STATUS);

	/* What does not exist on hardware-reduced machines: PM1, PM timer, GPE blocks. */
	for (unsigned offset = 48; offset < 96; offset++)
		assert_int_equal(get8(fadt + offset), 0);
	for (unsigned offset = 148; offset < 244; offset++)
		assert_int_equal(get8(fadt + offset), 0);
}

static void check_madt(void **state, unsigned cpus)
{
	const u8 *madt = find_table(with_cpus(state, cpus), "APIC");
	u32 length = get32(madt + 4);
	unsigned seen = 0, ioapics = 0;
	u32 offset = 44;

	assert_int_equal(get32(madt + 36), LAYOUT_LAPIC);
	assert_int_equal(get32(madt + 40), 0); /* no 8259s */
	while (offset < length) {
		const u8 *entry = madt + offset;

		switch (get8(entry)) {
		case 0:
			assert_int_equal(get8(entry + 1), 8);
			assert_int_equal(get8(entry + 3), seen);
			assert_int_equal(get32(entry + 4), 1);
			seen++;
			break;
		case 1:
			assert_int_equal(get8(entry + 1), 12);
			assert_int_equal(get32(entry + 4), LAYOUT_IOAPIC);
			assert_int_equal(get32(entry + 8), 0);
			ioapics++;
			break;
		default:
			fail_msg("unexpected entry of type %u", get8(entry));
		}
		offset += get8(entry + 1);
	}
	assert_int_equal(offset, length);
	assert_int_equal(seen, cpus);
	assert_int_equal(ioapics, 1);
}

static void test_madt_lists_every_cpu(void **state)
{
	check_madt(state, 1);
	check_madt(state, 2);
	check_madt(state, 255);
}

/* After a reboot with the same memory nothing of the larger one is left. */
static void test_tables_can_be_built_again(void **state)
{
	check_madt(state, 255);
	check_madt(state, 3);
	find_dsdt(*state);
}

static const u8 *find_bytes(const u8 *table, const void *bytes, size_t len)
{
	const u8 *found = memmem(table, get32(table + 4), bytes, len);

	assert_non_null(found);
	return found;
}

/*
 * "Package Length": the top two bits say how many bytes follow. The value counts itself; *p moves
 * past it.
 */
static u32 aml_length(const u8 **p)
{
	unsigned more = **p >> 6;
	u32 length = more ? **p & 0x0f : **p & 0x3f;

	for (unsigned i = 1; i <= more; i++)
		length |= (u32)(*p)[i] << (8 * i - 4);
	*p += 1 + more;
	return length;
}

/* "Integer objects"; *p moves past it. */
static u64 aml_integer(const u8 **p)
{
	const u8 *operand = *p + 1;

	switch (**p) {
	case 0x00:
	case 0x01:
		*p += 1;
		return operand[-1];
	case 0x0a:
		*p += 2;
		return get8(operand);
	case 0x0b:
		*p += 3;
		return get16(operand);
	case 0x0c:
		*p += 5;
		return get32(operand);
	}
	fail_msg("not an integer: %#x", **p);
	return 0;
}

/* A package follows: how many elements; *p moves to the first. */
static unsigned aml_package(const u8 **p)
{
	assert_int_equal(**p, 0x12);
	++*p;
	aml_length(p);
	return *(*p)++;
}

static void test_dsdt_powers_off_with_the_right_type(void **state)
{
	const u8 *p = find_bytes(find_dsdt(with_cpus(state, 1)), "_S5_", 4) + 4;

	assert_true(aml_package(&p) >= 1);
	assert_int_equal(aml_integer(&p), ACPI_S5_TYPE);
}

static void test_dsdt_routes_every_slot(void **state)
{
	const u8 *p = find_bytes(find_dsdt(with_cpus(state, 1)), "_PRT", 4) + 4;

	assert_int_equal(aml_package(&p), 32);
	for (unsigned slot = 0; slot < 32; slot++) {
		assert_int_equal(aml_package(&p), 4);
		assert_int_equal(aml_integer(&p), slot << 16 | 0xffff);
		assert_int_equal(aml_integer(&p), 0); /* pin A */
		assert_int_equal(aml_integer(&p), 0); /* no link device */
		assert_int_equal(aml_integer(&p), GSI_INTX + slot % GSI_INTX_COUNT);
	}
}

/* "DWord Address Space Descriptor" for memory, in the _CRS of the bus. */
static void test_dsdt_has_the_pci_window(void **state)
{
	const u8 *p = find_bytes(find_dsdt(with_cpus(state, 1)), "\x87\x17\x00\x00", 4);

	assert_int_equal(get32(p + 10), LAYOUT_PCI_WINDOW);
	assert_int_equal(get32(p + 14), LAYOUT_PCI_WINDOW_END - 1);
	assert_int_equal(get32(p + 22), LAYOUT_PCI_WINDOW_END - LAYOUT_PCI_WINDOW);
}

/* "I/O Port Descriptor" */
static const u8 *assert_io_ports(const u8 *dsdt, u16 port, u8 count)
{
	const u8 descriptor[] = {0x47, 1, port, port >> 8, port, port >> 8};
	const u8 *p = find_bytes(dsdt, descriptor, sizeof(descriptor));

	assert_int_equal(p[7], count);
	return p;
}

static void test_dsdt_has_the_legacy_devices(void **state)
{
	const u8 *dsdt = find_dsdt(with_cpus(state, 1));
	const u8 *serial = assert_io_ports(dsdt, PORT_SERIAL, 8);

	/*
	 * "Extended Interrupt Descriptor": consumer, edge, active high, not shared; one interrupt.
	 */
	assert_int_equal(get8(serial + 8), 0x89);
	assert_int_equal(get8(serial + 11), 0x03);
	assert_int_equal(get8(serial + 12), 1);
	assert_int_equal(get32(serial + 13), GSI_SERIAL);

	assert_io_ports(dsdt, PORT_RTC, 2);
	assert_io_ports(dsdt, PORT_PCI_ADDRESS, 8);
}

/* A button that nobody reports would be no use: the event device names both. */
static void test_dsdt_has_the_power_button(void **state)
{
	const u8 *dsdt = find_dsdt(with_cpus(state, 1));
	const u8 button[] = {0x0c, 0x41, 0xd0, 0x0c, 0x0c}; /* EisaId ("PNP0C0C"), an integer */
	const u8 notify[] = {0x86, 'P', 'W', 'R', 'B'};
	/* An edge, like the serial port's. */
	const u8 interrupt[] = {0x89, 6, 0, 0x03, 1, GSI_BUTTON, 0, 0, 0};

	find_bytes(dsdt, button, sizeof(button));
	find_bytes(dsdt, "ACPI0013", 8);
	find_bytes(dsdt, interrupt, sizeof(interrupt));
	find_bytes(dsdt, "_EVT", 4);
	find_bytes(dsdt, notify, sizeof(notify));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_rsdp),
		TEST(test_fadt),
		TEST(test_madt_lists_every_cpu),
		TEST(test_tables_can_be_built_again),
		TEST(test_dsdt_powers_off_with_the_right_type),
		TEST(test_dsdt_routes_every_slot),
		TEST(test_dsdt_has_the_pci_window),
		TEST(test_dsdt_has_the_legacy_devices),
		TEST(test_dsdt_has_the_power_button),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
