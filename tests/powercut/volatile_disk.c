/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that forgets when its power is cut: stands in for host/disk.c in
 * build/lguest-powercut (see main.c). Killing a process is no power cut, since the
 * host keeps its pages; so here the file is what survives, and what was written but
 * not flushed is kept in memory that dies with us.
 *
 * It is as nasty as the standard lets a disk be. Requests are done in any order.
 * What is not flushed survives or does not, sector by sector, as the dice fall. A
 * flush writes what it must in any order too, so that a cut in the middle of it leaves
 * some. And it can be made to lie: with POWERCUT_LIE in the environment neither a flush
 * nor a durable write makes anything survive, and the test has to notice.
 *
 * One queue, so that all of this is one thread's: a guest of one vCPU has no more.
 */
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk_queue {
	int fd;	     /* the file: what survives */
	u8 *content; /* the disk as the guest sees it: a private mapping of the file */
	bool *lost;  /* by sector: the file does not have it yet */
	u64 sectors;
	bool lies;
	u64 dice;

	int event; /* readable while `sent` is not 0 */
	unsigned depth, sent, put;
	struct disk_request *requests[]; /* `sent` of them, then `put` more */
};

/* xorshift64: the same seed, the same evening. */
static u64 roll(struct disk_queue *queue, u64 sides)
{
	queue->dice ^= queue->dice << 13;
	queue->dice ^= queue->dice >> 7;
	queue->dice ^= queue->dice << 17;
	return (queue->dice >> 11) % sides;
}

int disk_open(struct disk *disk, const struct disk_options *options, struct problem *why)
{
	struct stat info;

	memset(disk, 0, sizeof(*disk));
	disk->options = options;
	disk->fd = open(options->file, O_RDWR | O_CLOEXEC);
	if (disk->fd < 0 || fstat(disk->fd, &info) < 0)
		return problem(why, errno, "cannot open the disk %s: %s", options->file,
			       strerror(errno));
	disk->sectors = info.st_size / DISK_SECTOR;
	disk->block_size = DISK_SECTOR;
	disk->physical_block_size = DISK_SECTOR;
	return 0;
}

void disk_close(struct disk *disk)
{
	close(disk->fd);
}

struct disk_queue *disk_queue_new(struct disk *disk, const struct machine *machine, unsigned depth,
				  struct problem *why)
{
	struct disk_queue *queue =
		calloc(1, sizeof(*queue) + depth * sizeof(struct disk_request *));
	const char *seed = getenv("POWERCUT_SEED");

	(void)machine; /* it never dawdles */
	if (!queue)
		abort();
	queue->fd = disk->fd;
	queue->sectors = disk->sectors;
	queue->content = mmap(NULL, disk->sectors * DISK_SECTOR, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE, disk->fd, 0);
	queue->lost = calloc(disk->sectors, sizeof(bool));
	queue->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->content == MAP_FAILED || !queue->lost || queue->event < 0) {
		problem(why, errno, "cannot make a disk that forgets: %s", strerror(errno));
		abort();
	}
	queue->depth = depth;
	queue->lies = getenv("POWERCUT_LIE");
	queue->dice = seed ? strtoull(seed, NULL, 0) | 1 : 1;
	return queue;
}

/* Into the file, which forgets nothing. */
static void save(struct disk_queue *queue, u64 sector)
{
	const u64 at = sector * DISK_SECTOR;

	if (pwrite(queue->fd, queue->content + at, DISK_SECTOR, (off_t)at) != DISK_SECTOR)
		abort();
	queue->lost[sector] = false;
}

/* All that is lost between the two, from a random sector on and round: any order will do. */
static void save_range(struct disk_queue *queue, u64 first, u64 count)
{
	const u64 start = count ? roll(queue, count) : 0;

	for (u64 i = 0; i < count; i++) {
		const u64 sector = first + (start + i) % count;

		if (queue->lost[sector])
			save(queue, sector);
	}
}

void disk_queue_free(struct disk_queue *queue)
{
	/* An orderly end: no power was cut. */
	save_range(queue, 0, queue->sectors);
	munmap(queue->content, queue->sectors * DISK_SECTOR);
	close(queue->event);
	free(queue->lost);
	free(queue);
}

int disk_queue_fd(const struct disk_queue *queue)
{
	return queue->event;
}

void disk_put(struct disk_queue *queue, struct disk_request *request)
{
	if (queue->sent + queue->put == queue->depth)
		abort();
	queue->requests[queue->sent + queue->put++] = request;
}

void disk_send(struct disk_queue *queue)
{
	queue->sent += queue->put;
	queue->put = 0;
	if (queue->sent)
		eventfd_write(queue->event, 1);
}

static void read_content(const struct disk_queue *queue, const struct disk_request *request)
{
	const u8 *from = queue->content + request->offset;

	for (unsigned i = 0; i < request->iov_count; i++) {
		memcpy(request->iov[i].iov_base, from, request->iov[i].iov_len);
		from += request->iov[i].iov_len;
	}
}

static void write_content(struct disk_queue *queue, const struct disk_request *request)
{
	const u64 first = request->offset / DISK_SECTOR, count = request->len / DISK_SECTOR;
	u8 *to = queue->content + request->offset;

	if (request->operation == DISK_ZERO)
		memset(to, 0, request->len);
	for (unsigned i = 0; request->operation == DISK_WRITE && i < request->iov_count; i++) {
		memcpy(to, request->iov[i].iov_base, request->iov[i].iov_len);
		to += request->iov[i].iov_len;
	}
	for (u64 i = 0; i < count; i++) {
		queue->lost[first + i] = true;
		if (roll(queue, 4) == 0)
			save(queue, first + i);
	}
	if (request->durable && !queue->lies)
		save_range(queue, first, count);
}

static void perform(struct disk_queue *queue, struct disk_request *request)
{
	request->result = 0;
	switch (request->operation) {
	case DISK_READ:
		read_content(queue, request);
		break;
	case DISK_WRITE:
	case DISK_ZERO:
		write_content(queue, request);
		break;
	case DISK_FLUSH:
		if (!queue->lies)
			save_range(queue, 0, queue->sectors);
		break;
	case DISK_DISCARD:
		break;
	}
}

struct disk_request *disk_take(struct disk_queue *queue)
{
	struct disk_request *request;
	eventfd_t ignored;
	unsigned index;

	/* Now and then none is ready, so that the device hands on what it has. */
	if (!queue->sent || roll(queue, 4) == 0)
		return NULL;
	index = roll(queue, queue->sent);
	request = queue->requests[index];
	queue->sent--;
	/* Those that are not sent yet close up as well. */
	memmove(&queue->requests[index], &queue->requests[index + 1],
		(queue->sent + queue->put - index) * sizeof(struct disk_request *));
	if (!queue->sent)
		eventfd_read(queue->event, &ignored);
	perform(queue, request);
	return request;
}

void disk_wait(struct disk_queue *queue)
{
	struct pollfd fd = {.fd = queue->event, .events = POLLIN};

	poll(&fd, 1, -1);
}

unsigned disk_in_flight(const struct disk_queue *queue)
{
	return queue->sent + queue->put;
}
