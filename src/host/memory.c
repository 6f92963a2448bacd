/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's RAM: see memory.h.
 *
 * The whole reservation is inaccessible at first, guards and hole included; RAM
 * is then made of it by mapping over it. MAP_NORESERVE, because a guest's size is
 * a promise that it seldom calls in.
 *
 * Tour 2.110
 */
#include "host/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A stray pointer of ours should meet a guard, however large the structure it indexes: be generous.
 */
#define GUARD MiB(1)

/*
 * Guest-physical and launcher addresses agree in their lower 21 bits, or no host could ever map
 * guest RAM by pages of 2 MiB, neither for a guest under KVM nor for itself.
 */
#define BASE_ALIGN MiB(2)

struct memory_overlay {
	u64 gpa, len;
	const struct file *file;
};

/* Anonymous zeroes, or with a file its bytes from `offset` on. */
static int map_private(const struct memory *memory, u64 gpa, u64 len, int fd, u64 offset)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);

	if (!len)
		return 0;
	if (mmap(memory->base + gpa, len, PROT_READ | PROT_WRITE, flags, fd, offset) == MAP_FAILED)
		return -errno;
	/* A core dump of the launcher is for our bugs: the guest's memory would drown them. */
	madvise(memory->base + gpa, len, MADV_DONTDUMP);
	return 0;
}

/* From guest-physical 0 to the last byte of RAM, the hole included. */
static u64 span(const struct memory *memory)
{
	return memory->high ? MEMORY_HIGH_BASE + memory->high : memory->low;
}

static int map_shared(const struct memory *memory, u64 gpa, u64 len)
{
	if (len && mmap(memory->base + gpa, len, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_NORESERVE | MAP_FIXED, memory->fd, gpa) == MAP_FAILED)
		return -errno;
	madvise(memory->base + gpa, len, MADV_DONTDUMP);
	return 0;
}

static int map_ram(struct memory *memory)
{
	int err = map_private(memory, 0, memory->low, -1, 0);

	return err ? err : map_private(memory, MEMORY_HIGH_BASE, memory->high, -1, 0);
}

/*
 * Reserve everything, then make RAM of the parts that are RAM. What remains of the reservation
 * is not there: neither for us, nor for the guest.
 *
 * Tour 2.111: One mapping for all of it
 */
struct memory *memory_new(u64 size, struct problem *why)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int err;

	if (!memory) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	memory->fd = -1;
	memory->low = MIN(size, MEMORY_LOW_LIMIT);
	memory->high = size - memory->low;
	memory->reservation_len = span(memory) + 2 * GUARD + BASE_ALIGN;
	memory->reservation = mmap(NULL, memory->reservation_len, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->reservation == MAP_FAILED) {
		problem(why, errno, "cannot reserve %" PRIu64 " MiB of memory for the guest: %s",
			size >> 20, strerror(errno));
		free(memory);
		return NULL;
	}
	memory->base = (u8 *)align_up((u64)memory->reservation + GUARD, BASE_ALIGN);
	err = map_ram(memory);
	if (err) {
		problem(why, -err, "cannot map %" PRIu64 " MiB of memory for the guest: %s",
			size >> 20, strerror(-err));
		memory_free(memory);
		return NULL;
	}
	return memory;
}

void memory_free(struct memory *memory)
{
	if (!memory)
		return;
	munmap(memory->reservation, memory->reservation_len);
	if (memory->fd >= 0)
		close(memory->fd);
	free(memory->overlays);
	free(memory);
}

int memory_share(struct memory *memory, struct problem *why)
{
	int err, fd = memfd_create("lguest-ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, span(memory))) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return problem(why, -err, "no file for the guest's memory: %s", strerror(-err));
	}
	memory->fd = fd;
	memory->overlay_count = 0;
	err = map_shared(memory, 0, memory->low);
	if (!err)
		err = map_shared(memory, MEMORY_HIGH_BASE, memory->high);
	return err ? problem(why, -err, "cannot map the guest's memory: %s", strerror(-err)) : 0;
}

int memory_clear(struct memory *memory, struct problem *why)
{
	int err =
		memory->fd < 0 ? map_ram(memory)
		: fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, span(memory))
			? -errno
			: 0;

	memory->overlay_count = 0;
	if (err)
		return problem(why, -err, "cannot clear the guest's memory: %s", strerror(-err));
	return 0;
}

/*
 * Every address that a guest ever gives us comes through here, or through something that is
 * made of it. Lengths are compared with what is left, never added to addresses: a sum could go
 * around.
 *
 * Tour 2.112: The one check that counts
 */
void *memory_at(const struct memory *memory, u64 gpa, u64 len)
{
	if (gpa < memory->low)
		return len <= memory->low - gpa ? memory->base + gpa : NULL;
	if (gpa < MEMORY_HIGH_BASE || gpa - MEMORY_HIGH_BASE >= memory->high)
		return NULL;
	return len <= memory->high - (gpa - MEMORY_HIGH_BASE) ? memory->base + gpa : NULL;
}

/* Remember a mapping before it exists, so that a bus error always finds its file. */
static int add_overlay(struct memory *memory, u64 gpa, u64 len, const struct file *file)
{
	struct memory_overlay *larger;

	larger = realloc(memory->overlays, (memory->overlay_count + 1) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	memory->overlays = larger;
	larger[memory->overlay_count++] =
		(struct memory_overlay){.gpa = gpa, .len = len, .file = file};
	return 0;
}

static int map_file(struct memory *memory, u64 gpa, const struct file *file, u64 offset, u64 len)
{
	int err = add_overlay(memory, gpa, len, file);

	if (err)
		return err;
	return map_private(memory, gpa, len, file->fd, offset);
}

/*
 * A file is mapped, not copied, as far as pages allow, and copied at both ends. So ten guests
 * with one kernel have it in memory once; a page that a guest writes to becomes its own.
 *
 * Tour 2.113: A kernel that takes no memory
 */
int memory_place_file(struct memory *memory, u64 gpa, const struct file *file, u64 offset, u64 len,
		      struct problem *why)
{
	u8 *at = memory_at(memory, gpa, len);
	u64 head, whole = 0;
	int err;

	if (!at)
		return problem(why, EFAULT,
			       "the %s %s does not fit: no memory for %" PRIu64
			       " bytes at 0x%" PRIx64,
			       file->what, file->name, len, gpa);
	/*
	 * Bytes past the end of a file can be mapped, and bite (SIGBUS) only when touched: look
	 * first.
	 */
	if (offset > file->size || len > file->size - offset)
		return problem(why, EIO,
			       "the %s %s is truncated: it has %" PRIu64 " bytes, but %" PRIu64
			       " from offset %" PRIu64 " are needed",
			       file->what, file->name, file->size, len, offset);

	head = MIN(align_up(gpa, PAGE_SIZE) - gpa, len);
	if (memory->fd < 0 && !((gpa ^ offset) & (PAGE_SIZE - 1)))
		whole = align_down(len - head, PAGE_SIZE);
	if (!whole)
		return file_read(file, offset, at, len, why);

	err = file_read(file, offset, at, head, why);
	if (err)
		return err;
	err = map_file(memory, gpa + head, file, offset + head, whole);
	if (err)
		return problem(why, -err, "cannot map the %s %s: %s", file->what, file->name,
			       strerror(-err));
	return file_read(file, offset + head + whole, at + head + whole, len - head - whole, why);
}

const struct file *memory_file_at(const struct memory *memory, const void *host)
{
	u64 gpa = memory_gpa(memory, host);

	for (unsigned i = memory->overlay_count; i-- > 0;)
		if (gpa - memory->overlays[i].gpa < memory->overlays[i].len)
			return memory->overlays[i].file;
	return NULL;
}
