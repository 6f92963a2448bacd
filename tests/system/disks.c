/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks: a guest that asks its disk for everything there is to ask (tests/guests/block.c), a
 * distribution's kernel that has some, and what a user may get wrong. Afterwards
 * each file is looked at: it holds what the guest says that it wrote, and is as long as it was.
 */
#include "systest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK		"{assets}/guests/block"
#define HELLO		"{assets}/guests/hello-linux64"
#define CLOUD		"--initrd={assets}/guest/cloud/initrd.img", "256", "{assets}/guest/cloud/vmlinuz"
#define NO_FAILURE	", 0 failed"
#define FAILURE		"FAILED: "
#define ALL_WELL	33
#define SECTOR		512
#define SECTORS		2048
#define SIZE		(SECTORS * SECTOR)
#define ODD_BYTES	100
#define MORE_THAN_SLOTS 30 /* devices; a guest can have one less */

/* A file full of zeroes, but for the text it begins with. */
static bool make_file(const char *directory, const char *name, const char *text, off_t size,
		      mode_t mode)
{
	int fd = open(suite_text("%s/%s", directory, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool made = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
		    ftruncate(fd, size) == 0 && fchmod(fd, mode) == 0;

	if (fd >= 0)
		close(fd);
	return made;
}

static bool make_disk(const char *directory)
{
	return make_file(directory, "disk", "", SIZE, 0666) && chmod(directory, 0777) == 0;
}

static bool make_odd_disk(const char *directory)
{
	return make_file(directory, "disk", "", SIZE + ODD_BYTES, 0666);
}

static bool make_two_disks(const char *directory)
{
	return make_disk(directory) &&
	       make_file(directory, "a,b", "the second one\n", 64 << 20, 0666);
}

static bool make_bad_disks(const char *directory)
{
	return make_disk(directory) && make_file(directory, "empty", "", 0, 0666) &&
	       make_file(directory, "small", "x", SECTOR - 1, 0666) &&
	       make_file(directory, "unreadable", "", SIZE, 0) &&
	       make_file(directory, "only-readable", "", SIZE, 0444) &&
	       mkdir(suite_text("%s/folder", directory), 0755) == 0 &&
	       mkfifo(suite_text("%s/fifo", directory), 0666) == 0;
}

/* In use by us, for as long as the row's process lasts. */
static bool make_locked(const char *directory, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
	int fd;

	if (!make_disk(directory))
		return false;
	fd = open(suite_text("%s/disk", directory), O_RDWR | O_CLOEXEC);
	return fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static bool make_written_disk(const char *directory)
{
	return make_locked(directory, F_WRLCK);
}

static bool make_read_disk(const char *directory)
{
	return make_locked(directory, F_RDLCK);
}

/* Afterwards */

/* All of a file, or NULL with *why filled. */
static unsigned char *read_disk(const char *directory, size_t size, char *why, size_t room)
{
	unsigned char *data = malloc(size);
	int fd = open(suite_text("%s/disk", directory), O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (data && fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)size &&
	    read(fd, data, size) == (ssize_t)size) {
		close(fd);
		return data;
	}
	snprintf(why, room, "the disk cannot be read, or is no longer %zu bytes long", size);
	if (fd >= 0)
		close(fd);
	free(data);
	return NULL;
}

/* The guest's leave_pattern(): it fills eight sectors at a time, and wipes three in the end. */
static unsigned char pattern(unsigned at)
{
	const unsigned sector = at / SECTOR;

	if (sector >= 1000 && sector < 1003)
		return 0;
	return (at % (8 * SECTOR)) + sector * 17 + 42;
}

static bool check_pattern_in(const char *directory, size_t size, char *why, size_t room)
{
	unsigned char *data = read_disk(directory, size, why, room);
	bool fine = data;

	for (unsigned i = 0; fine && i < size; i++) {
		fine = data[i] == (i < SIZE ? pattern(i) : 0);
		if (!fine)
			snprintf(why, room, "byte %u of the disk is %u", i, data[i]);
	}
	free(data);
	return fine;
}

static bool check_pattern(const char *directory, char *why, size_t room)
{
	return check_pattern_in(directory, SIZE, why, room);
}

static bool check_odd_pattern(const char *directory, char *why, size_t room)
{
	return check_pattern_in(directory, SIZE + ODD_BYTES, why, room);
}

static bool check_untouched(const char *directory, char *why, size_t room)
{
	unsigned char *data = read_disk(directory, SIZE, why, room);
	bool fine = data;

	for (unsigned i = 0; fine && i < SIZE; i++)
		fine = !data[i];
	if (data && !fine)
		snprintf(why, room, "the disk was written to");
	free(data);
	return fine;
}

static bool check_boots(const char *directory, char *why, size_t room)
{
	unsigned char *data = read_disk(directory, SIZE, why, room);
	bool fine = data && data[SECTOR] == 3;

	if (data && !fine)
		snprintf(why, room, "the disk has counted %u boots", data[SECTOR]);
	free(data);
	return fine;
}

static bool check_cloud(const char *directory, char *why, size_t room)
{
	static const char wanted[] = "hello, disk\n";
	unsigned char *data = read_disk(directory, SIZE, why, room);
	bool fine = data && !memcmp(data + SECTOR, wanted, strlen(wanted));

	if (data && !fine)
		snprintf(why, room, "what the guest wrote is not on the disk");
	free(data);
	return fine;
}

#define CHECKS_ITSELF .seen = {NO_FAILURE}, .unseen = {FAILURE}, .status = ALL_WELL
#define GO_ON(boot)   EXPECT("block: boot " boot), EXPECT("go on?"), LOCKED("disk"), TYPE("x")
#define PROMPT	      EXPECT("guest:/# ")

static const struct test tests[] = {
	{
		.name = "block",
		.args = {"--debug-exit", "--strict", "--block={files}/disk,id=disk-1", "64", BLOCK,
			 "sectors=2048", "id=disk-1"},
		.make_files = make_disk,
		.check_files = check_pattern,
		CHECKS_ITSELF,
	},
	{
		.name = "block-packed",
		.args = {"--debug-exit", "--strict", "--block={files}/disk,id=disk-1", "64", BLOCK,
			 "sectors=2048", "id=disk-1", "packed=1"},
		.make_files = make_disk,
		.check_files = check_pattern,
		CHECKS_ITSELF,
	},
	{
		/* The outer VM has no file system that could. */
		.name = "block-direct",
		.only = "soft",
		.args = {"--debug-exit", "--strict", "--block={files}/disk,direct", "64", BLOCK,
			 "sectors=2048"},
		.make_files = make_disk,
		.check_files = check_pattern,
		CHECKS_ITSELF,
	},
	{
		/* The last bytes are said to be useless, and not used. */
		.name = "block-odd-length",
		.args = {"--debug-exit", "--block={files}/disk", "64", BLOCK, "sectors=2048"},
		.make_files = make_odd_disk,
		.check_files = check_odd_pattern,
		.error_seen = {"{files}/disk", " 100 bytes"},
		.error_lines = 1,
		CHECKS_ITSELF,
	},
	{
		.name = "block-past-the-end",
		.args = {"--debug-exit", "--block={files}/disk", "64", BLOCK, "sectors=2048",
			 "past=1"},
		.make_files = make_disk,
		.check_files = check_pattern,
		CHECKS_ITSELF,
	},
	{
		.name = "block-past-the-end-strict",
		.args = {"--debug-exit", "--strict", "--block={files}/disk", "64", BLOCK, "past=1"},
		.make_files = make_disk,
		.error_seen = {"block0: queue 0: DEV-2: 1 sectors from 2048 on"},
		.error_lines = 1,
		.status = 2,
	},
	{
		.name = "block-read-only",
		.args = {"--debug-exit", "--strict", "--block={files}/disk,ro,id=x", "64", BLOCK,
			 "sectors=2048", "ro=1", "id=x"},
		.make_files = make_disk,
		.check_files = check_untouched,
		CHECKS_ITSELF,
	},
	{
		/* Readers do not mind each other. */
		.name = "block-read-only-shared",
		.args = {"--debug-exit", "--block={files}/disk,ro", "--block={files}/disk,ro", "64",
			 BLOCK, "sectors=2048", "ro=1"},
		.make_files = make_disk,
		.check_files = check_untouched,
		CHECKS_ITSELF,
	},
	{
		/* RUN-3: a reboot keeps the disk, and keeps it locked. */
		.name = "block-reboots",
		.args = {"--debug-exit", "--block={files}/disk", "64", BLOCK, "boots=3"},
		.make_files = make_disk,
		.check_files = check_boots,
		.steps = STEPS(GO_ON("1"), GO_ON("2"), EXPECT("block: boot 3")),
		CHECKS_ITSELF,
	},
	{
		.name = "cloud-disks",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", "--block={files}/disk,id=the-first", "--block={files}/a,,b,ro",
			 CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.make_files = make_two_disks,
		.check_files = check_cloud,
		.steps =
			STEPS(PROMPT, TYPE("(cd /sys/block/vda; cat size ro serial; echo)\r"),
			      EXPECT("\n2048\n0\nthe-first\n"), PROMPT,
			      TYPE("(cd /sys/block/vdb; cat size ro queue/max_segments)\r"),
			      EXPECT("\n131072\n1\n254\n"), PROMPT, TYPE("head -n1 /dev/vdb\r"),
			      EXPECT("\nthe second one\n"), PROMPT,
			      TYPE("dd if=/bin/busybox of=/dev/vda bs=64k count=16 conv=fsync 2>&1 "
				   "| tail "
				   "-n1\r"),
			      PROMPT,
			      TYPE("echo 3 >/proc/sys/vm/drop_caches; "
				   "cmp -n 1048576 /bin/busybox /dev/vda && echo the $((6*7))\r"),
			      EXPECT("\nthe 42\n"), PROMPT,
			      TYPE("echo hello, disk | dd of=/dev/vda bs=512 seek=1 conv=sync\r"),
			      PROMPT, TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic", "I/O error"},
	},
};

/* Bad input. */

struct mistake {
	const char *name;
	bool (*make_files)(const char *directory); /* NULL: make_bad_disks() */
	const char *args[4];
	const char *culprit[MAX_SEEN];
};

static const struct mistake mistakes[] = {
	{"missing", NULL, {"--block={files}/missing"}, {"{files}/missing", "No such file"}},
	{"folder", NULL, {"--block={files}/folder"}, {"{files}/folder", "a directory"}},
	{"folder-ro", NULL, {"--block={files}/folder,ro"}, {"{files}/folder", "a directory"}},
	{"fifo", NULL, {"--block={files}/fifo"}, {"{files}/fifo", "a pipe"}},
	{"no-disk", NULL, {"--block=/dev/null"}, {"/dev/null", "a device"}},
	{"empty", NULL, {"--block={files}/empty"}, {"{files}/empty", "is empty"}},
	{"small", NULL, {"--block={files}/small"}, {"{files}/small", "511 bytes"}},
	{"no-name", NULL, {"--block="}, {"--block="}},
	{"no-value", NULL, {"--block"}, {"--block"}},
	{"word", NULL, {"--block={files}/disk,rw"}, {"{files}/disk", "\"rw\""}},
	{"ro-twice", NULL, {"--block={files}/disk,ro,ro"}, {"{files}/disk", "ro", "twice"}},
	{"long-id", NULL, {"--block=x,id=012345678901234567890"}, {"id=01234", "20"}},
	{"second-is-missing",
	 NULL,
	 {"--block={files}/disk", "--block={files}/missing"},
	 {"{files}/missing"}},
	{"twice",
	 NULL,
	 {"--block={files}/disk", "--block={files}/disk"},
	 {"{files}/disk", "in use"}},
	{"read-and-written",
	 NULL,
	 {"--block={files}/disk,ro", "--block={files}/disk"},
	 {"{files}/disk", "in use"}},
	{"locked", make_written_disk, {"--block={files}/disk"}, {"{files}/disk", "in use"}},
	{"locked-ro",
	 make_written_disk,
	 {"--block={files}/disk,ro"},
	 {"{files}/disk", "in use", "who writes"}},
	{"others-read", make_read_disk, {"--block={files}/disk"}, {"{files}/disk", "in use"}},
};

/* Root may read and write everything, so these are tried as somebody else. */
static const struct mistake mistakes_of_nobody[] = {
	{"unreadable",
	 NULL,
	 {"--block={files}/unreadable"},
	 {"{files}/unreadable: Permission denied"}},
	{"unreadable-ro",
	 NULL,
	 {"--block={files}/unreadable,ro"},
	 {"{files}/unreadable: Permission denied"}},
	{"only-readable",
	 NULL,
	 {"--block={files}/only-readable"},
	 {"{files}/only-readable for writing: Permission denied",
	  "--block={files}/only-readable,ro"}},
};

static void add_mistakes(struct suite *suite, const struct mistake *table, size_t count,
			 unsigned flags)
{
	for (size_t i = 0; i < count; i++) {
		struct test test = {
			.name = suite_text("usage/block-%s", table[i].name),
			.engines = NO_ENGINE,
			.patience = FOR_USAGE,
			.flags = flags,
			.make_files = table[i].make_files ? table[i].make_files : make_bad_disks,
			/* Where everybody can read it. */
			.copy = "guests/hello-linux64",
			.args = {"64", "{files}/hello-linux64"},
			.silent = true,
			.error_lines = 1,
			.status = 1,
		};

		for (unsigned j = 0; table[i].args[j]; j++)
			test.args[2 + j] = table[i].args[j];
		memcpy(test.error_seen, table[i].culprit, sizeof(test.error_seen));
		suite_add(suite, &test);
	}
}

static void add_too_many(struct suite *suite)
{
	struct test test = {
		.name = "usage/block-too-many",
		.engines = NO_ENGINE,
		.patience = FOR_USAGE,
		.make_files = make_disk,
		.args = {"64", HELLO},
		.silent = true,
		.error_seen = {"--block", "29"},
		.error_lines = 1,
		.status = 1,
	};

	for (unsigned i = 0; i < MORE_THAN_SLOTS; i++)
		test.args[2 + i] = "--block={files}/disk,ro";
	suite_add(suite, &test);
}

static const struct test only_readable = {
	.name = "block-only-readable-ro",
	.only = "soft", /* nobody may open /dev/kvm */
	.flags = AS_NOBODY,
	.args = {"--debug-exit", "--block={files}/only-readable,ro", "64", "{files}/block",
		 "sectors=2048", "ro=1"},
	.make_files = make_bad_disks,
	.copy = "guests/block",
	CHECKS_ITSELF,
};

void suite_add_disks(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
	suite_add(suite, &only_readable);
	add_mistakes(suite, mistakes, COUNT(mistakes), 0);
	add_mistakes(suite, mistakes_of_nobody, COUNT(mistakes_of_nobody), AS_NOBODY);
	add_too_many(suite);
}
