/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user may get wrong before any guest runs: arguments, files, sizes. Each
 * mistake gets one line on standard error that names the culprit, nothing on
 * standard output, and exit status 1 (RUN-2); nothing is left behind. Also the
 * questions that lguest answers without running anything: --help and its like.
 */
#include "systest.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HELLO	   "{assets}/guests/hello-linux64"
#define BIG_INITRD (100ll << 20) /* holes only; more than the 64 MiB of the guest that gets it */

/* A file in `directory` with these bytes, followed by nothing up to `size`. */
static bool make_file(const char *directory, const char *name, const void *data, size_t count,
		      off_t size, mode_t mode)
{
	char *path = suite_text("%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	bool made;

	if (fd < 0)
		return false;
	made = write(fd, data, count) == (ssize_t)count && (!size || ftruncate(fd, size) == 0) &&
	       fchmod(fd, mode) == 0;
	close(fd);
	return made;
}

/* An executable with one page of code, for the machine that is asked for. */
static bool make_elf(const char *directory, const char *name, unsigned machine)
{
	const struct {
		Elf64_Ehdr file;
		Elf64_Phdr segment;
		unsigned char code[64];
	} elf = {
		.file =
			{
				.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					    ELFDATA2LSB, EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = machine,
				.e_version = EV_CURRENT,
				.e_entry = 0x100000,
				.e_phoff = sizeof(Elf64_Ehdr),
				.e_ehsize = sizeof(Elf64_Ehdr),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 1,
			},
		.segment =
			{
				.p_type = PT_LOAD,
				.p_flags = PF_R | PF_X,
				.p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
				.p_vaddr = 0x100000,
				.p_paddr = 0x100000,
				.p_filesz = 64,
				.p_memsz = 64,
			},
	};

	return make_file(directory, name, &elf, sizeof(elf), 0, 0644);
}

static bool make_files(const char *directory)
{
	static const char words[] =
		"Dear hypervisor, I am not a kernel. I only look like a file.\n";
	char *folder = suite_text("%s/folder", directory);

	return mkdir(folder, 0755) == 0 && make_file(directory, "empty", "", 0, 0, 0644) &&
	       make_file(directory, "text", words, strlen(words), 0, 0644) &&
	       make_file(directory, "long-text", words, strlen(words), 1 << 20, 0644) &&
	       make_file(directory, "unreadable", words, strlen(words), 0, 0) &&
	       make_file(directory, "big", "", 0, BIG_INITRD, 0644) &&
	       make_elf(directory, "aarch64", EM_AARCH64) &&
	       make_elf(directory, "kernel", EM_X86_64);
}

/* Rows that differ in their arguments and in the culprit only. */
struct mistake {
	const char *name;
	const char *args[MAX_ARGS];
	const char *culprit[MAX_SEEN];
};

static const struct mistake mistakes[] = {
	{"no-arguments", {NULL}, {"memory"}},
	{"no-kernel", {"64"}, {"kernel"}},
	{"only-options", {"--verbose"}, {"memory"}},
	{"unknown-option", {"--frobnicate", "64", "{files}/text"}, {"--frobnicate"}},
	{"unknown-short-option", {"-x", "64", "{files}/text"}, {"-x"}},
	{"option-begins-alike", {"--initrdx=1", "64", "{files}/text"}, {"--initrdx=1"}},

	{"memory-0", {"0", "{files}/text"}, {"memory", "0"}},
	{"memory-3", {"3", "{files}/text"}, {"memory", "3"}},
	{"memory-below-4M", {"4095K", "{files}/text"}, {"memory", "4095K"}},
	{"memory-negative", {"-1", "{files}/text"}, {"memory", "-1"}},
	{"memory-99999999", {"99999999", "{files}/text"}, {"memory", "99999999"}},
	{"memory-past-64-bits",
	 {"18446744073709551617", "{files}/text"},
	 {"memory", "18446744073709551617"}},
	{"memory-wraps", {"17592186044417M", "{files}/text"}, {"memory", "17592186044417M"}},
	{"memory-64x", {"64x", "{files}/text"}, {"memory", "64x"}},
	{"memory-64Mx", {"64Mx", "{files}/text"}, {"memory", "64Mx"}},
	{"memory-M", {"M", "{files}/text"}, {"memory", "M"}},
	{"memory-space", {" 64", "{files}/text"}, {"memory", " 64"}},
	{"memory-empty", {"", "{files}/text"}, {"memory"}},

	{"kernel-missing", {"64", "{files}/missing"}, {"{files}/missing", "kernel"}},
	{"kernel-empty-name", {"64", ""}, {"kernel"}},
	{"kernel-folder", {"64", "{files}/folder"}, {"{files}/folder", "kernel"}},
	{"kernel-device", {"64", "/dev/zero"}, {"/dev/zero", "kernel"}},
	{"kernel-empty", {"64", "{files}/empty"}, {"{files}/empty", "kernel"}},
	{"kernel-text", {"64", "{files}/text"}, {"{files}/text"}},
	{"kernel-long-text", {"64", "{files}/long-text"}, {"{files}/long-text"}},
	{"kernel-zeros", {"64", "{files}/big"}, {"{files}/big"}},
	{"kernel-aarch64", {"64", "{files}/aarch64"}, {"{files}/aarch64"}},

	{"initrd-missing",
	 {"--initrd={files}/missing", "64", HELLO},
	 {"{files}/missing", "initrd"}},
	{"initrd-folder",
	 {"--initrd", "{files}/folder", "64", HELLO},
	 {"{files}/folder", "initrd"}},
	{"initrd-empty", {"64", HELLO, "--initrd={files}/empty"}, {"{files}/empty", "initrd"}},
	{"initrd-second", {"--initrd=one", "--initrd=two", "64", HELLO}, {"--initrd=two"}},
	{"initrd-second-after-kernel",
	 {"--initrd=one", "64", HELLO, "--initrd=two"},
	 {"--initrd=two"}},
	{"initrd-no-value", {"64", HELLO, "--initrd"}, {"--initrd"}},

	{"cpus-0", {"--cpus=0", "64", HELLO}, {"--cpus=0"}},
	{"cpus-100000", {"--cpus=100000", "64", HELLO}, {"--cpus=100000"}},
	{"cpus-negative", {"--cpus=-1", "64", HELLO}, {"--cpus=-1"}},
	{"cpus-x", {"--cpus=x", "64", HELLO}, {"--cpus=x"}},
	{"cpus-2x", {"--cpus", "2x", "64", HELLO}, {"2x"}},
	{"cpus-empty", {"--cpus=", "64", HELLO}, {"--cpus="}},
	{"cpus-no-value", {"64", HELLO, "--cpus"}, {"--cpus"}},
	{"engine-foo", {"--engine=foo", "64", HELLO}, {"--engine=foo"}},
	{"engine-empty", {"--engine=", "64", HELLO}, {"--engine="}},
	{"engine-no-value", {"--engine"}, {"--engine"}},
	{"console-foo", {"--console=foo", "64", HELLO}, {"--console=foo"}},
	{"console-no-value", {"--console"}, {"--console"}},
	{"soft-cache-too-small",
	 {"--soft-cache=4095K", "64", HELLO},
	 {"--soft-cache=4095K", "too small", "4 MiB"}},
	{"soft-cache-too-large", {"--soft-cache=2049M", "64", HELLO}, {"--soft-cache=2049M"}},
	{"soft-cache-64x", {"--soft-cache=64x", "64", HELLO}, {"--soft-cache=64x"}},
	{"soft-cache-no-value", {"64", HELLO, "--soft-cache"}, {"--soft-cache"}},
	{"soft-without-what",
	 {"--soft-without=links,link", "64", HELLO},
	 {"--soft-without=links,link", "\"link\""}},
	{"soft-without-nothing", {"--soft-without=", "64", HELLO}, {"--soft-without="}},
	{"soft-without-on-kvm",
	 {"--engine=kvm", "--soft-without=links", "64", HELLO},
	 {"--soft-without"}},
	{"soft-stats-on-kvm", {"--engine=kvm", "--soft-stats", "64", HELLO}, {"--soft-stats"}},
	{"soft-perf-on-kvm", {"--engine=kvm", "--soft-perf", "64", HELLO}, {"--soft-perf"}},
	{"trace-foo", {"--trace=int,foo", "64", HELLO}, {"--trace=int,foo", "\"foo\""}},
	{"trace-empty", {"--trace=", "64", HELLO}, {"--trace="}},
	{"trace-on-kvm", {"--trace=io", "--engine=kvm", "64", HELLO}, {"--trace"}},
	{"trace-file-alone", {"--trace-file=x", "64", HELLO}, {"--trace-file=x"}},
	{"username-unknown",
	 {"--username=lguest-has-no-such-user", "64", HELLO},
	 {"--username=lguest-has-no-such-user", "no such user"}},
	{"username-empty", {"--username=", "64", HELLO}, {"--username="}},
	{"username-no-value", {"64", HELLO, "--username"}, {"--username"}},
	{"chroot-missing",
	 {"--chroot={files}/missing", "64", HELLO},
	 {"--chroot={files}/missing", "No such file or directory"}},
	{"chroot-no-folder",
	 {"--chroot={files}/text", "64", HELLO},
	 {"--chroot={files}/text", "Not a directory"}},
	{"chroot-empty", {"--chroot=", "64", HELLO}, {"--chroot="}},
	{"flag-with-value", {"--strict=yes", "64", HELLO}, {"--strict"}},
};

/* Nothing is unreadable for root, so these are tried as somebody else. */
static const struct mistake mistakes_of_nobody[] = {
	{"kernel-unreadable", {"64", "{files}/unreadable"}, {"{files}/unreadable", "kernel"}},
	{"initrd-unreadable",
	 {"--initrd={files}/unreadable", "64", "{files}/kernel"},
	 {"{files}/unreadable", "initrd"}},
	{"username-not-root",
	 {"--username=nobody", "64", "{files}/kernel"},
	 {"--username=nobody", "root"}},
	{"chroot-not-root",
	 {"--chroot={files}/folder", "64", "{files}/kernel"},
	 {"--chroot={files}/folder", "root"}},
};

static void add_mistakes(struct suite *suite, const struct mistake *table, size_t count,
			 unsigned flags)
{
	for (size_t i = 0; i < count; i++) {
		struct test test = {
			.name = suite_text("usage/%s", table[i].name),
			.engines = NO_ENGINE,
			.patience = FOR_USAGE,
			.flags = flags,
			.make_files = make_files,
			.silent = true,
			.error_lines = 1,
			.status = 1,
		};

		memcpy(test.args, table[i].args, sizeof(test.args));
		memcpy(test.error_seen, table[i].culprit, sizeof(test.error_seen));
		suite_add(suite, &test);
	}
}

static const struct test questions[] = {
	{
		.name = "usage/help",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--help"},
		.seen = {"lguest [options] <memory> <kernel>", "--initrd", "--cpus", "--engine",
			 "--console", "--strict", "--no-reboot", "--soft-cache"},
	},
	{
		.name = "usage/help-before-mistakes",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--cpus=2", "--help", "--frobnicate"},
		.seen = {"lguest [options] <memory> <kernel>"},
	},
	{
		.name = "usage/help-unwritten",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.output = DEV_FULL,
		.args = {"--help"},
		.error_seen = {"standard output"},
		.error_lines = 1,
		.status = 1,
	},
	{
		.name = "usage/version",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--version"},
		.seen = {"lguest "},
	},
	{
		.name = "usage/engine-help",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--engine=help"},
		.seen = {"kvm ", "soft ", "auto ", "usable: "},
	},
	{
		.name = "usage/engine-not-usable",
		.engines = UNUSABLE_ENGINE,
		.patience = FOR_USAGE,
		.args = {"--engine={engine}", "64", HELLO},
		.silent = true,
		.error_seen = {"{engine}"},
		.error_lines = 1,
		.status = 1,
	},
};

/* These come up when the guest is laid out, which is after its engine was opened. */
static const struct test misfits[] = {
	{
		.name = "usage/initrd-larger-than-memory",
		.args = {"--initrd={files}/big", "64", HELLO},
		.make_files = make_files,
		.silent = true,
		.error_seen = {"{files}/big", "initrd"},
		.error_lines = 1,
		.status = 1,
	},
};

/*
 * LOAD-6: at most 2047 bytes where the image cannot say how many it takes, and the
 * message names both lengths.
 */
static void add_command_lines(struct suite *suite)
{
	enum { LIMIT = 2047 };
	char letters[LIMIT + 2];
	struct test test = {
		.args = {"--debug-exit", "64", HELLO, NULL},
	};

	memset(letters, 'a', sizeof(letters));
	test.name = "usage/command-line-just-fits";
	test.args[3] = suite_text("%.*s", LIMIT, letters);
	test.seen[0] = test.args[3];
	test.status = 33;
	suite_add(suite, &test);

	test.name = "usage/command-line-too-long";
	test.args[3] = suite_text("%.*s", LIMIT + 1, letters);
	test.seen[0] = NULL;
	test.error_seen[0] = "2048";
	test.error_seen[1] = "2047";
	test.silent = true;
	test.error_lines = 1;
	test.status = 1;
	suite_add(suite, &test);
}

void suite_add_bad_input(struct suite *suite)
{
	add_mistakes(suite, mistakes, COUNT(mistakes), 0);
	add_mistakes(suite, mistakes_of_nobody, COUNT(mistakes_of_nobody), AS_NOBODY);
	for (size_t i = 0; i < COUNT(questions); i++)
		suite_add(suite, &questions[i]);
	for (size_t i = 0; i < COUNT(misfits); i++)
		suite_add(suite, &misfits[i]);
	add_command_lines(suite);
}
