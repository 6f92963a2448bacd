/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packed rings (virtio: Packed Virtqueues), the device's side.
 *
 * One array of descriptors is all there is, and both sides write in it, each at
 * its own place, going round. The driver writes chains of available descriptors,
 * one after the other. We write one used descriptor for each chain that is done,
 * over whatever chain of the driver's stands at our place, and move on by as many
 * descriptors as the chain that is *done* had. So places and chains part company as
 * soon as one overtakes another; what ties them together again is the buffer id.
 *
 * How does one see that a descriptor is news, and not left from the time before?
 * By two bits, AVAIL and USED, whose meaning turns over each time round. That makes
 * two laps before everything repeats, and that is how places are counted here: a
 * position runs from 0 to twice the size, less one. Its slot is the rest modulo the
 * size, and the wrap counter of the standard is 1 on the first of the two laps, 0 on
 * the second. Whatever is between two positions is then a subtraction, and no case
 * has to be told from another.
 *
 * Called through the table at the end, by virtio/queue.c.
 *
 * Tour 4.50: Packed rings
 */
#include "virtio/ring.h"

#include <errno.h>

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP  (1u << VRING_PACKED_EVENT_F_WRAP_CTR)
/* virtio: Structure Size and Alignment. */
#define EVENT_ALIGNMENT 4

/* Positions */

/*
 * All the arithmetic of two laps.
 *
 * Tour 4.51, 4 items: Two laps
 */
static bool wrap_counter(const struct queue *queue, unsigned position)
{
	return position < queue->size;
}

static unsigned slot_of(const struct queue *queue, unsigned position)
{
	return wrap_counter(queue, position) ? position : position - queue->size;
}

/* By no more than one lap. */
static unsigned advance(const struct queue *queue, unsigned position, unsigned by)
{
	const unsigned laps = 2 * queue->size, to = position + by;

	return to < laps ? to : to - laps;
}

static unsigned distance(const struct queue *queue, unsigned from, unsigned to)
{
	return from <= to ? to - from : to + 2 * queue->size - from;
}

/* As the event structures have it: a slot, and the wrap counter above it. */
static u16 event_word(const struct queue *queue, unsigned position)
{
	return slot_of(queue, position) | (wrap_counter(queue, position) ? WRAP : 0);
}

static struct vring_packed_desc *slot_at(const struct queue *queue, unsigned position)
{
	return (struct vring_packed_desc *)queue->desc_area + slot_of(queue, position);
}

static struct vring_packed_desc_event *driver_event(const struct queue *queue)
{
	return queue->driver_area;
}

static struct vring_packed_desc_event *device_event(const struct queue *queue)
{
	return queue->device_area;
}

/* The driver's mark: AVAIL is the wrap counter, and USED is not. */
static bool is_available(const struct queue *queue, unsigned position, u16 flags)
{
	return (flags & (AVAIL | USED)) == (wrap_counter(queue, position) ? AVAIL : USED);
}

/* Our place follows the driver's: what lies between was taken, and has not been given back. */
static unsigned descriptors_out(const struct queue *queue)
{
	const struct packed_ring *ring = &queue->packed_ring;

	return distance(queue, ring->next_used, ring->next_avail);
}

/*
 * A new queue asks to be notified of its first chain. The driver may have left rubbish in
 * our words, which would tell it not to bother.
 */
static bool packed_start(struct queue *queue, struct violation *violation)
{
	(void)violation;
	queue->packed_ring = (struct packed_ring){.next_avail = 0};
	ring_store(queue, &device_event(queue)->off_wrap, event_word(queue, 0),
		   memory_order_relaxed);
	ring_store(queue, &device_event(queue)->flags, VRING_PACKED_EVENT_FLAG_ENABLE,
		   memory_order_relaxed);
	return true;
}

/* Taking */

/* What is left of it when it has been found to be available. */
static struct descriptor descriptor_of(const struct vring_packed_desc *from)
{
	return (struct descriptor){from->addr, from->len, from->flags & ~(AVAIL | USED)};
}

/*
 * Each entry of an indirect table, one after the other: there is no NEXT in it, nor anything else
 * that counts but WRITE. INDIRECT is not meant to be ignored, it is what VQ-4 forbids.
 */
static int walk_table(struct walk *walk, const struct descriptor *pointer, unsigned index)
{
	struct table table = {.indirect = false};
	int err = walk_enter(walk, &table, pointer, index);

	for (unsigned i = 0; !err && i < table.entries; i++) {
		/* A table may lie at any address, so there is no struct yet to point to. */
		const u8 *entry = table.descriptors + i * sizeof(struct vring_packed_desc);
		const struct vring_packed_desc from = RING_COPY(struct vring_packed_desc, entry);
		const struct descriptor descriptor = descriptor_of(&from);

		if (descriptor.flags & VRING_DESC_F_INDIRECT)
			return walk_enter(walk, &table, &descriptor, i);
		err = walk_add(walk, &descriptor, i);
	}
	return err;
}

/*
 * May a chain that has `length` descriptors already have the one at this position as well? Not if
 * that is one which we still have; and not if the driver never finished it (virtio: Driver
 * Requirements: Scatter-Gather Support: the first of a chain is the last to be made available).
 */
static int check_next(const struct walk *walk, unsigned position, unsigned length, u16 flags)
{
	const struct queue *queue = walk->queue;
	const unsigned out = descriptors_out(queue);

	if (length >= queue->size)
		return walk_too_long(walk);
	if (length + out >= queue->size)
		return ring_broken(walk->violation,
				   "VQ-1: descriptor %u is made available again, but was not used",
				   slot_of(queue, position));
	if (!is_available(queue, position, flags))
		return ring_broken(walk->violation,
				   "VQ-1: descriptor %u continues a chain, but is not available",
				   slot_of(queue, position));
	return 0;
}

/*
 * The id of a chain stands in its last descriptor. Of two with the same id nobody could say which
 * of them is done.
 */
static int check_id(const struct walk *walk, u16 id)
{
	const struct queue *queue = walk->queue;

	if (id >= queue->size)
		return ring_broken(walk->violation,
				   "VQ-1: buffer id %u is not below the queue size %u", id,
				   queue->size);
	if (queue->packed_ring.out_length[id])
		return ring_broken(walk->violation,
				   "VQ-1: buffer id %u is used again, but its chain was not", id);
	return 0;
}

/*
 * A chain is either descriptors of the ring in a row, as long as they say NEXT, or a single one
 * that points at a table; never some and then a table (virtio: Driver Requirements: Indirect
 * Descriptors). `flags` are those of the first, which have been read. The chain's length in the
 * ring, or -EPROTO.
 *
 * Tour 4.52: Along a chain, in a row
 */
static int packed_walk(struct walk *walk, u16 flags)
{
	const struct queue *queue = walk->queue;
	unsigned position = queue->packed_ring.next_avail;
	int length = 0, err;

	for (;;) {
		struct vring_packed_desc from =
			RING_COPY(struct vring_packed_desc, slot_at(queue, position));
		struct descriptor descriptor;

		/* What was judged is what counts, not what is there now. */
		if (!length)
			from.flags = flags;
		descriptor = descriptor_of(&from);
		err = check_next(walk, position, length, from.flags);
		if (err)
			return err;
		if (descriptor.flags & VRING_DESC_F_INDIRECT && length)
			return ring_broken(
				walk->violation,
				"VQ-4: descriptor %u is indirect, in a chain of ordinary ones",
				slot_of(queue, position));
		if (descriptor.flags & VRING_DESC_F_INDIRECT)
			err = walk_table(walk, &descriptor, slot_of(queue, position));
		else
			err = walk_add(walk, &descriptor, slot_of(queue, position));
		if (err)
			return err;
		length++;
		position = advance(queue, position, 1);
		if (!(descriptor.flags & VRING_DESC_F_NEXT)) {
			walk->chain->head = from.id;
			err = check_id(walk, from.id);
			return err ? err : length;
		}
	}
}

/* VQ-7: what the driver wrote before it marked the descriptor is visible after this. */
static u16 next_flags(const struct queue *queue)
{
	return ring_load(&slot_at(queue, queue->packed_ring.next_avail)->flags,
			 memory_order_acquire);
}

/*
 * What the available ring and its index were, is here one bit: the next descriptor is news, or
 * it is not.
 *
 * Tour 4.53: A chain is taken, by one bit
 */
static int packed_pop(struct queue *queue, struct chain *chain, struct violation *violation)
{
	struct packed_ring *ring = &queue->packed_ring;
	struct walk walk = {
		.queue = queue,
		.chain = chain,
		.violation = violation,
	};
	const u16 flags = next_flags(queue);
	int length;

	if (!is_available(queue, ring->next_avail, flags))
		return 0;
	walk_begin(&walk, slot_of(queue, ring->next_avail));
	length = packed_walk(&walk, flags);
	if (length < 0)
		return length;
	chain->slots = length;
	ring->out_length[chain->head] = length;
	ring->next_avail = advance(queue, ring->next_avail, length);
	return 1;
}

static bool packed_pending(const struct queue *queue)
{
	return is_available(queue, queue->packed_ring.next_avail, next_flags(queue));
}

/* Giving back */

/*
 * All of a used descriptor but its flags, which are returned. Our mark: both bits are the wrap
 * counter. WRITE says that there is a length, and comes only with one. The address is the
 * driver's, and stays.
 */
static u16 put_used(const struct queue *queue, unsigned position, const struct queue_used *chain)
{
	struct vring_packed_desc *used = slot_at(queue, position);

	atomic_store_explicit((_Atomic u32 *)&used->len, chain->written, memory_order_relaxed);
	atomic_store_explicit((_Atomic u16 *)&used->id, chain->head, memory_order_relaxed);
	/* Before the flags: a driver that sees the chain back may already run the code in it. */
	guest_ram_written(queue->memory, memory_gpa(queue->memory, used), sizeof(*used));
	return (wrap_counter(queue, position) ? AVAIL | USED : 0) |
	       (chain->written ? VRING_DESC_F_WRITE : 0);
}

/*
 * Of chains that belong together the first is marked last (virtio: Multi-buffer requests).
 *
 * Tour 4.54: A chain goes back, over another
 */
static void packed_push(struct queue *queue, const struct queue_used *chains, unsigned count)
{
	struct packed_ring *ring = &queue->packed_ring;
	struct vring_packed_desc *first = slot_at(queue, ring->next_used);
	u16 first_flags = 0;

	for (unsigned i = 0; i < count; i++) {
		const u16 id = chains[i].head;
		const unsigned length = ring->out_length[id];
		const u16 flags = put_used(queue, ring->next_used, &chains[i]);

		if (i)
			ring_store(queue, &slot_at(queue, ring->next_used)->flags, flags,
				   memory_order_relaxed);
		else
			first_flags = flags;
		ring->out_length[id] = 0;
		ring->next_used = advance(queue, ring->next_used, length);
		ring->unsignalled = MIN(ring->unsignalled + length, 2 * queue->size);
	}
	/* VQ-7: whoever sees the mark sees the descriptors and the data. */
	ring_store(queue, &first->flags, first_flags, memory_order_release);
}

/* Notifications */

static void packed_suppress(struct queue *queue)
{
	ring_store(queue, &device_event(queue)->flags, VRING_PACKED_EVENT_FLAG_DISABLE,
		   memory_order_relaxed);
}

/*
 * With EVENT_IDX we ask for the very next descriptor, so that a driver which is faster than we wake
 * up does not notify again. The place first: a driver that sees the flags looks for it.
 */
static void packed_ask(struct queue *queue)
{
	struct vring_packed_desc_event *event = device_event(queue);

	if (queue->event_idx) {
		ring_store(queue, &event->off_wrap,
			   event_word(queue, queue->packed_ring.next_avail), memory_order_relaxed);
		ring_store(queue, &event->flags, VRING_PACKED_EVENT_FLAG_DESC,
			   memory_order_release);
	} else if (queue->suppressed) {
		ring_store(queue, &event->flags, VRING_PACKED_EVENT_FLAG_ENABLE,
			   memory_order_relaxed);
	}
}

/*
 * Has the place that the driver asked about been passed since the driver was last considered?
 * After two laps in one go every place has; before that it is exact, or, for a place ahead of us
 * when more than one lap went by, one interrupt in vain.
 */
static int event_reached(const struct queue *queue, unsigned from, unsigned passed, u16 word,
			 struct violation *violation)
{
	const unsigned slot = word & (WRAP - 1);

	if (slot >= queue->size)
		return ring_broken(violation,
				   "VQ-6: driver event offset %u is not below the queue size %u",
				   slot, queue->size);
	return distance(queue, from, word & WRAP ? slot : slot + queue->size) < passed;
}

static int packed_wants_interrupt(struct queue *queue, struct violation *violation)
{
	struct packed_ring *ring = &queue->packed_ring;
	const struct vring_packed_desc_event *event = driver_event(queue);
	const unsigned from = ring->signalled, passed = ring->unsignalled;
	u16 flags;

	if (!passed)
		return 0;
	ring->signalled = ring->next_used;
	ring->unsignalled = 0;

	/* The driver writes the place before the flags; so it is read after them. */
	flags = ring_load(&event->flags, memory_order_acquire);
	if (flags == VRING_PACKED_EVENT_FLAG_DESC && queue->event_idx)
		return event_reached(queue, from, passed,
				     ring_load(&event->off_wrap, memory_order_relaxed), violation);
	if (flags > VRING_PACKED_EVENT_FLAG_DISABLE)
		return ring_broken(violation,
				   "VQ-6: driver event flags are %u, must be 0, 1, or 2 with "
				   "EVENT_IDX",
				   flags);
	return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
}

const struct ring_ops packed_ring_ops = {
	.desc = {VRING_DESC_ALIGN_SIZE, 0, sizeof(struct vring_packed_desc)},
	.driver = {EVENT_ALIGNMENT, sizeof(struct vring_packed_desc_event), 0},
	.device = {EVENT_ALIGNMENT, sizeof(struct vring_packed_desc_event), 0},
	.start = packed_start,
	.pop = packed_pop,
	.push = packed_push,
	.pending = packed_pending,
	.suppress = packed_suppress,
	.ask = packed_ask,
	.wants_interrupt = packed_wants_interrupt,
};
