/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small virtio driver for tests: see fake_driver.h.
 */
#include "fake_driver.h"

#include <assert.h>
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

void fake_driver_init(struct fake_driver *driver, const struct memory *memory, u64 gpa, u64 len,
		      u16 size, bool event_idx)
{
	const u64 desc_len = size * sizeof(struct vring_desc);
	const u64 avail_len = sizeof(struct vring_avail) + (size + 1) * sizeof(u16);
	const u64 used_len =
		sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) + sizeof(u16);

	assert(size && size <= FAKE_QUEUE_MAX && !(size & (size - 1)));
	memset(driver, 0, sizeof(*driver));
	driver->memory = memory;
	driver->size = size;
	driver->event_idx = event_idx;
	driver->heap = gpa;
	driver->heap_end = gpa + len;
	driver->desc_gpa = fake_driver_alloc(driver, desc_len, VRING_DESC_ALIGN_SIZE);
	driver->avail_gpa = fake_driver_alloc(driver, avail_len, VRING_AVAIL_ALIGN_SIZE);
	driver->used_gpa = fake_driver_alloc(driver, used_len, VRING_USED_ALIGN_SIZE);
	driver->desc = fake_driver_at(driver, driver->desc_gpa, desc_len);
	driver->avail = fake_driver_at(driver, driver->avail_gpa, avail_len);
	driver->used = fake_driver_at(driver, driver->used_gpa, used_len);

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

/* Put `count` buffers into the table of the descriptor at `index`, and have it point there. */
static void fill_table(struct fake_driver *driver, u16 index, const struct fake_buffer *buffers,
		       unsigned count)
{
	const u64 room = driver->size * sizeof(struct vring_desc);
	struct vring_desc *table;

	assert(count <= driver->size);
	if (!driver->table[index])
		driver->table[index] = fake_driver_alloc(driver, room, VRING_DESC_ALIGN_SIZE);
	table = fake_driver_at(driver, driver->table[index], room);
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

int fake_driver_add_indirect(struct fake_driver *driver, const struct fake_buffer *buffers,
			     unsigned count, unsigned direct)
{
	const unsigned needed = direct + (direct < count);
	u16 head = NO_DESCRIPTOR, last = NO_DESCRIPTOR;

	assert(count && direct <= count);
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

int fake_driver_add(struct fake_driver *driver, const struct fake_buffer *buffers, unsigned count)
{
	return fake_driver_add_indirect(driver, buffers, count, count);
}

void fake_driver_offer(struct fake_driver *driver, u16 head)
{
	/* The device may be reading other entries, never this one. */
	store(&driver->avail->ring[driver->added++ % driver->size], head, memory_order_relaxed);
}

bool fake_driver_publish(struct fake_driver *driver)
{
	const u16 from = driver->published;

	driver->published = driver->added;
	store(&driver->avail->idx, driver->published, memory_order_release);
	/* virtio: Notifying The Device: the index must be out before we look what is wanted. */
	atomic_thread_fence(memory_order_seq_cst);
	if (driver->event_idx)
		return vring_need_event(load(fake_avail_event(driver), memory_order_relaxed),
					driver->published, from);
	return driver->published != from &&
	       !(load(&driver->used->flags, memory_order_relaxed) & VRING_USED_F_NO_NOTIFY);
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

bool fake_driver_take(struct fake_driver *driver, u16 *head, u32 *written)
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

void fake_driver_disable_interrupts(struct fake_driver *driver)
{
	if (driver->event_idx)
		store(fake_used_event(driver), driver->taken + 0x8000, memory_order_relaxed);
	else
		store(&driver->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, memory_order_relaxed);
}

bool fake_driver_enable_interrupts(struct fake_driver *driver)
{
	if (driver->event_idx)
		store(fake_used_event(driver), driver->taken, memory_order_relaxed);
	else
		store(&driver->avail->flags, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	return load(&driver->used->idx, memory_order_acquire) != driver->taken;
}
