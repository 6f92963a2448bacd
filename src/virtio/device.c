/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a virtio device: it is acknowledged, driven, negotiated with, put
 * to work, and one day reset; or the driver breaks a rule, and it sulks.
 *
 * Here are the status field, the threads that serve the queues, and what becomes
 * of a violation. What the driver reads and writes to get all this going is the
 * transport's (virtio/pci.c), what the queues are for is the device's, and how a
 * ring works is virtio/queue.c's.
 *
 * A queue's thread is made when the device is plugged in and lasts as long; it
 * rests until its queue is live. So a reboot or a reset creates nothing, and
 * cannot fail.
 *
 * Tour 4.140: The life of a device
 */
#include "virtio/transport.h"

#include "host/log.h"
#include "host/sandbox.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Offered by every device: those of the transport and of the ring. */
#define COMMON_FEATURES                                                                            \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_RING_RESET | 1ull << VIRTIO_F_RING_PACKED | \
	 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

/*
 * Lines that a device may cost the user who has not asked for more. A guest can break a rule and
 * reset the device as fast as it can write registers, and standard error may be a file on a disk
 * that fills up. Reboots do not start the count afresh: a guest can do those in a loop as well.
 * No honest driver has got anywhere near; a program that breaks each rule in turn needs a hundred.
 */
#define LINES_MAX 1000

/* Violations */

bool violation_unless_lenient(const struct virtio_device *device, struct violation *violation,
			      const char *format, ...)
{
	va_list args;

	if (!device->machine->strict)
		return true;
	va_start(args, format);
	vsnprintf(violation->text, sizeof(violation->text), format, args);
	va_end(args);
	violation->strict_only = true;
	return false;
}

static void tell(struct virtio_device *device, const char *where, const char *what)
{
	const u64 before = atomic_fetch_add(&device->lines, 1);

	if (before < LINES_MAX || log_is_verbose())
		log_line("%s: %s%s", device->name, where, what);
	else if (before == LINES_MAX)
		log_line("%s: %u lines were about this device; further ones are told only under "
			 "--verbose",
			 device->name, LINES_MAX);
}

/*
 * The first broken rule is told, and from there the device serves nothing until it
 * is reset: a driver that is wrong once is wrong about what comes after as well,
 * and a thousand lines would hide the one that matters.
 *
 * Tour 4.141: A rule was broken
 */
static void report(struct virtio_device *device, const char *where,
		   const struct violation *violation)
{
	if (violation->strict_only && !device->machine->strict)
		return;
	if (!virtio_pci_break(device->pci, VIRTIO_CONFIG_S_NEEDS_RESET))
		return;
	if (device->machine->strict) {
		machine_stop(device->machine, EXIT_CRASHED, "%s: %s%s", device->name, where,
			     violation->text);
		return;
	}
	tell(device, where, violation->text);
	/* virtio: Device Requirements: Device Status Field: told only to a driver that listens. */
	virtio_pci_interrupt_config(device->pci);
}

void virtio_violation(struct virtio_device *device, const struct violation *violation)
{
	report(device, "", violation);
}

/* One that virtio/queue.c found; it knows the rule, we know which queue. */
static void queue_violation(const struct virtio_queue *queue, const struct violation *violation)
{
	char where[32];

	snprintf(where, sizeof(where), "queue %u: ", queue->index);
	report(queue->device, where, violation);
}

/* Queues and their threads */

struct queue *virtio_queue(struct virtio_device *device, unsigned queue)
{
	return &device->queues[queue].ring;
}

int virtio_stop_fd(struct virtio_device *device, unsigned queue)
{
	return device->queues[queue].stop_fd;
}

static bool queue_runs(const struct virtio_queue *queue)
{
	return atomic_load(&queue->life) == QUEUE_RUNS;
}

/*
 * A queue that is to stop looks empty. So a device that serves until there is
 * nothing left needs no thought for resets, however fast the driver refills it.
 *
 * Tour 4.142: What a device calls
 */
int virtio_pop(struct virtio_device *device, unsigned index, struct chain *chain)
{
	struct virtio_queue *queue = &device->queues[index];
	struct violation violation;
	int taken;

	if (!queue_runs(queue))
		return 0;
	if (atomic_load(&device->broken))
		return -EPROTO;
	taken = queue_pop(&queue->ring, chain, &violation);
	if (taken < 0)
		queue_violation(queue, &violation);
	else if (taken)
		log_verbose("%s: queue %u: request at head %u, %llu bytes to read, %llu to write",
			    device->name, index, chain->head,
			    (unsigned long long)chain->readable_len,
			    (unsigned long long)chain->writable_len);
	return taken;
}

/* VQ-8: one interrupt at most for all that a wake-up completed. */
void virtio_signal(struct virtio_device *device, unsigned index)
{
	struct virtio_queue *queue = &device->queues[index];
	struct violation violation;
	int wanted = queue_wants_interrupt(&queue->ring, &violation);

	if (wanted < 0)
		queue_violation(queue, &violation);
	else if (wanted)
		virtio_pci_interrupt_queue(queue);
}

/* Each notification adds 1 to the descriptor, whether KVM or pci.c wrote it. */
static void queue_hear(struct virtio_queue *queue)
{
	eventfd_t kicks;

	if (!eventfd_read(queue->kick_fd, &kicks))
		queue->kicks += kicks;
}

u64 virtio_kicks(struct virtio_device *device, unsigned queue)
{
	return device->queues[queue].kicks;
}

static int queue_source(struct virtio_queue *queue)
{
	const struct virtio_ops *ops = queue->device->ops;

	return ops->source ? ops->source(queue->device, queue->index) : -1;
}

/* poll(2) passes over descriptors below zero: that is how what is not waited for stays out. */
static void queue_sleep(struct virtio_queue *queue, unsigned wait)
{
	struct pollfd fds[] = {
		{.fd = queue->stop_fd, .events = POLLIN},
		{.fd = wait & WAIT_KICK ? queue->kick_fd : -1, .events = POLLIN},
		{.fd = wait & WAIT_SOURCE ? queue_source(queue) : -1, .events = POLLIN},
	};

	if (poll(fds, ARRAY_SIZE(fds), -1) > 0 && fds[1].revents)
		queue_hear(queue);
}

/*
 * VQ-6: notifications are off while the queue is drained. Before going to sleep on
 * them they are switched on, and the ring is looked at once more: what arrived in
 * between was not announced, and would otherwise wait for ever.
 *
 * Tour 4.143: The loop of every queue
 */
static void queue_serve(struct virtio_queue *queue)
{
	struct virtio_device *device = queue->device;

	while (queue_runs(queue)) {
		unsigned wait;

		if (atomic_load(&device->broken)) {
			queue_sleep(queue, WAIT_BROKEN);
			continue;
		}
		queue_suppress(&queue->ring);
		wait = device->ops->serve(device, queue->index);
		virtio_signal(device, queue->index);
		if (wait & WAIT_KICK && queue_unsuppress(&queue->ring))
			continue;
		queue_sleep(queue, wait);
	}
	if (device->ops->rest) {
		device->ops->rest(device, queue->index);
		if (!atomic_load(&device->broken))
			virtio_signal(device, queue->index);
	}
}

/*
 * A queue's thread works, or rests. It is not ended when the guest resets its device, since it
 * would have to be made again; and by then we may not be allowed to.
 *
 * Tour 4.144: A thread that is never made twice
 */
static void *queue_thread(void *opaque)
{
	struct virtio_queue *queue = opaque;
	bool locked_in = false;

	pthread_mutex_lock(&queue->lock);
	while (queue->life != QUEUE_ENDS) {
		if (queue->life == QUEUE_RESTS) {
			pthread_cond_wait(&queue->changed, &queue->lock);
			continue;
		}
		pthread_mutex_unlock(&queue->lock);
		/* No guest has run before, so there was nothing to be protected from. */
		if (!locked_in)
			sandbox_thread(SANDBOX_QUEUE);
		locked_in = true;
		queue_serve(queue);
		pthread_mutex_lock(&queue->lock);
		queue->life = QUEUE_RESTS;
		pthread_cond_broadcast(&queue->changed);
	}
	pthread_mutex_unlock(&queue->lock);
	return NULL;
}

static void queue_set_life(struct virtio_queue *queue, enum queue_life life)
{
	pthread_mutex_lock(&queue->lock);
	queue->life = life;
	pthread_cond_broadcast(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
}

/*
 * The driver has put buffers in before it could say so: the first look at the ring
 * needs no kick.
 *
 * Tour 4.145
 */
static void queue_go(struct virtio_queue *queue)
{
	eventfd_t count;

	eventfd_read(queue->stop_fd, &count);
	queue_hear(queue);
	queue_set_life(queue, QUEUE_RUNS);
	virtio_pci_add_notifier(queue);
}

static void queue_ask_to_rest(struct virtio_queue *queue)
{
	virtio_pci_remove_notifier(queue);
	pthread_mutex_lock(&queue->lock);
	if (queue->life == QUEUE_RUNS) {
		queue->life = QUEUE_STOPS;
		eventfd_write(queue->stop_fd, 1);
	}
	pthread_mutex_unlock(&queue->lock);
}

static void queue_await_rest(struct virtio_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	while (queue->life == QUEUE_STOPS)
		pthread_cond_wait(&queue->changed, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

/*
 * virtio: Common configuration structure layout: queue_size is, on reset, the most that
 * we support.
 */
static void queue_forget(struct virtio_queue *queue)
{
	queue->enabled = false;
	queue->vector = VIRTIO_MSI_NO_VECTOR;
	queue->addresses = 0;
	queue->ring.size = QUEUE_SIZE_MAX;
	queue->ring.desc = 0;
	queue->ring.driver = 0;
	queue->ring.used = 0;
}

/* Everybody is asked before anybody is waited for. */
static void queues_rest(struct virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_ask_to_rest(&device->queues[i]);
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_await_rest(&device->queues[i]);
}

/*
 * Start whatever ought to run and does not: the queues that are enabled, of a device that is live
 * and may touch memory (PCI-4), which is all that serving a queue is.
 */
static void queues_go(struct virtio_device *device)
{
	if (!(device->status & VIRTIO_CONFIG_S_DRIVER_OK) || !pci_is_bus_master(&device->pci->pci))
		return;
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct virtio_queue *queue = &device->queues[i];

		if (queue->enabled && queue->life == QUEUE_RESTS)
			queue_go(queue);
	}
}

/* A queue that rests keeps its place in the ring, and goes on from there. */
void virtio_heed_bus_master(struct virtio_device *device)
{
	const bool master = pci_is_bus_master(&device->pci->pci);

	log_verbose("%s: is %s bus master", device->name, master ? "a" : "no");
	if (master)
		queues_go(device);
	else
		queues_rest(device);
}

/*
 * The ring is looked at, and its flags put right, whatever the bus master bit says: that is part
 * of the driver's own access, over before it is, and not something that goes on behind its back.
 */
bool virtio_enable_queue(struct virtio_queue *queue, struct violation *violation)
{
	struct virtio_device *device = queue->device;
	struct violation found;

	if (queue->addresses != AREAS_ALL)
		return violation_set(violation,
				     "queue %u: VT-6: enabled before its addresses were set",
				     queue->index);
	queue->ring.packed = virtio_has(device, VIRTIO_F_RING_PACKED);
	queue->ring.event_idx = virtio_has(device, VIRTIO_RING_F_EVENT_IDX);
	queue->ring.indirect = virtio_has(device, VIRTIO_RING_F_INDIRECT_DESC);
	queue->ring.strict = device->machine->strict;
	if (!queue_start(&queue->ring, &found)) {
		violation_set(violation, "queue %u: %.140s", queue->index, found.text);
		violation->strict_only = found.strict_only;
		return false;
	}
	queue->enabled = true;
	queues_go(device);
	return true;
}

/*
 * VT-14, virtio: Virtqueue Reset: the queue does nothing any more, and is what it was
 * before it was set up.
 */
void virtio_reset_queue(struct virtio_queue *queue)
{
	queue_ask_to_rest(queue);
	queue_await_rest(queue);
	queue_forget(queue);
	if (queue->device->ops->reset_queue)
		queue->device->ops->reset_queue(queue->device, queue->index);
}

/* Status */

/*
 * VT-13. The status reads 0 only when nothing moves any more: the threads come
 * first, and whoever reads meanwhile waits for the transport lock.
 */
static void device_reset(struct virtio_device *device)
{
	queues_rest(device);
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_forget(&device->queues[i]);
	if (device->ops->reset)
		device->ops->reset(device);
	device->accepted = 0;
	virtio_pci_forget(device->pci);
}

/* Why these features will not do, or NULL. */
static const char *features_refused(struct virtio_device *device)
{
	if (device->accepted & ~device->offered)
		return "some were not offered";
	if (!virtio_has(device, VIRTIO_F_VERSION_1))
		return "VIRTIO_F_VERSION_1 is missing";
	if (device->ops->features_ok && !device->ops->features_ok(device, device->accepted))
		return "one needs another that is missing";
	return NULL;
}

/* VT-3: a refusal is an answer, not an accusation, unless --strict says so. */
static bool settle_features(struct virtio_device *device, struct violation *violation)
{
	const char *refused = features_refused(device);

	if (!refused) {
		log_verbose("%s: features 0x%llx accepted", device->name,
			    (unsigned long long)device->accepted);
		atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_FEATURES_OK);
		return true;
	}
	log_verbose("%s: features 0x%llx refused: %s (0x%llx offered)", device->name,
		    (unsigned long long)device->accepted, refused,
		    (unsigned long long)device->offered);
	return violation_unless_lenient(device, violation, "VT-3: features 0x%llx: %s",
					(unsigned long long)device->accepted, refused);
}

/* The device is live: virtio: Device Cleanup counts from here. */
static bool go_live(struct virtio_device *device, struct violation *violation)
{
	if (!device->pci->features_confirmed &&
	    !violation_unless_lenient(
		    device, violation,
		    "VT-2: device_status: DRIVER_OK, but FEATURES_OK was not read back"))
		return false;
	if (device->ops->driver_ok)
		device->ops->driver_ok(device, device->accepted);
	atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_DRIVER_OK);
	queues_go(device);
	return true;
}

/* The steps of virtio: Device Initialization, in the order in which they must be taken (VT-1). */
static const struct step {
	u8 bit;
	const char *name;
	bool (*take)(struct virtio_device *device,
		     struct violation *violation); /* NULL: just the bit */
} steps[] = {
	{VIRTIO_CONFIG_S_ACKNOWLEDGE, "ACKNOWLEDGE", NULL},
	{VIRTIO_CONFIG_S_DRIVER, "DRIVER", NULL},
	{VIRTIO_CONFIG_S_FEATURES_OK, "FEATURES_OK", settle_features},
	{VIRTIO_CONFIG_S_DRIVER_OK, "DRIVER_OK", go_live},
};

/*
 * A bit may be set when all before it are. Features that were just refused leave a gap, too.
 *
 * Tour 4.146: Step by step to DRIVER_OK
 */
static bool take_steps(struct virtio_device *device, u8 added, struct violation *violation)
{
	const struct step *missing = NULL;

	for (const struct step *step = steps; step < steps + ARRAY_SIZE(steps); step++) {
		if (added & step->bit && missing)
			return violation_set(violation, "VT-1: device_status 0x%02x: %s without %s",
					     device->status | added, step->name, missing->name);
		if (added & step->bit) {
			if (!step->take)
				atomic_fetch_or(&device->status, step->bit);
			else if (!step->take(device, violation))
				return false;
		}
		if (!(device->status & step->bit) && !missing)
			missing = step;
	}
	return true;
}

/*
 * VT-1, and virtio: Driver Requirements: Device Status Field. What we set ourselves may
 * be echoed or not.
 */
static bool check_status(struct virtio_device *device, u8 value, u8 *added,
			 struct violation *violation)
{
	u8 old = device->status & ~VIRTIO_CONFIG_S_NEEDS_RESET;
	u8 known = VIRTIO_CONFIG_S_NEEDS_RESET;

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
		known |= steps[i].bit;
	if (value & ~known)
		return violation_set(violation, "VT-1: device_status 0x%02x: unknown bits 0x%02x",
				     value, value & ~known);
	if (old & ~value)
		return violation_set(violation,
				     "VT-1: device_status 0x%02x: bits 0x%02x of 0x%02x taken away",
				     value, old & ~value, old);
	*added = value & ~old & ~VIRTIO_CONFIG_S_NEEDS_RESET;
	if (*added & (*added - 1))
		return violation_unless_lenient(device, violation,
						"VT-1: device_status 0x%02x: several bits at once",
						value);
	return true;
}

/* The guest has had enough of us. It is the one violation-like state that the driver asks for. */
static void give_up(struct virtio_device *device)
{
	if (device->status & VIRTIO_CONFIG_S_FAILED)
		return;
	virtio_pci_break(device->pci, VIRTIO_CONFIG_S_FAILED);
	tell(device, "", "the guest gave the device up (device_status FAILED)");
}

bool virtio_set_status(struct virtio_device *device, u8 value, struct violation *violation)
{
	u8 added = 0;
	bool fine = true;

	if (!value) {
		device_reset(device);
	} else if (value & VIRTIO_CONFIG_S_FAILED) {
		give_up(device);
	} else if (!atomic_load(&device->broken)) {
		fine = check_status(device, value, &added, violation) &&
		       take_steps(device, added, violation);
	}
	log_verbose("%s: device_status 0x%02x written, is 0x%02x", device->name, value,
		    device->status);
	return fine;
}

/* Coming and going */

static void queue_end(struct virtio_queue *queue)
{
	queue_set_life(queue, QUEUE_ENDS);
	pthread_join(queue->thread, NULL);
}

static void queue_close(struct virtio_queue *queue)
{
	close(queue->kick_fd);
	close(queue->stop_fd);
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
}

/*
 * Signals are the main thread's business; but for those that say that this very
 * thread has done something impossible, whose handlers have a terminal to restore.
 */
static int thread_start(struct virtio_queue *queue)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
	sigset_t others, before;
	char name[16];
	int err;

	sigfillset(&others);
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&others, own[i]);
	pthread_sigmask(SIG_BLOCK, &others, &before);
	err = pthread_create(&queue->thread, NULL, queue_thread, queue);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		return -err;
	snprintf(name, sizeof(name), "%.12s/%u", queue->device->name, queue->index);
	pthread_setname_np(queue->thread, name);
	return 0;
}

static int queue_open(struct virtio_queue *queue)
{
	int err;

	queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = queue->kick_fd < 0 || queue->stop_fd < 0 ? -errno : 0;
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->changed, NULL);
	atomic_init(&queue->life, QUEUE_RESTS);
	if (!err)
		err = thread_start(queue);
	if (err)
		queue_close(queue);
	return err;
}

static void queues_close(struct virtio_device *device, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		queue_end(&device->queues[i]);
		queue_close(&device->queues[i]);
	}
	free(device->queues);
	device->queues = NULL;
}

static int queues_open(struct virtio_device *device, const enum queue_direction *directions)
{
	device->queues = calloc(device->queue_count, sizeof(*device->queues));
	if (!device->queues)
		return -ENOMEM;
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct virtio_queue *queue = &device->queues[i];
		int err;

		queue->device = device;
		queue->index = i;
		queue->ring.memory = device->memory;
		queue->ring.device = device->name;
		queue->ring.index = i;
		queue->ring.direction = directions ? directions[i] : QUEUE_BOTH;
		queue_forget(queue);
		err = queue_open(queue);
		if (err) {
			queues_close(device, i);
			return err;
		}
	}
	return 0;
}

int virtio_plug(struct virtio_device *device, struct pci_bus *pci, unsigned slot,
		struct machine *machine, const struct memory *memory,
		const enum queue_direction *directions, unsigned count, struct problem *problem_)
{
	int err;

	if (!device->name[0])
		snprintf(device->name, sizeof(device->name), "%s", device->ops->name);
	device->machine = machine;
	device->memory = memory;
	device->queue_count = count;
	device->offered |= device->ops->features | COMMON_FEATURES;

	err = queues_open(device, directions);
	if (err)
		return problem(problem_, -err, "cannot start the threads of device %s: %s",
			       device->name, strerror(-err));
	err = virtio_pci_plug(device, pci, slot, problem_);
	if (err) {
		queues_close(device, count);
		return err;
	}
	log_verbose("%s: PCI slot %u, %u queues, features 0x%llx offered", device->name, slot,
		    count, (unsigned long long)device->offered);
	return 0;
}

void virtio_power_on(struct virtio_device *device)
{
	virtio_pci_power_on(device->pci);
	pthread_mutex_lock(&device->pci->lock);
	device_reset(device);
	pthread_mutex_unlock(&device->pci->lock);
	virtio_pci_settle(device->pci);
}

void virtio_unplug(struct virtio_device *device)
{
	queues_close(device, device->queue_count);
	virtio_pci_unplug(device);
	if (device->ops->destroy)
		device->ops->destroy(device);
}

/* Configuration */

void virtio_config_begin(struct virtio_device *device)
{
	pthread_mutex_lock(&device->pci->config_lock);
}

void virtio_config_changed(struct virtio_device *device)
{
	device->pci->config_changed = true;
	pthread_mutex_unlock(&device->pci->config_lock);
	virtio_pci_interrupt_config(device->pci);
}
