/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest that says what it was told: hello-pvh, hello-multiboot, hello-linux64
 * and hello-linux32 are this file behind four ways in. Prints command line, memory
 * map, and initrd; checks what the respective protocol promises.
 */
#include "lib/guest.h"
#include "lib/protocols.h"

#include <asm/bootparam.h>

#define CR0_PE	  (1u << 0)
#define CR0_ET	  (1u << 4) /* cannot be cleared on any CPU of this century */
#define CR0_PG	  (1u << 31)
#define CR4_PAE	  (1u << 5)
#define EFLAGS_TF (1u << 8)
#define EFLAGS_IF (1u << 9)
#define EFLAGS_VM (1u << 17)

/* Selectors that Linux' boot protocol asks for (arch/x86: Boot Protocol, "32-bit", "64-bit"). */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

#define LINUX_HEADER_MAGIC 0x53726448 /* "HdrS" */

/*
 * Large enough to begin in one page and end in another, where a loader has to clear and cannot
 * merely map.
 */
static u8 nothing[3 * PAGE_SIZE];

/*
 * CRC-32 as gzip and Ethernet have it, so that a test can compute it with whatever it has at hand.
 */
static u32 crc32(const u8 *data, u64 len)
{
	u32 crc = ~0u;

	while (len--) {
		crc ^= *data++;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void check_segments(const struct entry *entry)
{
	check(entry->cs == BOOT_CS && entry->ds == BOOT_DS && entry->es == BOOT_DS &&
		      entry->ss == BOOT_DS,
	      "segments are __BOOT_CS and __BOOT_DS (cs %x, ds %x, es %x, ss %x)", entry->cs,
	      entry->ds, entry->es, entry->ss);
}

static void check_pvh(const struct boot *boot)
{
	const struct pvh_start_info *info = boot->info;

	check_equal(info->magic, PVH_MAGIC, "magic number of start_info");
	check(info->version >= 1, "start_info has version 1 or later (%u)", info->version);
	check_equal(info->flags, 0, "flags of start_info");
	check_equal(boot->entry->cr0 & ~CR0_ET, CR0_PE, "cr0 has PE and nothing else");
	check_equal(boot->entry->cr4, 0, "cr4 is clear");
	check(boot->rsdp != 0, "start_info knows the RSDP");
}

static void check_multiboot(const struct boot *boot)
{
	const u32 wanted = MULTIBOOT_HAS_MEMORY | MULTIBOOT_HAS_MAP;
	const struct multiboot_info *info = boot->info;

	check_equal(boot->entry->eax, MULTIBOOT_MAGIC, "eax is the magic number");
	check_equal(info->flags & wanted, wanted, "information has memory sizes and a memory map");
	check(info->memory_lower >= 512 && info->memory_lower <= 640,
	      "lower memory is plausible (%u KiB)", info->memory_lower);
	check(MiB(1) + KiB(info->memory_upper) <= boot_ram_end(boot),
	      "upper memory is RAM (%u KiB)", info->memory_upper);
	check((boot->entry->cr0 & (CR0_PE | CR0_PG)) == CR0_PE, "protected mode without paging");
	if (boot->initrd_size)
		check((u64)boot->initrd % PAGE_SIZE == 0,
		      "the module is page-aligned, as we asked");
}

static void check_linux(const struct boot *boot)
{
	const struct boot_params *params = boot->info;

	check_equal(params->hdr.header, LINUX_HEADER_MAGIC, "setup header has its magic number");
	check(params->hdr.version >= 0x20c, "boot protocol 2.12 or later (%x)",
	      params->hdr.version);
	check_equal(params->hdr.type_of_loader, 0xff, "type of loader");
	check_equal(params->hdr.boot_flag, 0xaa55, "boot flag");
	check(boot->rsdp != 0, "boot_params know the RSDP");
	check_segments(boot->entry);
	if (boot->entry->how == ENTERED_BY_LINUX64) {
		check((boot->entry->cr0 & CR0_PG) && (boot->entry->cr4 & CR4_PAE), "paging is on");
		return;
	}
	check((boot->entry->cr0 & (CR0_PE | CR0_PG)) == CR0_PE, "protected mode without paging");
	check(!boot->entry->ebp && !boot->entry->edi && !boot->entry->ebx,
	      "ebp, edi and ebx are zero");
}

static void print_map(const struct boot *boot)
{
	bool overlap = false;
	u64 ram = 0;

	for (unsigned i = 0; i < boot->map_count; i++) {
		const struct range *range = &boot->map[i];

		print("map: %016lx-%016lx type %u\n", range->base, range->base + range->size,
		      range->type);
		if (range->type == RANGE_RAM)
			ram += range->size;
		for (unsigned j = 0; j < i; j++)
			overlap |= range->base < boot->map[j].base + boot->map[j].size &&
				   boot->map[j].base < range->base + range->size;
	}
	print("ram: %lu KiB\n", ram / KiB(1));
	check(boot->map_count > 1 && ram, "there is a memory map, with RAM");
	check(!overlap, "its ranges do not overlap");
}

static bool in_ram(const struct boot *boot, u64 base, u64 size)
{
	for (unsigned i = 0; i < boot->map_count; i++)
		if (boot->map[i].type == RANGE_RAM && base >= boot->map[i].base &&
		    base + size <= boot->map[i].base + boot->map[i].size)
			return true;
	return false;
}

void guest_main(const struct boot *boot)
{
	bool zero = true;

	print("hello: entered by %s\n", boot->loader_name);
	print("command line: %s\n", boot->command_line);
	print_map(boot);
	print("initrd: %lu bytes, crc32 %08x\n", boot->initrd_size,
	      crc32(boot->initrd, boot->initrd_size));
	if (boot->initrd_size)
		check(in_ram(boot, (u64)boot->initrd, boot->initrd_size),
		      "initrd lies in RAM (%lx)", (u64)boot->initrd);

	check(!(boot->entry->eflags & (EFLAGS_IF | EFLAGS_TF | EFLAGS_VM)),
	      "interrupts and tracing are off");
	for (size_t i = 0; i < sizeof(nothing); i++)
		zero &= !nothing[i];
	check(zero, "bss is zero");
	memset(nothing, 0xff, sizeof(nothing)); /* whoever comes after a reboot must not see this */

	if (boot->entry->how == ENTERED_BY_PVH)
		check_pvh(boot);
	else if (boot->entry->how == ENTERED_BY_MULTIBOOT)
		check_multiboot(boot);
	else
		check_linux(boot);
}
