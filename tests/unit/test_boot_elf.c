/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ELF kernels: segments (LOAD-2), and the three ways to start one (LOAD-4).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "boot_images.h"

#include "board/layout.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MEMORY MiB(64)

static struct image image;

/* Text that can be mapped; data with bss that cannot; something that is only zeroes. */
static const struct image_segment kernel[] = {
	{PT_LOAD, 0xc0200000, 0x200000, 0x1000, 0x2100, 0x2100},
	{PT_LOAD, 0xc0300100, 0x300100, 0x3200, 0x300, 0x5000},
	{PT_LOAD, 0xc0400000, 0x400000, 0x3500, 0, 0x1000},
};

static void assert_placed(const struct rig *rig)
{
	assert_pattern(rig, 0x200000, 0x2100, 0);
	assert_zero(rig, 0x202100, 0x300100 - 0x202100);
	assert_pattern(rig, 0x300100, 0x300, 1);
	assert_zero(rig, 0x300400, 0x500000 - 0x300400);
}

/* LOAD-7: for a kernel that brings no setup header, the loader makes one. */
static void assert_boot_params(const struct rig *rig, u32 initrd, u32 initrd_size)
{
	u64 params = rig->cpu.gpr[RSI];

	assert_int_equal(params, LAYOUT_BOOT);
	assert_int_equal(rig_get(rig, params + 0x1fe, 2), 0xaa55);
	assert_memory_equal(rig_at(rig, params + 0x202, 4), "HdrS", 4);
	assert_int_equal(rig_get(rig, params + 0x206, 2), 0x020c);
	assert_int_equal(rig_get(rig, params + 0x210, 1), 0xff);
	assert_int_equal(rig_get(rig, params + 0x211, 1), 1);
	assert_int_equal(rig_get(rig, params + 0x218, 4), initrd);
	assert_int_equal(rig_get(rig, params + 0x21c, 4), initrd_size);
	assert_int_equal(rig_get(rig, params + 0x70, 8), LAYOUT_ACPI);
	assert_int_equal(rig_get(rig, params + 0x1e8, 1), 4);
	assert_string_equal((const char *)rig_at(rig, rig_get(rig, params + 0x228, 4), 6), "quiet");
}

static void test_linux_64(void **state)
{
	struct rig rig;

	(void)state;
	image_elf(&image, true, 0x200010, kernel, 3);
	rig_boot(&rig, &image, MEMORY, 5000, "quiet");
	assert_flat(&rig, true);
	assert_placed(&rig);
	assert_int_equal(rig.cpu.rip, 0x200010);
	assert_boot_params(&rig, MEMORY - 8192, 5000);
	assert_pattern(&rig, MEMORY - 8192, 5000, 0x77);
	rig_close(&rig);
}

static void test_linux_32(void **state)
{
	struct rig rig;

	(void)state;
	image_elf(&image, false, 0x200010, kernel, 3);
	rig_boot(&rig, &image, MEMORY, 0, "quiet");
	assert_flat(&rig, false);
	assert_placed(&rig);
	assert_int_equal(rig.cpu.rip, 0x200010);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(rig.cpu.gpr[i], i == RSI ? LAYOUT_BOOT : 0);
	assert_boot_params(&rig, 0, 0);
	rig_close(&rig);
}

/* An entry in virtual terms is found where its segment was put. */
static void test_virtual_entry(void **state)
{
	struct rig rig;

	(void)state;
	image_elf(&image, false, 0xc0300110, kernel, 3);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_int_equal(rig.cpu.rip, 0x300110);
	rig_close(&rig);
	image_elf(&image, false, 0x500000, kernel, 3);
	assert_refused(&image, MEMORY, 0, "", "0x500000", "e_entry");
}

/*
 * LOAD-2: what can be mapped is, and mapped privately: a guest that writes to its
 * kernel changes neither the file nor another guest's.
 */
static void test_mapped(void **state)
{
	u8 byte;
	struct rig rig;

	(void)state;
	image_elf(&image, true, 0x200000, kernel, 3);
	rig_boot(&rig, &image, MEMORY, 5000, "");
	assert_ptr_equal(memory_file_at(rig.memory, rig_at(&rig, 0x200000, 1)), &rig.kernel);
	assert_ptr_equal(memory_file_at(rig.memory, rig_at(&rig, 0x201fff, 1)), &rig.kernel);
	assert_null(memory_file_at(rig.memory, rig_at(&rig, 0x202000, 1)));
	assert_null(memory_file_at(rig.memory, rig_at(&rig, 0x300100, 1)));
	assert_ptr_equal(memory_file_at(rig.memory, rig_at(&rig, MEMORY - 8192, 1)), &rig.initrd);
	memset(memory_at(rig.memory, 0x200000, 0x2100), 0xcc, 0x2100);
	assert_int_equal(pread(rig.kernel.fd, &byte, 1, 0x1000), 1);
	assert_int_equal(byte, image.bytes[0x1000]);
	rig_close(&rig);
}

static void refuse_segment(const struct image_segment *bad, const char *word)
{
	for (int is_64 = 0; is_64 < 2; is_64++) {
		const struct image_segment both[] = {kernel[0], *bad};

		image_elf(&image, is_64, 0x200000, both, 2);
		assert_refused(&image, MEMORY, 4096, "", word);
	}
}

static void test_bad_segments(void **state)
{
	(void)state;
	/*
	 * More in the file than in memory; past the end of the file; below 1 MiB; not in RAM; in
	 * the initrd's place.
	 */
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x300000, 0x3200, 0x11, 0x10}, "0x11");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0xff000, 0x3200, 0x10, 0x2000},
		       "0xff000");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x1000, 0x3200, 0x10, 0x10}, "0x1000");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x3000000, 0x3200, 0x10, 0x1000001},
		       "64 MiB");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0xc0000000, 0x3200, 0x10, 0x1000},
		       "64 MiB");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x3fff000, 0x3200, 0x10, 0x10},
		       "initrd");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x2020ff, 0x3200, 0x10, 0x10},
		       "overlap");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0x1ff000, 0x3200, 0x10, 0x10000},
		       "overlap");
	refuse_segment(&(struct image_segment){PT_LOAD, 0, 0xfffff000, 0x3200, 0x10, 0x2000},
		       "MiB");
}

static void test_bad_segments_64(void **state)
{
	struct image_segment wraps[] = {kernel[0],
					{PT_LOAD, 0, UINT64_MAX - 0xfff, 0x3200, 0x10, 0x2000}};

	(void)state;
	image_elf(&image, true, 0x200000, wraps, 2);
	assert_refused(&image, MEMORY, 0, "", "wraps");
	/* Offset and length that add up to something harmless. */
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, elf_phdr(true, 1) + offsetof(Elf64_Phdr, p_offset), UINT64_MAX - 0xf, 8);
	assert_refused(&image, MEMORY, 0, "", "truncated");
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 0xf, 8);
	assert_refused(&image, MEMORY, 0, "", "program headers");
}

/* To the last byte of RAM, and side by side: not a byte too strict. */
static void test_tight(void **state)
{
	const struct image_segment tight[] = {
		{PT_LOAD, 0, 0x100000, 0x1000, 0x1080, 0x1080},
		{PT_LOAD, 0, 0x101080, 0x2080, 0x1000, 0x1000},
		{PT_LOAD, 0, MEMORY - 0x1000, 0x4000, 0x1000, 0x1000},
	};
	struct rig rig;

	(void)state;
	image_elf(&image, true, 0x100000, tight, 3);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_pattern(&rig, 0x100000, 0x1080, 0);
	assert_pattern(&rig, 0x101080, 0x1000, 1);
	assert_pattern(&rig, MEMORY - 0x1000, 0x1000, 2);
	rig_close(&rig);
}

static void test_bad_header(void **state)
{
	(void)state;
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, offsetof(Elf64_Ehdr, e_phentsize), sizeof(Elf32_Phdr), 2);
	assert_refused(&image, MEMORY, 0, "", "e_phentsize", "32", "56");
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, offsetof(Elf64_Ehdr, e_phnum), 0, 2);
	assert_refused(&image, MEMORY, 0, "", "e_phnum");
	put(&image, offsetof(Elf64_Ehdr, e_phnum), 65536 / sizeof(Elf64_Phdr) + 1, 2);
	assert_refused(&image, MEMORY, 0, "", "e_phnum", "1171", "1170");
	image_elf(&image, false, 0x200000, kernel, 3);
	put(&image, offsetof(Elf32_Ehdr, e_phnum), 65536 / sizeof(Elf32_Phdr) + 1, 2);
	assert_refused(&image, MEMORY, 0, "", "e_phnum", "2049", "2048");
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, offsetof(Elf64_Ehdr, e_type), ET_DYN, 2);
	assert_refused(&image, MEMORY, 0, "", "type 3");
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, EI_CLASS, 3, 1);
	assert_refused(&image, MEMORY, 0, "", "class 3");
	image_elf(&image, true, 0x200000, kernel, 0);
	put(&image, offsetof(Elf64_Ehdr, e_phnum), 1, 2);
	put(&image, sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr), 0, 1);
	assert_refused(&image, MEMORY, 0, "", "nothing to load");
	/* A section table that is not there: somebody cut the file. */
	image_elf(&image, true, 0x200000, kernel, 3);
	put(&image, offsetof(Elf64_Ehdr, e_shoff), image.len - 63, 8);
	put(&image, offsetof(Elf64_Ehdr, e_shentsize), 64, 2);
	put(&image, offsetof(Elf64_Ehdr, e_shnum), 1, 2);
	assert_refused(&image, MEMORY, 0, "", "truncated", "section");
}

/* The most program headers that are allowed, all of them in use. */
static void test_many_segments(void **state)
{
	static struct image_segment many[1024];
	struct rig rig;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct image_segment){PT_LOAD,    0, 0x100000 + i * 0x1000,
						 0xf000 + i, 1, 0x1000};
	image_elf(&image, true, 0x100000, many, ARRAY_SIZE(many));
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_pattern(&rig, 0x100000, 1, 0);
	assert_pattern(&rig, 0x100000 + 1023 * 0x1000, 1, 1023 & 0xff);
	rig_close(&rig);
}

/* xen: arch-x86/hvm/start_info.h, read here by offset. */
static void assert_start_info(const struct rig *rig, u64 initrd_size)
{
	u64 info = rig->cpu.gpr[RBX], module = rig_get(rig, info + 16, 8);
	u64 map = rig_get(rig, info + 40, 8);

	assert_true(info >= LAYOUT_BOOT && info < LAYOUT_BOOT_END);
	assert_true(map >= LAYOUT_BOOT && map < LAYOUT_BOOT_END);
	assert_int_equal(rig_get(rig, info, 4), 0x336ec578);
	assert_int_equal(rig_get(rig, info + 4, 4), 1);
	assert_int_equal(rig_get(rig, info + 8, 4), 0);
	assert_int_equal(rig_get(rig, info + 12, 4), !!initrd_size);
	assert_string_equal((const char *)rig_at(rig, rig_get(rig, info + 24, 8), 6), "quiet");
	assert_int_equal(rig_get(rig, info + 32, 8), LAYOUT_ACPI);
	assert_int_equal(rig_get(rig, info + 48, 4), 4);
	assert_int_equal(rig_get(rig, map + 24, 8), 0x20000);
	assert_int_equal(rig_get(rig, map + 24 + 8, 8), 0x9fc00 - 0x20000);
	assert_int_equal(rig_get(rig, map + 24 + 16, 4), 1);
	assert_int_equal(rig_get(rig, map + 48 + 16, 4), 2);
	assert_int_equal(rig_get(rig, map + 72, 8), 0x100000);
	assert_int_equal(rig_get(rig, map + 72 + 8, 8), MEMORY - 0x100000);
	assert_int_equal(rig_get(rig, map + 72 + 16, 8), 1);
	if (!initrd_size) {
		assert_int_equal(module, 0);
		return;
	}
	assert_int_equal(rig_get(rig, module, 8), MEMORY - align_up(initrd_size, PAGE_SIZE));
	assert_int_equal(rig_get(rig, module + 8, 8), initrd_size);
	assert_int_equal(rig_get(rig, module + 16, 8), 0);
	assert_pattern(rig, rig_get(rig, module, 8), initrd_size, 0x77);
}

/* A kernel with a PVH note of `width` bytes; e_entry points elsewhere. */
static void pvh_image(bool is_64, u64 entry, unsigned width)
{
	const struct image_segment noted[] = {
		kernel[0], kernel[1], kernel[2], {PT_NOTE, 0, 0, 0x3500, 16 + width, 16 + width}};

	image_elf(&image, is_64, 0x200000, noted, 4);
	put_pvh_note(&image, 0x3500, entry, width);
}

static void test_pvh(void **state)
{
	struct rig rig;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		u64 initrd_size = i & 2 ? 5000 : 0;

		pvh_image(i & 1, 0x200444, i & 1 ? 8 : 4);
		rig_boot(&rig, &image, MEMORY, initrd_size, "quiet");
		assert_flat(&rig, false);
		assert_placed(&rig);
		assert_int_equal(rig.cpu.rip, 0x200444);
		assert_start_info(&rig, initrd_size);
		rig_close(&rig);
	}
}

/* Notes in a segment with alignment 8 are padded to that. */
static void test_note_alignment(void **state)
{
	const struct image_segment noted[] = {kernel[0], {PT_NOTE, 0, 0, 0x3500, 48, 48}};
	struct rig rig;

	(void)state;
	image_elf(&image, true, 0x200000, noted, 2);
	/* 12 + 4 bytes, and 4 of padding that a reader with alignment 4 takes for a note. */
	put(&image, 0x3500, 1, 4);
	put(&image, 0x3504, 4, 4);
	put_pvh_note(&image, 0x3518, 0x200444, 8);
	put(&image, elf_phdr(true, 1) + offsetof(Elf64_Phdr, p_align), 8, 8);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_int_equal(rig.cpu.rip, 0x200444);
	rig_close(&rig);
}

static void test_pvh_bad(void **state)
{
	(void)state;
	pvh_image(true, 0x500000, 8);
	assert_refused(&image, MEMORY, 0, "", "PVH", "0x500000");
	pvh_image(true, 0x100200000, 8);
	assert_refused(&image, MEMORY, 0, "", "PVH", "0x100200000");
	pvh_image(true, 0x200000, 6);
	assert_refused(&image, MEMORY, 0, "", "PVH", "6 bytes");
	pvh_image(true, 0x200000, 8);
	put(&image, 0x3504, UINT32_MAX, 4);
	assert_refused(&image, MEMORY, 0, "", "note");
	pvh_image(true, 0x200000, 8);
	put(&image, 0x3500, UINT32_MAX, 4);
	assert_refused(&image, MEMORY, 0, "", "note");
	assert_refused((pvh_image(true, 0x200000, 8), &image), MiB(4), 0, "", "4 MiB");
}

static void multiboot_image(u32 flags)
{
	image_elf(&image, false, 0x200010, kernel, 3);
	put_multiboot(&image, 0x800, flags);
}

/* Multiboot: "Boot information format", read here by offset. */
static void test_multiboot(void **state)
{
	struct rig rig;
	u64 info, map, module;

	(void)state;
	multiboot_image(3);
	rig_boot(&rig, &image, MEMORY, 5000, "quiet");
	assert_flat(&rig, false);
	assert_placed(&rig);
	assert_int_equal(rig.cpu.rip, 0x200010);
	assert_int_equal(rig.cpu.gpr[RAX], 0x2badb002);
	info = rig.cpu.gpr[RBX];
	assert_true(info >= LAYOUT_BOOT && info < LAYOUT_BOOT_END);
	assert_int_equal(rig_get(&rig, info, 4), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
	assert_int_equal(rig_get(&rig, info + 4, 4), 639);
	assert_int_equal(rig_get(&rig, info + 8, 4), 63 * 1024);
	assert_string_equal((const char *)rig_at(&rig, rig_get(&rig, info + 16, 4), 6), "quiet");
	assert_int_equal(rig_get(&rig, info + 20, 4), 1);
	module = rig_get(&rig, info + 24, 4);
	assert_int_equal(rig_get(&rig, module, 4), MEMORY - 8192);
	assert_int_equal(rig_get(&rig, module + 4, 4), MEMORY - 8192 + 5000);
	assert_string_equal((const char *)rig_at(&rig, rig_get(&rig, module + 8, 4), 9),
			    "test.img");
	assert_pattern(&rig, MEMORY - 8192, 5000, 0x77);
	assert_int_equal(rig_get(&rig, info + 44, 4), 4 * 24);
	map = rig_get(&rig, info + 48, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_get(&rig, map + i * 24, 4), 20);
	assert_int_equal(rig_get(&rig, map + 72 + 4, 8), 0x100000);
	assert_int_equal(rig_get(&rig, map + 72 + 12, 8), MEMORY - 0x100000);
	assert_int_equal(rig_get(&rig, map + 72 + 20, 4), 1);
	assert_int_equal(rig_get(&rig, map + 48 + 20, 4), 2);
	assert_memory_equal(rig_at(&rig, rig_get(&rig, info + 64, 4), 7), "lguest ", 7);
	rig_close(&rig);

	rig_boot(&rig, &image, MEMORY, 0, "quiet");
	assert_int_equal(rig_get(&rig, rig.cpu.gpr[RBX] + 20, 8), 0);
	rig_close(&rig);
}

/* The path on the host is not told; nor does its length matter. */
static void test_module_name(void **state)
{
	static char name[4096];
	struct rig rig;
	u64 module;

	(void)state;
	multiboot_image(0);
	rig_open(&rig, &image, MEMORY, 1, "");
	rig.initrd.name = "/home/alice/secret/disk.img";
	assert_int_equal(rig_load(&rig), 0);
	module = rig_get(&rig, rig.cpu.gpr[RBX] + 24, 4);
	assert_string_equal((const char *)rig_at(&rig, rig_get(&rig, module + 8, 4), 9),
			    "disk.img");
	rig_close(&rig);
	rig_open(&rig, &image, MEMORY, 1, "quiet");
	memset(name, 'n', sizeof(name) - 1);
	rig.initrd.name = name;
	assert_int_equal(rig_load(&rig), 0);
	assert_string_equal((const char *)rig_at(&rig, rig_get(&rig, rig.cpu.gpr[RBX] + 16, 4), 6),
			    "quiet");
	rig_close(&rig);
}

/* "Bits 0-15 indicate requirements": an unknown one is refused; bits 16 to 31 may be ignored. */
static void test_multiboot_flags(void **state)
{
	struct rig rig;

	(void)state;
	for (unsigned bit = 2; bit < 16; bit++) {
		char shown[16];

		multiboot_image(1u << bit | 3);
		snprintf(shown, sizeof(shown), "0x%x", 1u << bit);
		assert_refused(&image, MEMORY, 0, "", "Multiboot flag", bit == 2 ? "video" : shown);
	}
	multiboot_image(0xfffe0003);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_placed(&rig);
	rig_close(&rig);
}

/* Flag 16: the header says what goes where, and what the ELF headers say does not count. */
static void by_addresses(u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry)
{
	const u32 fields[] = {header, load, load_end, bss_end, entry};

	multiboot_image(1 << 16);
	for (unsigned i = 0; i < 5; i++)
		put(&image, 0x80c + i * 4, fields[i], 4);
}

static void test_multiboot_addresses(void **state)
{
	struct rig rig;

	(void)state;
	/* The header is at 0x800 in the file, so 0x600800 is the file's first byte. */
	by_addresses(0x601000, 0x601000, 0x602900, 0x605000, 0x601020);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_flat(&rig, false);
	assert_int_equal(rig.cpu.rip, 0x601020);
	assert_memory_equal(rig_at(&rig, 0x601000, 0x1900), image.bytes + 0x800, 0x1900);
	assert_zero(&rig, 0x602900, 0x2700);
	assert_zero(&rig, 0x200000, 0x3000);
	rig_close(&rig);

	/* No end: all of the file. No bss: none. */
	by_addresses(0x600800, 0x600000, 0, 0, 0x600000);
	rig_boot(&rig, &image, MEMORY, 0, "");
	assert_memory_equal(rig_at(&rig, 0x600000, image.len), image.bytes, image.len);
	rig_close(&rig);
}

static void test_multiboot_addresses_bad(void **state)
{
	(void)state;
	/*
	 * Loaded from after the header; from before the file; backwards; bss before data; nothing;
	 * more than is there.
	 */
	by_addresses(0x601000, 0x601001, 0x602900, 0x605000, 0x601020);
	assert_refused(&image, MEMORY, 0, "", "0x601001");
	by_addresses(0x601000, 0x600700, 0x602900, 0x605000, 0x601020);
	assert_refused(&image, MEMORY, 0, "", "0x600700");
	by_addresses(0x601000, 0x601000, 0x600fff, 0x605000, 0x601020);
	assert_refused(&image, MEMORY, 0, "", "0x600fff");
	by_addresses(0x601000, 0x601000, 0x602900, 0x6028ff, 0x601020);
	assert_refused(&image, MEMORY, 0, "", "0x6028ff");
	by_addresses(0x601000, 0x601000, 0x601000, 0, 0x601000);
	assert_refused(&image, MEMORY, 0, "", "0x601000");
	by_addresses(0x601000, 0x601000, 0x700000, 0, 0x601000);
	assert_refused(&image, MEMORY, 0, "", "truncated");
	by_addresses(0x601000, 0x601000, 0x602900, 0x605000, 0x605000);
	assert_refused(&image, MEMORY, 0, "", "0x605000");
	by_addresses(0x1000, 0x1000, 0x2900, 0x5000, 0x1020);
	assert_refused(&image, MEMORY, 0, "", "0x1000");
	by_addresses(0x601000, 0x601000, 0x602900, 0x4000001, 0x601020);
	assert_refused(&image, MEMORY, 0, "", "65 MiB", "64 MiB");
}

static void test_truncated(void **state)
{
	(void)state;
	/* Up to the last byte that is loaded: the last segment has none in the file. */
	image_elf(&image, true, 0x200000, kernel, 2);
	assert_no_part_boots(&image);
	image_elf(&image, false, 0x200000, kernel, 2);
	assert_no_part_boots(&image);
	image_elf(&image, false, 0x200000, kernel, 2);
	put_multiboot(&image, 0x800, 3);
	assert_no_part_boots(&image);
	pvh_image(true, 0x200000, 8);
	assert_no_part_boots(&image);
}

static void test_extremes(void **state)
{
	(void)state;
	for (int is_64 = 0; is_64 < 2; is_64++) {
		image_elf(&image, is_64, 0x200000, kernel, 3);
		assert_survives_extremes(&image, 0, elf_phdr(is_64, 3));
		pvh_image(is_64, 0x200000, 8);
		assert_survives_extremes(&image, 0x3500, 0x3500 + 24);
		assert_survives_extremes(&image, elf_phdr(is_64, 3), elf_phdr(is_64, 4));
	}
	multiboot_image(3);
	assert_survives_extremes(&image, 0x800, 0x80c);
	by_addresses(0x601000, 0x601000, 0x602900, 0x605000, 0x601020);
	assert_survives_extremes(&image, 0x800, 0x820);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linux_64),
		cmocka_unit_test(test_linux_32),
		cmocka_unit_test(test_virtual_entry),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_bad_segments),
		cmocka_unit_test(test_bad_segments_64),
		cmocka_unit_test(test_tight),
		cmocka_unit_test(test_bad_header),
		cmocka_unit_test(test_many_segments),
		cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_note_alignment),
		cmocka_unit_test(test_pvh_bad),
		cmocka_unit_test(test_multiboot),
		cmocka_unit_test(test_module_name),
		cmocka_unit_test(test_multiboot_flags),
		cmocka_unit_test(test_multiboot_addresses),
		cmocka_unit_test(test_multiboot_addresses_bad),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
