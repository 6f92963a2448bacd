/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Work for a guest that lives on a disk of scripts/rootfs: what other people's programs
 * come to in it has to be what they come to out here (tests/work/work-test), with two
 * CPUs; a package from the distribution's mirror; and an hour in which two CPUs are in each
 * other's way (tests/work/stress-test). What the disk itself is put through is in rootfs.c.
 */
#include "systest.h"

#include <stdio.h>
#include <stdlib.h>

#define BOOT(memory)                                                                               \
	"--block={files}/disk.img", "--initrd={assets}/guest/cloud/initrd.img", memory,            \
		"{assets}/guest/cloud/vmlinuz", "console=ttyS0", "quiet", "panic=-1",              \
		"root=/dev/vda"
#define AN_HOUR "3600"
#define TROUBLE "Kernel panic", "Call Trace", "EXT4-fs error", "I/O error", "lockup", " stall"

/* What the guest did is beside what was done here when the disk was made. */
static bool compare_work(const char *directory, char *why, size_t size)
{
	static const char compare[] =
		"cd '%s' && PATH=$PATH:/usr/sbin:/sbin && "
		"debugfs -R 'rdump /var/lib/work .' disk.img >log 2>&1 && "
		"test -s work/expected/digests && diff -r work/expected work/results >differences";
	FILE *differences;
	size_t length;

	if (system(suite_text(compare, directory)) == 0)
		return true;
	differences = fopen(suite_text("%s/differences", directory), "re");
	snprintf(why, size, "it does not come to what it comes to here: ");
	for (length = 0; why[length]; length++)
		;
	if (differences) {
		length += fread(why + length, 1, size - length - 1, differences);
		why[length] = 0;
		fclose(differences);
	}
	return false;
}

static const struct test tests[] = {
	{
		/* As much as there is time for. */
		.name = "debian-some-work",
		.patience = FOR_TEN_BOOTS,
		.args = {"--cpus=2", BOOT("512"), "test=work"},
		.copy = "guest/rootfs/disk.img",
		.check_files = compare_work,
		.seen = {"work: done\n"},
		.unseen = {TROUBLE},
	},
	{
		.name = "debian-work",
		.patience = FOR_AN_HOUR,
		.flags = ON_REQUEST,
		.args = {"--cpus=2", BOOT("1024"), "test=work"},
		.copy = "guest/workload/disk.img",
		.check_files = compare_work,
		.seen = {"work: done\n"},
		.unseen = {TROUBLE},
	},
	{
		.name = "debian-package",
		.patience = FOR_TEN_MINUTES,
		.flags = ON_REQUEST,
		.args = {"--cpus=2", "--net=user", BOOT("1024"), "test=package"},
		.copy = "guest/workload/disk.img",
		.seen = {"Hello, world!\n", "package: done\n"},
		.unseen = {TROUBLE},
	},
};

/* As long as STRESS_SECONDS in the environment says, or an hour. */
static void add_stress(struct suite *suite)
{
	const char *seconds = getenv("STRESS_SECONDS");
	const struct test test = {
		.name = "debian-stress",
		.patience = FOR_AN_HOUR,
		.flags = ON_REQUEST,
		.args = {"--cpus=2", "--rng", BOOT("768"), "test=stress",
			 suite_text("seconds=%s", seconds ? seconds : AN_HOUR)},
		.copy = "guest/workload/disk.img",
		.seen = {"stress: modules came and went ", "stress: done\n"},
		.unseen = {TROUBLE},
	};

	suite_add(suite, &test);
}

void suite_add_work(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
	add_stress(suite);
}
