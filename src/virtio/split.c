/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split rings (virtio: Split Virtqueues), the device's side.
 *
 * A table of descriptors and two rings of indices into it. The driver puts heads
 * of chains into the available ring, we put them back into the used ring, and
 * each side writes only what is its own: the table and the available ring are the
 * driver's, the used ring ours. An index that only ever grows, modulo 65536, says
 * how far each ring has got.
 *
 * Called through the table at the end, by virtio/queue.c.
 *
 * Tour 4.40: Split rings
 */
#include "virtio/ring.h"

#include <errno.h>

static struct vring_avail *avail_ring(const struct queue *queue)
{
	return queue->driver_area;
}

static struct vring_used *used_ring(const struct queue *queue)
{
	return queue->device_area;
}

static u16 available_index(const struct queue *queue)
{
	/* VQ-7: what the driver wrote before it moved the index is visible after this. */
	return ring_load(&avail_ring(queue)->idx, memory_order_acquire);
}

/* The two event words hide behind the rings of the *other* side's index. */
static const u16 *used_event(const struct queue *queue)
{
	return &avail_ring(queue)->ring[queue->size];
}

static u16 *avail_event(const struct queue *queue)
{
	return (u16 *)&used_ring(queue)->ring[queue->size];
}

static bool split_start(struct queue *queue, struct violation *violation)
{
	struct vring_used *used = used_ring(queue);
	const u16 flags = ring_load(&used->flags, memory_order_relaxed);

	queue->split = (struct split_ring){.next_avail = 0};
	if (flags && queue->strict) {
		violation_set(violation,
			      "VT-6: used.flags is %u when the queue is enabled, must be 0", flags);
		violation->strict_only = true;
		return false;
	}
	/*
	 * A new queue asks to be notified of its first chain. The driver may have
	 * left rubbish in these words, which would tell it not to bother.
	 */
	if (flags)
		ring_store(queue, &used->flags, 0, memory_order_relaxed);
	if (queue->event_idx)
		ring_store(queue, avail_event(queue), 0, memory_order_relaxed);
	return true;
}

/* Taking */

static struct vring_desc descriptor_at(const struct table *table, unsigned index)
{
	return RING_COPY(struct vring_desc, table->descriptors + index * sizeof(struct vring_desc));
}

/*
 * From its head along next to the end; through an indirect table, if that is where it leads.
 *
 * Tour 4.41: Along a chain
 */
static int split_walk(struct walk *walk)
{
	struct table table = {walk->queue->desc_area, walk->queue->size, false};
	unsigned index = walk->first;
	int err;

	for (;;) {
		const struct vring_desc from = descriptor_at(&table, index);
		const struct descriptor descriptor = {from.addr, from.len, from.flags};

		walk->chain->slots += !table.indirect;
		if (descriptor.flags & VRING_DESC_F_INDIRECT) {
			err = walk_enter(walk, &table, &descriptor, index);
			if (err)
				return err;
			index = 0;
			continue;
		}
		err = walk_add(walk, &descriptor, index);
		if (err)
			return err;
		if (!(descriptor.flags & VRING_DESC_F_NEXT))
			return 0;
		if (from.next >= table.entries)
			return ring_broken(walk->violation,
					   "VQ-2: descriptor %u: next is %u, outside its table of "
					   "%u",
					   index, from.next, table.entries);
		index = from.next;
	}
}

/*
 * How many chains wait, or -EPROTO. A chain has at least one descriptor of the
 * queue's own table for as long as we have it, so what waits and what is still
 * out with the device fit into the ring together (VQ-1). Devices rely on that:
 * no more than `size` chains are ever out. An index that went backwards is, in
 * arithmetic modulo 65536, one that ran very far ahead.
 *
 * Tour 4.42: How many there are
 */
static int chains_waiting(const struct queue *queue, struct violation *violation)
{
	const struct split_ring *ring = &queue->split;
	const u16 index = available_index(queue);
	const u16 waiting = index - ring->next_avail;
	const u16 out = ring->next_avail - ring->next_used;

	if (waiting > queue->size)
		return ring_broken(
			violation,
			"VQ-1: available index %u runs ahead of %u by more than the queue size %u",
			index, ring->next_avail, queue->size);
	if (waiting && waiting + out > queue->size)
		return ring_broken(violation,
				   "VQ-1: available index %u runs ahead of used index %u by more "
				   "than the queue size %u",
				   index, ring->next_used, queue->size);
	return waiting;
}

/*
 * The next entry of the available ring is the number of a chain's first descriptor. It is read
 * once; whatever the driver writes there afterwards, we have got our number. Our own index
 * moves on only when all of the chain was found to be good.
 *
 * Tour 4.43: A chain is taken
 */
static int split_pop(struct queue *queue, struct chain *chain, struct violation *violation)
{
	struct walk walk = {.queue = queue, .chain = chain, .violation = violation};
	int result;

	result = chains_waiting(queue, violation);
	if (result <= 0)
		return result;

	chain->head = ring_load(&avail_ring(queue)->ring[queue->split.next_avail % queue->size],
				memory_order_relaxed);
	if (chain->head >= queue->size)
		return ring_broken(violation, "VQ-1: head %u is not below the queue size %u",
				   chain->head, queue->size);
	walk_begin(&walk, chain->head);
	result = split_walk(&walk);
	if (result < 0)
		return result;
	queue->split.next_avail++;
	return 1;
}

static bool split_pending(const struct queue *queue)
{
	return available_index(queue) != queue->split.next_avail;
}

/* Giving back */

static void put_used(const struct queue *queue, u16 index, const struct queue_used *chain)
{
	struct vring_used_elem *element = &used_ring(queue)->ring[index % queue->size];

	atomic_store_explicit((_Atomic u32 *)&element->id, chain->head, memory_order_relaxed);
	atomic_store_explicit((_Atomic u32 *)&element->len, chain->written, memory_order_relaxed);
	/* Before the index: a driver that sees the chain back may already run the code in it. */
	guest_ram_written(queue->memory, memory_gpa(queue->memory, element), sizeof(*element));
}

/*
 * Elements first, index last: with the one store at the end all of them are the driver's, and
 * it may read them at that very moment on another CPU.
 *
 * Tour 4.44: A chain goes back
 */
static void split_push(struct queue *queue, const struct queue_used *chains, unsigned count)
{
	struct split_ring *ring = &queue->split;
	const u16 unsignalled = ring->next_used - ring->signalled;

	for (unsigned i = 0; i < count; i++)
		put_used(queue, ring->next_used++, &chains[i]);
	/*
	 * 65536 chains since the driver was last considered would look like none.
	 * 65535 is as much as two 16-bit numbers can be apart, and as good: each
	 * index but the one to come has been passed.
	 */
	if (unsignalled + count > UINT16_MAX)
		ring->signalled = ring->next_used + 1;
	/* VQ-7: whoever sees the new index sees the elements and the data. */
	ring_store(queue, &used_ring(queue)->idx, ring->next_used, memory_order_release);
}

/* Notifications */

/*
 * EVENT_IDX knows no "never", only an index that is far off: half of all there are. A
 * driver that gets there notifies once in vain, which is allowed. used.flags must stay 0
 * (virtio: Available Buffer Notification Suppression).
 */
static void split_suppress(struct queue *queue)
{
	if (queue->event_idx)
		ring_store(queue, avail_event(queue), queue->split.next_avail + 0x8000,
			   memory_order_relaxed);
	else
		ring_store(queue, &used_ring(queue)->flags, VRING_USED_F_NO_NOTIFY,
			   memory_order_relaxed);
}

/* With EVENT_IDX the word grows stale by itself as chains are taken: it is written each time. */
static void split_ask(struct queue *queue)
{
	if (queue->event_idx)
		ring_store(queue, avail_event(queue), queue->split.next_avail,
			   memory_order_relaxed);
	else if (queue->suppressed)
		ring_store(queue, &used_ring(queue)->flags, 0, memory_order_relaxed);
}

/*
 * The driver has said up to where it does not care (`used_event`), or simply no. So the
 * question is whether the index that it named was passed since we asked last; modulo 65536,
 * like all else here.
 *
 * Tour 4.45: Does it want to hear of it?
 */
static int split_wants_interrupt(struct queue *queue, struct violation *violation)
{
	const u16 from = queue->split.signalled;
	const u16 to = queue->split.next_used;
	u16 flags;

	if (from == to)
		return 0;
	queue->split.signalled = to;

	if (!queue->event_idx) {
		flags = ring_load(&avail_ring(queue)->flags, memory_order_relaxed);
		if (flags > VRING_AVAIL_F_NO_INTERRUPT)
			return ring_broken(violation, "VQ-6: avail.flags is %u, must be 0 or 1",
					   flags);
		return !flags;
	}
	if (queue->strict) {
		flags = ring_load(&avail_ring(queue)->flags, memory_order_relaxed);
		if (flags) {
			violation_set(violation,
				      "VQ-6: avail.flags is %u, must be 0 with EVENT_IDX", flags);
			violation->strict_only = true;
			return -EPROTO;
		}
	}
	return vring_need_event(ring_load(used_event(queue), memory_order_relaxed), to, from);
}

/*
 * VT-6. The event words count whether EVENT_IDX was negotiated or not: so says
 * the table of sizes in virtio: Virtqueues.
 */
const struct ring_ops split_ring_ops = {
	.desc = {VRING_DESC_ALIGN_SIZE, 0, sizeof(struct vring_desc)},
	.driver = {VRING_AVAIL_ALIGN_SIZE, sizeof(struct vring_avail) + sizeof(u16), sizeof(u16)},
	.device = {VRING_USED_ALIGN_SIZE, sizeof(struct vring_used) + sizeof(u16),
		   sizeof(struct vring_used_elem)},
	.start = split_start,
	.pop = split_pop,
	.push = split_push,
	.pending = split_pending,
	.suppress = split_suppress,
	.ask = split_ask,
	.wants_interrupt = split_wants_interrupt,
};
