/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM: where it is, where it is not, and files mapped into it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct problem why;

static struct memory *new_memory(u64 size)
{
	struct memory *memory = memory_new(size, &why);

	assert_non_null(memory);
	return memory;
}

/* A file of that many bytes, in which each byte tells its offset. */
static struct file new_file(u64 size)
{
	struct file file = {
		.fd = memfd_create("test", MFD_CLOEXEC), .name = "pattern", .what = "kernel"};

	assert_true(file.fd >= 0);
	for (u64 i = 0; i < size; i++) {
		u8 byte = i ^ i >> 8;

		assert_int_equal(pwrite(file.fd, &byte, 1, i), 1);
	}
	assert_int_equal(file_refresh(&file, &why), 0);
	return file;
}

static bool readable(const void *at)
{
	int fds[2];
	bool yes;

	assert_int_equal(pipe(fds), 0);
	yes = write(fds[1], at, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return yes;
}

static void test_small(void **state)
{
	struct memory *memory = new_memory(MiB(16));

	(void)state;
	assert_ptr_equal(memory_at(memory, 0, 1), memory->base);
	/* Large pages can be used: both addresses agree below 2 MiB. */
	assert_true(((u64)memory->base & (MiB(2) - 1)) == 0);
	assert_non_null(memory_at(memory, 0, MiB(16)));
	assert_null(memory_at(memory, 0, MiB(16) + 1));
	assert_non_null(memory_at(memory, MiB(16) - 1, 1));
	assert_null(memory_at(memory, MiB(16) - 1, 2));
	assert_null(memory_at(memory, MiB(16), 0));
	assert_null(memory_at(memory, MiB(16), 1));
	assert_null(memory_at(memory, 1, UINT64_MAX));
	assert_null(memory_at(memory, UINT64_MAX, 1));
	assert_null(memory_at(memory, MEMORY_HIGH_BASE, 1));
	/* Guards on both sides. */
	assert_false(readable(memory->base - 1));
	assert_false(readable(memory->base + MiB(16)));
	assert_true(readable(memory->base + MiB(16) - 1));
	memory_free(memory);
}

static void test_hole(void **state)
{
	struct memory *memory = new_memory(GiB(5));

	(void)state;
	assert_true(memory->low == GiB(3));
	assert_true(memory->high == GiB(2));
	assert_null(memory_at(memory, GiB(3), 1));
	assert_null(memory_at(memory, GiB(3) - 1, 2));
	assert_null(memory_at(memory, GiB(4) - 1, 1));
	assert_ptr_equal(memory_at(memory, GiB(4), GiB(2)), memory->base + GiB(4));
	assert_null(memory_at(memory, GiB(4), GiB(2) + 1));
	assert_null(memory_at(memory, GiB(6), 1));
	assert_false(readable(memory->base + GiB(3)));
	assert_false(readable(memory->base + GiB(4) - 1));
	assert_true(readable(memory->base + GiB(6) - 1));
	assert_true(memory_gpa(memory, memory->base + GiB(4) + 5) == GiB(4) + 5);
	memory_free(memory);
}

/* Wherever it goes, all of it arrives, and nothing beside it. */
static void place(u64 gpa, u64 offset, u64 len)
{
	struct memory *memory = new_memory(MiB(4));
	struct file file = new_file(5 * PAGE_SIZE + 100);
	u8 *at = memory_at(memory, gpa, len);

	if (gpa)
		memory->base[gpa - 1] = 0xee;
	at[len] = 0xee;
	assert_int_equal(memory_place_file(memory, gpa, &file, offset, len, &why), 0);
	for (u64 i = 0; i < len; i++)
		assert_int_equal(at[i], ((offset + i) ^ (offset + i) >> 8) & 0xff);
	if (gpa)
		assert_int_equal(memory->base[gpa - 1], 0xee);
	assert_int_equal(at[len], 0xee);
	/* It is private: the file does not see what the guest does. */
	at[0]++;
	at[len - 1]++;
	file_close(&file);
	memory_free(memory);
}

static void test_place(void **state)
{
	(void)state;
	place(MiB(1), 0, 5 * PAGE_SIZE + 100);
	place(MiB(1), PAGE_SIZE, 4 * PAGE_SIZE);
	place(MiB(1) + 16, 16, 3 * PAGE_SIZE);
	place(MiB(1) + 16, 16, 40);
	place(MiB(1) + 17, 16, 3 * PAGE_SIZE);
	place(MiB(1) + PAGE_SIZE - 1, 2 * PAGE_SIZE - 1, 2);
	place(0, 5, 1);
}

static void test_place_refused(void **state)
{
	struct memory *memory = new_memory(MiB(4));
	struct file file = new_file(PAGE_SIZE + 1);

	(void)state;
	assert_true(memory_place_file(memory, MiB(1), &file, 0, PAGE_SIZE + 2, &why) < 0);
	assert_non_null(strstr(why.text, "truncated"));
	assert_true(memory_place_file(memory, MiB(1), &file, UINT64_MAX, 2, &why) < 0);
	assert_true(memory_place_file(memory, MiB(4) - 1, &file, 0, 2, &why) < 0);
	assert_non_null(strstr(why.text, "does not fit"));
	assert_true(memory_place_file(memory, UINT64_MAX, &file, 0, 2, &why) < 0);
	file_close(&file);
	memory_free(memory);
}

static void test_clear(void **state)
{
	struct memory *memory = new_memory(MiB(4));
	struct file file = new_file(2 * PAGE_SIZE);

	(void)state;
	memory->base[5] = 1;
	assert_int_equal(memory_place_file(memory, MiB(1), &file, 0, 2 * PAGE_SIZE, &why), 0);
	assert_ptr_equal(memory_file_at(memory, memory->base + MiB(1) + 5), &file);
	assert_null(memory_file_at(memory, memory->base + MiB(1) - 1));
	assert_null(memory_file_at(memory, memory->base - 1));
	assert_int_equal(memory_clear(memory, &why), 0);
	assert_int_equal(memory->base[5], 0);
	for (u64 i = 0; i < 2 * PAGE_SIZE; i++)
		assert_int_equal(memory->base[MiB(1) + i], 0);
	assert_null(memory_file_at(memory, memory->base + MiB(1) + 5));
	file_close(&file);
	memory_free(memory);
}

struct written {
	u64 gpa, len;
};

static void note_written(void *opaque, u64 gpa, u64 len)
{
	*(struct written *)opaque = (struct written){gpa, len};
}

static void test_written(void **state)
{
	struct memory *memory = new_memory(MiB(4));
	struct written written = {0, 0};

	(void)state;
	guest_ram_written(memory, 1, 2);
	memory->written = note_written;
	memory->written_opaque = &written;
	guest_ram_written(memory, MiB(1), 7);
	assert_true(written.gpa == MiB(1) && written.len == 7);
	memory_free(memory);
}

static void test_files(void **state)
{
	char folder[] = "/tmp/test-memory-XXXXXX";
	char empty[64];
	struct file file;
	u8 byte;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(empty, sizeof(empty), "%s/empty", folder);
	fd = open(empty, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_true(file_open(&file, folder, "kernel", &why) < 0);
	assert_non_null(strstr(why.text, "directory"));
	assert_non_null(strstr(why.text, folder));
	assert_true(file_open(&file, empty, "initrd", &why) < 0);
	assert_non_null(strstr(why.text, "initrd"));
	assert_non_null(strstr(why.text, "empty"));
	assert_true(file_open(&file, "/dev/null", "kernel", &why) < 0);
	assert_non_null(strstr(why.text, "device"));
	unlink(empty);
	assert_int_equal(mkfifo(empty, 0600), 0);
	assert_true(file_open(&file, empty, "kernel", &why) < 0);
	assert_non_null(strstr(why.text, "pipe"));
	unlink(empty);
	assert_true(file_open(&file, empty, "kernel", &why) < 0);
	assert_non_null(strstr(why.text, "No such file"));
	rmdir(folder);

	file = new_file(10);
	assert_int_equal(file_read(&file, 9, &byte, 1, &why), 0);
	assert_int_equal(byte, 9);
	assert_true(file_read(&file, 10, &byte, 1, &why) < 0);
	assert_true(file_read(&file, UINT64_MAX, &byte, 1, &why) < 0);
	assert_true(file_read(&file, 0, &byte, UINT64_MAX, &why) < 0);
	file_close(&file);
}

/* What is in the file is in RAM, at the same offsets: a kernel's file, too; and nothing from
 * before. */
static void test_share(void **state)
{
	struct memory *memory = new_memory(GiB(3) + MiB(2));
	struct file file = new_file(3 * PAGE_SIZE);
	u8 byte = 0;

	(void)state;
	assert_int_equal(memory->fd, -1);
	memory->base[0] = 1;
	assert_int_equal(memory_place_file(memory, MiB(1), &file, 0, file.size, &why), 0);
	assert_int_equal(memory_share(memory, &why), 0);
	assert_true(memory->fd >= 0);
	assert_int_equal(memory->base[0], 0);
	assert_int_equal(memory->base[MiB(1) + 1], 0);
	assert_int_equal(memory_place_file(memory, MiB(1), &file, 0, file.size, &why), 0);
	assert_int_equal(pread(memory->fd, &byte, 1, MiB(1) + 7), 1);
	assert_int_equal(byte, 7);
	assert_null(memory_file_at(memory, memory->base + MiB(1)));
	memory->base[MEMORY_HIGH_BASE + 5] = 6;
	assert_int_equal(pread(memory->fd, &byte, 1, MEMORY_HIGH_BASE + 5), 1);
	assert_int_equal(byte, 6);
	assert_int_equal(memory_clear(memory, &why), 0);
	assert_int_equal(memory->base[MEMORY_HIGH_BASE + 5], 0);
	assert_int_equal(memory->base[MiB(1) + 7], 0);
	assert_false(readable(memory->base + GiB(3)));
	memory_free(memory);
	close(file.fd);
}

/* There is room for one such guest, but not for a file of it beside that. */
static void test_share_refused(void **state)
{
	struct memory *memory = new_memory(MiB(64));
	struct file file = new_file(3 * PAGE_SIZE);
	struct rlimit limit, none;
	const u8 *base = memory->base;
	int err;

	(void)state;
	memory->base[0] = 1;
	assert_int_equal(memory_place_file(memory, MiB(1), &file, 0, file.size, &why), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
	none = (struct rlimit){.rlim_cur = PAGE_SIZE, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	err = memory_share(memory, &why);
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	assert_int_equal(err, -ENOMEM);
	assert_non_null(strstr(why.text, "as a file"));
	assert_int_equal(memory->fd, -1);
	assert_ptr_equal(memory->base, base);
	assert_int_equal(memory->base[0], 1);
	assert_ptr_equal(memory_file_at(memory, memory->base + MiB(1)), &file);
	memory_free(memory);
	close(file.fd);
}

static void test_too_large(void **state)
{
	(void)state;
	/* More than the address space of any machine of today. */
	assert_null(memory_new(1ull << 60, &why));
	assert_non_null(strstr(why.text, "MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small), cmocka_unit_test(test_hole),
		cmocka_unit_test(test_place), cmocka_unit_test(test_place_refused),
		cmocka_unit_test(test_clear), cmocka_unit_test(test_written),
		cmocka_unit_test(test_files), cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_share), cmocka_unit_test(test_share_refused),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
