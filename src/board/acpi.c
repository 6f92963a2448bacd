/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables: see acpi.h.
 *
 * There is no firmware here, so somebody else has to leave the note on the
 * kitchen table. It reads: RSDP, which points to the XSDT, which points to the
 * FADT (what kind of machine, how to reset and power it off) and the MADT (the
 * CPUs and the IOAPIC); and the FADT points to the DSDT (all the rest, in a
 * language of its own: dsdt.asl). board_power_on() calls us once for each life of
 * the guest. Nothing is read back: what a guest does to the tables is its own
 * affair.
 *
 * The layouts are those of the ACPI specification 6.0, "ACPI Software Programming
 * Model"; everything on x86 is little-endian, and so are we.
 *
 * Tour 3.310
 */
#include "board/acpi.h"

#include "board/dsdt.hex" /* static const unsigned char dsdt_aml_code[]: what iasl made of dsdt.asl */
#include "board/layout.h"

#include <assert.h>
#include <string.h>

#define PACKED __attribute__((packed))

/* Who made all this: "LGUEST" everywhere, padded as each field likes it. */
#define OEM_ID	     "LGUEST"
#define OEM_TABLE_ID "LGUEST\0"
#define CREATOR_ID   "LGST"

struct rsdp {
	char signature[8];
	u8 checksum; /* of what ACPI 1.0 knew: the first 20 bytes */
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 extended_checksum; /* of everything */
	u8 reserved[3];
} PACKED;

#define RSDP_REVISION	  2
#define RSDP_ACPI_1_BYTES 20

struct header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} PACKED;

#define XSDT_REVISION 1
#define XSDT_TABLES   2

struct xsdt {
	struct header header;
	u64 tables[XSDT_TABLES];
} PACKED;

/* "Generic Address Structure": a register anywhere. All of ours are one byte of I/O space. */
struct generic_address {
	u8 space;
	u8 bit_width, bit_offset;
	u8 access_size;
	u64 address;
} PACKED;

#define SPACE_SYSTEM_IO 1
#define ACCESS_BYTE	1

/*
 * "Fixed ACPI Description Table". On a hardware-reduced machine most of it means nothing, and is 0.
 */
struct fadt {
	struct header header;
	u32 firmware_control;
	u32 dsdt;
	u8 reserved_1;
	u8 preferred_profile;
	u16 sci_interrupt;
	u8 legacy_hardware[58]; /* SMI, PM1, PM2, PM timer, GPE: none of that here */
	u8 alarm_day, alarm_month;
	u8 century; /* where CMOS keeps it */
	u16 boot_architecture;
	u8 reserved_2;
	u32 flags;
	struct generic_address reset;
	u8 reset_value;
	u16 arm_boot_architecture;
	u8 minor_version;
	u64 x_firmware_control;
	u64 x_dsdt;
	struct generic_address x_legacy_hardware[8];
	struct generic_address sleep_control;
	struct generic_address sleep_status;
	char hypervisor[8];
} PACKED;

_Static_assert(offsetof(struct fadt, century) == 108, "FADT layout");
_Static_assert(offsetof(struct fadt, flags) == 112, "FADT layout");
_Static_assert(offsetof(struct fadt, x_dsdt) == 140, "FADT layout");
_Static_assert(offsetof(struct fadt, sleep_control) == 244, "FADT layout");
_Static_assert(sizeof(struct fadt) == 276, "FADT layout");

#define FADT_REVISION 6

/*
 * "IA-PC Boot Architecture Flags". Bit 1, a keyboard controller, and bit 5, no CMOS clock, stay
 * clear: the one is not here and the other is.
 */
#define BOOT_NO_VGA (1 << 2)

/* "Fixed ACPI Description Table Fixed Feature Flags" */
#define FADT_WBINVD	     (1u << 0)
#define FADT_PROC_C1	     (1u << 2)
#define FADT_PWR_BUTTON	     (1u << 4) /* if there is one, it is a device of the DSDT */
#define FADT_SLP_BUTTON	     (1u << 5)
#define FADT_FIX_RTC	     (1u << 6) /* the clock wakes nobody through fixed registers */
#define FADT_RESET_REG_SUP   (1u << 10)
#define FADT_HW_REDUCED_ACPI (1u << 20)

#define RTC_CENTURY 0x32

/* "Multiple APIC Description Table" and two of its entries. */
struct madt {
	struct header header;
	u32 lapic_address;
	u32 flags; /* PCAT_COMPAT clear: no pair of 8259s to be masked */
} PACKED;

struct madt_lapic {
	u8 type, length;
	u8 processor_uid;
	u8 apic_id;
	u32 flags;
} PACKED;

struct madt_ioapic {
	u8 type, length;
	u8 id;
	u8 reserved;
	u32 address;
	u32 first_gsi;
} PACKED;

#define MADT_REVISION	   4
#define MADT_LAPIC	   0
#define MADT_IOAPIC	   1
#define MADT_LAPIC_ENABLED (1u << 0)

#define CPUS_MAX 255

/* Tables start on 16 bytes, where people with a hex dump like to find them. */
#define TABLE_ALIGN 16

/* All tables together, in the order in which the guest meets them. */
struct tables {
	struct rsdp rsdp __attribute__((aligned(TABLE_ALIGN)));
	struct xsdt xsdt __attribute__((aligned(TABLE_ALIGN)));
	struct fadt fadt __attribute__((aligned(TABLE_ALIGN)));
	u8 dsdt[sizeof(dsdt_aml_code)] __attribute__((aligned(TABLE_ALIGN)));
	struct madt madt __attribute__((aligned(TABLE_ALIGN)));
	struct madt_ioapic ioapic;
	struct madt_lapic lapics[CPUS_MAX]; /* as many as there are CPUs */
};

_Static_assert(sizeof(struct tables) <= LAYOUT_ACPI_END - LAYOUT_ACPI,
	       "tables outgrew their place");
_Static_assert(offsetof(struct tables, ioapic) ==
		       offsetof(struct tables, madt) + sizeof(struct madt),
	       "a hole in the MADT");
_Static_assert(offsetof(struct tables, lapics) ==
		       offsetof(struct tables, ioapic) + sizeof(struct madt_ioapic),
	       "a hole in the MADT");

_Static_assert(LAYOUT_PCI_WINDOW_LAST == LAYOUT_PCI_WINDOW_END - 1,
	       "dsdt.asl and the bus disagree");
_Static_assert(LAYOUT_PCI_WINDOW_SIZE == LAYOUT_PCI_WINDOW_END - LAYOUT_PCI_WINDOW,
	       "dsdt.asl and the bus disagree");

#define ADDRESS_OF(table) (LAYOUT_ACPI + offsetof(struct tables, table))

/* What to put where this byte is, still 0, so that all `length` bytes sum up to 0. */
static u8 checksum(const void *start, size_t length)
{
	const u8 *bytes = start;
	u8 sum = 0;

	for (size_t i = 0; i < length; i++)
		sum += bytes[i];
	return -sum;
}

/* The part that all tables share; last of all, because it sums up the rest. */
static void finish_table(struct header *header, const char *signature, u8 revision, u32 length)
{
	memcpy(header->signature, signature, sizeof(header->signature));
	header->length = length;
	header->revision = revision;
	memcpy(header->oem_id, OEM_ID, sizeof(header->oem_id));
	memcpy(header->oem_table_id, OEM_TABLE_ID, sizeof(header->oem_table_id));
	header->oem_revision = 1;
	memcpy(header->creator_id, CREATOR_ID, sizeof(header->creator_id));
	header->creator_revision = 1;
	header->checksum = checksum(header, length);
}

static struct generic_address port_register(u16 port)
{
	return (struct generic_address){
		.space = SPACE_SYSTEM_IO,
		.bit_width = 8,
		.access_size = ACCESS_BYTE,
		.address = port,
	};
}

static void build_rsdp(struct rsdp *rsdp)
{
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, OEM_ID, sizeof(rsdp->oem_id));
	rsdp->revision = RSDP_REVISION;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = ADDRESS_OF(xsdt);
	rsdp->checksum = checksum(rsdp, RSDP_ACPI_1_BYTES);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

static void build_xsdt(struct xsdt *xsdt)
{
	xsdt->tables[0] = ADDRESS_OF(fadt);
	xsdt->tables[1] = ADDRESS_OF(madt);
	finish_table(&xsdt->header, "XSDT", XSDT_REVISION, sizeof(*xsdt));
}

static void build_fadt(struct fadt *fadt)
{
	/* Both, since they agree: there are readers of either. */
	fadt->dsdt = ADDRESS_OF(dsdt);
	fadt->x_dsdt = ADDRESS_OF(dsdt);
	fadt->century = RTC_CENTURY;
	fadt->boot_architecture = BOOT_NO_VGA;
	fadt->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
		      FADT_FIX_RTC | FADT_RESET_REG_SUP | FADT_HW_REDUCED_ACPI;
	fadt->reset = port_register(PORT_ACPI_RESET);
	fadt->reset_value = ACPI_RESET_VALUE;
	fadt->sleep_control = port_register(PORT_ACPI_CONTROL);
	fadt->sleep_status = port_register(PORT_ACPI_STATUS);
	memcpy(fadt->hypervisor, OEM_TABLE_ID, sizeof(fadt->hypervisor));
	finish_table(&fadt->header, "FACP", FADT_REVISION, sizeof(*fadt));
}

/*
 * No interrupt source overrides: they tell where ISA interrupts went, and there is no ISA here.
 * Whoever uses GSI 4 is told in the DSDT that it is an edge.
 *
 * Tour 3.311: The CPUs, for instance
 */
static void build_madt(struct tables *tables, unsigned cpus)
{
	tables->madt.lapic_address = LAYOUT_LAPIC;
	tables->ioapic = (struct madt_ioapic){
		.type = MADT_IOAPIC,
		.length = sizeof(struct madt_ioapic),
		.address = LAYOUT_IOAPIC,
	};
	for (unsigned i = 0; i < cpus; i++)
		tables->lapics[i] = (struct madt_lapic){
			.type = MADT_LAPIC,
			.length = sizeof(struct madt_lapic),
			.processor_uid = i,
			.apic_id = i,
			.flags = MADT_LAPIC_ENABLED,
		};
	finish_table(&tables->madt.header, "APIC", MADT_REVISION,
		     sizeof(struct madt) + sizeof(struct madt_ioapic) +
			     cpus * sizeof(struct madt_lapic));
}

/*
 * From the back to the front, because each says where the next one is, and sums up its own
 * bytes.
 *
 * Tour 3.312: All tables
 */
void acpi_build(struct memory *memory, unsigned cpus)
{
	struct tables *tables = memory_at(memory, LAYOUT_ACPI, sizeof(*tables));

	/* No guest has less than 4 MiB (LOAD-8), and the tables are in the first. */
	assert(tables && cpus >= 1 && cpus <= CPUS_MAX);

	memset(tables, 0, sizeof(*tables));
	memcpy(tables->dsdt, dsdt_aml_code, sizeof(dsdt_aml_code));
	build_madt(tables, cpus);
	build_fadt(&tables->fadt);
	build_xsdt(&tables->xsdt);
	build_rsdp(&tables->rsdp);
	guest_ram_written(memory, LAYOUT_ACPI, sizeof(*tables));
}
