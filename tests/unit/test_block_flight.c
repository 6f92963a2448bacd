/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device while requests are in flight. The disk behind it is the
 * test's own (it takes the place of host/disk.c), and a request is done when the
 * test says so: never, if it likes, or all at once, or in the wrong order, or not
 * well.
 *
 * The disk also looks at what it is given: nothing past its end, nothing odd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "virtio/block.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECTORS 1000
#define QUEUES	2

#define F(name) (1ull << VIRTIO_BLK_F_##name)
#define LIVELY	(F(FLUSH) | F(WRITE_ZEROES) | F(DISCARD) | FEATURE_VERSION_1)

/* The disk */

struct disk_queue {
	pthread_mutex_t
		lock; /* guards the rest: requests come from the device, words from the test */
	pthread_cond_t changed;
	int event_fd;
	unsigned unsent;
	_Atomic unsigned sends, waits;
	struct disk_request *sent[QUEUE_SIZE_MAX]; /* in the order in which they came; NULL: gone */
	unsigned count;				   /* of those */
	struct disk_request *done[QUEUE_SIZE_MAX];
	unsigned done_count, taken; /* of which so many were taken back */
	unsigned in_flight;
	_Atomic bool free_running; /* every request is done as soon as it is sent */
	const struct machine *machine;
};

static struct disk_queue *queues[QUEUES]; /* in the order in which they were made */

int disk_open(struct disk *disk, const struct disk_options *options, struct problem *why)
{
	(void)why;
	*disk = (struct disk){
		.options = options,
		.sectors = SECTORS,
		.block_size = 512,
		.physical_block_size = 4096,
		.can_discard = true,
	};
	return 0;
}

void disk_close(struct disk *disk)
{
	(void)disk;
}

struct disk_queue *disk_queue_new(struct disk *disk, const struct machine *machine, unsigned depth,
				  struct problem *why)
{
	struct disk_queue *queue = calloc(1, sizeof(*queue));

	(void)disk, (void)why;
	assert_non_null(queue);
	assert_int_equal(depth, QUEUE_SIZE_MAX);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->changed, NULL);
	queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->machine = machine;
	queues[queues[0] ? 1 : 0] = queue;
	return queue;
}

void disk_queue_free(struct disk_queue *queue)
{
	assert_int_equal(queue->in_flight, 0);
	close(queue->event_fd);
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

int disk_queue_fd(const struct disk_queue *queue)
{
	return queue->event_fd;
}

static void check(const struct disk_request *request)
{
	u64 len = 0;

	assert_true(request->offset % 512 == 0 && request->len % 512 == 0);
	assert_true(request->offset <= SECTORS * 512);
	assert_true(request->len <= SECTORS * 512 - request->offset);
	if (request->operation != DISK_READ && request->operation != DISK_WRITE)
		return;
	for (unsigned i = 0; i < request->iov_count; i++)
		len += request->iov[i].iov_len;
	assert_true(len == request->len);
}

void disk_put(struct disk_queue *queue, struct disk_request *request)
{
	check(request);
	pthread_mutex_lock(&queue->lock);
	assert_true(queue->count < QUEUE_SIZE_MAX);
	request->result = 0;
	queue->sent[queue->count++] = request;
	queue->unsent++;
	queue->in_flight++;
	pthread_mutex_unlock(&queue->lock);
}

/* With the lock held. */
static void done(struct disk_queue *queue, unsigned index, int result)
{
	struct disk_request *request = queue->sent[index];

	assert_non_null(request);
	queue->sent[index] = NULL;
	request->result = result;
	assert_true(queue->done_count < QUEUE_SIZE_MAX);
	queue->done[queue->done_count++] = request;
	eventfd_write(queue->event_fd, 1);
	pthread_cond_broadcast(&queue->changed);
}

void disk_send(struct disk_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	if (queue->unsent)
		queue->sends++;
	queue->unsent = 0;
	for (unsigned i = 0; queue->free_running && i < queue->count; i++)
		if (queue->sent[i])
			done(queue, i, 0);
	pthread_cond_broadcast(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
}

struct disk_request *disk_take(struct disk_queue *queue)
{
	struct disk_request *request = NULL;
	eventfd_t count;

	pthread_mutex_lock(&queue->lock);
	if (queue->taken < queue->done_count) {
		request = queue->done[queue->taken++];
		queue->in_flight--;
	} else {
		eventfd_read(queue->event_fd, &count);
	}
	if (!queue->in_flight)
		queue->count = queue->done_count = queue->taken = 0;
	pthread_mutex_unlock(&queue->lock);
	return request;
}

void disk_wait(struct disk_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->waits++;
	pthread_cond_broadcast(&queue->changed);
	while (queue->taken == queue->done_count)
		pthread_cond_wait(&queue->changed, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

unsigned disk_in_flight(const struct disk_queue *queue)
{
	return queue->in_flight;
}

/* What the test says and asks */

static void await_in_flight(unsigned queue, unsigned count)
{
	struct disk_queue *q = queues[queue];

	pthread_mutex_lock(&q->lock);
	while (q->unsent || q->in_flight != count)
		pthread_cond_wait(&q->changed, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

/* Its rest() is waiting. */
static void await_wait(unsigned queue)
{
	struct disk_queue *q = queues[queue];

	pthread_mutex_lock(&q->lock);
	while (!q->waits)
		pthread_cond_wait(&q->changed, &q->lock);
	q->waits = 0;
	pthread_mutex_unlock(&q->lock);
}

static void finish(unsigned queue, unsigned index, int result)
{
	pthread_mutex_lock(&queues[queue]->lock);
	done(queues[queue], index, result);
	pthread_mutex_unlock(&queues[queue]->lock);
}

/* All that are in flight, so that the device finds them together. */
static void finish_all(unsigned queue)
{
	struct disk_queue *q = queues[queue];

	pthread_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->count; i++)
		if (q->sent[i])
			done(q, i, 0);
	pthread_mutex_unlock(&q->lock);
}

static struct disk_request *sent(unsigned queue, unsigned index)
{
	struct disk_request *request;

	pthread_mutex_lock(&queues[queue]->lock);
	assert_true(index < queues[queue]->count);
	request = queues[queue]->sent[index];
	pthread_mutex_unlock(&queues[queue]->lock);
	return request;
}

/* The guest */

struct fixture {
	struct fake_guest guest;
	struct disk_options options;
	struct disk disk;
	struct block block;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why;

	assert_non_null(f);
	queues[0] = queues[1] = NULL;
	f->options.file = "the/disk";
	disk_open(&f->disk, &f->options, &why);
	fake_guest_init(&f->guest, false);
	assert_int_equal(block_init(&f->block, &f->guest.pci, FAKE_GUEST_SLOT, &f->guest.machine,
				    f->guest.memory, &f->disk, QUEUES, &why),
			 0);
	fake_guest_power_on(&f->guest);
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2,
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	/* A test that failed has left them waiting. */
	for (unsigned i = 0; i < QUEUES; i++)
		finish_all(i);
	virtio_power_on(&f->block.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->block.virtio);
	fake_guest_destroy(&f->guest);
	free(f);
	return 0;
}

/* Put a request into the ring: its head. The status is 0xee, at *status. */
static u16 add(struct fixture *f, unsigned queue, u32 type, u64 sector, const void *data, u32 len,
	       const u8 **status)
{
	struct fake_driver *driver = &f->guest.queues[queue];
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	struct fake_buffer buffers[3] = {fake_readable(driver, &header, sizeof(header))};
	unsigned count = 1;
	u8 *byte;
	int head;

	if (len && type == VIRTIO_BLK_T_IN)
		buffers[count++] = fake_writable(driver, len);
	else if (len)
		buffers[count++] = fake_readable(driver, data, len);
	buffers[count++] = fake_writable(driver, 1);
	byte = fake_driver_at(driver, buffers[count - 1].gpa, 1);
	*byte = 0xee;
	if (status)
		*status = byte;
	head = fake_driver_add(driver, buffers, count);
	assert_true(head >= 0);
	return head;
}

static u16 next_used(struct fixture *f, unsigned queue)
{
	u16 head;

	await_used(&f->guest, queue, &head);
	return head;
}

static u16 used_index(struct fixture *f, unsigned queue)
{
	return __atomic_load_n(&f->guest.queues[queue].used->idx, __ATOMIC_ACQUIRE);
}

static bool nothing_used(struct fixture *f, unsigned queue)
{
	return used_index(f, queue) == f->guest.queues[queue].taken;
}

/* In flight */

#define MANY 8 /* chains of two descriptors that fit into a queue of 16 */

static void test_any_order(void **state)
{
	static const unsigned order[MANY] = {3, 7, 0, 1, 6, 2, 5, 4};
	struct fixture *f = *state;
	const u8 *status[MANY];
	u16 heads[MANY];

	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	for (unsigned i = 0; i < MANY; i++)
		heads[i] = add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &status[i]);
	submit(&f->guest, 0);
	await_in_flight(0, MANY);
	/* All that waited went together. */
	assert_int_equal(queues[0]->sends, 1);
	assert_true(nothing_used(f, 0));
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(*status[order[i]], 0xee);
		finish(0, order[i], order[i] == 6 ? -EIO : 0);
		assert_int_equal(next_used(f, 0), heads[order[i]]);
		assert_int_equal(*status[order[i]],
				 order[i] == 6 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	}
	assert_non_null(strstr(fake_guest_said(&f->guest), "block: cannot flush"));
}

static void test_one_interrupt(void **state)
{
	struct fixture *f = *state;
	u64 before;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	for (unsigned i = 0; i < MANY; i++)
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
	submit(&f->guest, 0);
	await_in_flight(0, MANY);
	before = fake_engine_sent(&f->guest.engine);
	finish_all(0);
	for (unsigned i = 0; i < MANY; i++)
		next_used(f, 0);
	/* Once the next is asked for, the device has said all that it had to say. */
	add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
	submit(&f->guest, 0);
	await_in_flight(0, 1);
	assert_int_equal(fake_engine_sent(&f->guest.engine), before + 1);
}

/* New requests are heard while old ones are in flight, and other queues are not held up. */
static void test_more_meanwhile(void **state)
{
	struct fixture *f = *state;
	u16 other;

	bring_up(&f->guest, STAGE_LIVE, LIVELY | F(MQ));
	for (unsigned i = 1; i <= MANY; i++) {
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
		submit(&f->guest, 0);
		await_in_flight(0, i);
	}
	other = add(f, 1, VIRTIO_BLK_T_IN, 5, NULL, 512, NULL);
	submit(&f->guest, 1);
	await_in_flight(1, 1);
	finish_all(1);
	assert_int_equal(next_used(f, 1), other);
	assert_true(nothing_used(f, 0));
	finish_all(0);
	for (unsigned i = 0; i < MANY; i++)
		next_used(f, 0);
}

/* What reaches the disk */

static void test_durable(void **state)
{
	static const struct {
		u64 features;
		int wce; /* written; -1: it is not */
		bool durable;
	} cases[] = {
		{F(FLUSH), -1, false},
		{0, -1, true},
		{F(FLUSH) | F(CONFIG_WCE), -1, false},
		{F(FLUSH) | F(CONFIG_WCE), 0, true},
		{F(FLUSH) | F(CONFIG_WCE), 1, false},
		{F(CONFIG_WCE), -1, true},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bring_up(&f->guest, STAGE_LIVE,
			 FEATURE_VERSION_1 | F(WRITE_ZEROES) | cases[i].features);
		if (cases[i].wce >= 0)
			fake_guest_write(&f->guest, 0,
					 REGISTERS_DEVICE + offsetof(struct virtio_blk_config, wce),
					 1, cases[i].wce);
		add(f, 0, VIRTIO_BLK_T_OUT, 1, NULL, 512, NULL);
		add(f, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0,
		    &(struct virtio_blk_discard_write_zeroes){1, 1, 0}, 16, NULL);
		submit(&f->guest, 0);
		await_in_flight(0, 2);
		assert_int_equal(sent(0, 0)->operation, DISK_WRITE);
		assert_int_equal(sent(0, 0)->durable, cases[i].durable);
		assert_int_equal(sent(0, 1)->operation, DISK_ZERO);
		assert_int_equal(sent(0, 1)->durable, cases[i].durable);
		finish_all(0);
		next_used(f, 0);
		next_used(f, 0);
	}
}

/* One segment after the other; one that fails is the last. */
static void test_segments(void **state)
{
	static const struct virtio_blk_discard_write_zeroes list[] = {
		{7, 3, 1}, {20, 30, 0}, {999, 1, 1}};
	struct fixture *f = *state;
	const u8 *status;

	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	for (unsigned bad = 0; bad < 4; bad++) {
		add(f, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, list, sizeof(list), &status);
		submit(&f->guest, 0);
		for (unsigned i = 0; i < 3 && i <= bad; i++) {
			const struct disk_request *request;

			AWAIT(queues[0]->sends == i + 1);
			await_in_flight(0, 1);
			request = sent(0, 0);
			assert_int_equal(request->operation, DISK_ZERO);
			assert_true(request->offset == list[i].sector * 512);
			assert_true(request->len == list[i].num_sectors * 512);
			assert_int_equal(request->unmap, list[i].flags);
			assert_true(nothing_used(f, 0));
			finish(0, 0, i == bad ? -ENOSPC : 0);
		}
		next_used(f, 0);
		assert_int_equal(*status, bad < 3 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
		queues[0]->sends = 0;
	}
	fake_guest_said(&f->guest);
}

/* The user learns why, but not for ever. */
static void test_errors(void **state)
{
	struct fixture *f = *state;
	unsigned lines = 0;
	const u8 *status;

	for (unsigned i = 0; i < 20; i++) {
		if (i % MANY == 0)
			bring_up(&f->guest, STAGE_LIVE, LIVELY);
		add(f, 0, VIRTIO_BLK_T_OUT, 2, NULL, 512, &status);
		submit(&f->guest, 0);
		await_in_flight(0, 1);
		finish(0, 0, -ENOSPC);
		next_used(f, 0);
		assert_int_equal(*status, VIRTIO_BLK_S_IOERR);
		if (*fake_guest_said(&f->guest)) {
			assert_non_null(strstr(f->guest.said,
					       "lguest: block: cannot write 512 bytes at 1024 of "
					       "the/disk: No space left on device"));
			lines++;
		}
	}
	assert_int_equal(lines, 8);
}

/* Stopping */

struct stopper {
	struct fixture *f;
	void (*stop)(struct fixture *f);
	_Atomic bool stopped;
	pthread_t thread;
};

static void *stopper_main(void *opaque)
{
	struct stopper *stopper = opaque;

	stopper->stop(stopper->f);
	stopper->stopped = true;
	return NULL;
}

static void reset_device(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
}

static void reset_queue(struct fixture *f)
{
	queue_set(&f->guest, 0, VIRTIO_PCI_COMMON_Q_RESET, 1);
}

static void stop_bus_master(struct fixture *f)
{
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void power_on(struct fixture *f)
{
	virtio_power_on(&f->block.virtio);
}

/*
 * With requests in flight, have somebody stop the queue: that must wait, since the disk may yet
 * write to the guest's memory; and all requests must be given back.
 */
static void stop_in_flight(struct fixture *f, void (*stop)(struct fixture *f))
{
	struct stopper stopper = {.f = f, .stop = stop};
	const u8 *status[MANY];

	bring_up(&f->guest, STAGE_LIVE, LIVELY | 1ull << VIRTIO_F_RING_RESET);
	for (unsigned i = 0; i < MANY; i++)
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &status[i]);
	submit(&f->guest, 0);
	await_in_flight(0, MANY);
	pthread_create(&stopper.thread, NULL, stopper_main, &stopper);
	for (unsigned i = 0; i < MANY; i++) {
		await_wait(0);
		assert_false(stopper.stopped);
		assert_int_equal(*status[i], 0xee);
		finish(0, i, 0);
	}
	pthread_join(stopper.thread, NULL);
	assert_int_equal(disk_in_flight(queues[0]), 0);
	assert_int_equal(f->guest.queues[0].used->idx, MANY);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(*status[i], VIRTIO_BLK_S_OK);
}

/* It serves as before. */
static void assert_alive(struct fixture *f)
{
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2,
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	queues[0]->waits = 0;
	for (unsigned i = 0; i < MANY; i++)
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
	submit(&f->guest, 0);
	await_in_flight(0, MANY);
	finish_all(0);
	for (unsigned i = 0; i < MANY; i++)
		next_used(f, 0);
}

static void test_reset_in_flight(void **state)
{
	stop_in_flight(*state, reset_device);
	assert_int_equal(status_get(&((struct fixture *)*state)->guest), 0);
	assert_alive(*state);
}

static void test_queue_reset_in_flight(void **state)
{
	struct fixture *f = *state;

	stop_in_flight(f, reset_queue);
	assert_int_equal(queue_get(&f->guest, 0, VIRTIO_PCI_COMMON_Q_RESET), 0);
	assert_int_equal(queue_get(&f->guest, 0, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	/* The other one never stopped. */
	add(f, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
	submit(&f->guest, 1);
	await_in_flight(1, 1);
	finish_all(1);
	next_used(f, 1);
	assert_alive(f);
}

static void test_bus_master_in_flight(void **state)
{
	stop_in_flight(*state, stop_bus_master);
	assert_alive(*state);
}

static void test_power_on_in_flight(void **state)
{
	stop_in_flight(*state, power_on);
	assert_alive(*state);
}

/*
 * Whoever ends the machine does not wait for all that the guest has asked for, even if the guest
 * was waiting for it already; and is not told of errors that are none.
 */
static void test_end_in_flight(void **state)
{
	struct fixture *f = *state;
	struct stopper stopper = {.f = f, .stop = power_on};
	const u8 *status[MANY];

	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	for (unsigned i = 0; i < MANY; i++)
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &status[i]);
	submit(&f->guest, 0);
	await_in_flight(0, MANY);
	pthread_create(&stopper.thread, NULL, stopper_main, &stopper);
	await_wait(0);
	assert_ptr_equal(queues[0]->machine, &f->guest.machine);
	machine_stop(&f->guest.machine, EXIT_POWERED_OFF, NULL);
	finish(0, 0, 0);
	await_wait(0);
	for (unsigned i = 1; i < MANY; i++)
		finish(0, i, -ECANCELED);
	pthread_join(stopper.thread, NULL);
	assert_int_equal(*status[0], VIRTIO_BLK_S_OK);
	for (unsigned i = 1; i < MANY; i++)
		assert_int_equal(*status[i], 0xee);
	assert_int_equal(f->guest.queues[0].used->idx, 1);
	assert_string_equal(fake_guest_said(&f->guest), "");
}

/* A rule is broken while requests are in flight: they end, and the device can be had back. */
static void test_broken_in_flight(void **state)
{
	struct fixture *f = *state;
	struct fake_driver *driver = &f->guest.queues[0];
	struct stopper stopper = {.f = f, .stop = reset_device};
	struct fake_buffer bad;
	const u8 *status;

	for (unsigned together = 0; together < 2; together++) {
		bring_up(&f->guest, STAGE_LIVE, LIVELY);
		queues[0]->waits = 0;
		add(f, 0, VIRTIO_BLK_T_IN, 0, NULL, 512, &status);
		if (!together) {
			submit(&f->guest, 0);
			await_in_flight(0, 1);
		}
		bad = fake_writable(driver, 1);
		fake_driver_add(driver, &bad, 1);
		submit(&f->guest, 0);
		AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
		await_in_flight(0, 1);
		pthread_create(&stopper.thread, NULL, stopper_main, &stopper);
		await_wait(0);
		finish(0, 0, 0);
		pthread_join(stopper.thread, NULL);
		assert_non_null(strstr(fake_guest_said(&f->guest), "DEV-2"));
		assert_int_equal(*status, VIRTIO_BLK_S_OK);
		assert_alive(f);
	}
}

/* A driver that keeps asking while it resets: its requests never starve the reset. */
static void *keep_asking(void *opaque)
{
	struct fixture *f = opaque;
	struct fake_driver *driver = &f->guest.queues[0];

	for (unsigned i = 0; i < 20000; i++) {
		__atomic_store_n(&driver->avail->idx, driver->avail->idx + 1, __ATOMIC_RELEASE);
		notify(&f->guest, 0);
	}
	return NULL;
}

static void test_hostile_refill(void **state)
{
	struct fixture *f = *state;
	pthread_t asker;

	for (unsigned i = 0; i < 10; i++) {
		bring_up(&f->guest, STAGE_LIVE, LIVELY);
		queues[0]->free_running = true;
		/* The same chain in every place of the ring, over and over. */
		add(f, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL);
		pthread_create(&asker, NULL, keep_asking, f);
		usleep(1000 * i);
		/* It ends, and nothing is done afterwards, however loudly it is asked for. */
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		queues[0]->sends = 0;
		pthread_join(asker, NULL);
		assert_int_equal(queues[0]->sends, 0);
		assert_int_equal(disk_in_flight(queues[0]), 0);
	}
	queues[0]->free_running = false;
	assert_alive(f);
	fake_guest_said(&f->guest);
}

/* One head twice: each time it is a request, and each is given back. */
static void test_same_head_twice(void **state)
{
	struct fixture *f = *state;
	const u8 *status;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, LIVELY);
	head = add(f, 0, VIRTIO_BLK_T_IN, 1, NULL, 512, &status);
	for (unsigned i = 1; i < 16; i++)
		fake_driver_offer(&f->guest.queues[0], head);
	submit(&f->guest, 0);
	await_in_flight(0, 16);
	finish_all(0);
	AWAIT(used_index(f, 0) == 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(f->guest.queues[0].used->ring[i].id, head);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	assert_alive(f);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_any_order),
		TEST(test_one_interrupt),
		TEST(test_more_meanwhile),
		TEST(test_durable),
		TEST(test_segments),
		TEST(test_errors),
		TEST(test_reset_in_flight),
		TEST(test_queue_reset_in_flight),
		TEST(test_bus_master_in_flight),
		TEST(test_power_on_in_flight),
		TEST(test_end_in_flight),
		TEST(test_broken_in_flight),
		TEST(test_hostile_refill),
		TEST(test_same_head_twice),
	};

	return cmocka_run_group_tests_name("block in flight", tests, NULL, NULL);
}
