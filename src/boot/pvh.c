/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PVH: the way into an ELF kernel that Xen defined, and that needs no Xen. An ELF
 * note says where the 32-bit entry is; ebx points to a struct hvm_start_info.
 * Stock x86-64 "vmlinux" files have it, and so have the BSDs.
 *
 * xen: docs/misc/pvh.pandoc, and the public headers elfnote.h and
 * arch-x86/hvm/start_info.h, which are not installed on ordinary machines.
 *
 * Tour 2.260: PVH: a door that Xen left open
 */
#include "boot/internal.h"
#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define XEN_ELFNOTE_PHYS32_ENTRY  18
#define XEN_HVM_START_MAGIC_VALUE 0x336ec578
#define START_INFO_VERSION	  1 /* the first with a memory map */

/* Types of memory are those of the e820 map. */
struct hvm_memmap_entry {
	u64 addr, size;
	u32 type, reserved;
};

struct hvm_modlist_entry {
	u64 paddr, size, cmdline_paddr, reserved;
};

struct hvm_start_info {
	u32 magic, version, flags, nr_modules;
	u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	u32 memmap_entries, reserved;
};

_Static_assert(sizeof(struct hvm_memmap_entry) == 24, "xen: start_info.h");
_Static_assert(sizeof(struct hvm_modlist_entry) == 32, "xen: start_info.h");
_Static_assert(sizeof(struct hvm_start_info) == 56, "xen: start_info.h");

/* All that we place for it, in one piece. */
struct pvh_info {
	struct hvm_start_info start;
	struct hvm_modlist_entry initrd;
	struct hvm_memmap_entry map[MEMORY_MAP_MAX];
};

_Static_assert(BOOT_INFO + sizeof(struct pvh_info) <= BOOT_COMMAND_LINE, "no room");

#define INFO_ADDRESS(field) (BOOT_INFO + offsetof(struct pvh_info, field))

int pvh_recognise(const struct elf *elf, u64 *entry, struct problem *why)
{
	u64 value = 0;
	int len = elf_find_note(elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, &value, sizeof(value), why);

	if (len <= 0)
		return len;
	/*
	 * The width is that of a pointer where the kernel was built; shorter ones leave zeroes
	 * above.
	 */
	if (len != sizeof(u32) && len != sizeof(u64))
		return refuse(elf->file, why, ENOEXEC,
			      "is damaged: its PVH entry note has %d bytes, not 4 or 8", len);
	if (value > UINT32_MAX || !elf_covers(elf, value))
		return refuse(elf->file, why, ENOEXEC,
			      "is damaged: its PVH entry 0x%" PRIx64 " is in none of its segments",
			      value);
	*entry = value;
	return 1;
}

static void place_info(const struct load *load)
{
	struct pvh_info *info = boot_area(load, BOOT_INFO, sizeof(*info));
	struct boot_e820_entry map[MEMORY_MAP_MAX];
	unsigned count = boot_memory_map(load->boot->memory, map);

	memset(info, 0, sizeof(*info));
	info->start = (struct hvm_start_info){
		.magic = XEN_HVM_START_MAGIC_VALUE,
		.version = START_INFO_VERSION,
		.cmdline_paddr = BOOT_COMMAND_LINE,
		.rsdp_paddr = LAYOUT_ACPI,
		.memmap_paddr = INFO_ADDRESS(map),
		.memmap_entries = count,
	};
	for (unsigned i = 0; i < count; i++)
		info->map[i] = (struct hvm_memmap_entry){
			.addr = map[i].addr, .size = map[i].size, .type = map[i].type};
	if (!load->boot->initrd)
		return;
	info->start.nr_modules = 1;
	info->start.modlist_paddr = INFO_ADDRESS(initrd);
	info->initrd.paddr = load->initrd;
	info->initrd.size = load->initrd_size;
}

static int start(const struct elf *elf, struct load *load, struct cpu_state *cpu)
{
	u64 entry = 0;
	int err = pvh_recognise(elf, &entry, load->problem);

	/* It was PVH a moment ago; a file that changes under our hands is no kernel. */
	if (err == 0)
		return refuse(elf->file, load->problem, ENOEXEC, "changed while it was loaded");
	if (err > 0)
		err = load_locate_initrd(load, INITRD_MAX_DEFAULT);
	if (!err)
		err = elf_place(elf, load);
	if (!err)
		err = load_place_rest(load, COMMAND_LINE_MAX_DEFAULT);
	if (err)
		return err;
	place_info(load);
	entry_32(load, cpu, entry);
	cpu->gpr[RBX] = BOOT_INFO;
	log_verbose("kernel %s: ELF, PVH entry at 0x%" PRIx64, elf->file->name, entry);
	return 0;
}

int pvh_load(struct load *load, struct cpu_state *cpu)
{
	return elf_load(load, cpu, start);
}
