/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of translated code for perf: where it is made, what is in it, and that whoever was there
 * before us with a link gains nothing by it.
 */
#include "soft_vcpu.h"

#include "engine/soft/translate.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct soft *soft;
static struct vcpu *vcpu;
static char map[64], target[] = "/tmp/test-perf-map-XXXXXX";

static int make_vcpu(void **state)
{
	struct fixture *f;

	if (setup(state))
		return -1;
	f = *state;
	soft = f->soft;
	vcpu = f->vcpu;
	soft->options.soft_perf = true;
	snprintf(map, sizeof(map), "/tmp/perf-%d.map", (int)getpid());
	return 0;
}

static int free_vcpu(void **state)
{
	perf_map_close(soft);
	unlink(map);
	rmdir(map);
	return teardown(state);
}

static void add(u64 code, u32 size, u32 mode, u64 linear)
{
	perf_map_add(vcpu, linear, mode, (const u8 *)code, size);
}

static void assert_map_is(const char *wanted)
{
	char text[512] = "";
	int file = open(map, O_RDONLY);

	assert_true(file >= 0);
	assert_true(read(file, text, sizeof(text) - 1) >= 0);
	close(file);
	assert_string_equal(text, wanted);
}

static void test_lines(void **state)
{
	struct problem why;
	struct stat file;

	(void)state;
	assert_int_equal(perf_map_open(soft, &why), 0);
	add(0x7f0012345670, 0x1a0, MODE_CODE_64 | VIEW_KERNEL, 0xffffffff81001234);
	add(0x7f0012345810, 0x20, MODE_CODE_64 | VIEW_KERNEL_AC | MODE_SINGLE, 0xffffffff81001240);
	add(0x7f0012345830, 0x9, MODE_CODE_64 | VIEW_USER | MODE_CROSSING, 0x401fff);
	add(0x7f0012345840, 0x10, MODE_CODE_32 | VIEW_USER | MODE_FLAT, 0x8048000);
	add(0x7f0012345850, 0xabc, MODE_CODE_16 | VIEW_KERNEL, 0x7c00);
	perf_map_close(soft);
	assert_map_is("7f0012345670 1a0 guest:k:ffffffff81001234\n"
		      "7f0012345810 20 guest:k:ffffffff81001240\n"
		      "7f0012345830 9 guest:u:401fff\n"
		      "7f0012345840 10 guest:u32:8048000\n"
		      "7f0012345850 abc guest:k16:7c00\n");
	assert_int_equal(lstat(map, &file), 0);
	assert_int_equal(file.st_mode, S_IFREG | 0600);
}

static void test_not_wanted(void **state)
{
	struct problem why;

	(void)state;
	soft->options.soft_perf = false;
	assert_int_equal(perf_map_open(soft, &why), 0);
	add(0x1000, 0x10, 0, 0x401000);
	perf_map_close(soft);
	assert_int_equal(access(map, F_OK), -1);
}

/* An earlier process of this number left one, with more in it than we have to say. */
static void test_left_behind(void **state)
{
	struct problem why;
	int file = open(map, O_WRONLY | O_CREAT, 0644);

	(void)state;
	assert_int_equal(write(file, "an old line\n", 12), 12);
	close(file);
	assert_int_equal(perf_map_open(soft, &why), 0);
	perf_map_close(soft);
	assert_map_is("");
}

static void test_link(void **state)
{
	struct problem why;
	struct stat file;
	int fd = mkstemp(target);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(symlink(target, map), 0);
	assert_int_equal(perf_map_open(soft, &why), 0);
	add(0x1000, 0x10, VIEW_USER, 0x401000);
	perf_map_close(soft);
	assert_int_equal(stat(target, &file), 0);
	unlink(target);
	assert_int_equal(file.st_size, 0);
	assert_map_is("1000 10 guest:u:401000\n");
}

static void test_in_the_way(void **state)
{
	struct problem why;

	(void)state;
	assert_int_equal(mkdir(map, 0700), 0);
	assert_true(perf_map_open(soft, &why) < 0);
	assert_non_null(strstr(why.text, map));
	assert_null(soft->perf_map);
}

/* Where /tmp lets nobody take away what is not his, another user may be first. */
static void test_of_somebody_else(void **state)
{
	enum { NOBODY = 65534 };
	struct problem why;
	int file, err;

	(void)state;
	if (geteuid())
		skip();
	file = open(map, O_WRONLY | O_CREAT, 0600);
	assert_true(file >= 0);
	assert_int_equal(fchmod(file, 0666), 0);
	close(file);
	assert_int_equal(seteuid(NOBODY), 0);
	err = perf_map_open(soft, &why);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(err, -EEXIST);
	assert_non_null(strstr(why.text, map));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, make_vcpu, free_vcpu),
		cmocka_unit_test_setup_teardown(test_not_wanted, make_vcpu, free_vcpu),
		cmocka_unit_test_setup_teardown(test_left_behind, make_vcpu, free_vcpu),
		cmocka_unit_test_setup_teardown(test_link, make_vcpu, free_vcpu),
		cmocka_unit_test_setup_teardown(test_in_the_way, make_vcpu, free_vcpu),
		cmocka_unit_test_setup_teardown(test_of_somebody_else, make_vcpu, free_vcpu),
	};

	return cmocka_run_group_tests_name("soft_perf_map", tests, NULL, NULL);
}
