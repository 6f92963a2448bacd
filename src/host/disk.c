/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks, before the guest sees them: a file or a block device is opened, locked,
 * measured, and asked what it can do (see disk.h). What is read and written later
 * is disk_queue.c's.
 *
 * Tour 4.330
 */
#include "host/disk.h"

#include "host/file.h"
#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Blocks of a size that an operating system knows what to do with. */
#define BLOCK_SIZE_MAX KiB(64)

static int cannot_open(const struct disk_options *options, int err, struct problem *why)
{
	int fd;

	if (err == EBUSY)
		return problem(why, err,
			       "cannot open the disk %s: it is mounted, or in use otherwise",
			       options->file);
	if (err == EINVAL && options->direct)
		return problem(why, err,
			       "cannot open the disk %s: there is no direct access to it (leave "
			       "out \",direct\")",
			       options->file);
	/* Would it do to read it only? */
	fd = options->read_only ? -1 : open(options->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return problem(why, err, "cannot open the disk %s: %s", options->file,
			       strerror(err));
	close(fd);
	return problem(why, err,
		       "cannot open the disk %s for writing: %s (--block=%s,ro only reads it)",
		       options->file, strerror(err), options->file);
}

static int check_kind(const struct disk_options *options, mode_t mode, struct problem *why)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return problem(why, EINVAL, "the disk %s is %s, neither a file nor a block device",
		       options->file, file_kind(mode));
}

/* Some devices do things when they are opened, so we look first. */
static int open_file(struct disk *disk, struct problem *why)
{
	const struct disk_options *options = disk->options;
	/* Non-blocking: a FIFO may have taken the file's place by now. */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat st;
	int err;

	if (stat(options->file, &st))
		return problem(why, errno, "cannot open the disk %s: %s", options->file,
			       strerror(errno));
	err = check_kind(options, st.st_mode, why);
	if (err)
		return err;
	flags |= options->read_only ? O_RDONLY : O_RDWR;
	flags |= options->direct ? O_DIRECT : 0;
	/* Of a block device this means: nobody who has mounted it, or means to. */
	flags |= S_ISBLK(st.st_mode) && !options->read_only ? O_EXCL : 0;
	disk->fd = open(options->file, flags);
	if (disk->fd < 0)
		return cannot_open(options, errno, why);
	if (fstat(disk->fd, &st))
		return problem(why, errno, "cannot examine the disk %s: %s", options->file,
			       strerror(errno));
	err = check_kind(options, st.st_mode, why);
	if (err)
		return err;
	disk->is_device = S_ISBLK(st.st_mode);
	/* io_uring would hand each "would block" on to us. */
	fcntl(disk->fd, F_SETFL, fcntl(disk->fd, F_GETFL) & ~O_NONBLOCK);
	return 0;
}

/*
 * Locks belong to the open file description, so that the second of two disks of one guest is kept
 * out like anybody else's. A writer locks all of the file. A reader says in the words of QEMU,
 * which has a byte for each thing that one can do with an image: 100 and up, "I do it"; 200 and up,
 * "nobody else may". So readers get along with each other, whosever they are, and neither does with
 * a writer.
 */
#define QEMU_DOES    100
#define QEMU_DENIES  200
#define QEMU_READING 0
#define QEMU_WRITING 1
#define QEMU_SIZING  3

static int lock_bytes(const struct disk *disk, short type, off_t start, off_t len)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(disk->fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

static int test_byte(const struct disk *disk, off_t at)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	if (fcntl(disk->fd, F_OFD_GETLK, &lock))
		return -errno;
	return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int lock_reader(const struct disk *disk)
{
	static const off_t held[] = {
		QEMU_DOES + QEMU_READING,
		QEMU_DENIES + QEMU_WRITING,
		QEMU_DENIES + QEMU_SIZING,
	};
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(held); i++)
		err = lock_bytes(disk, F_RDLCK, held[i], 1);
	/* Our own locks are never in our way. */
	if (!err)
		err = test_byte(disk, QEMU_DOES + QEMU_WRITING);
	if (!err)
		err = test_byte(disk, QEMU_DOES + QEMU_SIZING);
	return err;
}

static int lock_file(const struct disk *disk, struct problem *why)
{
	const char *file = disk->options->file;
	int err = disk->read_only ? lock_reader(disk) : lock_bytes(disk, F_WRLCK, 0, 0);

	if (err == -EAGAIN || err == -EACCES)
		return problem(why, EBUSY,
			       "the disk %s is in use: %s has locked it (another guest?)", file,
			       disk->read_only ? "somebody who writes to it" : "somebody");
	/* Some network file systems know no locks; they are no reason not to run. */
	if (err)
		log_line("the disk %s cannot be locked (%s): see to it that nobody else writes to "
			 "it",
			 file, strerror(-err));
	return 0;
}

static int measure(struct disk *disk, struct problem *why)
{
	const char *file = disk->options->file;
	struct stat st;
	u64 size = 0;

	if (disk->is_device ? ioctl(disk->fd, BLKGETSIZE64, &size) : fstat(disk->fd, &st))
		return problem(why, errno, "cannot find out how large the disk %s is: %s", file,
			       strerror(errno));
	if (!disk->is_device)
		size = st.st_size;
	if (!size)
		return problem(why, EINVAL,
			       "the disk %s is empty (truncate -s 1G FILE makes it "
			       "larger, or a new one)",
			       file);
	if (size < DISK_SECTOR)
		return problem(why, EINVAL,
			       "the disk %s has only %" PRIu64 " bytes, less than a sector of %u",
			       file, size, DISK_SECTOR);
	disk->sectors = size / DISK_SECTOR;
	if (size % DISK_SECTOR)
		log_line("the disk %s ends with %" PRIu64
			 " bytes that are no whole sector: the guest does not see them",
			 file, size % DISK_SECTOR);
	return 0;
}

/* How a request must be cut for O_DIRECT where nobody tells: the smallest that works. */
static u32 probe_alignment(const struct disk *disk)
{
	u8 *buffer = aligned_alloc(BLOCK_SIZE_MAX, BLOCK_SIZE_MAX);
	u32 size = 0;

	for (u32 i = DISK_SECTOR; buffer && !size && i <= BLOCK_SIZE_MAX; i *= 2)
		if (pread(disk->fd, buffer + i % BLOCK_SIZE_MAX, i, 0) >= 0)
			size = i;
	free(buffer);
	return size;
}

static int find_alignment(struct disk *disk, struct problem *why)
{
	struct statx stx = {0};
	u32 size;

	if (!statx(disk->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    stx.stx_mask & STATX_DIOALIGN) {
		disk->memory_alignment = stx.stx_dio_mem_align;
		size = stx.stx_dio_offset_align;
	} else {
		size = disk->memory_alignment = probe_alignment(disk);
	}
	if (!size || !disk->memory_alignment)
		return problem(why, EINVAL,
			       "there is no direct access to the disk %s (leave out \",direct\")",
			       disk->options->file);
	disk->block_size = MAX(disk->block_size, size);
	return 0;
}

static bool is_block_size(u64 size)
{
	return size >= DISK_SECTOR && size <= BLOCK_SIZE_MAX && is_power_of_two(size);
}

/* A number of the device's queue out of sysfs; a partition's is its disk's. 0 if there is none. */
static u64 device_limit(const struct disk *disk, const char *name)
{
	static const char *const places[] = {"", "/.."};
	unsigned long long value = 0;
	struct stat st;

	if (fstat(disk->fd, &st))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char path[96];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major(st.st_rdev),
			 minor(st.st_rdev), places[i], name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &value) != 1)
			value = 0;
		fclose(file);
		break;
	}
	return value;
}

static void examine_device(struct disk *disk)
{
	unsigned physical;
	int logical;

	if (!ioctl(disk->fd, BLKSSZGET, &logical) && logical > 0 && is_block_size(logical))
		disk->block_size = logical;
	if (!ioctl(disk->fd, BLKPBSZGET, &physical) && is_block_size(physical))
		disk->physical_block_size = physical;
	disk->can_discard = device_limit(disk, "discard_max_bytes");
}

/* Punching a hole behind the end changes nothing, but is refused where holes are not known. */
static void examine_file(struct disk *disk)
{
	const off_t end = align_up(disk->sectors * DISK_SECTOR + 1, BLOCK_SIZE_MAX);
	struct stat st;

	if (!fstat(disk->fd, &st) && is_block_size(st.st_blksize))
		disk->physical_block_size = st.st_blksize;
	disk->can_discard =
		!disk->read_only && !fallocate(disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       end, BLOCK_SIZE_MAX);
}

/*
 * Direct access to large blocks only: what is smaller goes through the host's cache. That is safe
 * as long as nothing is done both ways at once to one page of the cache, so blocks of a page are
 * the smallest that go past it.
 */
static int open_cached(struct disk *disk, struct problem *why)
{
	char self[32];

	if (disk->block_size == DISK_SECTOR)
		return 0;
	disk->block_size = MAX(disk->block_size, PAGE_SIZE);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", disk->fd);
	disk->cached_fd = open(self, O_CLOEXEC | (disk->read_only ? O_RDONLY : O_RDWR));
	if (disk->cached_fd < 0)
		return problem(why, errno, "cannot open the disk %s a second time: %s",
			       disk->options->file, strerror(errno));
	return 0;
}

static int examine(struct disk *disk, struct problem *why)
{
	int err = 0;

	disk->block_size = disk->physical_block_size = DISK_SECTOR;
	if (disk->is_device)
		examine_device(disk);
	else
		examine_file(disk);
	if (disk->options->direct)
		err = find_alignment(disk, why);
	if (!err && disk->options->direct)
		err = open_cached(disk, why);
	disk->physical_block_size = MAX(disk->physical_block_size, disk->block_size);
	return err;
}

int disk_open(struct disk *disk, const struct disk_options *options, struct problem *why)
{
	int err;

	*disk = (struct disk){
		.options = options,
		.read_only = options->read_only,
		.fd = -1,
		.cached_fd = -1,
	};
	err = open_file(disk, why);
	if (!err)
		err = lock_file(disk, why);
	if (!err)
		err = measure(disk, why);
	if (!err)
		err = examine(disk, why);
	if (err)
		disk_close(disk);
	else
		log_verbose("disk %s: %" PRIu64 " sectors, blocks of %u (%u) bytes%s%s%s",
			    options->file, disk->sectors, disk->block_size,
			    disk->physical_block_size, disk->read_only ? ", read-only" : "",
			    disk->can_discard ? ", can discard" : "",
			    disk->memory_alignment ? ", direct" : "");
	return err;
}

void disk_close(struct disk *disk)
{
	if (disk->cached_fd >= 0)
		close(disk->cached_fd);
	if (disk->fd >= 0)
		close(disk->fd);
	disk->fd = disk->cached_fd = -1;
}
