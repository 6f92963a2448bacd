/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: what is ours, what is the kernel's, what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "options.h"

#include "engine/soft/tuning.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 16

static struct options options;
static struct problem why;

/* Parse a command line given as words between single spaces; "" for none. */
static int parse(const char *line)
{
	static char copy[512];
	static char *argv[MAX_ARGS + 1];
	int argc = 0;

	options_free(&options);
	why.text[0] = '\0';
	argv[argc++] = "lguest";
	strcpy(copy, line);
	for (char *word = *copy ? copy : NULL; word; argc++) {
		argv[argc] = word;
		word = strchr(word, ' ');
		if (word)
			*word++ = '\0';
	}
	argv[argc] = NULL;
	return options_parse(&options, argc, argv, &why);
}

static void test_plain(void **state)
{
	(void)state;
	assert_int_equal(parse("64 vmlinux"), 0);
	assert_int_equal(options.action, ACTION_RUN);
	assert_true(options.memory == MiB(64));
	assert_string_equal(options.kernel, "vmlinux");
	assert_string_equal(options.command_line, "");
	assert_string_equal(options.engine, "auto");
	assert_int_equal(options.vm.vcpus, 1);
	assert_null(options.initrd);
}

static void test_options_before_and_after(void **state)
{
	(void)state;
	assert_int_equal(parse("--cpus=4 --initrd i 64 --strict vmlinux --engine kvm --no-reboot "
			       "root=/dev/vda --cpus=9"),
			 0);
	assert_int_equal(options.vm.vcpus, 4);
	assert_string_equal(options.initrd, "i");
	assert_true(options.strict);
	assert_true(options.no_reboot);
	assert_string_equal(options.engine, "kvm");
	assert_string_equal(options.command_line, "root=/dev/vda --cpus=9");
}

static void test_kernel_arguments_with_dashes(void **state)
{
	(void)state;
	assert_int_equal(parse("64 vmlinux --frobnicate --cpus=2"), 0);
	assert_string_equal(options.command_line, "--frobnicate --cpus=2");
	assert_int_equal(options.vm.vcpus, 1);
	assert_int_equal(parse("64 vmlinux -v -- --cpus=2 -- x"), 0);
	assert_true(options.verbose);
	assert_string_equal(options.command_line, "--cpus=2 -- x");
}

/* A word that looks like an option, misspelt or late, and what it stands behind. */
static void test_stray_words(void **state)
{
	(void)state;
	assert_int_equal(parse("64 vmlinux --intrd=i --no-reboot quiet"), 0);
	assert_string_equal(options.astray, "--intrd=i");
	assert_ptr_equal(options.astray, options.kernels_first);
	assert_int_equal(parse("64 vmlinux quiet root=/dev/vda --no-reboot"), 0);
	assert_string_equal(options.astray, "--no-reboot");
	assert_string_equal(options.kernels_first, "quiet");
	/* These were meant so: "--" is where ours end, or the kernel's. */
	assert_int_equal(parse("64 vmlinux -- --no-reboot"), 0);
	assert_null(options.astray);
	assert_int_equal(parse("64 vmlinux quiet -- --shout"), 0);
	assert_null(options.astray);
	assert_int_equal(parse("64 vmlinux --no-reboot quiet - -x"), 0);
	assert_null(options.astray);
	assert_int_equal(parse("64 vmlinux --no-reboot"), 0);
	assert_null(options.astray);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		u64 size;
	} good[] = {
		{"4 k", MiB(4)},     {"4096K k", MiB(4)},      {"4100k k", MiB(4) + KiB(4)},
		{"8M k", MiB(8)},    {"2G k", GiB(2)},	       {"2g k", GiB(2)},
		{"5121K k", MiB(5)}, {"4194304 k", GiB(4096)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse(good[i].text), 0);
		assert_true(options.memory == good[i].size);
	}
}

static void test_soft_engine(void **state)
{
	static const struct {
		const char *line;
		u64 size;
	} caches[] = {
		{"64 k", MiB(64)},
		{"64 k --soft-cache=4", MiB(4)},
		{"--soft-cache=4096K 64 k", MiB(4)},
		{"--soft-cache=5121K 64 k", MiB(5)},
		{"--soft-cache 100m 64 k", MiB(100)},
		{"--soft-cache=2G 64 k", GiB(2)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
		assert_int_equal(parse(caches[i].line), 0);
		assert_true(options.vm.soft_cache == caches[i].size);
		assert_false(options.vm.soft_stats);
		assert_false(options.vm.soft_perf);
		assert_int_equal(options.vm.trace, 0);
	}
	assert_int_equal(parse("--engine=soft --soft-stats 64 k"), 0);
	assert_true(options.vm.soft_stats);
	assert_false(options.vm.soft_perf);
	assert_int_equal(parse("--soft-perf 64 k"), 0);
	assert_true(options.vm.soft_perf);
	assert_false(options.vm.soft_stats);
	assert_int_equal(options.vm.soft_without, 0);
	assert_int_equal(parse("--soft-without=links 64 k"), 0);
	assert_int_equal(options.vm.soft_without, WITHOUT_LINKS);
	assert_int_equal(parse("--soft-without=links,links 64 k"), 0);
}

static void test_trace(void **state)
{
	(void)state;
	assert_int_equal(parse("--trace=int 64 k"), 0);
	assert_int_equal(options.vm.trace, SOFT_TRACE_INT);
	assert_string_equal(options.vm.trace_file, "lguest.trace");
	assert_int_equal(parse("--trace=io,mmu --trace=exec 64 k --trace-file=/tmp/x"), 0);
	assert_int_equal(options.vm.trace, SOFT_TRACE_IO | SOFT_TRACE_MMU | SOFT_TRACE_EXEC);
	assert_string_equal(options.vm.trace_file, "/tmp/x");
	assert_int_equal(parse("--trace-file=x --trace=exec,int,mmu,io 64 k"), 0);
	assert_int_equal(options.vm.trace,
			 SOFT_TRACE_EXEC | SOFT_TRACE_INT | SOFT_TRACE_MMU | SOFT_TRACE_IO);
	assert_string_equal(options.vm.trace_file, "x");
}

static void test_disks(void **state)
{
	static const struct {
		const char *line;
		struct disk_options disk;
	} disks[] = {
		{"--block=d 64 k", {.file = "d"}},
		{"64 k --block=/a/b.img,ro", {.file = "/a/b.img", .read_only = true}},
		{"--block d,direct 64 k", {.file = "d", .direct = true}},
		{"--block=d,id=01234567890123456789 64 k",
		 {.file = "d", .id = "01234567890123456789"}},
		{"--block=d,id=a=b,direct,ro 64 k",
		 {.file = "d", .id = "a=b", .read_only = true, .direct = true}},
		{"--block=a,,b,,,,c,ro 64 k", {.file = "a,b,,c", .read_only = true}},
		{"--block=a,, 64 k", {.file = "a,"}},
		{"--block=,,ro 64 k", {.file = ",ro"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		const struct disk_options *want = &disks[i].disk;
		const struct disk_options *disk;

		assert_int_equal(parse(disks[i].line), 0);
		assert_int_equal(options.device_count, 1);
		assert_int_equal(options.devices[0].kind, DEVICE_BLOCK);
		disk = &options.devices[0].disk;
		assert_string_equal(disk->file, want->file);
		assert_string_equal(disk->id ? disk->id : "none", want->id ? want->id : "none");
		assert_int_equal(disk->read_only, want->read_only);
		assert_int_equal(disk->direct, want->direct);
	}
	assert_int_equal(parse("--block=d --rng --block=e,ro 64 k"), 0);
	assert_int_equal(options.device_count, 3);
	assert_string_equal(options.devices[2].disk.file, "e");
}

static void test_refused(void **state)
{
	static const struct {
		const char *line, *names;
	} bad[] = {
		{"", "memory size"},
		{"64", "kernel"},
		{"0 k", "memory 0"},
		{"3 k", "memory 3"},
		{"4095K k", "memory 4095K"},
		{"-1 k", "\"-1\""},
		{"64x k", "\"64x\""},
		{"64MB k", "\"64MB\""},
		{"x k", "\"x\""},
		{" k", "\"\""},
		{"99999999 k", "memory 99999999"},
		{"99999999999999999999999 k", "memory 99999999999999999999999"},
		{"18014398509481984G k", "memory 18014398509481984G"},
		{"--frobnicate 64 k", "--frobnicate"},
		{"-x 64 k", "-x"},
		{"64 --frobnicate k", "--frobnicate"},
		{"--strict=yes 64 k", "--strict=yes"},
		{"64 k --initrd", "--initrd"},
		{"64 k --initrd=a --initrd=b", "--initrd=b"},
		{"--cpus=0 64 k", "--cpus=0"},
		{"--cpus=256 64 k", "--cpus=256"},
		{"--cpus=-1 64 k", "--cpus=-1"},
		{"--cpus=2x 64 k", "--cpus=2x"},
		{"--cpus= 64 k", "--cpus="},
		{"--engine=vax 64 k", "--engine=vax"},
		{"--console=vga 64 k", "--console=vga"},
		{"--block= 64 k", "--block="},
		{"--block=,ro 64 k", "--block="},
		{"--block=d,rw 64 k", "\"rw\""},
		{"--block=d, 64 k", "\"\""},
		{"--block=d,ro,,id=x 64 k", "\"\""},
		{"--block=my,disk 64 k", "\"disk\""},
		{"--block=d,id 64 k", "\"id\""},
		{"--block=d,id= 64 k", "id=:"},
		{"--block=d,id=012345678901234567890 64 k", "id=012345678901234567890:"},
		{"--block=d,id=\xc3\xa4 64 k", "ASCII"},
		{"--block=d,id=a,id=b 64 k", "id= is there twice"},
		{"--block=d,ro,direct,ro 64 k", "ro is there twice"},
		{"--block=d,direct,direct 64 k", "direct is there twice"},
		{"--soft-cache=4095K 64 k", "--soft-cache=4095K: too small"},
		{"--soft-cache=0 64 k", "--soft-cache=0: too small"},
		{"--soft-cache=2049M 64 k", "--soft-cache=2049M"},
		{"--soft-cache=18014398509481984G 64 k", "--soft-cache=18014398509481984G"},
		{"--soft-cache=64x 64 k", "--soft-cache=64x"},
		{"--soft-cache= 64 k", "--soft-cache="},
		{"--soft-stats=1 64 k", "--soft-stats"},
		{"--engine=kvm --soft-stats 64 k", "--soft-stats"},
		{"--soft-perf=1 64 k", "--soft-perf"},
		{"--engine=kvm --soft-perf 64 k", "--soft-perf"},
		{"--trace= 64 k", "--trace="},
		{"--trace=disk 64 k", "\"disk\""},
		{"--trace=exec,ints 64 k", "\"ints\""},
		{"--trace=exec, 64 k", "\"\""},
		{"--trace=ex 64 k", "\"ex\""},
		{"--trace=int 64 k --engine=kvm", "--trace"},
		{"--trace-file=x 64 k", "--trace-file=x"},
		{"--trace=int --trace-file= 64 k", "--trace-file="},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(parse(bad[i].line) < 0);
		if (!strstr(why.text, bad[i].names))
			fail_msg("\"%s\" gave \"%s\", which does not say %s", bad[i].line, why.text,
				 bad[i].names);
	}
}

static void test_actions(void **state)
{
	(void)state;
	assert_int_equal(parse("--help"), 0);
	assert_int_equal(options.action, ACTION_HELP);
	assert_int_equal(parse("64 k --version"), 0);
	assert_int_equal(options.action, ACTION_VERSION);
	assert_int_equal(parse("--engine=help"), 0);
	assert_int_equal(options.action, ACTION_ENGINE_HELP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_options_before_and_after),
		cmocka_unit_test(test_kernel_arguments_with_dashes),
		cmocka_unit_test(test_stray_words),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_soft_engine),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_actions),
	};
	int failed = cmocka_run_group_tests_name("options", tests, NULL, NULL);

	options_free(&options);
	return failed;
}
