/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot 1: the way in for 32-bit kernels that people write themselves. A
 * header near the start of the file says what the kernel requires; eax is a
 * magic number, and ebx points to what the boot loader has to tell.
 *
 * "Multiboot Specification version 0.6.96". Its graphics are not for us: there
 * is no screen, and a kernel that requires one is told so.
 *
 * Tour 2.270: Multiboot: a door for kernels that people write themselves
 */
#include "boot/internal.h"
#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define HEADER_MAGIC 0x1badb002
#define LOADER_MAGIC 0x2badb002 /* "Machine state" */
#define HEADER_ALIGN 4

/*
 * "The magic fields of Multiboot header": what the kernel wants. Bits 0 to 15 must be understood.
 */
#define WANTS_PAGE_ALIGN  (1u << 0) /* modules on page boundaries: ours always are */
#define WANTS_MEMORY_INFO (1u << 1) /* it always gets it */
#define WANTS_VIDEO	  (1u << 2)
#define WANTS_REQUIRED	  0xffffu
#define HAS_ADDRESSES	  (1u << 16)

/* "Boot information format": what we tell. */
#define TELLS_MEMORY	   (1u << 0)
#define TELLS_COMMAND_LINE (1u << 2)
#define TELLS_MODULES	   (1u << 3)
#define TELLS_MEMORY_MAP   (1u << 6)
#define TELLS_LOADER_NAME  (1u << 9)

struct multiboot_header {
	u32 magic, flags, checksum;
	/* only with HAS_ADDRESSES */
	u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

#define SHORT_HEADER offsetof(struct multiboot_header, header_addr)

struct multiboot_info {
	u32 flags;
	u32 mem_lower, mem_upper; /* KiB from 0, and from 1 MiB */
	u32 boot_device;
	u32 cmdline;
	u32 mods_count, mods_addr;
	u32 symbols[4];
	u32 mmap_length, mmap_addr;
	u32 drives_length, drives_addr;
	u32 config_table;
	u32 boot_loader_name;
	u32 apm_table;
};

struct multiboot_module {
	u32 mod_start, mod_end, string, reserved; /* mod_end is the byte after */
};

/* `size` does not count itself. Types are those of the e820 map. */
struct multiboot_memory {
	u32 size;
	u64 addr, len;
	u32 type;
} __attribute__((packed));

/* All that we place for it, in one piece. */
struct multiboot_area {
	struct multiboot_info info;
	struct multiboot_module module;
	struct multiboot_memory map[MEMORY_MAP_MAX];
	char loader[32];
	char module_name[NAME_MAX + 1];
};

_Static_assert(BOOT_INFO + sizeof(struct multiboot_area) <= BOOT_COMMAND_LINE, "no room");

#define AREA_ADDRESS(field) (BOOT_INFO + offsetof(struct multiboot_area, field))

/*
 * "OS image format": all of it within the first 8192 bytes, 32-bit aligned. Its offset in the file,
 * or -1.
 */
static int find_header(const struct kernel_head *head, struct multiboot_header *header)
{
	for (u64 at = 0; at + SHORT_HEADER <= head->len; at += HEADER_ALIGN) {
		u64 len = MIN(sizeof(*header), head->len - at);

		memset(header, 0, sizeof(*header));
		memcpy(header, head->bytes + at, len);
		if (header->magic != HEADER_MAGIC ||
		    header->magic + header->flags + header->checksum != 0)
			continue;
		if (len == sizeof(*header) || !(header->flags & HAS_ADDRESSES))
			return at;
	}
	return -1;
}

/* The caller knows that it is an ELF file for x86. */
bool multiboot_recognise(const struct kernel_head *head)
{
	struct multiboot_header header;

	return head->bytes[EI_CLASS] == ELFCLASS32 && find_header(head, &header) >= 0;
}

static int check_flags(const struct load *load, u32 flags)
{
	u32 unknown =
		flags & WANTS_REQUIRED & ~(WANTS_PAGE_ALIGN | WANTS_MEMORY_INFO | WANTS_VIDEO);

	if (unknown)
		return refuse(load->boot->kernel, load->problem, ENOEXEC,
			      "requires something of its boot loader that we do not know "
			      "(Multiboot flags 0x%x, unknown 0x%x)",
			      flags, unknown);
	if (flags & WANTS_VIDEO)
		return refuse(load->boot->kernel, load->problem, ENOEXEC,
			      "requires a video mode (Multiboot flag 2), and there is no screen");
	return 0;
}

/*
 * "The address fields of Multiboot header": instead of what the ELF headers say,
 * one run of bytes of the file, and zeroes after it.
 */
static int place_by_addresses(const struct load *load, const struct multiboot_header *header,
			      u64 header_offset, u64 *entry)
{
	const struct file *kernel = load->boot->kernel;
	u64 before = (u64)header->header_addr - header->load_addr;
	u64 offset = header_offset - before;
	u64 len, size;
	int err;

	if (header->load_addr > header->header_addr || before > header_offset)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is damaged: its Multiboot header says it is loaded from 0x%x on, "
			      "which is not in the file",
			      header->load_addr);
	len = header->load_end_addr ? (u64)header->load_end_addr - header->load_addr
				    : kernel->size - offset;
	size = header->bss_end_addr ? (u64)header->bss_end_addr - header->load_addr : len;
	/* An end before the start shows as an absurd length. */
	if (len > UINT32_MAX || size > UINT32_MAX || size < len || !len)
		return refuse(
			kernel, load->problem, ENOEXEC,
			"is damaged: its Multiboot header has its parts end at 0x%x and 0x%x, "
			"out of order after 0x%x",
			header->load_end_addr, header->bss_end_addr, header->load_addr);
	if (len > kernel->size - offset)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is truncated: %" PRIu64 " bytes from 0x%" PRIx64
			      " are to be loaded, and the file ends at 0x%" PRIx64,
			      len, offset, kernel->size);
	*entry = header->entry_addr;
	if (*entry - header->load_addr >= size)
		return refuse(kernel, load->problem, ENOEXEC,
			      "is damaged: it starts at 0x%" PRIx64 ", outside of itself", *entry);
	err = load_claim(load, "image", header->load_addr, size);
	return err ? err : load_place(load, "image", header->load_addr, offset, len);
}

static int place_by_segments(const struct load *load, u64 *entry)
{
	struct elf elf;
	int err = elf_read(&elf, load->boot->kernel, load->head, load->problem);

	if (err)
		return err;
	err = elf_entry(&elf, entry, load->problem);
	if (!err)
		err = elf_place(&elf, load);
	elf_free(&elf);
	return err;
}

static void place_module(const struct load *load, struct multiboot_area *area)
{
	const char *path = load->boot->initrd->name;
	const char *slash = strrchr(path, '/');

	/*
	 * Its name, for kernels that look; where it lies on the host is not the guest's business.
	 */
	snprintf(area->module_name, sizeof(area->module_name), "%s", slash ? slash + 1 : path);
	area->info.mods_count = 1;
	area->info.mods_addr = AREA_ADDRESS(module);
	area->module = (struct multiboot_module){
		.mod_start = load->initrd,
		.mod_end = load->initrd + load->initrd_size,
		.string = AREA_ADDRESS(module_name),
	};
}

static void place_info(const struct load *load)
{
	struct multiboot_area *area = boot_area(load, BOOT_INFO, sizeof(*area));
	struct boot_e820_entry map[MEMORY_MAP_MAX];
	unsigned count = boot_memory_map(load->boot->memory, map);

	memset(area, 0, sizeof(*area));
	snprintf(area->loader, sizeof(area->loader), "lguest %s", LGUEST_VERSION);
	for (unsigned i = 0; i < count; i++)
		area->map[i] = (struct multiboot_memory){.size = sizeof(area->map[i]) -
								 sizeof(area->map[i].size),
							 .addr = map[i].addr,
							 .len = map[i].size,
							 .type = map[i].type};
	area->info = (struct multiboot_info){
		.flags = TELLS_MEMORY | TELLS_COMMAND_LINE | TELLS_MODULES | TELLS_MEMORY_MAP |
			 TELLS_LOADER_NAME,
		.mem_lower = LAYOUT_EBDA >> 10,
		.mem_upper = (load->boot->memory->low - LAYOUT_KERNEL) >> 10,
		.cmdline = BOOT_COMMAND_LINE,
		.mmap_length = count * sizeof(area->map[0]),
		.mmap_addr = AREA_ADDRESS(map),
		.boot_loader_name = AREA_ADDRESS(loader),
	};
	if (load->boot->initrd)
		place_module(load, area);
}

int multiboot_load(struct load *load, struct cpu_state *cpu)
{
	struct multiboot_header header = {0};
	int offset = find_header(load->head, &header);
	bool by_addresses = header.flags & HAS_ADDRESSES;
	u64 entry = 0;
	int err = check_flags(load, header.flags);

	if (!err)
		err = load_locate_initrd(load, INITRD_MAX_DEFAULT);
	if (!err)
		err = by_addresses ? place_by_addresses(load, &header, offset, &entry)
				   : place_by_segments(load, &entry);
	if (!err)
		err = load_place_rest(load, COMMAND_LINE_MAX_DEFAULT);
	if (err)
		return err;
	place_info(load);
	entry_32(load, cpu, entry);
	cpu->gpr[RAX] = LOADER_MAGIC;
	cpu->gpr[RBX] = BOOT_INFO;
	log_verbose("kernel %s: ELF, Multiboot, entry at 0x%" PRIx64 "%s", load->boot->kernel->name,
		    entry, by_addresses ? ", placed by its Multiboot header" : "");
	return 0;
}
