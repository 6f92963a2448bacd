/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What loaders leave in memory: the structures of PVH and of Multiboot 1. Linux'
 * own, struct boot_params, comes with its headers.
 */
#ifndef LIB_PROTOCOLS_H
#define LIB_PROTOCOLS_H

#include "host/types.h"

/* PVH: %ebx points to it (struct hvm_start_info, version 1). */
#define PVH_MAGIC 0x336ec578

struct pvh_start_info {
	u32 magic, version, flags, module_count;
	u64 modules; /* struct pvh_module[] */
	u64 command_line;
	u64 rsdp;
	u64 map; /* struct pvh_map[] */
	u32 map_count, reserved;
};

struct pvh_module {
	u64 address, size, command_line, reserved;
};

struct pvh_map {
	u64 base, size;
	u32 type, reserved;
};

/* Multiboot 1: %eax is the magic number, %ebx points to the information. */
#define MULTIBOOT_MAGIC 0x2badb002

#define MULTIBOOT_HAS_MEMORY	   (1 << 0)
#define MULTIBOOT_HAS_COMMAND_LINE (1 << 2)
#define MULTIBOOT_HAS_MODULES	   (1 << 3)
#define MULTIBOOT_HAS_MAP	   (1 << 6)

struct multiboot_info {
	u32 flags;
	u32 memory_lower, memory_upper; /* KiB from 0 and from 1 MiB */
	u32 boot_device;
	u32 command_line;
	u32 module_count, modules; /* struct multiboot_module[] */
	u32 symbols[4];
	u32 map_len, map; /* bytes of struct multiboot_map[] */
};

struct multiboot_module {
	u32 start, end, command_line, reserved;
};

struct multiboot_map {
	u32 size; /* of the rest */
	u64 base, length;
	u32 type;
} __attribute__((packed));

#endif
