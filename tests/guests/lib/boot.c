/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Four loaders' ways of saying the same: memory map, command line, initrd, ACPI.
 * What a guest wants to know is brought into one form here; whether a loader
 * said it correctly is hello.c's business.
 */
#include "lib/guest.h"
#include "lib/protocols.h"

#include <asm/bootparam.h>

static const char *text_at(u64 address)
{
	return address ? (const char *)address : "";
}

static void add_range(struct boot *boot, u64 base, u64 size, u32 type)
{
	if (boot->map_count < ARRAY_SIZE(boot->map))
		boot->map[boot->map_count++] = (struct range){base, size, type};
}

static void read_pvh(struct boot *boot, const struct pvh_start_info *info)
{
	const struct pvh_map *map = (const void *)info->map;
	const struct pvh_module *module = (const void *)info->modules;

	boot->loader_name = "PVH";
	boot->command_line = text_at(info->command_line);
	boot->rsdp = info->rsdp;
	if (info->module_count) {
		boot->initrd = (const u8 *)module->address;
		boot->initrd_size = module->size;
	}
	for (u32 i = 0; info->version >= 1 && i < info->map_count; i++)
		add_range(boot, map[i].base, map[i].size, map[i].type);
}

static void read_multiboot(struct boot *boot, const struct multiboot_info *info)
{
	const struct multiboot_module *module = (const void *)(u64)info->modules;

	boot->loader_name = "Multiboot";
	if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
		boot->command_line = text_at(info->command_line);
	if ((info->flags & MULTIBOOT_HAS_MODULES) && info->module_count) {
		boot->initrd = (const u8 *)(u64)module->start;
		boot->initrd_size = module->end - module->start;
	}
	if (!(info->flags & MULTIBOOT_HAS_MAP))
		return;
	for (u64 at = info->map; at < (u64)info->map + info->map_len;) {
		const struct multiboot_map *map = (const void *)at;

		add_range(boot, map->base, map->length, map->type);
		at += map->size + sizeof(map->size);
	}
}

static void read_linux(struct boot *boot, const struct boot_params *params)
{
	boot->loader_name =
		boot->entry->how == ENTERED_BY_LINUX64 ? "Linux, 64 bits" : "Linux, 32 bits";
	boot->command_line = text_at(params->hdr.cmd_line_ptr);
	boot->rsdp = params->acpi_rsdp_addr;
	boot->initrd = (const u8 *)(u64)params->hdr.ramdisk_image;
	boot->initrd_size = params->hdr.ramdisk_size;
	for (u32 i = 0; i < params->e820_entries; i++)
		add_range(boot, params->e820_table[i].addr, params->e820_table[i].size,
			  params->e820_table[i].type);
}

void boot_read(struct boot *boot, const struct entry *entry)
{
	boot->entry = entry;
	boot->command_line = "";
	switch (entry->how) {
	case ENTERED_BY_PVH:
		boot->info = (const void *)(u64)entry->ebx;
		read_pvh(boot, boot->info);
		break;
	case ENTERED_BY_MULTIBOOT:
		boot->info = (const void *)(u64)entry->ebx;
		read_multiboot(boot, boot->info);
		break;
	default:
		boot->info = (const void *)(u64)entry->esi;
		read_linux(boot, boot->info);
	}
}

bool boot_option(const struct boot *boot, const char *name, char *value, size_t len)
{
	const char *at = boot->command_line;
	size_t used = 0;

	for (; *at; at++) {
		bool word_begins = at == boot->command_line || at[-1] == ' ';
		const char *end = at + strlen(name);

		if (word_begins && starts_with(at, name) && (*end == '=' || *end == ' ' || !*end)) {
			if (*end == '=')
				for (end++; *end && *end != ' ' && used + 1 < len; end++)
					value[used++] = *end;
			value[used] = '\0';
			return true;
		}
	}
	return false;
}

u64 boot_ram_end(const struct boot *boot)
{
	u64 end = 0;

	for (unsigned i = 0; i < boot->map_count; i++)
		if (boot->map[i].type == RANGE_RAM && boot->map[i].base < GiB(4))
			end = MAX(end, boot->map[i].base + boot->map[i].size);
	return end;
}
