/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's RAM, and the one place that knows where it is.
 *
 * One reservation of address space holds all of it: guest-physical address =
 * launcher address - base. RAM lies from 0 up to at most 3 GiB, and what is
 * more continues at 4 GiB; the hole between them is for devices and cannot be
 * touched, and neither can the guard pages on both sides. Pages are zero until
 * used, and cost nothing until then.
 *
 * Tour 2.100: The guest's RAM
 */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include "host/file.h"

#define MEMORY_LOW_LIMIT GiB(3)		 /* low RAM ends here at the latest */
#define MEMORY_HIGH_BASE GiB(4)		 /* RAM past the hole begins here */
#define MEMORY_MIN	 MiB(4)		 /* less has no room for what we place ourselves (LOAD-8) */
#define MEMORY_MAX	 (GiB(1024) * 4) /* the most that we lay out, in bytes */

struct memory_overlay;

struct memory {
	int fd;	  /* the file that RAM is in, shared with who has it; -1: there is none */
	u8 *base; /* launcher address of guest-physical 0 */
	u64 low;  /* bytes of RAM from 0 */
	u64 high; /* bytes of RAM from MEMORY_HIGH_BASE */

	/* Told of each write by a device; NULL where no engine cares. Set before any vCPU runs. */
	void (*written)(void *opaque, u64 gpa, u64 len);
	void *written_opaque;

	/* Files mapped into RAM, to name the one that a bus error came from. */
	struct memory_overlay *overlays;
	unsigned overlay_count;

	void *reservation; /* what all this is made of, guards included */
	u64 reservation_len;
};

/* `size` in bytes, a multiple of PAGE_SIZE. NULL with *problem filled. */
struct memory *memory_new(u64 size, struct problem *problem);
void memory_free(struct memory *memory);

/* All of RAM is zero again, file overlays are gone. No vCPU or device may run. -errno. */
int memory_clear(struct memory *memory, struct problem *problem);

/*
 * From now on RAM is a file that can be mapped elsewhere, at the guest-physical address as its
 * offset; it is at another launcher address; and empty: what was in it must be loaded again.
 * -errno with *problem filled, and nothing has changed.
 */
int memory_share(struct memory *memory, struct problem *problem);

/* NULL unless all of [gpa, gpa + len) is RAM without a break (a zero length: unless gpa is RAM). */
void *memory_at(const struct memory *memory, u64 gpa, u64 len);

/* The guest-physical address of a pointer that memory_at() gave. */
static inline u64 memory_gpa(const struct memory *memory, const void *host)
{
	return (u64)((const u8 *)host - memory->base);
}

/*
 * Put `len` bytes of the file, from `offset`, at `gpa`. Whole pages are mapped
 * privately where offset and address agree within a page, so that guests of one
 * kernel share what they do not change; the rest is read. Bytes of RAM outside
 * [gpa, gpa + len) are left alone. -errno: not RAM, or the file is too short.
 */
int memory_place_file(struct memory *memory, u64 gpa, const struct file *file, u64 offset, u64 len,
		      struct problem *problem);

/*
 * The file that is mapped at this launcher address, or NULL. For the handler of
 * SIGBUS: a file was truncated under its mapping. Async-signal-safe.
 */
const struct file *memory_file_at(const struct memory *memory, const void *host);

/* A device wrote guest RAM. queue_push() calls it; any thread. */
static inline void guest_ram_written(const struct memory *memory, u64 gpa, u64 len)
{
	if (memory->written)
		memory->written(memory->written_opaque, gpa, len);
}

#endif
