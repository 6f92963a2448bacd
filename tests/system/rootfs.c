/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that lives on a disk: the distribution's root file system (scripts/rootfs)
 * boots with its own init, and puts a second disk to work (tests/work/disk-test).
 * When it has powered off, we look at both disks from out here, with tools that never
 * heard of lguest: what the guest says it wrote has to be what is there.
 */
#include "systest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND_SIZE  (128 << 20)
#define STAT_BLOCK   512   /* bytes: the unit of st_blocks, whatever the file system's */
#define FEWEST_FILES "100" /* there are three times as many; none at all would agree, too */

static bool make_second_disk(const char *directory)
{
	FILE *file = fopen(suite_text("%s/second.img", directory), "we");

	return file && ftruncate(fileno(file), SECOND_SIZE) == 0 && fclose(file) == 0;
}

/* Shell commands; in `directory`, with what they say in a file there. The first that fails says
 * what is wrong. */
static const struct {
	const char *command, *otherwise;
} checks[] = {
	{"e2fsck -fn disk.img", "the root file system is not clean"},
	{"e2fsck -fn second.img", "the file system on the second disk is not clean"},
	{"mkdir out && debugfs -R 'rdump /tree /checksums out' second.img &&"
	 "test $(wc -l <out/checksums) -ge " FEWEST_FILES,
	 "there are few files on the second disk"},
	{"cd out/tree && sha256sum -c ../checksums",
	 "a file on the second disk is not what the guest read there"},
	{"debugfs -R 'rdump /usr/bin out' disk.img && cd out/bin && sha256sum -c ../checksums",
	 "a file on the second disk is not what it was copied from"},
};

static bool run_checks(const char *directory, char *why, size_t size)
{
	for (size_t i = 0; i < COUNT(checks); i++)
		if (system(suite_text("cd '%s' && PATH=$PATH:/usr/sbin:/sbin && (%s) >log 2>&1",
				      directory, checks[i].command)) != 0) {
			snprintf(why, size, "%s: %s", checks[i].otherwise, checks[i].command);
			return false;
		}
	return true;
}

/* What the guest deleted and then trimmed is no longer kept for it. */
static bool check_trimmed(const char *directory, char *why, size_t size)
{
	FILE *summary =
		popen(suite_text("PATH=$PATH:/usr/sbin:/sbin dumpe2fs -h '%s/second.img' 2>&1",
				 directory),
		      "re");
	unsigned long blocks = 0, unused = 0, block_size = 0;
	struct stat info;
	char line[256];

	while (summary && fgets(line, sizeof(line), summary)) {
		sscanf(line, "Block count: %lu", &blocks);
		sscanf(line, "Free blocks: %lu", &unused);
		sscanf(line, "Block size: %lu", &block_size);
	}
	if (!summary || pclose(summary) != 0 ||
	    stat(suite_text("%s/second.img", directory), &info) < 0) {
		snprintf(why, size, "cannot tell how large the second disk is");
		return false;
	}
	snprintf(why, size, "the second disk takes %lu bytes here and %lu there",
		 (unsigned long)info.st_blocks * STAT_BLOCK, (blocks - unused) * block_size);
	return (unsigned long)info.st_blocks * STAT_BLOCK <= (blocks - unused) * block_size;
}

static bool check_disks(const char *directory, char *why, size_t size)
{
	return run_checks(directory, why, size) && check_trimmed(directory, why, size);
}

#define PROMPT EXPECT("root@guest:~# ")

static const struct test tests[] = {
	{
		/* As its user has it: without a second disk, and by hand. */
		.name = "debian-login",
		.patience = FOR_TEN_BOOTS,
		.flags = ON_REQUEST,
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--block={files}/disk.img,id=mine",
			 "--initrd={assets}/guest/cloud/initrd.img", "384",
			 "{assets}/guest/cloud/vmlinuz", "console=ttyS0", "quiet", "panic=-1",
			 "root=/dev/vda"},
		.copy = "guest/rootfs/disk.img",
		.steps = STEPS(
			EXPECT("guest login: "), TYPE("root\r"), PROMPT,
			TYPE("cd /sys/block/vda; cat serial cache_type queue/write_cache\r"),
			EXPECT("minewrite back\nwrite back\n"),
			EXPECT("root@guest:/sys/block/vda# "),
			TYPE("echo write through >cache_type; cat cache_type queue/write_cache\r"),
			EXPECT("write through\nwrite through\n"),
			EXPECT("root@guest:/sys/block/vda# "), TYPE("systemctl poweroff\r")),
		.unseen = {"Kernel panic", "Call Trace", "EXT4-fs error", "I/O error"},
	},
	{
		.name = "debian-root",
		.patience = FOR_TEN_BOOTS,
		.args = {"--block={files}/disk.img", "--block={files}/second.img",
			 "--initrd={assets}/guest/cloud/initrd.img", "384",
			 "{assets}/guest/cloud/vmlinuz", "console=ttyS0", "quiet", "panic=-1",
			 "root=/dev/vda", "test=disk"},
		.copy = "guest/rootfs/disk.img",
		.make_files = make_second_disk,
		.check_files = check_disks,
		.seen = {"disk-test: mounted /dev/vdb ext4\n", "disk-test: verified at depth 32\n",
			 "disk-test: trimmed /mnt: ", "disk-test: done\n"},
		.unseen = {"Kernel panic", "Call Trace", "EXT4-fs error", "I/O error"},
	},
};

void suite_add_rootfs(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
}
