/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtqueues, the device's side: see queue.h.
 *
 * A queue lies in the guest's own memory. The driver makes chains of buffers
 * available there, we mark them as used, and each side owns what it writes. What
 * makes these files worth reading twice is that the other side is not our friend:
 * it may write anything, anywhere, at any time, while we look. So whatever decides
 * something is fetched once into a local, judged there, and used from there. A
 * driver that rewrites a descriptor after that has merely scribbled on its own
 * notes.
 *
 * Two kinds of ring do the same work: split.c has the old one, three structures
 * with an owner each, and packed.c the newer, one array in which both sides write.
 * Here is all that does not depend on it: what a chain may be made of, how data are
 * copied in and out of it, and the manners that both observe before one goes to
 * sleep.
 *
 * Not here: threads, interrupts and registers (virtio/device.c, virtio/pci.c),
 * and what the buffers mean (the devices). Those two call us.
 *
 * Tour 4.20
 */
#include "host/iovec.h"
#include "virtio/ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* virtio: The Virtqueue Descriptor Table: no chain is longer than this in total. */
#define CHAIN_BYTES_MAX GiB(4)

bool violation_set(struct violation *violation, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(violation->text, sizeof(violation->text), format, args);
	va_end(args);
	violation->strict_only = false;
	return false;
}

/* Starting */

static void *area_at(const struct queue *queue, const char *name, u64 gpa,
		     const struct area_shape *shape, struct violation *violation)
{
	const u64 len = shape->fixed + queue->size * shape->each;
	void *area;

	if (gpa % shape->alignment) {
		violation_set(violation, "VT-6: %s 0x%llx is not aligned to %u bytes", name,
			      (unsigned long long)gpa, shape->alignment);
		return NULL;
	}
	area = memory_at(queue->memory, gpa, len);
	if (!area)
		violation_set(violation,
			      "VT-6: %s 0x%llx, %llu bytes long, does not lie inside RAM", name,
			      (unsigned long long)gpa, (unsigned long long)len);
	return area;
}

static bool find_areas(struct queue *queue, struct violation *violation)
{
	const struct ring_ops *ops = queue->ops;

	queue->desc_area = area_at(queue, "descriptor area", queue->desc, &ops->desc, violation);
	if (!queue->desc_area)
		return false;
	queue->driver_area = area_at(queue, "driver area", queue->driver, &ops->driver, violation);
	if (!queue->driver_area)
		return false;
	queue->device_area = area_at(queue, "device area", queue->used, &ops->device, violation);
	return queue->device_area;
}

bool queue_start(struct queue *queue, struct violation *violation)
{
	queue->ops = queue->packed ? &packed_ring_ops : &split_ring_ops;
	queue->suppressed = false;
	return find_areas(queue, violation) && queue->ops->start(queue, violation);
}

/* Taking */

void walk_begin(struct walk *walk, unsigned first)
{
	walk->first = first;
	walk->count = 0;
	walk->seen_writable = false;
	walk->chain->slots = 0;
	walk->chain->readable = 0;
	walk->chain->writable = 0;
	walk->chain->readable_len = 0;
	walk->chain->writable_len = 0;
}

/*
 * A descriptor may point to a whole table of descriptors elsewhere, so that a long chain takes
 * one place in the ring. Four lines of checks stand before the one that believes it. (WRITE on
 * the pointer means nothing, in either kind of ring.)
 *
 * Tour 4.21: What an indirect table may be
 */
int walk_enter(const struct walk *walk, struct table *table, const struct descriptor *pointer,
	       unsigned index)
{
	const struct queue *queue = walk->queue;
	const unsigned entry = sizeof(struct vring_desc);

	if (!queue->indirect)
		return ring_broken(walk->violation,
				   "VQ-4: descriptor %u is indirect, which was not negotiated",
				   index);
	if (table->indirect)
		return ring_broken(walk->violation,
				   "VQ-4: descriptor %u is indirect inside an indirect table",
				   index);
	if (pointer->flags & VRING_DESC_F_NEXT)
		return ring_broken(walk->violation,
				   "VQ-4: descriptor %u has flags 0x%x, INDIRECT and NEXT together",
				   index, pointer->flags);
	if (!pointer->len || pointer->len % entry)
		return ring_broken(walk->violation,
				   "VQ-4: descriptor %u: indirect table of %u bytes, must be a "
				   "non-zero multiple of %u",
				   index, pointer->len, entry);
	if (pointer->len / entry > queue->size)
		return ring_broken(walk->violation,
				   "VQ-4: descriptor %u: indirect table of %u entries, more than "
				   "the queue size %u",
				   index, pointer->len / entry, queue->size);

	table->descriptors = memory_at(queue->memory, pointer->addr, pointer->len);
	if (!table->descriptors)
		return ring_broken(walk->violation,
				   "VQ-5: descriptor %u: indirect table 0x%llx, %u bytes long, "
				   "does not lie inside RAM",
				   index, (unsigned long long)pointer->addr, pointer->len);
	table->entries = pointer->len / entry;
	table->indirect = true;
	return 0;
}

/* VQ-3. Buffers without a single byte keep their place in line like all others. */
static int check_direction(const struct walk *walk, bool writable, unsigned index)
{
	const enum queue_direction direction = walk->queue->direction;

	if (writable && direction == QUEUE_OUT)
		return ring_broken(
			walk->violation,
			"VQ-3: descriptor %u is writable, in a queue for what the driver sends",
			index);
	if (!writable && direction == QUEUE_IN)
		return ring_broken(
			walk->violation,
			"VQ-3: descriptor %u is readable, in a queue for what the driver receives",
			index);
	if (!writable && walk->seen_writable)
		return ring_broken(
			walk->violation,
			"VQ-3: descriptor %u is readable, but comes after a writable one", index);
	return 0;
}

/* VQ-2 (bytes) and VQ-5. An empty buffer is harmless wherever it says it is, and left out. */
static int add_buffer(const struct walk *walk, const struct descriptor *descriptor, unsigned index)
{
	struct chain *chain = walk->chain;
	const u64 total = chain->readable_len + chain->writable_len + descriptor->len;
	void *host;

	if (!descriptor->len)
		return 0;
	host = memory_at(walk->queue->memory, descriptor->addr, descriptor->len);
	if (!host)
		return ring_broken(walk->violation,
				   "VQ-5: descriptor %u: buffer 0x%llx, %u bytes long, does not "
				   "lie inside RAM",
				   index, (unsigned long long)descriptor->addr, descriptor->len);
	if (total > CHAIN_BYTES_MAX)
		return ring_broken(walk->violation,
				   "VQ-2: chain at head %u holds %llu bytes, more than 2^32",
				   walk->first, (unsigned long long)total);

	chain->iov[chain->readable + chain->writable] = (struct iovec){host, descriptor->len};
	if (descriptor->flags & VRING_DESC_F_WRITE) {
		chain->writable++;
		chain->writable_len += descriptor->len;
	} else {
		chain->readable++;
		chain->readable_len += descriptor->len;
	}
	return 0;
}

int walk_too_long(const struct walk *walk)
{
	return ring_broken(
		walk->violation,
		"VQ-2: chain at head %u has more descriptors than the queue size %u, or loops",
		walk->first, walk->queue->size);
}

/*
 * Counting is what ends a loop (VQ-2); the descriptor that merely points at a table is
 * not counted, and cannot loop, because there is only one of it.
 *
 * Tour 4.22: A chain grows
 */
int walk_add(struct walk *walk, const struct descriptor *descriptor, unsigned index)
{
	const bool writable = descriptor->flags & VRING_DESC_F_WRITE;
	int err;

	if (++walk->count > walk->queue->size)
		return walk_too_long(walk);
	err = check_direction(walk, writable, index);
	if (err)
		return err;
	walk->seen_writable |= writable;
	return add_buffer(walk, descriptor, index);
}

/*
 * One chain, or none, or a rule that was broken. Which kind of ring it comes from is asked
 * here, and by nobody above: a device cannot tell.
 *
 * Tour 4.23: Taking a chain
 */
int queue_pop(struct queue *queue, struct chain *chain, struct violation *violation)
{
	return queue->ops->pop(queue, chain, violation);
}

bool queue_pending(const struct queue *queue)
{
	return queue->ops->pending(queue);
}

/* Giving back */

void queue_push_heads(struct queue *queue, const struct queue_used *chains, unsigned count)
{
	if (count)
		queue->ops->push(queue, chains, count);
}

void queue_push_head(struct queue *queue, u16 head, u32 written)
{
	queue_push_heads(queue, &(struct queue_used){head, written}, 1);
}

/*
 * What was written into the guest's memory may have been code, so it is told, piece by piece,
 * to whoever keeps translations. Only then does the driver get the chain.
 *
 * Tour 4.24: And giving it back
 */
void queue_push(struct queue *queue, const struct chain *chain, u32 written)
{
	const struct iovec *iov = chain->iov + chain->readable;
	u64 left = MIN(written, chain->writable_len);

	written = left;
	for (; left; iov++) {
		const u64 len = MIN(left, iov->iov_len);

		guest_ram_written(queue->memory, memory_gpa(queue->memory, iov->iov_base), len);
		left -= len;
	}
	queue_push_head(queue, chain->head, written);
}

/*
 * Notifications, both ways (VQ-6). The pattern is always the same: one side
 * writes what it wants and then looks for work; the other publishes work and
 * then looks what is wanted. Each has a full fence between the two (VQ-7), so at
 * least one of them sees the other, and nobody sleeps on unseen work.
 *
 * Tour 4.25, 3 items: Nobody sleeps on unseen work
 */
void queue_suppress(struct queue *queue)
{
	if (queue->suppressed)
		return;
	queue->suppressed = true;
	queue->ops->suppress(queue);
}

bool queue_unsuppress(struct queue *queue)
{
	queue->ops->ask(queue);
	queue->suppressed = false;
	atomic_thread_fence(memory_order_seq_cst);
	return queue_pending(queue);
}

int queue_wants_interrupt(struct queue *queue, struct violation *violation)
{
	atomic_thread_fence(memory_order_seq_cst);
	return queue->ops->wants_interrupt(queue, violation);
}

/* The data, however it was cut (VQ-10) */

size_t chain_read(const struct chain *chain, u64 offset, void *data, size_t len)
{
	return iov_gather(chain->iov, chain->readable, offset, data, len);
}

size_t chain_write(const struct chain *chain, u64 offset, const void *data, size_t len)
{
	return iov_scatter(chain->iov + chain->readable, chain->writable, offset, data, len);
}
