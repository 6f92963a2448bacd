/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to a disk, on their way (see disk.h; disk.c opened it).
 *
 * A request is done in steps. Most have one; but what came back short is
 * continued, zeroes that the file system will not make are written, and so on. Here
 * is what the next step is, and what its result means. Who does the step knows
 * nothing of that: a ring of io_uring's, many at a time; or else we ourselves, one
 * after the other, where the kernel is too old for a ring, or a container may not have any.
 *
 * What goes through a ring is not seen by a filter of system calls. So the ring
 * itself is told, before its first use and for good, which few operations it may do. A kernel that
 * cannot promise this (before 5.10) is one without io_uring to us.
 *
 * Tour 4.340: Many requests at once
 */
#include "host/disk.h"

#include "host/iovec.h"
#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * Bytes in one go. A step that was begun cannot be called off, and a guest may have begun one for
 * each place in the ring: whoever ends the machine has to wait for them all.
 */
#define STEP_MAX MiB(2)

#define QUICK_WRITE KiB(64)

/* O_DIRECT: buffers of ours for the guest's that do not lie as it wants, and how large each is. */
#define BOUNCES	    16
#define BOUNCE_SIZE KiB(64)

/* Zeroes, to be written where nothing better will do: so many bytes, so often at once. */
#define ZEROES_SIZE  KiB(16)
#define ZEROES_TIMES 64

/* Where a request stands. */
enum phase {
	PHASE_TRANSFER, /* reading or writing, of which `progress` bytes are done */
	PHASE_ALLOCATE, /* a hole, or zeroes, by the file system */
	PHASE_SYNC,
	PHASE_DONE,
};

enum step_kind { STEP_READ, STEP_WRITE, STEP_SYNC, STEP_ALLOCATE, STEP_DISCARD };

struct step {
	enum step_kind kind;
	bool cached;		 /* not past the host's cache */
	int flags;		 /* of pwritev2(), or the mode of fallocate() */
	const struct iovec *iov; /* STEP_READ, STEP_WRITE; or, if count is 0: */
	unsigned count;
	void *buffer; /* of `len` bytes */
	u64 offset, len;
};

struct bounce {
	struct bounce *next;
	u8 *data;
};

/* First in, first out. */
struct request_list {
	struct disk_request *first, **end;
};

struct disk_queue {
	struct disk *disk;
	unsigned in_flight;
	bool has_ring;
	const struct machine *machine;
	struct io_uring ring;
	struct request_list done, parked; /* the latter wait for a bounce buffer */
	struct iovec zeroes[ZEROES_TIMES];
	u8 *bounce_memory;
	struct bounce bounces[BOUNCES], *free_bounces;
};

static void list_init(struct request_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_add(struct request_list *list, struct disk_request *request)
{
	request->next = NULL;
	*list->end = request;
	list->end = &request->next;
}

static struct disk_request *list_take(struct request_list *list)
{
	struct disk_request *request = list->first;

	if (request) {
		list->first = request->next;
		if (!list->first)
			list->end = &list->first;
	}
	return request;
}

/* What the next step is */

/* Where in the request's buffers `progress` is: the one that it is in, and how far. */
static const struct iovec *find_progress(const struct disk_request *request, u64 *inside)
{
	const struct iovec *iov = request->iov;

	*inside = request->progress;
	while (*inside >= iov->iov_len)
		*inside -= iov++->iov_len;
	return iov;
}

/* Between the bounce buffer and the request's own, as many bytes as the step has. */
static void bounce_copy(const struct disk_request *request, u64 len)
{
	u64 inside;
	const struct iovec *iov = find_progress(request, &inside);
	u8 *data = request->bounce->data;

	for (; len; iov++, inside = 0) {
		const u64 part = MIN(len, iov->iov_len - inside);
		u8 *buffer = (u8 *)iov->iov_base + inside;

		if (request->operation == DISK_READ)
			memcpy(buffer, data, part);
		else
			memcpy(data, buffer, part);
		data += part;
		len -= part;
	}
}

/*
 * As many buffers as make a step, without changing the caller's: one that was begun, or is larger,
 * goes by itself.
 */
static void step_over_buffers(const struct disk_request *request, struct step *step)
{
	u64 inside;
	const struct iovec *iov = find_progress(request, &inside);
	const unsigned left = request->iov_count - (iov - request->iov);
	u64 len = iov->iov_len - inside;
	unsigned count = 1;

	while (!inside && count < left && len + iov[count].iov_len <= STEP_MAX)
		len += iov[count++].iov_len;
	if (count == 1) {
		step->buffer = (u8 *)iov->iov_base + inside;
		step->len = MIN(len, STEP_MAX);
	} else {
		step->iov = iov;
		step->count = count;
	}
}

static void step_over_zeroes(struct disk_queue *queue, const struct disk_request *request,
			     struct step *step)
{
	const u64 left = request->len - request->progress;

	if (left < ZEROES_SIZE) {
		step->buffer = queue->zeroes[0].iov_base;
		step->len = left;
	} else {
		step->iov = queue->zeroes;
		step->count = MIN(left / ZEROES_SIZE, ZEROES_TIMES);
	}
}

static bool lies_well(const struct disk *disk, const struct step *step)
{
	if (!step->count)
		return is_multiple((uintptr_t)step->buffer, disk->memory_alignment) &&
		       is_multiple(step->len, disk->block_size);
	for (unsigned i = 0; i < step->count; i++)
		if (!is_multiple((uintptr_t)step->iov[i].iov_base, disk->memory_alignment) ||
		    !is_multiple(step->iov[i].iov_len, disk->block_size))
			return false;
	return true;
}

/*
 * With O_DIRECT the disk's blocks go straight to or from memory, if that is cut and aligned as the
 * hardware wants. False: a bounce buffer is needed, and there is none.
 */
static bool go_directly(struct disk_queue *queue, struct disk_request *request, struct step *step)
{
	const struct disk *disk = queue->disk;
	const u64 left = request->len - request->progress;

	if (disk->cached_fd >= 0 && !is_multiple(step->offset | left, disk->block_size)) {
		step->cached = true;
		return true;
	}
	if (lies_well(disk, step))
		return true;
	if (!queue->free_bounces)
		return false;
	request->bounce = queue->free_bounces;
	queue->free_bounces = request->bounce->next;
	step->count = 0;
	step->buffer = request->bounce->data;
	step->len = MIN(left, BOUNCE_SIZE);
	/* Zeroes that lie too badly for this disk: they have no buffers of the request's. */
	if (request->operation == DISK_ZERO)
		memset(step->buffer, 0, step->len);
	else if (step->kind == STEP_WRITE)
		bounce_copy(request, step->len);
	return true;
}

static bool transfer_step(struct disk_queue *queue, struct disk_request *request, struct step *step)
{
	step->kind = request->operation == DISK_READ ? STEP_READ : STEP_WRITE;
	step->flags = request->durable ? RWF_DSYNC : 0;
	step->offset = request->offset + request->progress;
	if (request->operation == DISK_ZERO)
		step_over_zeroes(queue, request, step);
	else
		step_over_buffers(request, step);
	return !queue->disk->memory_alignment || go_directly(queue, request, step);
}

static void allocate_step(const struct disk_queue *queue, const struct disk_request *request,
			  struct step *step)
{
	const bool punch = request->operation == DISK_DISCARD || request->unmap;

	step->kind = STEP_ALLOCATE;
	/* A hole in a device would be one that reads as zeroes, and cost more than was asked for.
	 */
	if (request->operation == DISK_DISCARD && queue->disk->is_device)
		step->kind = STEP_DISCARD;
	step->flags = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	step->offset = request->offset;
	step->len = request->len;
}

/* False: it must wait for a bounce buffer. */
static bool next_step(struct disk_queue *queue, struct disk_request *request, struct step *step)
{
	*step = (struct step){.kind = STEP_SYNC};
	if (request->phase == PHASE_TRANSFER)
		return transfer_step(queue, request, step);
	if (request->phase == PHASE_ALLOCATE)
		allocate_step(queue, request, step);
	return true;
}

/* What the result means */

static void finish(struct disk_request *request, int result)
{
	request->phase = PHASE_DONE;
	request->result = result;
}

/* Nothing more to be had: the file has become shorter, and is not made longer by us. */
static void transferred(struct disk_queue *queue, struct disk_request *request, int result)
{
	struct bounce *bounce = request->bounce;

	if (bounce) {
		if (result > 0 && request->operation == DISK_READ)
			bounce_copy(request, result);
		request->bounce = NULL;
		bounce->next = queue->free_bounces;
		queue->free_bounces = bounce;
	}
	if (result == -EINTR || result == -EAGAIN)
		return;
	if (result <= 0) {
		finish(request, result ? result : -EIO);
		return;
	}
	request->progress += result;
	if (request->progress == request->len)
		finish(request, 0);
}

/* What is only a hint may be refused, and there is more than one way to make zeroes. */
static void allocated(struct disk_request *request, int result)
{
	const bool refused = result == -EOPNOTSUPP || result == -EINVAL;

	if (result == -EINTR || result == -EAGAIN)
		return;
	if (request->operation == DISK_DISCARD)
		finish(request, refused ? 0 : result);
	else if (refused)
		request->phase = PHASE_TRANSFER;
	else if (!result && request->durable)
		request->phase = PHASE_SYNC;
	else
		finish(request, result);
}

static void take_result(struct disk_queue *queue, struct disk_request *request, int result)
{
	switch ((enum phase)request->phase) {
	case PHASE_TRANSFER:
		transferred(queue, request, result);
		break;
	case PHASE_ALLOCATE:
		allocated(request, result);
		break;
	case PHASE_SYNC:
		if (result != -EINTR && result != -EAGAIN)
			finish(request, result);
		break;
	case PHASE_DONE:
		break;
	}
}

static int step_fd(const struct disk *disk, const struct step *step)
{
	return step->cached ? disk->cached_fd : disk->fd;
}

/* Doing it ourselves */

static ssize_t transfer(int fd, const struct step *step)
{
	const struct iovec one = {step->buffer, step->len};
	const struct iovec *iov = step->count ? step->iov : &one;
	const unsigned count = step->count ? step->count : 1;

	if (step->kind == STEP_READ)
		return preadv(fd, iov, count, step->offset);
	return pwritev2(fd, iov, count, step->offset, step->flags);
}

/* As io_uring would: what it gave, or -errno. */
static int perform(const struct disk *disk, const struct step *step)
{
	u64 range[] = {step->offset, step->len};
	ssize_t result = -1;

	switch (step->kind) {
	case STEP_READ:
	case STEP_WRITE:
		result = transfer(step_fd(disk, step), step);
		break;
	case STEP_SYNC:
		result = fdatasync(disk->fd);
		break;
	case STEP_ALLOCATE:
		result = fallocate(disk->fd, step->flags, step->offset, step->len);
		break;
	case STEP_DISCARD:
		result = ioctl(disk->fd, BLKDISCARD, range);
		break;
	}
	return result < 0 ? -errno : (int)result;
}

/* Having it done */

/* There is room for it: no more are in flight than the ring is deep, each with one step. */
static void ring_put(struct disk_queue *queue, struct disk_request *request,
		     const struct step *step)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);
	const int fd = step_fd(queue->disk, step);

	switch (step->kind) {
	case STEP_READ:
		if (step->count)
			io_uring_prep_readv(sqe, fd, step->iov, step->count, step->offset);
		else
			io_uring_prep_read(sqe, fd, step->buffer, step->len, step->offset);
		break;
	case STEP_WRITE:
		if (step->count)
			io_uring_prep_writev(sqe, fd, step->iov, step->count, step->offset);
		else
			io_uring_prep_write(sqe, fd, step->buffer, step->len, step->offset);
		sqe->rw_flags = step->flags;
		break;
	case STEP_ALLOCATE:
		io_uring_prep_fallocate(sqe, fd, step->flags, step->offset, step->len);
		break;
	case STEP_DISCARD: /* is no operation of a ring's, see go_on() */
	case STEP_SYNC:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	}
	io_uring_sqe_set_data(sqe, request);
}

/*
 * The file is not registered with the ring, and so not made the only one: rings come apart some
 * time after their process has ended, and what is registered stays open and locked until then.
 *
 * Tour 4.341: A ring that may do six things
 */
static int ring_restrict(struct io_uring *ring)
{
	static const u8 operations[] = {IORING_OP_READ,	  IORING_OP_READV, IORING_OP_WRITE,
					IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	struct io_uring_restriction rules[ARRAY_SIZE(operations)] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = operations[i];
	}
	/* Not by their names, which are missing from the shared library of liburing 2.3. */
	return io_uring_register(ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules,
				 ARRAY_SIZE(rules));
}

/* -errno. */
static int ring_open(struct disk_queue *queue, unsigned depth)
{
	struct io_uring *ring = &queue->ring;
	int err;

	/* We come by often enough, and need not be interrupted for a completion (since 5.19). */
	err = io_uring_queue_init(depth, ring, IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN);
	if (err == -EINVAL)
		err = io_uring_queue_init(depth, ring, IORING_SETUP_R_DISABLED);
	if (err)
		return err;
	err = ring_restrict(ring);
	if (!err)
		err = io_uring_register(ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (err)
		io_uring_queue_exit(ring);
	return err;
}

/* Sending may fail for want of memory for the kernel: that comes back. */
static void ring_send(struct disk_queue *queue)
{
	while (io_uring_sq_ready(&queue->ring)) {
		int sent = io_uring_submit(&queue->ring);

		if (sent < 0 && sent != -EINTR)
			poll(NULL, 0, 1);
	}
}

/* The queue */

static u64 step_bytes(const struct step *step)
{
	return step->count ? iov_length(step->iov, step->count) : step->len;
}

/*
 * A write into the host's cache is a copy of memory. On most file systems a ring has a thread of
 * the kernel's do it, lest it have to wait after all; a small one is done before that thread is
 * awake.
 */
static bool is_quick(const struct disk *disk, const struct step *step)
{
	return step->kind == STEP_WRITE && (!disk->memory_alignment || step->cached) &&
	       !step->flags && step_bytes(step) <= QUICK_WRITE;
}

/*
 * Step by step, until somebody else has to end one.
 *
 * Tour 4.342: On its way
 */
static void go_on(struct disk_queue *queue, struct disk_request *request)
{
	struct step step;

	while (request->phase != PHASE_DONE) {
		if (!machine_running(queue->machine)) {
			finish(request, -ECANCELED);
			break;
		}
		if (!next_step(queue, request, &step)) {
			list_add(&queue->parked, request);
			return;
		}
		if (queue->has_ring && step.kind != STEP_DISCARD && !is_quick(queue->disk, &step)) {
			ring_put(queue, request, &step);
			return;
		}
		take_result(queue, request, perform(queue->disk, &step));
	}
	list_add(&queue->done, request);
}

/* Take in what one step came to, and do the next. False: none has ended. */
static bool ring_take(struct disk_queue *queue)
{
	struct disk_request *request;
	struct io_uring_cqe *cqe;
	int result;

	if (io_uring_peek_cqe(&queue->ring, &cqe))
		return false;
	request = io_uring_cqe_get_data(cqe);
	result = cqe->res;
	io_uring_cqe_seen(&queue->ring, cqe);
	take_result(queue, request, result);
	go_on(queue, request);
	while (queue->parked.first && queue->free_bounces)
		go_on(queue, list_take(&queue->parked));
	return true;
}

void disk_put(struct disk_queue *queue, struct disk_request *request)
{
	queue->in_flight++;
	request->progress = 0;
	request->bounce = NULL;
	switch (request->operation) {
	case DISK_READ:
	case DISK_WRITE:
		request->phase = PHASE_TRANSFER;
		break;
	case DISK_FLUSH:
		request->phase = PHASE_SYNC;
		break;
	case DISK_DISCARD:
	case DISK_ZERO:
		request->phase = PHASE_ALLOCATE;
		break;
	}
	if (!request->len && request->operation != DISK_FLUSH)
		finish(request, 0);
	go_on(queue, request);
}

void disk_send(struct disk_queue *queue)
{
	if (queue->has_ring)
		ring_send(queue);
}

struct disk_request *disk_take(struct disk_queue *queue)
{
	struct disk_request *request;

	while (!(request = list_take(&queue->done)))
		if (!queue->has_ring || !ring_take(queue))
			break;
	/* The caller may sleep now: what is to be continued must be on its way. */
	if (!request)
		disk_send(queue);
	else
		queue->in_flight--;
	return request;
}

void disk_wait(struct disk_queue *queue)
{
	if (queue->has_ring && !queue->done.first)
		io_uring_submit_and_wait(&queue->ring, 1);
}

unsigned disk_in_flight(const struct disk_queue *queue)
{
	return queue->in_flight;
}

int disk_queue_fd(const struct disk_queue *queue)
{
	return queue->has_ring ? queue->ring.ring_fd : -1;
}

static bool make_bounces(struct disk_queue *queue)
{
	const struct disk *disk = queue->disk;

	if (!disk->memory_alignment)
		return true;
	queue->bounce_memory =
		aligned_alloc(MAX(disk->memory_alignment, PAGE_SIZE), BOUNCES * BOUNCE_SIZE);
	for (unsigned i = 0; queue->bounce_memory && i < BOUNCES; i++) {
		queue->bounces[i].data = queue->bounce_memory + i * BOUNCE_SIZE;
		queue->bounces[i].next = queue->free_bounces;
		queue->free_bounces = &queue->bounces[i];
	}
	return queue->bounce_memory;
}

struct disk_queue *disk_queue_new(struct disk *disk, const struct machine *machine, unsigned depth,
				  struct problem *why)
{
	static const u8 zeroes[ZEROES_SIZE] __attribute__((aligned(PAGE_SIZE)));
	struct disk_queue *queue = calloc(1, sizeof(*queue));
	int err;

	if (queue) {
		queue->disk = disk;
		queue->machine = machine;
	}
	if (!queue || !make_bounces(queue)) {
		free(queue);
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	list_init(&queue->done);
	list_init(&queue->parked);
	for (unsigned i = 0; i < ZEROES_TIMES; i++)
		queue->zeroes[i] = (struct iovec){(void *)zeroes, ZEROES_SIZE};

	err = disk->synchronous ? -EOPNOTSUPP : ring_open(queue, depth);
	queue->has_ring = !err;
	if (err)
		log_verbose("disk %s: one request at a time, as there is no io_uring (%s)",
			    disk->options->file, strerror(-err));
	else
		log_verbose("disk %s: %u requests at a time, by io_uring", disk->options->file,
			    depth);
	return queue;
}

void disk_queue_free(struct disk_queue *queue)
{
	if (!queue)
		return;
	if (queue->has_ring)
		io_uring_queue_exit(&queue->ring);
	free(queue->bounce_memory);
	free(queue);
}
