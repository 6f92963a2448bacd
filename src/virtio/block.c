/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device: what a driver asks of its disk becomes requests to the
 * back end (host/disk.h), and what becomes of those becomes a status byte (DEV-2).
 *
 * A request is a header, data, and that byte. Where one ends and the next begins
 * has nothing to do with descriptors (VQ-10): the header is the first 16 bytes that we
 * may read, the status the last one that we may write, and all else is data.
 *
 * A queue's thread takes all there is, sends it off together, and gives back what is
 * done, in whatever order. So a request outlives the look at the ring that found it, and is kept
 * here, in one of as many places as the ring has room for.
 *
 * Tour 4.310
 */
#include "virtio/block.h"

#include "host/log.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_CLASS 0x018000 /* mass storage, other */

/* As long as the fields that we have features for: the rest is about erasing, and zones. */
#define CONFIG_LEN offsetof(struct virtio_blk_config, max_secure_erase_sectors)

/*
 * How much of the disk one segment of a discard, or of a write-zeroes, may be about; the latter may
 * turn out to be work, and a reset has to wait for it.
 */
#define DISCARD_SECTORS_MAX (GiB(2) / DISK_SECTOR)
#define ZERO_SECTORS_MAX    (MiB(64) / DISK_SECTOR)
#define SEGMENTS_MAX	    16

/* A full host disk is worth a line or two, but not one for each write. */
#define ERRORS_TOLD 8

/* Like the statuses of the standard, for a request that has none yet. */
#define STATUS_LATER 0xff

struct block_request {
	struct disk_request disk;
	u32 type;
	u16 head;
	u8 *status;
	unsigned segment, segments; /* which is being done, and how many there are */
	struct virtio_blk_discard_write_zeroes list[SEGMENTS_MAX];
	struct iovec iov[QUEUE_SIZE_MAX];
};

struct block_queue {
	struct disk_queue *disk;
	unsigned free_count;
	struct block_request *free[QUEUE_SIZE_MAX];
	struct block_request requests[QUEUE_SIZE_MAX]; /* most are never touched */
};

static struct block *block_of(struct virtio_device *device)
{
	return container_of(device, struct block, virtio);
}

/* Answering */

static void account(const struct block *block, void *at, u64 len)
{
	const struct memory *memory = block->virtio.memory;

	guest_ram_written(memory, memory_gpa(memory, at), len);
}

static void put_back(struct block_queue *queue, struct block_request *request)
{
	queue->free[queue->free_count++] = request;
}

/* Of what can be told as one number, the data come first, and then the status (VQ-9). */
static void answer(struct block *block, unsigned index, struct block_request *request, u8 status)
{
	struct block_queue *queue = block->queues[index];
	const bool input = request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_GET_ID;
	u32 written = 0;

	/* Something may have arrived even if not all did. */
	for (unsigned i = 0; input && i < request->disk.iov_count; i++)
		account(block, request->iov[i].iov_base, request->iov[i].iov_len);
	if (input && status == VIRTIO_BLK_S_OK)
		written = request->disk.len;
	*request->status = status;
	account(block, request->status, sizeof(status));
	put_back(queue, request);
	queue_push_head(virtio_queue(&block->virtio, index), request->head,
			written + sizeof(status));
}

static const char *verb(enum disk_operation operation)
{
	static const char *const verbs[] = {
		[DISK_READ] = "read",	    [DISK_WRITE] = "write", [DISK_FLUSH] = "flush",
		[DISK_DISCARD] = "discard", [DISK_ZERO] = "zero",
	};

	return verbs[operation];
}

/* The guest learns that it failed, but only the user can do something about the reason. */
static void tell_error(struct block *block, const struct disk_request *disk)
{
	const unsigned before = atomic_fetch_add(&block->errors, 1);

	if (before >= ERRORS_TOLD && !log_is_verbose())
		return;
	log_line("%s: cannot %s %" PRIu64 " bytes at %" PRIu64 " of %s: %s%s", block->virtio.name,
		 verb(disk->operation), disk->len, disk->offset, block->disk->options->file,
		 strerror(-disk->result),
		 before == ERRORS_TOLD - 1 ? " (further errors are told only under --verbose)"
					   : "");
}

/* Beginning */

static void put(struct block *block, unsigned index, struct block_request *request,
		enum disk_operation operation, u64 sector, u64 len)
{
	struct disk_request *disk = &request->disk;

	disk->operation = operation;
	disk->offset = sector * DISK_SECTOR;
	disk->len = len;
	disk->durable = !atomic_load_explicit(&block->writeback, memory_order_relaxed);
	disk->iov = request->iov;
	log_verbose("%s: queue %u: head %u: %s %" PRIu64 " bytes at sector %" PRIu64,
		    block->virtio.name, index, request->head, verb(operation), len, sector);
	disk_put(block->queues[index]->disk, disk);
}

/* The next segment: all of them were found to be in order. */
static void put_segment(struct block *block, unsigned index, struct block_request *request)
{
	const struct virtio_blk_discard_write_zeroes *segment = &request->list[request->segment++];

	request->disk.unmap = segment->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	put(block, index, request, request->type == VIRTIO_BLK_T_DISCARD ? DISK_DISCARD : DISK_ZERO,
	    segment->sector, (u64)segment->num_sectors * DISK_SECTOR);
}

/* In sectors, so that nothing can overflow. --strict does not forgive it. */
static bool is_inside(struct block *block, unsigned index, u64 sector, u64 count)
{
	const u64 sectors = block->disk->sectors;
	struct violation violation;

	if (sector <= sectors && count <= sectors - sector)
		return true;
	violation_set(&violation,
		      "queue %u: DEV-2: %" PRIu64 " sectors from %" PRIu64
		      " on, but the disk has only %" PRIu64,
		      index, count, sector, sectors);
	violation.strict_only = true;
	virtio_violation(&block->virtio, &violation);
	return false;
}

/* `len` bytes of some buffers, from `offset` on, as buffers. */
static void cut_buffers(struct block_request *request, const struct iovec *from, u64 offset,
			u64 len)
{
	unsigned count = 0;

	for (; len; from++) {
		const u64 part = MIN(len, from->iov_len - MIN(offset, from->iov_len));

		if (part) {
			request->iov[count].iov_base = (u8 *)from->iov_base + offset;
			request->iov[count++].iov_len = part;
			offset = 0;
			len -= part;
		} else {
			offset -= from->iov_len;
		}
	}
	request->disk.iov_count = count;
}

/* Each begin_...() gives the status, or STATUS_LATER when the request is on its way. */

static u8 begin_transfer(struct block *block, unsigned index, struct block_request *request,
			 const struct chain *chain, u64 sector)
{
	const bool in = request->type == VIRTIO_BLK_T_IN;
	const u64 header = sizeof(struct virtio_blk_outhdr);
	const u64 len = in ? chain->writable_len - 1 : chain->readable_len - header;

	if (!in && block->disk->read_only)
		return VIRTIO_BLK_S_IOERR;
	if (len % DISK_SECTOR || !is_inside(block, index, sector, len / DISK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (in)
		cut_buffers(request, chain->iov + chain->readable, 0, len);
	else
		cut_buffers(request, chain->iov, header, len);
	put(block, index, request, in ? DISK_READ : DISK_WRITE, sector, len);
	return STATUS_LATER;
}

static u8 begin_get_id(struct block *block, struct block_request *request,
		       const struct chain *chain)
{
	const char *id = block->disk->options->id;
	char text[VIRTIO_BLK_ID_BYTES] = "";
	const u64 len = MIN(sizeof(text), chain->writable_len - 1);

	/* Without a NUL at the end if there is no room for one. */
	memcpy(text, id ? id : "", id ? strnlen(id, sizeof(text)) : 0);
	cut_buffers(request, chain->iov + chain->readable, 0, len);
	request->disk.len = len;
	chain_write(chain, 0, text, len);
	return VIRTIO_BLK_S_OK;
}

static u8 check_segment(struct block *block, unsigned index, u32 type,
			const struct virtio_blk_discard_write_zeroes *segment)
{
	const bool discard = type == VIRTIO_BLK_T_DISCARD;

	if (segment->flags & ~(discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (segment->num_sectors > (discard ? DISCARD_SECTORS_MAX : ZERO_SECTORS_MAX))
		return VIRTIO_BLK_S_IOERR;
	return is_inside(block, index, segment->sector, segment->num_sectors) ? VIRTIO_BLK_S_OK
									      : VIRTIO_BLK_S_IOERR;
}

/* All segments are looked at before anything is done. */
static u8 begin_segments(struct block *block, unsigned index, struct block_request *request,
			 const struct chain *chain)
{
	const u64 header = sizeof(struct virtio_blk_outhdr);
	const u64 len = chain->readable_len - header;

	if (!len || len % sizeof(request->list[0]) || len > sizeof(request->list))
		return VIRTIO_BLK_S_IOERR;
	chain_read(chain, header, request->list, len);
	request->segments = len / sizeof(request->list[0]);
	for (unsigned i = 0; i < request->segments; i++) {
		u8 status = check_segment(block, index, request->type, &request->list[i]);

		if (status != VIRTIO_BLK_S_OK)
			return status;
	}
	put_segment(block, index, request);
	return STATUS_LATER;
}

static u8 begin(struct block *block, unsigned index, struct block_request *request,
		const struct chain *chain, u64 sector)
{
	switch (request->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return begin_transfer(block, index, request, chain, sector);
	case VIRTIO_BLK_T_FLUSH:
		put(block, index, request, DISK_FLUSH, 0, 0);
		return STATUS_LATER;
	case VIRTIO_BLK_T_GET_ID:
		return begin_get_id(block, request, chain);
	case VIRTIO_BLK_T_DISCARD:
		if (virtio_has(&block->virtio, VIRTIO_BLK_F_DISCARD))
			return begin_segments(block, index, request, chain);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (virtio_has(&block->virtio, VIRTIO_BLK_F_WRITE_ZEROES))
			return begin_segments(block, index, request, chain);
		break;
	}
	log_verbose("%s: queue %u: head %u: unknown request type %u", block->virtio.name, index,
		    request->head, request->type);
	return VIRTIO_BLK_S_UNSUPP;
}

/* Without these two there is nobody to answer, and nothing to answer with. */
static bool has_header_and_status(struct block *block, unsigned index, const struct chain *chain)
{
	const unsigned header = sizeof(struct virtio_blk_outhdr);
	struct violation violation;

	if (chain->readable_len >= header && chain->writable_len)
		return true;
	violation_set(&violation,
		      "queue %u: DEV-2: request at head %u has %" PRIu64
		      " bytes to read and %" PRIu64
		      " to write, must have %u for the header and 1 for the status",
		      index, chain->head, chain->readable_len, chain->writable_len, header);
	virtio_violation(&block->virtio, &violation);
	return false;
}

/*
 * The header is copied, and the place of the status byte noted, before anything else is looked
 * at. If there is nothing to wait for - the request is wrong, or asks for the disk's name - it
 * is answered at once.
 *
 * Tour 4.311: A request begins
 */
static bool take_chain(struct block *block, unsigned index, const struct chain *chain)
{
	struct block_queue *queue = block->queues[index];
	struct block_request *request;
	struct virtio_blk_outhdr header;
	const struct iovec *last;
	u8 status;

	if (!has_header_and_status(block, index, chain))
		return false;
	chain_read(chain, 0, &header, sizeof(header));
	last = &chain->iov[chain->readable + chain->writable - 1];
	request = queue->free[--queue->free_count];
	request->type = header.type;
	request->head = chain->head;
	request->status = (u8 *)last->iov_base + last->iov_len - 1;
	request->segment = request->segments = 0;
	request->disk.iov_count = 0;
	status = begin(block, index, request, chain, header.sector);
	if (status != STATUS_LATER)
		answer(block, index, request, status);
	return true;
}

/* Ending. False: there is more to do for it. */
static bool end(struct block *block, unsigned index, struct block_request *request)
{
	if (request->disk.result == -ECANCELED && !machine_running(block->virtio.machine)) {
		/* The machine has ended. A guest whose vCPUs have yet to hear of it sees no error.
		 */
		put_back(block->queues[index], request);
	} else if (request->disk.result) {
		tell_error(block, &request->disk);
		answer(block, index, request, VIRTIO_BLK_S_IOERR);
	} else if (request->segment < request->segments) {
		put_segment(block, index, request);
		return false;
	} else {
		answer(block, index, request, VIRTIO_BLK_S_OK);
	}
	return true;
}

static void take_done(struct block *block, unsigned index)
{
	struct disk_queue *queue = block->queues[index]->disk;
	struct disk_request *done;
	bool more;

	do {
		more = false;
		while ((done = disk_take(queue)))
			more |= !end(block, index, container_of(done, struct block_request, disk));
		if (more)
			disk_send(queue);
	} while (more);
}

/*
 * Three steps: take what waits, send it off in one go, give back what is done. Then say what
 * to sleep on: the driver, if there is room for more; the disk, if it still has something of
 * ours.
 *
 * Tour 4.312: And all of them together
 */
static unsigned block_serve(struct virtio_device *device, unsigned index)
{
	struct block *block = block_of(device);
	struct block_queue *queue = block->queues[index];
	bool broken = false;
	struct chain chain;

	while (!broken && queue->free_count) {
		int taken = virtio_pop(device, index, &chain);

		if (!taken)
			break;
		broken = taken < 0 || !take_chain(block, index, &chain);
	}
	disk_send(queue->disk);
	take_done(block, index);
	/* What is in flight now is awaited by block_rest(). */
	if (broken)
		return WAIT_BROKEN;
	return (queue->free_count ? WAIT_KICK : 0) |
	       (disk_in_flight(queue->disk) ? WAIT_SOURCE : 0);
}

/*
 * A reset waits for all that was asked for, be it terabytes. The guest has itself to blame; but
 * when the machine is to end, somebody else waits, who is not to be kept (RUN-2): then requests
 * are called off, see disk_queue_new().
 */
static void block_rest(struct virtio_device *device, unsigned index)
{
	struct block *block = block_of(device);
	struct disk_queue *queue = block->queues[index]->disk;

	while (disk_in_flight(queue)) {
		disk_wait(queue);
		take_done(block, index);
	}
}

static int block_source(struct virtio_device *device, unsigned index)
{
	return disk_queue_fd(block_of(device)->queues[index]->disk);
}

/* Configuration */

static u64 block_config_read(struct virtio_device *device, unsigned offset, unsigned len)
{
	struct virtio_blk_config config = block_of(device)->config;
	u64 value = 0;

	config.wce = atomic_load(&block_of(device)->writeback);
	memcpy(&value, (const u8 *)&config + offset, len);
	return value;
}

static bool block_config_write(struct virtio_device *device, unsigned offset, unsigned len,
			       u64 value)
{
	struct block *block = block_of(device);

	if (offset != offsetof(struct virtio_blk_config, wce) || len != 1 || value > 1 ||
	    !virtio_has(device, VIRTIO_BLK_F_CONFIG_WCE))
		return false;
	atomic_store(&block->writeback, value);
	return true;
}

/*
 * A driver that knows no FLUSH could never have its writes made durable: they are so when they are
 * answered.
 */
static bool block_features_ok(struct virtio_device *device, u64 features)
{
	atomic_store(&block_of(device)->writeback, features >> VIRTIO_BLK_F_FLUSH & 1);
	return true;
}

static void fill_config(struct block *block)
{
	const struct disk *disk = block->disk;

	block->config = (struct virtio_blk_config){
		.capacity = disk->sectors,
		/* Header and status need a descriptor each, in a table as long as the queue. */
		.seg_max = QUEUE_SIZE_MAX - 2,
		.blk_size = disk->block_size,
		.physical_block_exp = __builtin_ctz(disk->physical_block_size / disk->block_size),
		.min_io_size = disk->physical_block_size / disk->block_size,
		.num_queues = block->queue_count,
		.max_discard_sectors = DISCARD_SECTORS_MAX,
		.max_discard_seg = SEGMENTS_MAX,
		.discard_sector_alignment = disk->physical_block_size / DISK_SECTOR,
		.max_write_zeroes_sectors = ZERO_SECTORS_MAX,
		.max_write_zeroes_seg = SEGMENTS_MAX,
		.write_zeroes_may_unmap = disk->can_discard,
	};
}

static u64 features_of(const struct block *block)
{
	const struct disk *disk = block->disk;
	u64 features = 0;

	if (block->queue_count > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	if (disk->read_only)
		return features | 1ull << VIRTIO_BLK_F_RO;
	if (disk->can_discard)
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	return features | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
}

/* Coming and going */

static void queues_free(struct block *block)
{
	for (unsigned i = 0; i < block->queue_count; i++) {
		if (block->queues[i])
			disk_queue_free(block->queues[i]->disk);
		free(block->queues[i]);
	}
}

static void block_destroy(struct virtio_device *device)
{
	queues_free(block_of(device));
}

static int queue_make(struct block *block, unsigned index, const struct machine *machine,
		      struct problem *why)
{
	struct block_queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return problem(why, ENOMEM, "out of memory");
	block->queues[index] = queue;
	/* The first shall be taken first, again and again: the others stay cold. */
	while (queue->free_count < QUEUE_SIZE_MAX) {
		queue->free[queue->free_count] =
			&queue->requests[QUEUE_SIZE_MAX - 1 - queue->free_count];
		queue->free_count++;
	}
	queue->disk = disk_queue_new(block->disk, machine, QUEUE_SIZE_MAX, why);
	return queue->disk ? 0 : -ENOMEM;
}

static const struct virtio_ops block_ops = {
	.name = "block",
	.id = VIRTIO_ID_BLOCK,
	.class_code = BLOCK_CLASS,
	.features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
		    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_TOPOLOGY |
		    1ull << VIRTIO_BLK_F_CONFIG_WCE,
	.config_len = CONFIG_LEN,
	.serve = block_serve,
	.rest = block_rest,
	.source = block_source,
	.config_read = block_config_read,
	.config_write = block_config_write,
	.features_ok = block_features_ok,
	.destroy = block_destroy,
};

int block_init(struct block *block, struct pci_bus *pci, unsigned slot, struct machine *machine,
	       const struct memory *memory, struct disk *disk, unsigned queues, struct problem *why)
{
	int err = 0;

	block->virtio.ops = &block_ops;
	block->disk = disk;
	block->queue_count = queues;
	memset(block->queues, 0, sizeof(block->queues));
	fill_config(block);
	block->virtio.offered = features_of(block);
	for (unsigned i = 0; !err && i < queues; i++)
		err = queue_make(block, i, machine, why);
	if (!err)
		err = virtio_plug(&block->virtio, pci, slot, machine, memory, NULL, queues, why);
	if (err)
		queues_free(block);
	return err;
}
