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

/* What is from `offset` on in that file; fd -1: zeroes. `sharing`: MAP_PRIVATE or MAP_SHARED. */
static int map(const struct memory *memory, u64 gpa, u64 len, int sharing, int fd, u64 offset)
{
	int flags = sharing | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);

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

static int map_ram(const struct memory *memory)
{
	int sharing = memory->fd < 0 ? MAP_PRIVATE : MAP_SHARED;
	int err = map(memory, 0, memory->low, sharing, memory->fd, 0);

	return err ? err
		   : map(memory, MEMORY_HIGH_BASE, memory->high, sharing, memory->fd,
			 MEMORY_HIGH_BASE);
}

/* Address space for all of it. */
static int reserve(struct memory *memory)
{
	memory->reservation_len = span(memory) + 2 * GUARD + BASE_ALIGN;
	memory->reservation = mmap(NULL, memory->reservation_len, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->reservation == MAP_FAILED)
		return -errno;
	memory->base = (u8 *)align_up((u64)memory->reservation + GUARD, BASE_ALIGN);
	return 0;
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
	err = reserve(memory);
	if (err) {
		problem(why, -err, "cannot reserve %" PRIu64 " MiB of memory for the guest: %s",
			size >> 20, strerror(-err));
		free(memory);
		return NULL;
	}
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

/* RAM as a file, at another place. On failure there is none. */
static int map_anew(struct memory *memory)
{
	int err = ftruncate(memory->fd, span(memory)) ? -errno : reserve(memory);

	if (err)
		return err;
	err = map_ram(memory);
	if (err)
		munmap(memory->reservation, memory->reservation_len);
	return err;
}

/* Not over what is there: a mapping that fails may have taken that away. */
int memory_share(struct memory *memory, struct problem *why)
{
	struct memory shared = *memory;
	int err;

	shared.fd = memfd_create("lguest-ram", MFD_CLOEXEC);
	if (shared.fd < 0)
		return problem(why, errno, "no file for the guest's memory: %s", strerror(errno));
	err = map_anew(&shared);
	if (err) {
		close(shared.fd);
		return problem(why, -err, "cannot map the guest's memory as a file: %s",
			       strerror(-err));
	}
	munmap(memory->reservation, memory->reservation_len);
	shared.overlay_count = 0;
	*memory = shared;
	return 0;
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
 * Every address that a driver gives to a device comes through here. Lengths are compared with
 * what is left, never added to addresses: a sum could go around.
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
	return map(memory, gpa, len, MAP_PRIVATE, file->fd, offset);
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
