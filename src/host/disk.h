/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk's back end: a file or a block device of the host's, and requests to it,
 * many at a time.
 *
 * The disk is opened, and locked against another writer, once. Each virtqueue has
 * a disk_queue of its own, used by one thread: requests are put in, sent off
 * together, and taken back as they are done, in any order. io_uring does it, or
 * preadv() and pwritev() where the host has none for us: then a request is done
 * by the time disk_send() returns, and all else is the same.
 *
 * Nobody reads or writes the disk but through these functions, so that a test can put
 * a disk of its own making behind them.
 *
 * Tour 4.320: A disk, from behind
 */
#ifndef HOST_DISK_H
#define HOST_DISK_H

#include "host/machine.h"
#include "host/problem.h"

#include <sys/uio.h>

#define DISK_SECTOR 512 /* bytes: the unit of capacity and of the guest's addresses */
#define DISK_ID_MAX 20	/* virtio: Block Device: Device Operation: get-id */

/* What the user said: --block=FILE[,ro][,id=NAME][,direct]. */
struct disk_options {
	const char *file;
	const char *id; /* NULL: none said */
	bool read_only, direct;
};

struct disk {
	const struct disk_options *options; /* must outlive it */
	u64 sectors;			    /* rounded down */
	u32 block_size;		 /* bytes: smaller requests are done, but slowly. A power of two */
	u32 physical_block_size; /* what the host can write without reading first; likewise */
	bool read_only;
	bool can_discard; /* there is something to be gained by it */

	/* disk.c's and disk_queue.c's own. */
	int fd;
	int cached_fd; /* the same without O_DIRECT, where blocks are large; else -1 */
	bool is_device;
	u32 memory_alignment; /* of buffers, in bytes: what O_DIRECT wants. 0: not direct */
	bool synchronous;     /* no io_uring for queues made from now on, as if the host had none */
};

enum disk_operation {
	DISK_READ,
	DISK_WRITE,
	DISK_FLUSH,   /* all that was done before is durable */
	DISK_DISCARD, /* the content is of no interest any more; never fails for being refused */
	DISK_ZERO,    /* reads as zeroes from then on */
};

/* One request; the caller's, who must leave it and its buffers alone until it is taken back. */
struct disk_request {
	enum disk_operation operation;
	bool durable;		 /* a write (or DISK_ZERO) that is not done before it is durable */
	bool unmap;		 /* DISK_ZERO: the host may give the space back */
	u64 offset, len;	 /* bytes, whole sectors inside the disk; 0 for a flush */
	const struct iovec *iov; /* `len` bytes together; DISK_READ, DISK_WRITE */
	unsigned iov_count;
	int result; /* 0 or -errno, once done. Of a read that fails, part may have arrived */

	/* disk_queue.c's own. */
	u64 progress; /* bytes done so far */
	u8 phase;
	struct bounce *bounce;
	struct disk_request *next;
};

/*
 * Open and lock. A directory, an empty file, one that another process has open for writing
 * under this lock: -errno with *problem filled, which names the file.
 */
int disk_open(struct disk *disk, const struct disk_options *options, struct problem *problem);
void disk_close(struct disk *disk);

struct disk_queue;

/*
 * `depth`: how many requests may be in flight, at most. Any thread, and then the one that uses it.
 * While the machine does not run, no request goes further than the step that it is at: where there
 * was more to do, its result is -ECANCELED. What the host has been given to do by then, a small
 * part of what may be in flight, is still to be awaited. NULL with *problem filled.
 */
struct disk_queue *disk_queue_new(struct disk *disk, const struct machine *machine, unsigned depth,
				  struct problem *problem);
void disk_queue_free(struct disk_queue *queue); /* nothing is in flight */

/*
 * Readable when a request can be taken back. -1: never needed, requests can be taken back as soon
 * as they are sent.
 */
int disk_queue_fd(const struct disk_queue *queue);

/* Add one to those that disk_send() will send off. */
void disk_put(struct disk_queue *queue, struct disk_request *request);
void disk_send(struct disk_queue *queue);

/* One that is done, or NULL: none just now. Whoever sleeps on the descriptor has had NULL first. */
struct disk_request *disk_take(struct disk_queue *queue);

/* Sleep until one may be taken back (or go on, see disk_take()). Something is in flight, and sent.
 */
void disk_wait(struct disk_queue *queue);

/* How many are in flight: put in and not yet taken back. */
unsigned disk_in_flight(const struct disk_queue *queue);

#endif
