/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues, the device's side: see queue.h.
 *
 * A queue is two rings and a table in the guest's own memory. The driver puts
 * heads of chains into the available ring, we put them back into the used ring,
 * and each side owns what it writes. What makes this file worth reading twice is
 * that the other side is not our friend: it may write anything, anywhere, at any
 * time, while we look. So whatever decides something is fetched once into a
 * local, judged there, and used from there. A driver that rewrites a descriptor
 * after that has merely scribbled on its own notes.
 *
 * Not here: threads, interrupts and registers (virtio/device.c, virtio/pci.c),
 * and what the buffers mean (the devices). Those two call us.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* virtio: The Virtqueue Descriptor Table: no chain is longer than this in total. */
#define CHAIN_BYTES_MAX GiB(4)

/* Where descriptors are being read from: the queue's own table, or an indirect one. */
struct table {
	const u8 *descriptors;
	unsigned entries;
	bool indirect;
};

static int PRINTF(2, 3) broken(struct violation *violation, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(violation->text, sizeof(violation->text), format, args);
	va_end(args);
	violation->strict_only = false;
	return -EPROTO;
}

/*
 * The words that both sides touch while the other looks on. 16 bits at an even
 * address are never seen half-written, and C11 promises it if asked like this.
 */
static u16 ring_load(const u16 *word, memory_order order)
{
	return atomic_load_explicit((const _Atomic u16 *)word, order);
}

static void ring_store(const struct queue *queue, u16 *word, u16 value, memory_order order)
{
	atomic_store_explicit((_Atomic u16 *)word, value, order);
	guest_ram_written(queue->memory, memory_gpa(queue->memory, word), sizeof(*word));
}

static u16 available_index(const struct queue *queue)
{
	const struct vring_avail *avail = queue->avail_ring;

	/* VQ-7: what the driver wrote before it moved the index is visible after this. */
	return ring_load(&avail->idx, memory_order_acquire);
}

/* The two event words hide behind the rings of the *other* side's index. */
static const u16 *used_event(const struct queue *queue)
{
	const struct vring_avail *avail = queue->avail_ring;

	return &avail->ring[queue->size];
}

static u16 *avail_event(const struct queue *queue)
{
	struct vring_used *used = queue->used_ring;

	return (u16 *)&used->ring[queue->size];
}

/* Starting */

static void *area_at(const struct queue *queue, const char *name, u64 gpa, u64 len,
		     unsigned alignment, struct violation *violation)
{
	void *area;

	if (gpa % alignment) {
		broken(violation, "VT-6: %s 0x%llx is not aligned to %u bytes", name,
		       (unsigned long long)gpa, alignment);
		return NULL;
	}
	area = memory_at(queue->memory, gpa, len);
	if (!area)
		broken(violation, "VT-6: %s 0x%llx, %llu bytes long, does not lie inside RAM", name,
		       (unsigned long long)gpa, (unsigned long long)len);
	return area;
}

/*
 * VT-6. The event words count whether EVENT_IDX was negotiated or not: so says
 * the table of sizes in virtio: Virtqueues.
 */
static bool queue_find_areas(struct queue *queue, struct violation *violation)
{
	const u64 event = sizeof(u16);
	const u64 desc = queue->size * sizeof(struct vring_desc);
	const u64 avail = sizeof(struct vring_avail) + queue->size * sizeof(u16) + event;
	const u64 used =
		sizeof(struct vring_used) + queue->size * sizeof(struct vring_used_elem) + event;

	queue->desc_table = area_at(queue, "descriptor area", queue->desc, desc,
				    VRING_DESC_ALIGN_SIZE, violation);
	if (!queue->desc_table)
		return false;
	queue->avail_ring = area_at(queue, "driver area", queue->driver, avail,
				    VRING_AVAIL_ALIGN_SIZE, violation);
	if (!queue->avail_ring)
		return false;
	queue->used_ring =
		area_at(queue, "device area", queue->used, used, VRING_USED_ALIGN_SIZE, violation);
	return queue->used_ring;
}

bool queue_start(struct queue *queue, struct violation *violation)
{
	struct vring_used *used;
	u16 flags;

	if (!queue_find_areas(queue, violation))
		return false;

	queue->next_avail = 0;
	queue->next_used = 0;
	queue->signalled = 0;
	queue->suppressed = false;

	used = queue->used_ring;
	flags = ring_load(&used->flags, memory_order_relaxed);
	if (flags && queue->strict) {
		broken(violation, "VT-6: used.flags is %u when the queue is enabled, must be 0",
		       flags);
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

/*
 * One descriptor, as it is at this moment. The compiler may otherwise look a
 * field up in guest memory again whenever that suits it; the empty statement
 * claims to have changed the copy, so only the copy will do from there on.
 */
static struct vring_desc descriptor_copy(const struct table *table, unsigned index)
{
	struct vring_desc descriptor;

	memcpy(&descriptor, table->descriptors + index * sizeof(descriptor), sizeof(descriptor));
	__asm__ volatile("" : "+m"(descriptor));
	return descriptor;
}

/* VQ-4: `pointer` is the descriptor that refers to an indirect table. WRITE on it means nothing. */
static int table_enter(struct table *table, const struct queue *queue,
		       const struct vring_desc *pointer, unsigned index,
		       struct violation *violation)
{
	const unsigned entry = sizeof(struct vring_desc);

	if (!queue->indirect)
		return broken(violation,
			      "VQ-4: descriptor %u is indirect, which was not negotiated", index);
	if (table->indirect)
		return broken(violation, "VQ-4: descriptor %u is indirect inside an indirect table",
			      index);
	if (pointer->flags & VRING_DESC_F_NEXT)
		return broken(violation,
			      "VQ-4: descriptor %u has flags 0x%x, INDIRECT and NEXT together",
			      index, pointer->flags);
	if (!pointer->len || pointer->len % entry)
		return broken(violation,
			      "VQ-4: descriptor %u: indirect table of %u bytes, must be a non-zero "
			      "multiple of %u",
			      index, pointer->len, entry);
	if (pointer->len / entry > queue->size)
		return broken(violation,
			      "VQ-4: descriptor %u: indirect table of %u entries, more than the "
			      "queue size %u",
			      index, pointer->len / entry, queue->size);

	table->descriptors = memory_at(queue->memory, pointer->addr, pointer->len);
	if (!table->descriptors)
		return broken(violation,
			      "VQ-5: descriptor %u: indirect table 0x%llx, %u bytes long, does not "
			      "lie inside RAM",
			      index, pointer->addr, pointer->len);
	table->entries = pointer->len / entry;
	table->indirect = true;
	return 0;
}

/* VQ-3. Buffers without a single byte keep their place in line like all others. */
static int check_direction(const struct queue *queue, bool writable, bool seen_writable,
			   unsigned index, struct violation *violation)
{
	if (writable && queue->direction == QUEUE_OUT)
		return broken(
			violation,
			"VQ-3: descriptor %u is writable, in a queue for what the driver sends",
			index);
	if (!writable && queue->direction == QUEUE_IN)
		return broken(
			violation,
			"VQ-3: descriptor %u is readable, in a queue for what the driver receives",
			index);
	if (!writable && seen_writable)
		return broken(violation,
			      "VQ-3: descriptor %u is readable, but comes after a writable one",
			      index);
	return 0;
}

/* VQ-2 (bytes) and VQ-5. An empty buffer is harmless wherever it says it is, and left out. */
static int chain_add(struct chain *chain, const struct queue *queue,
		     const struct vring_desc *descriptor, unsigned index,
		     struct violation *violation)
{
	const u64 total = chain->readable_len + chain->writable_len + descriptor->len;
	void *host;

	if (!descriptor->len)
		return 0;
	host = memory_at(queue->memory, descriptor->addr, descriptor->len);
	if (!host)
		return broken(violation,
			      "VQ-5: descriptor %u: buffer 0x%llx, %u bytes long, does not lie "
			      "inside RAM",
			      index, descriptor->addr, descriptor->len);
	if (total > CHAIN_BYTES_MAX)
		return broken(violation, "VQ-2: chain at head %u holds %llu bytes, more than 2^32",
			      chain->head, (unsigned long long)total);

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

/*
 * From chain->head along next to the end. Counting is what ends a loop (VQ-2);
 * the descriptor that merely points at a table is not counted, and cannot loop,
 * because there is only one of it.
 */
static int chain_walk(struct chain *chain, const struct queue *queue, struct violation *violation)
{
	struct table table = {queue->desc_table, queue->size, false};
	unsigned index = chain->head;
	unsigned count = 0;
	bool seen_writable = false;
	int err;

	for (;;) {
		const struct vring_desc descriptor = descriptor_copy(&table, index);
		const bool writable = descriptor.flags & VRING_DESC_F_WRITE;

		if (descriptor.flags & VRING_DESC_F_INDIRECT) {
			err = table_enter(&table, queue, &descriptor, index, violation);
			if (err)
				return err;
			index = 0;
			continue;
		}
		if (++count > queue->size)
			return broken(violation,
				      "VQ-2: chain at head %u has more descriptors than the queue "
				      "size %u, or loops",
				      chain->head, queue->size);
		err = check_direction(queue, writable, seen_writable, index, violation);
		if (!err)
			err = chain_add(chain, queue, &descriptor, index, violation);
		if (err)
			return err;
		seen_writable |= writable;

		if (!(descriptor.flags & VRING_DESC_F_NEXT))
			return 0;
		if (descriptor.next >= table.entries)
			return broken(violation,
				      "VQ-2: descriptor %u: next is %u, outside its table of %u",
				      index, descriptor.next, table.entries);
		index = descriptor.next;
	}
}

/*
 * How many chains wait, or -EPROTO. A chain has at least one descriptor of the
 * queue's own table for as long as we have it, so what waits and what is still
 * out with the device fit into the ring together (VQ-1). Devices rely on that:
 * no more than `size` chains are ever out. An index that went backwards is, in
 * arithmetic modulo 65536, one that ran very far ahead.
 */
static int chains_waiting(const struct queue *queue, struct violation *violation)
{
	const u16 index = available_index(queue);
	const u16 waiting = index - queue->next_avail;
	const u16 out = queue->next_avail - queue->next_used;

	if (waiting > queue->size)
		return broken(
			violation,
			"VQ-1: available index %u runs ahead of %u by more than the queue size %u",
			index, queue->next_avail, queue->size);
	if (waiting && waiting + out > queue->size)
		return broken(violation,
			      "VQ-1: available index %u runs ahead of used index %u by more than "
			      "the queue size %u",
			      index, queue->next_used, queue->size);
	return waiting;
}

int queue_pop(struct queue *queue, struct chain *chain, struct violation *violation)
{
	const struct vring_avail *avail = queue->avail_ring;
	int result;

	result = chains_waiting(queue, violation);
	if (result <= 0)
		return result;

	chain->head =
		ring_load(&avail->ring[queue->next_avail % queue->size], memory_order_relaxed);
	if (chain->head >= queue->size)
		return broken(violation, "VQ-1: head %u is not below the queue size %u",
			      chain->head, queue->size);
	chain->readable = 0;
	chain->writable = 0;
	chain->readable_len = 0;
	chain->writable_len = 0;
	result = chain_walk(chain, queue, violation);
	if (result < 0)
		return result;
	queue->next_avail++;
	return 1;
}

bool queue_pending(const struct queue *queue)
{
	return available_index(queue) != queue->next_avail;
}

/* Giving back */

void queue_push_heads(struct queue *queue, const struct queue_used *chains, unsigned count)
{
	struct vring_used *used = queue->used_ring;
	const u16 unsignalled = queue->next_used - queue->signalled;

	for (unsigned i = 0; i < count; i++) {
		struct vring_used_elem *element = &used->ring[queue->next_used++ % queue->size];

		atomic_store_explicit((_Atomic u32 *)&element->id, chains[i].head,
				      memory_order_relaxed);
		atomic_store_explicit((_Atomic u32 *)&element->len, chains[i].written,
				      memory_order_relaxed);
		/*
		 * Before the index: a driver that sees the chain back may already run the code in
		 * it.
		 */
		guest_ram_written(queue->memory, memory_gpa(queue->memory, element),
				  sizeof(*element));
	}
	/*
	 * 65536 chains since the driver was last considered would look like none.
	 * 65535 is as much as two 16-bit numbers can be apart, and as good: each
	 * index but the one to come has been passed.
	 */
	if (unsignalled + count > UINT16_MAX)
		queue->signalled = queue->next_used + 1;
	/* VQ-7: whoever sees the new index sees the elements and the data. */
	ring_store(queue, &used->idx, queue->next_used, memory_order_release);
}

void queue_push_head(struct queue *queue, u16 head, u32 written)
{
	queue_push_heads(queue, &(struct queue_used){head, written}, 1);
}

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
 */
void queue_suppress(struct queue *queue)
{
	struct vring_used *used = queue->used_ring;

	if (queue->suppressed)
		return;
	queue->suppressed = true;
	/*
	 * EVENT_IDX knows no "never", only an index that is far off: half of all
	 * there are. A driver that gets there notifies once in vain, which is
	 * allowed. used.flags must stay 0 (virtio: Available Buffer Notification Suppression).
	 */
	if (queue->event_idx)
		ring_store(queue, avail_event(queue), queue->next_avail + 0x8000,
			   memory_order_relaxed);
	else
		ring_store(queue, &used->flags, VRING_USED_F_NO_NOTIFY, memory_order_relaxed);
}

bool queue_unsuppress(struct queue *queue)
{
	struct vring_used *used = queue->used_ring;

	/* With EVENT_IDX the word grows stale by itself as chains are taken. */
	if (queue->event_idx)
		ring_store(queue, avail_event(queue), queue->next_avail, memory_order_relaxed);
	else if (queue->suppressed)
		ring_store(queue, &used->flags, 0, memory_order_relaxed);
	queue->suppressed = false;

	atomic_thread_fence(memory_order_seq_cst);
	return queue_pending(queue);
}

int queue_wants_interrupt(struct queue *queue, struct violation *violation)
{
	const struct vring_avail *avail = queue->avail_ring;
	const u16 from = queue->signalled;
	const u16 to = queue->next_used;
	u16 flags;

	if (from == to)
		return 0;
	queue->signalled = to;

	atomic_thread_fence(memory_order_seq_cst);
	if (!queue->event_idx) {
		flags = ring_load(&avail->flags, memory_order_relaxed);
		if (flags > VRING_AVAIL_F_NO_INTERRUPT)
			return broken(violation, "VQ-6: avail.flags is %u, must be 0 or 1", flags);
		return !flags;
	}
	if (queue->strict) {
		flags = ring_load(&avail->flags, memory_order_relaxed);
		if (flags) {
			broken(violation, "VQ-6: avail.flags is %u, must be 0 with EVENT_IDX",
			       flags);
			violation->strict_only = true;
			return -EPROTO;
		}
	}
	return vring_need_event(ring_load(used_event(queue), memory_order_relaxed), to, from);
}

/* The data, however it was cut (VQ-10) */

/* Copies to the buffers if `writing`, else from them. */
static size_t iov_copy(const struct iovec *iov, unsigned count, u64 offset, void *data, size_t len,
		       bool writing)
{
	size_t done = 0;

	for (; count && done < len; iov++, count--) {
		size_t part;
		u8 *buffer;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = MIN(len - done, iov->iov_len - offset);
		buffer = (u8 *)iov->iov_base + offset;
		if (writing)
			memcpy(buffer, (u8 *)data + done, part);
		else
			memcpy((u8 *)data + done, buffer, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t chain_read(const struct chain *chain, u64 offset, void *data, size_t len)
{
	return iov_copy(chain->iov, chain->readable, offset, data, len, false);
}

size_t buffers_write(const struct iovec *iov, unsigned count, u64 offset, const void *data,
		     size_t len)
{
	return iov_copy(iov, count, offset, (void *)data, len, true);
}

size_t chain_write(const struct chain *chain, u64 offset, const void *data, size_t len)
{
	return buffers_write(chain->iov + chain->readable, chain->writable, offset, data, len);
}
