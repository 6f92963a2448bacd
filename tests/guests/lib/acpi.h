/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding ACPI tables, and the few fields of them that guests look at.
 */
#ifndef LIB_ACPI_H
#define LIB_ACPI_H

#include "lib/guest.h"

struct acpi_rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 len; /* from revision 2 on */
	u64 xsdt;
	u8 extended_checksum;
	u8 reserved[3];
} __attribute__((packed));

#define ACPI_RSDP_V1_LEN 20

struct acpi_header {
	char signature[4];
	u32 len;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __attribute__((packed));

struct acpi_address {
	u8 space, width, bit_offset, access;
	u64 address;
} __attribute__((packed));

#define ACPI_SPACE_PORT 1

struct acpi_fadt {
	struct acpi_header header;
	u32 facs, dsdt;
	u8 reserved1[65]; /* what hardware-reduced machines do without */
	u16 boot_flags;
	u8 reserved2;
	u32 flags;
	struct acpi_address reset;
	u8 reset_value;
	u16 arm_boot_flags;
	u8 minor_revision;
	u64 x_facs, x_dsdt;
	u8 reserved3[96];
	struct acpi_address sleep_control, sleep_status;
} __attribute__((packed));

#define FADT_RESET_SUPPORTED  (1 << 10)
#define FADT_HARDWARE_REDUCED (1 << 20)
/* Of boot_flags (IAPC_BOOT_ARCH). */
#define FADT_HAS_8042 (1 << 1)
#define FADT_NO_VGA   (1 << 2)

struct acpi_madt {
	struct acpi_header header;
	u32 lapic, flags;
	u8 entries[]; /* each begins with type and length */
} __attribute__((packed));

#define MADT_LOCAL_APIC	 0
#define MADT_IOAPIC	 1
#define MADT_CPU_ENABLED 1

/* The RSDP: where the loader said, else by searching the firmware's area. NULL: none. */
const struct acpi_rsdp *acpi_rsdp(const struct boot *boot);

/*
 * The table with that signature ("DSDT" through the FADT). NULL: none. Checksums are not looked at.
 */
const void *acpi_find(const struct boot *boot, const char *signature);

/* Bytes add up to 0. */
bool acpi_sums_to_zero(const void *table, size_t len);

/* CPUs that the MADT lists as enabled. */
unsigned acpi_cpu_count(const struct boot *boot);

/* Enter S5. Returns only if that did not work. */
void acpi_power_off(const struct boot *boot);

#endif
