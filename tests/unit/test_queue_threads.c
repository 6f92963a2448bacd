/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver and a device on a thread each, with nothing between them but the
 * rings and two eventfds (virtio/queue.c, VQ-6 and VQ-7).
 *
 * Each side sleeps without a timeout once it finds nothing to do, and wakes the
 * other only where the rings say that it wants to be woken. So one lost wake-up
 * is the end: both sleep, and the alarm below turns that into a failure. One
 * missing release or acquire is a chain with the wrong bytes, or a report of
 * ThreadSanitizer (make SANITIZE=thread).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"
#include "virtio/queue.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CHAINS	   200000u
#define RAM	   MiB(4)
#define AREA	   MiB(1)
#define SIZE	   64
#define LAST_WORDS UINT64_MAX /* a request that tells the device to go home */

/* Far beyond any machine's worst day: it is not a measure, only the end of a deadlock. */
#define PATIENCE_SECONDS 300

struct pair {
	struct memory *memory;
	struct fake_driver driver;
	struct queue queue;
	int kick, interrupt;
	u64 kicks, interrupts; /* sent: each counted by its sender */
	u64 served;	       /* by the device */
	bool refused;	       /* the device saw a violation */
};

static void ring_bell(int fd)
{
	const u64 one = 1;

	assert(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void await_bell(int fd)
{
	u64 count;

	assert(read(fd, &count, sizeof(count)) == sizeof(count));
}

/* The answer to a request: anything that takes the request's bytes to compute. */
static u64 answer_to(u64 request)
{
	return ~request * 31;
}

/* The device: serve until nothing waits, one interrupt for all of it, then sleep. */

static bool serve_chain(struct pair *pair, const struct chain *chain)
{
	u64 request = 0, answer;

	assert(chain_read(chain, 0, &request, sizeof(request)) == sizeof(request));
	answer = answer_to(request);
	assert(chain_write(chain, 0, &answer, sizeof(answer)) == sizeof(answer));
	queue_push(&pair->queue, chain, sizeof(answer));
	pair->served++;
	return request != LAST_WORDS;
}

/* False: there will be no more. */
static bool serve_batch(struct pair *pair)
{
	struct violation violation;
	struct chain chain;
	bool more = true;
	int result;

	queue_suppress(&pair->queue);
	while ((result = queue_pop(&pair->queue, &chain, &violation)) > 0)
		more &= serve_chain(pair, &chain);
	if (result == 0)
		result = queue_wants_interrupt(&pair->queue, &violation);
	if (result < 0) {
		pair->refused = true;
		return false;
	}
	if (result) {
		pair->interrupts++;
		ring_bell(pair->interrupt);
	}
	return more;
}

static void *device_thread(void *opaque)
{
	struct pair *pair = opaque;

	while (serve_batch(pair))
		if (!queue_unsuppress(&pair->queue))
			await_bell(pair->kick);
	return NULL;
}

/* The driver: have so many chains out as it likes today, sleep when it has. */

struct slot {
	u64 request;
	struct fake_buffer buffers[3]; /* the request in two pieces, and room for the answer */
};

static void slot_init(struct slot *slot, struct fake_driver *driver)
{
	slot->buffers[0] = fake_readable(driver, NULL, 3);
	slot->buffers[1] = fake_readable(driver, NULL, 5);
	slot->buffers[2] = fake_writable(driver, sizeof(u64));
}

/*
 * Which slot is with which head is known only once the driver has one: so slots are found by head.
 */
static void send_request(struct pair *pair, struct slot **by_head, struct slot *slot, u64 request)
{
	struct fake_driver *driver = &pair->driver;
	int head;

	slot->request = request;
	memcpy(fake_driver_at(driver, slot->buffers[0].gpa, 3), &request, 3);
	memcpy(fake_driver_at(driver, slot->buffers[1].gpa, 5), (u8 *)&request + 3, 5);
	memset(fake_driver_at(driver, slot->buffers[2].gpa, 8), 0, 8);
	head = fake_driver_add_indirect(driver, slot->buffers, 3, request % 2 ? 0 : 3);
	assert(head >= 0);
	by_head[head] = slot;
}

static struct slot *take_answer(struct pair *pair, struct slot **by_head)
{
	struct fake_driver *driver = &pair->driver;
	struct slot *slot;
	u32 written;
	u64 answer;
	u16 head;

	if (!fake_driver_take(driver, &head, &written))
		return NULL;
	slot = by_head[head];
	assert_int_equal(written, sizeof(answer));
	memcpy(&answer, fake_driver_at(driver, slot->buffers[2].gpa, 8), sizeof(answer));
	assert_true(answer == answer_to(slot->request));
	return slot;
}

/* As many as the ring surely has room for: a chain takes up to three descriptors. */
#define SLOTS (SIZE / 3)

/*
 * How many chains may be out now. It changes every thousand: with one, each chain puts both
 * sides to sleep; with many, they run beside each other and meet at the edges.
 */
static unsigned out_limit(u64 sent)
{
	return 1 + sent / 1000 % SLOTS;
}

static void send_requests(struct pair *pair, struct slot **by_head, struct slot **idle, u64 *sent,
			  u64 answered)
{
	while (*sent < CHAINS && *sent - answered < out_limit(*sent)) {
		const u64 request = *sent + 1 < CHAINS ? *sent : LAST_WORDS;

		send_request(pair, by_head, idle[SLOTS - 1 - (*sent - answered)], request);
		++*sent;
	}
	if (fake_driver_publish(&pair->driver)) {
		pair->kicks++;
		ring_bell(pair->kick);
	}
}

static void drive(struct pair *pair)
{
	struct slot slots[SLOTS], *idle[SLOTS], *by_head[SIZE] = {NULL};
	u64 sent = 0, answered = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		slot_init(&slots[i], &pair->driver);
		idle[i] = &slots[i];
	}
	while (answered < CHAINS) {
		struct slot *slot;

		send_requests(pair, by_head, idle, &sent, answered);
		fake_driver_disable_interrupts(&pair->driver);
		while ((slot = take_answer(pair, by_head))) {
			idle[SLOTS - (sent - answered)] = slot;
			answered++;
		}
		/*
		 * Sleep when there is nothing to send, and nothing has come back since we looked.
		 */
		if (answered < CHAINS && (sent == CHAINS || sent - answered >= out_limit(sent)) &&
		    !fake_driver_enable_interrupts(&pair->driver))
			await_bell(pair->interrupt);
	}
}

static void pair_init(struct pair *pair, u64 features)
{
	struct violation violation;
	struct problem problem;

	pair->kick = eventfd(0, EFD_CLOEXEC);
	pair->interrupt = eventfd(0, EFD_CLOEXEC);
	pair->memory = memory_new(RAM, &problem);
	assert_non_null(pair->memory);
	fake_driver_init(&pair->driver, pair->memory, AREA, RAM - AREA, SIZE, features);
	pair->queue = (struct queue){
		.memory = pair->memory,
		.device = "test",
		.size = SIZE,
		.desc = pair->driver.desc_gpa,
		.driver = pair->driver.avail_gpa,
		.used = pair->driver.used_gpa,
		.packed = pair->driver.packed,
		.event_idx = pair->driver.event_idx,
		.indirect = true,
	};
	assert_true(queue_start(&pair->queue, &violation));
}

static void pair_destroy(struct pair *pair)
{
	memory_free(pair->memory);
	close(pair->kick);
	close(pair->interrupt);
}

static void exchange(u64 features)
{
	struct pair pair = {.kicks = 0};
	pthread_t thread;

	pair_init(&pair, features);
	alarm(PATIENCE_SECONDS);
	assert_int_equal(pthread_create(&thread, NULL, device_thread, &pair), 0);
	drive(&pair);
	pthread_join(thread, NULL);
	alarm(0);

	assert_false(pair.refused);
	assert_int_equal(pair.served, CHAINS);
	print_message("%u chains: %llu notifications, %llu interrupts\n", CHAINS,
		      (unsigned long long)pair.kicks, (unsigned long long)pair.interrupts);
	pair_destroy(&pair);
}

/*
 * The same question under the microscope. Both sides start at the same instant, one to publish
 * and then look what is wanted, the other to say what it wants and then look for work. At least
 * one must see the other (VQ-7: that is what the full fences are for).
 */
struct meeting {
	struct pair pair;
	_Atomic unsigned arrived;
	bool told, saw; /* the publisher would wake the other; the other saw it anyway */
	bool over;	/* that was the last one */
	time_t end;
};

/*
 * A missing fence shows in some ten thousand meetings. Where other programs want the CPUs as
 * well, threads that spin seldom run at the same instant: then fewer have to do.
 */
#define MEETINGS	 100000u
#define MEETINGS_SECONDS 3

/*
 * Wait until both threads are here for the n-th time: spinning, to leave as close together as can
 * be.
 */
static void meet(struct meeting *meeting, unsigned *n)
{
	unsigned spins = 0;

	*n += 2;
	atomic_fetch_add(&meeting->arrived, 1);
	while (atomic_load(&meeting->arrived) < *n)
		if (++spins % 4096 == 0)
			sched_yield();
}

/* The driver decides, between two meetings: the device reads it after the next. */
static bool enough(const struct meeting *meeting, unsigned held)
{
	return held == MEETINGS || time(NULL) >= meeting->end;
}

/* The device is about to sleep while a chain is made available. */
static void *sleeping_device(void *opaque)
{
	struct meeting *meeting = opaque;
	struct queue *queue = &meeting->pair.queue;
	struct violation violation;
	struct chain chain;
	unsigned n = 0;

	while (!meeting->over) {
		queue_suppress(queue);
		meet(meeting, &n);
		meeting->saw = queue_unsuppress(queue);
		meet(meeting, &n);
		assert(queue_pop(queue, &chain, &violation) == 1);
		queue_push(queue, &chain, 0);
		meet(meeting, &n);
	}
	return NULL;
}

static void publishing_driver(struct meeting *meeting)
{
	struct fake_driver *driver = &meeting->pair.driver;
	const struct fake_buffer buffer = {0, 1, true};
	unsigned n = 0;
	u32 written;
	u16 head;

	for (unsigned i = 1; !meeting->over; i++) {
		assert(fake_driver_add(driver, &buffer, 1) >= 0);
		meet(meeting, &n);
		meeting->told = fake_driver_publish(driver);
		meet(meeting, &n);
		assert_true(meeting->told || meeting->saw);
		meeting->over = enough(meeting, i);
		meet(meeting, &n);
		assert_true(fake_driver_take(driver, &head, &written));
	}
}

/* The driver is about to sleep while a chain is given back. */
static void *pushing_device(void *opaque)
{
	struct meeting *meeting = opaque;
	struct queue *queue = &meeting->pair.queue;
	struct violation violation;
	struct chain chain;
	unsigned n = 0;

	while (!meeting->over) {
		meet(meeting, &n);
		assert(queue_pop(queue, &chain, &violation) == 1);
		meet(meeting, &n);
		queue_push(queue, &chain, 0);
		meeting->told = queue_wants_interrupt(queue, &violation) == 1;
		meet(meeting, &n);
	}
	return NULL;
}

static void sleeping_driver(struct meeting *meeting)
{
	struct fake_driver *driver = &meeting->pair.driver;
	const struct fake_buffer buffer = {0, 1, true};
	unsigned n = 0;
	u32 written;
	u16 head;

	for (unsigned i = 1; !meeting->over; i++) {
		fake_driver_disable_interrupts(driver);
		assert(fake_driver_add(driver, &buffer, 1) >= 0);
		fake_driver_publish(driver);
		meet(meeting, &n);
		meeting->over = enough(meeting, i);
		meet(meeting, &n);
		meeting->saw = fake_driver_enable_interrupts(driver);
		meet(meeting, &n);
		assert_true(meeting->told || meeting->saw);
		assert_true(fake_driver_take(driver, &head, &written));
	}
}

static void hold_meetings(u64 features, void *(*device)(void *), void (*driver)(struct meeting *))
{
	struct meeting meeting = {.end = time(NULL) + MEETINGS_SECONDS};
	pthread_t thread;

	pair_init(&meeting.pair, features);
	alarm(PATIENCE_SECONDS);
	assert_int_equal(pthread_create(&thread, NULL, device, &meeting), 0);
	driver(&meeting);
	pthread_join(thread, NULL);
	alarm(0);
	pair_destroy(&meeting.pair);
}

#define PACKED	  (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)

static u64 features_of(void **state)
{
	return *(const u64 *)*state;
}

static void test_device_never_sleeps_on_unseen_work(void **state)
{
	hold_meetings(features_of(state), sleeping_device, publishing_driver);
}

static void test_driver_never_sleeps_on_unseen_work(void **state)
{
	hold_meetings(features_of(state), pushing_device, sleeping_driver);
}

static void test_exchange(void **state)
{
	exchange(features_of(state));
}

/* Four ways to say what one wants to be told of. */
#define TESTS(kind, features)                                                                      \
	{kind ": the device never sleeps on unseen work", test_device_never_sleeps_on_unseen_work, \
	 NULL, NULL, features},                                                                    \
		{kind ": the driver never sleeps on unseen work",                                  \
		 test_driver_never_sleeps_on_unseen_work, NULL, NULL, features},                   \
	{                                                                                          \
		kind ": exchange", test_exchange, NULL, NULL, features                             \
	}

int main(void)
{
	static u64 by_flags = 0, by_index = EVENT_IDX, by_structure = PACKED,
		   by_place = PACKED | EVENT_IDX;
	const struct CMUnitTest tests[] = {
		TESTS("split, by flags", &by_flags),
		TESTS("split, by event index", &by_index),
		TESTS("packed, by flags", &by_structure),
		TESTS("packed, by place", &by_place),
	};

	return cmocka_run_group_tests_name("queue threads", tests, NULL, NULL);
}
