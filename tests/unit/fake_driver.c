/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small virtio driver for tests: see fake_driver.h.
 */
#include "fake_driver.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <string.h>

#define NO_DESCRIPTOR 0xffff

static u16 load(const u16 *word, memory_order order)
{
	return atomic_load_explicit((const _Atomic u16 *)word, order);
}

static void store(u16 *word, u16 value, memory_order order)
{
	atomic_store_explicit((_Atomic u16 *)word, value, order);
}

u16 *fake_used_event(struct fake_driver *driver)
{
	return &driver->avail->ring[driver->size];
}

u16 *fake_avail_event(struct fake_driver *driver)
{
	return (u16 *)&driver->used->ring[driver->size];
}

void *fake_driver_at(const struct fake_driver *driver, u64 gpa, u64 len)
{
	void *host = memory_at(driver->memory, gpa, len);

	assert(host);
	return host;
}

u64 fake_driver_alloc(struct fake_driver *driver, u64 len, u64 alignment)
{
	const u64 gpa = align_up(driver->heap, alignment);

	assert(gpa <= driver->heap_end && len <= driver->heap_end - gpa);
	driver->heap = gpa + len;
	memset(fake_driver_at(driver, gpa, len), 0, len);
	return gpa;
}

static void lay_out_split(struct fake_driver *driver)
{
	const u16 size = driver->size;
	const u64 desc_len = size * sizeof(struct vring_desc);
	const u64 avail_len = sizeof(struct vring_avail) + (size + 1) * sizeof(u16);
	const u64 used_len =
		sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) + sizeof(u16);

	assert(!(size & (size - 1)));
	driver->desc_gpa = fake_driver_alloc(driver, desc_len, VRING_DESC_ALIGN_SIZE);
	driver->avail_gpa = fake_driver_alloc(driver, avail_len, VRING_AVAIL_ALIGN_SIZE);
	driver->used_gpa = fake_driver_alloc(driver, used_len, VRING_USED_ALIGN_SIZE);
	driver->desc = fake_driver_at(driver, driver->desc_gpa, desc_len);
	driver->avail = fake_driver_at(driver, driver->avail_gpa, avail_len);
	driver->used = fake_driver_at(driver, driver->used_gpa, used_len);
}

static void lay_out_packed(struct fake_driver *driver)
{
	const u64 ring_len = driver->size * sizeof(struct vring_packed_desc);
	const u64 event_len = sizeof(struct vring_packed_desc_event);

	driver->desc_gpa = fake_driver_alloc(driver, ring_len, VRING_DESC_ALIGN_SIZE);
	driver->avail_gpa = fake_driver_alloc(driver, event_len, event_len);
	driver->used_gpa = fake_driver_alloc(driver, event_len, event_len);
	driver->ring = fake_driver_at(driver, driver->desc_gpa, ring_len);
	driver->driver_event = fake_driver_at(driver, driver->avail_gpa, event_len);
	driver->device_event = fake_driver_at(driver, driver->used_gpa, event_len);
	driver->wrap = true;
	driver->used_wrap = true;
}

void fake_driver_init(struct fake_driver *driver, const struct memory *memory, u64 gpa, u64 len,
		      u16 size, u64 features)
{
	assert(size && size <= FAKE_QUEUE_MAX);
	memset(driver, 0, sizeof(*driver));
	driver->memory = memory;
	driver->size = size;
	driver->packed = features >> VIRTIO_F_RING_PACKED & 1;
	driver->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	driver->heap = gpa;
	driver->heap_end = gpa + len;
	if (driver->packed)
		lay_out_packed(driver);
	else
		lay_out_split(driver);

	driver->free_count = size;
	for (unsigned i = 0; i < size; i++)
		driver->free_next[i] = i + 1u < size ? i + 1u : NO_DESCRIPTOR;
}

struct fake_buffer fake_readable(struct fake_driver *driver, const void *data, u32 len)
{
	const u64 gpa = fake_driver_alloc(driver, len, 1);

	if (data)
		memcpy(fake_driver_at(driver, gpa, len), data, len);
	return (struct fake_buffer){gpa, len, false};
}

struct fake_buffer fake_writable(struct fake_driver *driver, u32 len)
{
	return (struct fake_buffer){fake_driver_alloc(driver, len, 1), len, true};
}

static struct vring_desc describe(const struct fake_buffer *buffer)
{
	return (struct vring_desc){.addr = buffer->gpa,
				   .len = buffer->len,
				   .flags = buffer->writable ? VRING_DESC_F_WRITE : 0};
}

static u16 free_take(struct fake_driver *driver)
{
	const u16 index = driver->free_head;

	driver->free_head = driver->free_next[index];
	driver->free_count--;
	return index;
}

/* Room for an indirect table, once for each descriptor or id. */
static void *table_of(struct fake_driver *driver, u16 index, unsigned count)
{
	const u64 room = driver->size * sizeof(struct vring_desc);

	assert(count <= driver->size);
	if (!driver->table[index])
		driver->table[index] = fake_driver_alloc(driver, room, VRING_DESC_ALIGN_SIZE);
	return fake_driver_at(driver, driver->table[index], room);
}

/* Split: put `count` buffers into the table of the descriptor at `index`, and have it point there.
 */
static void fill_table(struct fake_driver *driver, u16 index, const struct fake_buffer *buffers,
		       unsigned count)
{
	struct vring_desc *table = table_of(driver, index, count);

	for (unsigned i = 0; i < count; i++) {
		table[i] = describe(&buffers[i]);
		if (i + 1 < count) {
			table[i].flags |= VRING_DESC_F_NEXT;
			table[i].next = i + 1;
		}
	}
	driver->desc[index] = (struct vring_desc){
		.addr = driver->table[index],
		.len = count * sizeof(struct vring_desc),
		.flags = VRING_DESC_F_INDIRECT,
	};
}

static int add_split(struct fake_driver *driver, const struct fake_buffer *buffers, unsigned count,
		     unsigned direct)
{
	const unsigned needed = direct + (direct < count);
	u16 head = NO_DESCRIPTOR, last = NO_DESCRIPTOR;

	if (needed > driver->free_count)
		return -1;
	for (unsigned i = 0; i < needed; i++) {
		const u16 index = free_take(driver);

		if (i < direct)
			driver->desc[index] = describe(&buffers[i]);
		else
			fill_table(driver, index, buffers + direct, count - direct);
		if (i) {
			driver->desc[last].flags |= VRING_DESC_F_NEXT;
			driver->desc[last].next = index;
			driver->free_next[last] = index;
		} else {
			head = index;
		}
		last = index;
	}
	driver->free_next[last] = NO_DESCRIPTOR;
	driver->chain_len[head] = needed;
	fake_driver_offer(driver, head);
	return head;
}

/* Packed: entries in a row, with no flag but WRITE. */
static void put_table(struct fake_driver *driver, u16 id, const struct fake_buffer *buffers,
		      unsigned count)
{
	struct vring_packed_desc *table = table_of(driver, id, count);

	for (unsigned i = 0; i < count; i++)
		table[i] = (struct vring_packed_desc){
			.addr = buffers[i].gpa,
			.len = buffers[i].len,
			.flags = buffers[i].writable ? VRING_DESC_F_WRITE : 0,
		};
	fake_driver_put(driver, (struct vring_packed_desc){
					.addr = driver->table[id],
					.len = count * sizeof(*table),
					.id = id,
					.flags = VRING_DESC_F_INDIRECT,
				});
}

static int add_packed(struct fake_driver *driver, const struct fake_buffer *buffers, unsigned count,
		      unsigned direct)
{
	const u16 id = driver->free_head;

	assert(!direct || direct == count);
	if (MAX(direct, 1u) > driver->free_count)
		return -1;
	driver->free_head = driver->free_next[id];
	driver->free_next[id] = NO_DESCRIPTOR;
	if (!direct)
		put_table(driver, id, buffers, count);
	for (unsigned i = 0; i < direct; i++)
		fake_driver_put(driver,
				(struct vring_packed_desc){
					.addr = buffers[i].gpa,
					.len = buffers[i].len,
					.id = id,
					.flags = (buffers[i].writable ? VRING_DESC_F_WRITE : 0) |
						 (i + 1 < direct ? VRING_DESC_F_NEXT : 0),
				});
	driver->chain_len[id] = MAX(direct, 1u);
	driver->free_count -= driver->chain_len[id];
	return id;
}

int fake_driver_add_indirect(struct fake_driver *driver, const struct fake_buffer *buffers,
			     unsigned count, unsigned direct)
{
	assert(count && direct <= count);
	return driver->packed ? add_packed(driver, buffers, count, direct)
			      : add_split(driver, buffers, count, direct);
}

int fake_driver_add(struct fake_driver *driver, const struct fake_buffer *buffers, unsigned count)
{
	return fake_driver_add_indirect(driver, buffers, count, count);
}

void fake_driver_offer(struct fake_driver *driver, u16 head)
{
	/* The device may be reading other entries, never this one. */
	store(&driver->avail->ring[driver->added++ % driver->size], head, memory_order_relaxed);
}

/* virtio: Driver and Device Ring Wrap Counters: AVAIL is the counter, USED its inverse. */
void fake_driver_put(struct fake_driver *driver, struct vring_packed_desc desc)
{
	struct vring_packed_desc *slot = &driver->ring[driver->next];

	desc.flags ^= 1u << (driver->wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);
	slot->addr = desc.addr;
	slot->len = desc.len;
	slot->id = desc.id;
	/* Until the first is marked, the device sees none of them. */
	if (driver->unpublished++) {
		store(&slot->flags, desc.flags, memory_order_relaxed);
	} else {
		driver->first_slot = driver->next;
		driver->first_flags = desc.flags;
	}
	if (++driver->next == driver->size) {
		driver->next = 0;
		driver->wrap = !driver->wrap;
	}
}

static bool wants_notification_split(const struct fake_driver *driver, u16 count)
{
	const u16 to = driver->published;

	if (driver->event_idx)
		return vring_need_event(
			load(fake_avail_event((struct fake_driver *)driver), memory_order_relaxed),
			to, to - count);
	return count &&
	       !(load(&driver->used->flags, memory_order_relaxed) & VRING_USED_F_NO_NOTIFY);
}

/* With a place in the event structure: was it among the `count` last slots that were filled? */
static bool wants_notification_packed(const struct fake_driver *driver, u16 count)
{
	const u16 flags = load(&driver->device_event->flags, memory_order_acquire);
	const u16 word = load(&driver->device_event->off_wrap, memory_order_relaxed);
	u16 event = word & ((1u << VRING_PACKED_EVENT_F_WRAP_CTR) - 1);

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE || !count)
		return false;
	if (flags == VRING_PACKED_EVENT_FLAG_ENABLE)
		return true;
	assert(driver->event_idx);
	if (word >> VRING_PACKED_EVENT_F_WRAP_CTR != driver->wrap)
		event -= driver->size;
	return vring_need_event(event, driver->next, driver->next - count);
}

u16 fake_driver_show(struct fake_driver *driver)
{
	u16 count;

	if (driver->packed) {
		count = driver->unpublished;
		driver->unpublished = 0;
		if (count)
			store(&driver->ring[driver->first_slot].flags, driver->first_flags,
			      memory_order_release);
	} else {
		count = driver->added - driver->published;
		driver->published = driver->added;
		store(&driver->avail->idx, driver->published, memory_order_release);
	}
	return count;
}

bool fake_driver_publish(struct fake_driver *driver)
{
	const u16 count = fake_driver_show(driver);

	/* virtio: Notifying The Device: this must be out before we look what is wanted. */
	atomic_thread_fence(memory_order_seq_cst);
	return driver->packed ? wants_notification_packed(driver, count)
			      : wants_notification_split(driver, count);
}

static void free_chain(struct fake_driver *driver, u16 head)
{
	u16 last = head;

	for (unsigned i = 1; i < driver->chain_len[head]; i++)
		last = driver->free_next[last];
	driver->free_next[last] = driver->free_count ? driver->free_head : NO_DESCRIPTOR;
	driver->free_head = head;
	driver->free_count += driver->chain_len[head];
	driver->chain_len[head] = 0;
}

static bool take_split(struct fake_driver *driver, u16 *head, u32 *written)
{
	const struct vring_used_elem *element = &driver->used->ring[driver->taken % driver->size];
	u32 id;

	if (load(&driver->used->idx, memory_order_acquire) == driver->taken)
		return false;
	id = atomic_load_explicit((const _Atomic u32 *)&element->id, memory_order_relaxed);
	*written = atomic_load_explicit((const _Atomic u32 *)&element->len, memory_order_relaxed);
	driver->taken++;
	assert(id < driver->size);
	*head = id;
	/* A chain that the test wrote itself is the test's to reuse. */
	if (driver->chain_len[id])
		free_chain(driver, id);
	return true;
}

/* Both bits are the wrap counter, and something is out at all. */
static bool packed_is_used(const struct fake_driver *driver)
{
	const u16 flags = load(&driver->ring[driver->next_used].flags, memory_order_acquire);

	return (flags >> VRING_PACKED_DESC_F_AVAIL & 1) == driver->used_wrap &&
	       flags >> VRING_PACKED_DESC_F_USED == driver->used_wrap;
}

/* The length counts only where something was written (virtio: Element Address and Length). */
static bool take_packed(struct fake_driver *driver, u16 *id, u32 *written)
{
	const struct vring_packed_desc *used = &driver->ring[driver->next_used];
	unsigned length;

	if (!packed_is_used(driver))
		return false;
	*id = load(&used->id, memory_order_relaxed);
	*written = atomic_load_explicit((const _Atomic u32 *)&used->len, memory_order_relaxed);
	if (!(load(&used->flags, memory_order_relaxed) & VRING_DESC_F_WRITE))
		*written = 0;
	assert(*id < driver->size && driver->chain_len[*id]);
	length = driver->chain_len[*id];
	driver->chain_len[*id] = 0;
	driver->free_count += length;
	driver->free_next[*id] = driver->free_head;
	driver->free_head = *id;
	driver->next_used += length;
	if (driver->next_used >= driver->size) {
		driver->next_used -= driver->size;
		driver->used_wrap = !driver->used_wrap;
	}
	return true;
}

bool fake_driver_take(struct fake_driver *driver, u16 *head, u32 *written)
{
	return driver->packed ? take_packed(driver, head, written)
			      : take_split(driver, head, written);
}

void fake_driver_disable_interrupts(struct fake_driver *driver)
{
	if (driver->packed)
		store(&driver->driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE,
		      memory_order_relaxed);
	else if (driver->event_idx)
		store(fake_used_event(driver), driver->taken + 0x8000, memory_order_relaxed);
	else
		store(&driver->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, memory_order_relaxed);
}

static void ask_packed(struct fake_driver *driver)
{
	const u16 wrap = driver->used_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;

	if (driver->event_idx) {
		store(&driver->driver_event->off_wrap, driver->next_used | wrap,
		      memory_order_relaxed);
		store(&driver->driver_event->flags, VRING_PACKED_EVENT_FLAG_DESC,
		      memory_order_release);
	} else {
		store(&driver->driver_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE,
		      memory_order_relaxed);
	}
}

bool fake_driver_enable_interrupts(struct fake_driver *driver)
{
	if (driver->packed)
		ask_packed(driver);
	else if (driver->event_idx)
		store(fake_used_event(driver), driver->taken, memory_order_relaxed);
	else
		store(&driver->avail->flags, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (driver->packed)
		return packed_is_used(driver);
	return load(&driver->used->idx, memory_order_acquire) != driver->taken;
}
