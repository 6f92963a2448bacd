/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bzImages (LOAD-3), good and bad.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "boot_images.h"

#include "board/layout.h"

#include <string.h>

#define PARAMS LAYOUT_BOOT /* where the loader puts boot_params: rsi says so, and is checked */

static struct image image;

static void test_64bit(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	rig_boot(&rig, &image, MiB(64), 0, "console=hvc0");
	assert_flat(&rig, true);
	assert_int_equal(rig.cpu.rip, BZ_PREFERRED + 0x200);
	assert_int_equal(rig.cpu.gpr[RSI], PARAMS);
	assert_pattern(&rig, BZ_PREFERRED, BZ_SIZE, 0x11);
	assert_zero(&rig, BZ_PREFERRED + BZ_SIZE, MiB(4));
	assert_zero(&rig, LAYOUT_KERNEL, BZ_PREFERRED - LAYOUT_KERNEL);
	rig_close(&rig);
}

/* "32-bit Boot Protocol": esi, and zero in ebp, edi, ebx. */
static void test_32bit(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_XLOADFLAGS, 0, 2);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_flat(&rig, false);
	assert_int_equal(rig.cpu.rip, BZ_PREFERRED);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(rig.cpu.gpr[i], i == RSI ? PARAMS : 0);
	rig_close(&rig);

	/* The flag is one of 2.12: before, there was padding in its place. */
	put(&image, BZ_XLOADFLAGS, 1, 2);
	put(&image, BZ_VERSION, 0x020b, 2);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_flat(&rig, false);
	rig_close(&rig);
}

/* boot_params is the header of the image, what the loader has to say, and zero. */
static void test_boot_params(void **state)
{
	static u8 expected[4096];
	struct rig rig;
	u64 line;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_SETUP_DATA, 0x123456789abcdef0, 8);
	rig_boot(&rig, &image, MiB(64), 5000, "console=hvc0");
	memset(expected, 0, sizeof(expected));
	memcpy(expected + BZ_SETUP_SECTS, image.bytes + BZ_SETUP_SECTS,
	       BZ_HEADER_END - BZ_SETUP_SECTS);
	line = rig_get(&rig, PARAMS + 0x228, 4);
	assert_string_equal((const char *)rig_at(&rig, line, 13), "console=hvc0");
	expected[0x210] = 0xff;				   /* type_of_loader */
	memcpy(expected + 0x214, &(u32){BZ_PREFERRED}, 4); /* code32_start */
	memcpy(expected + 0x218, &(u32){MiB(64) - 8192}, 4);
	memcpy(expected + 0x21c, &(u32){5000}, 4);
	expected[0x226] = expected[0x227] = 0; /* ext_loader_ver, ext_loader_type */
	memcpy(expected + 0x228, &(u32){line}, 4);
	memset(expected + BZ_SETUP_DATA, 0, 8);
	memcpy(expected + 0x70, &(u64){LAYOUT_ACPI}, 8); /* acpi_rsdp_addr */
	expected[0x1e8] = 4;
	/* The map has a test of its own. */
	memcpy(expected + 0x2d0, rig_at(&rig, PARAMS + 0x2d0, 80), 80);
	assert_memory_equal(rig_at(&rig, PARAMS, 4096), expected, 4096);
	rig_close(&rig);
}

/* boot.rst: "If the setup_sects field contains 0, the real value is 4." */
static void test_setup_sects_0(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_SETUP_SECTS, 0, 1);
	put_pattern(&image, 5 * 512, BZ_SIZE, 0x33);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, BZ_PREFERRED, BZ_SIZE, 0x33);
	rig_close(&rig);
}

/* A signature may follow the image; it is no part of the kernel. */
static void test_appendix(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put_pattern(&image, image.len, 3000, 0x99);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, BZ_PREFERRED, BZ_SIZE, 0x11);
	assert_zero(&rig, BZ_PREFERRED + BZ_SIZE, 8192);
	rig_close(&rig);
}

/* Not to be moved: at 1 MiB, with the memory it will need at pref_address seen to. */
static void test_fixed(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_RELOCATABLE, 0, 1);
	put(&image, BZ_ALIGNMENT, 3, 4); /* means nothing here */
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, 0x100000, BZ_SIZE, 0x11);
	assert_int_equal(rig.cpu.rip, 0x100200);
	rig_close(&rig);
	rig_boot(&rig, &image, BZ_PREFERRED + BZ_INIT, 0, "");
	rig_close(&rig);
	assert_refused(&image, BZ_PREFERRED + BZ_INIT - MiB(1), 0, "", "24 MiB", "23 MiB");

	/* A 32-bit entry moves with the kernel. */
	put(&image, BZ_XLOADFLAGS, 0, 2);
	put(&image, BZ_CODE32_START, 0x100123, 4);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_int_equal(rig.cpu.rip, 0x100123);
	rig_close(&rig);
	put(&image, BZ_RELOCATABLE, 1, 1);
	put(&image, BZ_ALIGNMENT, BZ_ALIGN, 4);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_int_equal(rig.cpu.rip, BZ_PREFERRED + 0x123);
	assert_int_equal(rig_get(&rig, PARAMS + 0x214, 4), BZ_PREFERRED + 0x123);
	rig_close(&rig);
}

/* Movable, but from before there were preferences; or with one that cannot be had. */
static void test_no_preference(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_VERSION, 0x0209, 2);
	rig_boot(&rig, &image, MiB(8), 0, "");
	assert_pattern(&rig, 0x100000, BZ_SIZE, 0x11);
	rig_close(&rig);

	image_bzimage(&image);
	put(&image, BZ_PREF_ADDRESS, 0x10000, 8);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, 0x100000, BZ_SIZE, 0x11);
	rig_close(&rig);
}

/* An address that is not aligned is taken up to one that is. */
static void test_alignment(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_PREF_ADDRESS, BZ_PREFERRED + 0x1000, 8);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, BZ_PREFERRED + BZ_ALIGN, BZ_SIZE, 0x11);
	assert_int_equal(rig.cpu.rip, BZ_PREFERRED + BZ_ALIGN + 0x200);
	rig_close(&rig);
	put(&image, BZ_ALIGNMENT, 0, 4);
	assert_refused(&image, MiB(64), 0, "", "kernel_alignment");
	put(&image, BZ_ALIGNMENT, 0x300000, 4);
	assert_refused(&image, MiB(64), 0, "", "kernel_alignment", "0x300000");
	put(&image, BZ_ALIGNMENT, 0x80000000, 4);
	assert_refused(&image, MiB(64), 0, "", "64 MiB");
}

/* What the kernel unpacks into is RAM, and not the initrd: to the byte. */
static void test_init_size(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	put(&image, BZ_INIT_SIZE, MiB(64) - BZ_PREFERRED, 4);
	rig_boot(&rig, &image, MiB(64), 0, "");
	rig_close(&rig);
	assert_refused(&image, MiB(64), 1, "", "init_size", "initrd of 1 bytes", "64 MiB");
	put(&image, BZ_INIT_SIZE, MiB(64) - BZ_PREFERRED - 4096, 4);
	rig_boot(&rig, &image, MiB(64), 1, "");
	assert_pattern(&rig, BZ_PREFERRED, BZ_SIZE, 0x11);
	rig_close(&rig);
	put(&image, BZ_INIT_SIZE, MiB(64) - BZ_PREFERRED + 1, 4);
	assert_refused(&image, MiB(64), 0, "", "init_size", "65 MiB", "64 MiB");
	put(&image, BZ_INIT_SIZE, UINT32_MAX, 4);
	assert_refused(&image, MiB(64), 0, "", "init_size");
	/* Too small to be true: the image itself takes more. */
	put(&image, BZ_INIT_SIZE, 0, 4);
	rig_boot(&rig, &image, MiB(64), 0, "");
	rig_close(&rig);
}

static void test_damaged(void **state)
{
	(void)state;
	image_bzimage(&image);
	put(&image, BZ_LOADFLAGS, 0, 1);
	assert_refused(&image, MiB(64), 0, "", "zImage");
	image_bzimage(&image);
	put(&image, BZ_VERSION, 0x0201, 2);
	assert_refused(&image, MiB(64), 0, "", "2.01");
	image_bzimage(&image);
	put(&image, BZ_SYSSIZE, 0, 4);
	assert_refused(&image, MiB(64), 0, "", "syssize");
	image_bzimage(&image);
	put(&image, BZ_SYSSIZE, BZ_SIZE / 16 + 1, 4);
	assert_refused(&image, MiB(64), 0, "", "truncated", "4112", "4096");
	put(&image, BZ_SYSSIZE, UINT32_MAX, 4);
	assert_refused(&image, MiB(64), 0, "", "truncated");
	image_bzimage(&image);
	put(&image, BZ_SETUP_SECTS, 255, 1);
	assert_refused(&image, MiB(64), 0, "", "truncated");
	image_bzimage(&image);
	put(&image, BZ_JUMP_LENGTH, 0x30, 1);
	assert_refused(&image, MiB(64), 0, "", "header", "0x232");
	image_bzimage(&image);
	put(&image, BZ_SYSSIZE, 0x200 / 16, 4);
	assert_refused(&image, MiB(64), 0, "", "64-bit entry");
	image_bzimage(&image);
	put(&image, BZ_XLOADFLAGS, 0, 2);
	put(&image, BZ_CODE32_START, 0x100000 + BZ_SIZE, 4);
	assert_refused(&image, MiB(64), 0, "", "code32_start", "0x101000");
	put(&image, BZ_CODE32_START, 0xfffff, 4);
	assert_refused(&image, MiB(64), 0, "", "code32_start");
}

/* Until 2.08 images were not padded to whole paragraphs, and syssize was rounded up. */
static void test_last_paragraph(void **state)
{
	struct rig rig;

	(void)state;
	image_bzimage(&image);
	image.len -= 15;
	assert_refused(&image, MiB(64), 0, "", "truncated");
	put(&image, BZ_VERSION, 0x0207, 2);
	rig_boot(&rig, &image, MiB(64), 0, "");
	assert_pattern(&rig, 0x100000, BZ_SIZE - 15, 0x11);
	rig_close(&rig);
	image.len -= 1;
	assert_refused(&image, MiB(64), 0, "", "truncated");
}

static void test_truncated(void **state)
{
	(void)state;
	image_bzimage(&image);
	assert_no_part_boots(&image);
}

static void test_extremes(void **state)
{
	(void)state;
	image_bzimage(&image);
	assert_survives_extremes(&image, BZ_SETUP_SECTS, BZ_HEADER_END + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_64bit),	       cmocka_unit_test(test_32bit),
		cmocka_unit_test(test_boot_params),    cmocka_unit_test(test_setup_sects_0),
		cmocka_unit_test(test_appendix),       cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_no_preference),  cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_init_size),      cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_last_paragraph), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
