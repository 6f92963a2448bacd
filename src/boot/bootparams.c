/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The zero page, struct boot_params: what the Linux boot protocol tells a
 * kernel about the machine. bzImages and plain ELF kernels get one; PVH and
 * Multiboot have structures of their own.
 *
 * linux: Documentation/arch/x86/boot.rst and zero-page.rst.
 *
 * Tour 2.240: The zero page
 */
#include "boot/internal.h"

#include <string.h>

/* A boot loader without an assigned number: boot.rst, "type_of_loader". */
#define LOADER_UNASSIGNED 0xff

/*
 * This page is all that a Linux kernel is told. On a PC the BIOS would be asked, by code that
 * runs in 16-bit mode; here the answers are simply there.
 *
 * Tour 2.241
 */
void bootparams_place(const struct load *load, const struct setup_header *header, size_t len)
{
	struct boot_params *params = boot_area(load, BOOT_PARAMS, sizeof(*params));
	struct boot_e820_entry map[MEMORY_MAP_MAX];

	/* A clean page around the header: boot.rst wants nothing else of the image's in it. */
	memset(params, 0, sizeof(*params));
	memcpy(&params->hdr, header, len);
	params->hdr.type_of_loader = LOADER_UNASSIGNED;
	params->hdr.ext_loader_ver = 0;
	params->hdr.ext_loader_type = 0;
	params->hdr.cmd_line_ptr = BOOT_COMMAND_LINE;
	params->hdr.ramdisk_image = load->initrd;
	params->hdr.ramdisk_size = load->initrd_size;
	/* A list of ours, and we have none: what the image has there would be followed blindly. */
	params->hdr.setup_data = 0;

	params->acpi_rsdp_addr = LAYOUT_ACPI;
	params->e820_entries = boot_memory_map(load->boot->memory, map);
	memcpy(params->e820_table, map, params->e820_entries * sizeof(map[0]));
}
