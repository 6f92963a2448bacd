/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the RSDP through the XSDT to a table. No AML: that the value for S5 is
 * ACPI_S5_TYPE we know from the board's own header.
 */
#include "lib/acpi.h"

const struct acpi_rsdp *acpi_rsdp(const struct boot *boot)
{
	if (boot->rsdp)
		return (const void *)boot->rsdp;
	for (u64 at = LAYOUT_ACPI; at < LAYOUT_ACPI_END; at += 16)
		if (!memcmp((const void *)at, "RSD PTR ", 8))
			return (const void *)at;
	return NULL;
}

const void *acpi_find(const struct boot *boot, const char *signature)
{
	const struct acpi_rsdp *rsdp = acpi_rsdp(boot);
	const struct acpi_fadt *fadt;
	bool dsdt = !memcmp(signature, "DSDT", 4);
	u64 at, end, step;

	if (!rsdp)
		return NULL;
	/* Our board has an XSDT; the older RSDT is for the sake of others. */
	step = rsdp->revision >= 2 && rsdp->xsdt ? sizeof(u64) : sizeof(u32);
	at = step == sizeof(u64) ? rsdp->xsdt : rsdp->rsdt;
	end = at + ((const struct acpi_header *)at)->len;
	for (at += sizeof(struct acpi_header); at + step <= end; at += step) {
		const struct acpi_header *table;
		u64 address = 0;

		memcpy(&address, (const void *)at, step);
		table = (const void *)address;
		if (dsdt && !memcmp(table->signature, "FACP", 4)) {
			fadt = (const void *)table;
			return (const void *)(fadt->x_dsdt ? fadt->x_dsdt : fadt->dsdt);
		}
		if (!memcmp(table->signature, signature, 4))
			return table;
	}
	return NULL;
}

bool acpi_sums_to_zero(const void *table, size_t len)
{
	const u8 *bytes = table;
	u8 sum = 0;

	while (len--)
		sum += *bytes++;
	return sum == 0;
}

unsigned acpi_cpu_count(const struct boot *boot)
{
	const struct acpi_madt *madt = acpi_find(boot, "APIC");
	unsigned count = 0;

	if (!madt)
		return 0;
	for (const u8 *entry = madt->entries;
	     entry < (const u8 *)madt + madt->header.len && entry[1]; entry += entry[1]) {
		u32 flags;

		/* type, length, processor, APIC id, flags */
		memcpy(&flags, entry + 4, sizeof(flags));
		if (entry[0] == MADT_LOCAL_APIC && (flags & MADT_CPU_ENABLED))
			count++;
	}
	return count;
}

void acpi_power_off(const struct boot *boot)
{
	const struct acpi_fadt *fadt = acpi_find(boot, "FACP");

	if (!fadt || fadt->sleep_control.space != ACPI_SPACE_PORT)
		return;
	out8((u16)fadt->sleep_control.address, SLEEP_S5);
	linger();
}
