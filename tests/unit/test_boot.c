/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telling files apart, and what every kind of kernel gets: initrd, command line,
 * memory. The formats have tests of their own beside this one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "boot_images.h"

#include "board/layout.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

static struct image image;

/* LOAD-4: recognised as this; -errno for none. */
static int recognised(const struct image *as)
{
	enum kernel_format format = -1;
	struct problem why = {""};
	struct file file;
	int err;

	test_file(&file, "kernel", as->bytes, as->len);
	err = boot_recognise(&file, &format, &why);
	file_close(&file);
	return err ? err : (int)format;
}

static const struct image_segment plain = {PT_LOAD, 0x200000, 0x200000, 0x1000, 0x100, 0x100};

static void test_formats(void **state)
{
	const struct image_segment noted[] = {plain, {PT_NOTE, 0, 0, 0x1100, 20, 20}};

	(void)state;
	image_bzimage(&image);
	assert_int_equal(recognised(&image), KERNEL_BZIMAGE);
	image_elf(&image, true, 0x200000, &plain, 1);
	assert_int_equal(recognised(&image), KERNEL_ELF_LINUX);
	image_elf(&image, false, 0x200000, &plain, 1);
	assert_int_equal(recognised(&image), KERNEL_ELF_LINUX);
	image_elf(&image, true, 0x200000, noted, 2);
	put_pvh_note(&image, 0x1100, 0x200000, 4);
	assert_int_equal(recognised(&image), KERNEL_ELF_PVH);
	image_elf(&image, false, 0x200000, noted, 2);
	put_pvh_note(&image, 0x1100, 0x200000, 4);
	assert_int_equal(recognised(&image), KERNEL_ELF_PVH);
}

/* Multiboot goes before PVH, but only in a 32-bit file; ELF magic goes before bzImage magic. */
static void test_precedence(void **state)
{
	const struct image_segment noted[] = {plain, {PT_NOTE, 0, 0, 0x1100, 20, 20}};

	(void)state;
	image_elf(&image, false, 0x200000, noted, 2);
	put_pvh_note(&image, 0x1100, 0x200000, 4);
	put_multiboot(&image, 0x800, 0);
	assert_int_equal(recognised(&image), KERNEL_ELF_MULTIBOOT);
	image_elf(&image, true, 0x200000, noted, 2);
	put_pvh_note(&image, 0x1100, 0x200000, 4);
	put_multiboot(&image, 0x800, 0);
	assert_int_equal(recognised(&image), KERNEL_ELF_PVH);
	memcpy(image.bytes + BZ_MAGIC, "HdrS", 4);
	assert_int_equal(recognised(&image), KERNEL_ELF_PVH);
}

/* Notes of other owners and types do not make a kernel PVH, and do not hide the one that does. */
static void test_other_notes(void **state)
{
	struct image_segment noted[] = {plain, {PT_NOTE, 0, 0, 0x1100, 60, 60}};

	(void)state;
	image_elf(&image, true, 0x200000, noted, 2);
	put_pvh_note(&image, 0x1100, 0x200000, 4);
	put(&image, 0x1108, 17, 4);
	put_pvh_note(&image, 0x1114, 0x200000, 4);
	put(&image, 0x1120, 'G', 1);
	memset(image.bytes + 0x1128, 0, 20);
	image.len = 0x1100 + 60;
	assert_int_equal(recognised(&image), KERNEL_ELF_LINUX);
	put_pvh_note(&image, 0x1128, 0x200000, 4);
	assert_int_equal(recognised(&image), KERNEL_ELF_PVH);
}

/* A header is 4-aligned, adds up to 0, and is in the first 8192 bytes: all of it. */
static void test_multiboot_header(void **state)
{
	static const struct {
		size_t at;
		int is;
	} places[] = {
		{8192 - 12, KERNEL_ELF_MULTIBOOT}, {8192 - 8, KERNEL_ELF_LINUX},
		{8192, KERNEL_ELF_LINUX},	   {0x802, KERNEL_ELF_LINUX},
		{0x804, KERNEL_ELF_MULTIBOOT},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		image_elf(&image, false, 0x200000, &plain, 1);
		put_multiboot(&image, places[i].at, 0);
		assert_int_equal(recognised(&image), places[i].is);
	}
	image_elf(&image, false, 0x200000, &plain, 1);
	put_multiboot(&image, 0x800, 0);
	put(&image, 0x808, 0, 4);
	assert_int_equal(recognised(&image), KERNEL_ELF_LINUX);
}

static void test_strangers(void **state)
{
	(void)state;
	memset(&image, 0, sizeof(image));
	memcpy(image.bytes, "root:x:0:0:root:/root:/bin/sh\n", 30);
	image.len = 30;
	assert_int_equal(recognised(&image), -ENOEXEC);
	assert_refused(&image, MiB(64), 0, "", "text file", "bzImage", "ELF");
	image.len = 1;
	assert_refused(&image, MiB(64), 0, "", "bzImage", "ELF");
	image.len = 8192;
	assert_refused(&image, MiB(64), 0, "", "not a kernel", "bzImage", "ELF");
	memcpy(image.bytes + 0x38, "ARM\x64", 4);
	assert_refused(&image, MiB(64), 0, "", "another processor", "ARM64");
	memcpy(image.bytes + 0x38, "RSC\x05", 4);
	assert_refused(&image, MiB(64), 0, "", "another processor", "RISC-V");
	put(&image, 0, 0x8b1f, 4);
	put(&image, 0x38, 0, 4);
	assert_refused(&image, MiB(64), 0, "", "gzip");
	memcpy(image.bytes, "\xfd\x37zXZ", 6);
	assert_refused(&image, MiB(64), 0, "", "with xz");
	memcpy(image.bytes, "070701", 6);
	assert_refused(&image, MiB(64), 0, "", "--initrd");
}

static void test_other_processors(void **state)
{
	static const struct {
		u16 machine;
		const char *name;
	} machines[] = {{EM_AARCH64, "ARM64"},
			{EM_RISCV, "RISC-V"},
			{EM_386, "32 bits"},
			{0x7777, "30583"}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(machines); i++) {
		image_elf(&image, true, 0x200000, &plain, 1);
		put(&image, offsetof(Elf64_Ehdr, e_machine), machines[i].machine, 2);
		assert_refused(&image, MiB(64), 0, "", machines[i].name);
	}
	image_elf(&image, false, 0x200000, &plain, 1);
	put(&image, offsetof(Elf32_Ehdr, e_machine), EM_X86_64, 2);
	assert_refused(&image, MiB(64), 0, "", "32-bit");
	image_elf(&image, true, 0x200000, &plain, 1);
	put(&image, EI_DATA, ELFDATA2MSB, 1);
	assert_refused(&image, MiB(64), 0, "", "another processor", "big-endian");
}

/* A name as long as names get must not push the reason out of the line. */
static void test_long_name(void **state)
{
	static char name[4096];
	struct problem why = {""};
	struct file file;
	enum kernel_format format;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	test_file(&file, "kernel", "nonsense", 8);
	file.name = name;
	assert_true(boot_recognise(&file, &format, &why) < 0);
	assert_non_null(strstr(why.text, "text file"));
	file_close(&file);
}

/* LOAD-5: at the top, page-aligned, whole, and nothing but zeroes after it. */
static void test_initrd(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_boot(&rig, &image, MiB(64), 5000, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), MiB(64) - 8192);
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x21c, 4), 5000);
	assert_pattern(&rig, MiB(64) - 8192, 5000, 0x77);
	assert_zero(&rig, MiB(64) - 8192 + 5000, 8192 - 5000);
	rig_close(&rig);

	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 8), 0);
	rig_close(&rig);
}

/*
 * No byte above initrd_addr_max, however much RAM there is; nor above its default, where the image
 * has none.
 */
static void test_initrd_limit(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_boot(&rig, &image, GiB(5), 5000, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), 0x80000000 - 8192);
	assert_pattern(&rig, 0x80000000 - 8192, 5000, 0x77);
	rig_close(&rig);

	/* 0x37ffffff is the last byte, not the first that is too high. */
	put(&image, BZ_INITRD_ADDR_MAX, 0x37ffffff, 4);
	rig_boot(&rig, &image, GiB(5), 4096, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), 0x37fff000);
	rig_close(&rig);
	put(&image, BZ_INITRD_ADDR_MAX, 0x37fffffe, 4);
	rig_boot(&rig, &image, GiB(5), 4096, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), 0x37ffe000);
	rig_close(&rig);

	/* Protocol 2.02 came before initrd_addr_max: what is there is something else. */
	put(&image, BZ_VERSION, 0x0202, 2);
	put(&image, BZ_XLOADFLAGS, 0, 2);
	rig_boot(&rig, &image, GiB(5), 4096, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), 0x37fff000);
	rig_close(&rig);

	image_elf(&image, true, 0x200000, &plain, 1);
	rig_boot(&rig, &image, GiB(5), 4096, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x218, 4), 0x37fff000);
	rig_close(&rig);
}

/* LOAD-8 */
static void test_initrd_too_large(void **state)
{
	(void)state;
	image_bzimage(&image);
	assert_refused(&image, MiB(64), MiB(65), "", "initrd", "68157440", "65 MiB", "64 MiB");
	/* It fits, but not together with the kernel. */
	assert_refused(&image, MiB(64), MiB(45), "", "initrd of 47185920 bytes", "64 MiB");
	put(&image, BZ_INITRD_ADDR_MAX, 0, 4);
	assert_refused(&image, MiB(64), 1, "", "initrd", "1 bytes");
}

static void test_memory_too_small(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	assert_refused(&image, MiB(16), 0, "", "24 MiB", "16 MiB");
	rig_open(&rig, &image, MiB(3), 0, "");
	assert_true(rig_load(&rig) < 0);
	assert_non_null(strstr(rig.problem.text, "3072 KiB"));
	assert_non_null(strstr(rig.problem.text, "4 MiB"));
	rig_close(&rig);
}

/* LOAD-6 */
static void test_command_line(void **state)
{
	static char line[70000];
	struct rig rig;
	u64 at;

	(void)state;
	memset(line, 'x', 2047);
	image_bzimage(&image);
	rig_boot(&rig, &image, MiB(64), 0, line);
	at = rig_get(&rig, LAYOUT_BOOT + 0x228, 4);
	assert_true(at >= LAYOUT_BOOT && at + 2048 <= LAYOUT_BOOT_END);
	assert_string_equal((const char *)rig_at(&rig, at, 2048), line);
	rig_close(&rig);

	line[2047] = 'x';
	assert_refused(&image, MiB(64), 0, line, "2047", "2048");
	/* The image says how much: less, or more, but never more than there is room for. */
	put(&image, BZ_CMDLINE_SIZE, 5, 4);
	assert_refused(&image, MiB(64), 0, "123456", "at most 5", "has 6");
	rig_boot(&rig, &image, MiB(64), 0, "12345");
	rig_close(&rig);
	put(&image, BZ_CMDLINE_SIZE, UINT32_MAX, 4);
	rig_boot(&rig, &image, MiB(64), 0, line);
	assert_string_equal((const char *)rig_at(&rig, rig_get(&rig, LAYOUT_BOOT + 0x228, 4), 2049),
			    line);
	rig_close(&rig);
	memset(line, 'x', sizeof(line) - 1);
	assert_refused(&image, MiB(64), 0, line, "69999");
	/* Before 2.06 the field is something else. */
	put(&image, BZ_VERSION, 0x0205, 2);
	put(&image, BZ_CMDLINE_SIZE, 1, 4);
	line[2047] = '\0';
	rig_boot(&rig, &image, MiB(64), 0, line);
	rig_close(&rig);
	line[2047] = 'x';
	assert_refused(&image, MiB(64), 0, line, "2047", "69999");
}

/* LOAD-7: what the guest is told is RAM, exactly, with and without memory past the hole. */
static void test_memory_map(void **state)
{
	static const struct {
		u64 addr, size;
		u32 type;
	} map[] = {
		{0, 0x20000, 2},
		{0x20000, 0x9fc00 - 0x20000, 1},
		{0x9fc00, 0x100000 - 0x9fc00, 2},
		{0x100000, GiB(3) - 0x100000, 1},
		{GiB(4), GiB(2), 1},
	};
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_boot(&rig, &image, GiB(5), 0, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x1e8, 1), 5);
	for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
		u64 entry = LAYOUT_BOOT + 0x2d0 + i * 20;

		assert_int_equal(rig_get(&rig, entry, 8), map[i].addr);
		assert_int_equal(rig_get(&rig, entry + 8, 8), map[i].size);
		assert_int_equal(rig_get(&rig, entry + 16, 4), map[i].type);
	}
	rig_close(&rig);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x1e8, 1), 4);
	assert_int_equal(rig_get(&rig, LAYOUT_BOOT + 0x2d0 + 3 * 20 + 8, 8), MiB(63));
	rig_close(&rig);
}

/* RUN-3: a reboot loads it all again, whatever the guest did to its memory. */
static void test_reboot(void **state)
{
	struct cpu_state first;
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_boot(&rig, &image, MiB(64), 5000, "quiet");
	first = rig.cpu;
	memset(memory_at(rig.memory, 0, MiB(64)), 0xcc, MiB(64));
	assert_int_equal(memory_clear(rig.memory, &rig.problem), 0);
	assert_int_equal(rig_load(&rig), 0);
	assert_memory_equal(&first, &rig.cpu, sizeof(first));
	assert_pattern(&rig, BZ_PREFERRED, BZ_SIZE, 0x11);
	assert_pattern(&rig, MiB(64) - 8192, 5000, 0x77);
	assert_zero(&rig, BZ_PREFERRED + BZ_SIZE, MiB(1));
	rig_close(&rig);
}

/* Page 0, the firmware's area and its ACPI tables belong to others. */
static void test_leaves_others_alone(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_open(&rig, &image, MiB(64), 0, "quiet");
	memset(memory_at(rig.memory, LAYOUT_ACPI, 0x20000), 0x5a, 0x20000);
	assert_int_equal(rig_load(&rig), 0);
	assert_zero(&rig, 0, LAYOUT_BOOT);
	assert_zero(&rig, LAYOUT_BOOT_END, LAYOUT_ACPI - LAYOUT_BOOT_END);
	for (u64 i = 0; i < 0x20000; i++)
		assert_int_equal(rig_get(&rig, LAYOUT_ACPI + i, 1), 0x5a);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_other_notes),
		cmocka_unit_test(test_multiboot_header),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_other_processors),
		cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_initrd),
		cmocka_unit_test(test_initrd_limit),
		cmocka_unit_test(test_initrd_too_large),
		cmocka_unit_test(test_memory_too_small),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_memory_map),
		cmocka_unit_test(test_reboot),
		cmocka_unit_test(test_leaves_others_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
