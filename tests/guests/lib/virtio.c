/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of a virtio driver (virtio: Device Initialization, Split Virtqueues,
 * Packed Virtqueues, Virtio Over PCI Bus), one function each.
 */
#include "lib/virtio.h"
#include "lib/pci.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define VIRTIO_LAST 0x107f

#define DEVICES_MAX 2 /* that a guest drives at a time */

/* Room for the rings of all queues of some devices, with their event words. */
static struct ring_memory {
	struct vring_desc desc[RING_SIZE_MAX] __attribute__((aligned(VRING_DESC_ALIGN_SIZE)));
	u16 avail[3 + RING_SIZE_MAX];
	struct {
		u16 flags, idx;
		struct vring_used_elem ring[RING_SIZE_MAX];
		u16 event;
	} used __attribute__((aligned(VRING_USED_ALIGN_SIZE)));
	struct vring_packed_desc slots[RING_SIZE_MAX]
		__attribute__((aligned(VRING_DESC_ALIGN_SIZE)));
	struct vring_packed_desc_event driver_event __attribute__((aligned(4)));
	struct vring_packed_desc_event device_event __attribute__((aligned(4)));
} ring_memory[DEVICES_MAX][RINGS_MAX];

static void read_capability(struct virtio *virtio, unsigned at)
{
	struct region region = {
		.bar = pci_read8(virtio->slot, at + VIRTIO_PCI_CAP_BAR),
		.offset = pci_read32(virtio->slot, at + VIRTIO_PCI_CAP_OFFSET),
		.length = pci_read32(virtio->slot, at + VIRTIO_PCI_CAP_LENGTH),
		.capability = at,
	};
	u8 type = pci_read8(virtio->slot, at + VIRTIO_PCI_CAP_CFG_TYPE);

	if (type == VIRTIO_PCI_CAP_PCI_CFG) {
		virtio->window = at;
		return;
	}
	region.address = pci_bar(virtio->slot, region.bar) + region.offset;
	if (type == VIRTIO_PCI_CAP_COMMON_CFG && !virtio->common.address) {
		virtio->common = region;
	} else if (type == VIRTIO_PCI_CAP_NOTIFY_CFG && !virtio->notify.address) {
		virtio->notify = region;
		virtio->notify_multiplier =
			pci_read32(virtio->slot, at + VIRTIO_PCI_NOTIFY_CAP_MULT);
	} else if (type == VIRTIO_PCI_CAP_ISR_CFG && !virtio->isr.address) {
		virtio->isr = region;
	} else if (type == VIRTIO_PCI_CAP_DEVICE_CFG && !virtio->config.address) {
		virtio->config = region;
	}
}

void virtio_find(struct virtio *virtio, unsigned slot)
{
	static unsigned found;
	u16 device = pci_read16(slot, PCI_DEVICE_ID);
	unsigned at = 0;

	memset(virtio, 0, sizeof(*virtio));
	virtio->slot = slot;
	if (pci_read16(slot, PCI_VENDOR_ID) != VIRTIO_VENDOR || device < VIRTIO_FIRST_MODERN ||
	    device > VIRTIO_LAST)
		give_up("slot %u has a virtio device", slot);
	/* Ours are so from power-on; on other boards a firmware has been there before. */
	pci_write16(slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	while ((at = pci_find_capability(slot, PCI_CAP_ID_VNDR, at)))
		read_capability(virtio, at);
	if (!virtio->common.address || !virtio->notify.address || !virtio->isr.address ||
	    !virtio->window)
		give_up("slot %u has all virtio capabilities", slot);
	virtio->memory = found++ % DEVICES_MAX;
	virtio->queue_count = MIN(virtio_read16(virtio, VIRTIO_PCI_COMMON_NUMQ), RINGS_MAX);
}

u8 virtio_status(const struct virtio *virtio)
{
	return virtio_read8(virtio, VIRTIO_PCI_COMMON_STATUS);
}

void virtio_add_status(const struct virtio *virtio, u8 bits)
{
	virtio_write8(virtio, VIRTIO_PCI_COMMON_STATUS, virtio_status(virtio) | bits);
}

bool virtio_reset(const struct virtio *virtio)
{
	virtio_write8(virtio, VIRTIO_PCI_COMMON_STATUS, 0);
	return wait_for(virtio_status(virtio) == 0);
}

u64 virtio_offered(const struct virtio *virtio)
{
	u64 features = 0;

	for (unsigned half = 0; half < 2; half++) {
		virtio_write32(virtio, VIRTIO_PCI_COMMON_DFSELECT, half);
		features |= (u64)virtio_read32(virtio, VIRTIO_PCI_COMMON_DF) << 32 * half;
	}
	return features;
}

void virtio_accept(const struct virtio *virtio, u64 features)
{
	for (unsigned half = 0; half < 2; half++) {
		virtio_write32(virtio, VIRTIO_PCI_COMMON_GFSELECT, half);
		virtio_write32(virtio, VIRTIO_PCI_COMMON_GF, (u32)(features >> 32 * half));
	}
}

bool virtio_negotiate(struct virtio *virtio, u64 features)
{
	if (virtio->packed)
		features |= FEATURE(VIRTIO_F_RING_PACKED);
	virtio->event_idx = features & FEATURE(VIRTIO_RING_F_EVENT_IDX);
	if (!virtio_reset(virtio))
		give_up("a reset ends");
	virtio_add_status(virtio, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(virtio, VIRTIO_CONFIG_S_DRIVER);
	virtio_accept(virtio, features);
	virtio_add_status(virtio, VIRTIO_CONFIG_S_FEATURES_OK);
	return virtio_status(virtio) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write_address(const struct virtio *virtio, u32 offset, u64 address)
{
	virtio_write32(virtio, offset, (u32)address);
	virtio_write32(virtio, offset + 4, (u32)(address >> 32));
}

static void lay_out_split(struct virtio *virtio, struct ring *ring)
{
	struct ring_memory *memory = &ring_memory[virtio->memory][ring->index];

	ring->avail = (void *)memory->avail;
	ring->used = (void *)&memory->used;
	write_address(virtio, VIRTIO_PCI_COMMON_Q_DESCLO, (u64)ring->desc);
	write_address(virtio, VIRTIO_PCI_COMMON_Q_AVAILLO, (u64)ring->avail);
	write_address(virtio, VIRTIO_PCI_COMMON_Q_USEDLO, (u64)ring->used);
}

static void lay_out_packed(struct virtio *virtio, struct ring *ring)
{
	struct ring_memory *memory = &ring_memory[virtio->memory][ring->index];

	ring->packed = true;
	ring->slots = memory->slots;
	ring->driver_event = &memory->driver_event;
	ring->device_event = &memory->device_event;
	ring->wrap = true;
	ring->used_wrap = true;
	write_address(virtio, VIRTIO_PCI_COMMON_Q_DESCLO, (u64)ring->slots);
	write_address(virtio, VIRTIO_PCI_COMMON_Q_AVAILLO, (u64)ring->driver_event);
	write_address(virtio, VIRTIO_PCI_COMMON_Q_USEDLO, (u64)ring->device_event);
}

void virtio_set_ring(struct virtio *virtio, unsigned index, u16 size)
{
	struct ring_memory *memory = &ring_memory[virtio->memory][index];
	struct ring *ring = &virtio->rings[index];

	memset(memory, 0, sizeof(*memory));
	memset(ring, 0, sizeof(*ring));
	ring->index = index;
	ring->size = size;
	ring->event_idx = virtio->event_idx;
	ring->desc = memory->desc;
	virtio_write16(virtio, VIRTIO_PCI_COMMON_Q_SELECT, (u16)index);
	virtio_write16(virtio, VIRTIO_PCI_COMMON_Q_SIZE, size);
	if (virtio->packed)
		lay_out_packed(virtio, ring);
	else
		lay_out_split(virtio, ring);
}

void virtio_enable_ring(const struct virtio *virtio, unsigned index)
{
	virtio_write16(virtio, VIRTIO_PCI_COMMON_Q_SELECT, (u16)index);
	virtio_write16(virtio, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

void virtio_start(struct virtio *virtio, u64 features, u16 size)
{
	if (!virtio_negotiate(virtio, features))
		give_up("the device agrees to features %lx", features);
	for (unsigned i = 0; i < virtio->queue_count; i++) {
		virtio_set_ring(virtio, i, size);
		virtio_enable_ring(virtio, i);
	}
	virtio_add_status(virtio, VIRTIO_CONFIG_S_DRIVER_OK);
}

u64 virtio_notify_address(const struct virtio *virtio, unsigned index)
{
	virtio_write16(virtio, VIRTIO_PCI_COMMON_Q_SELECT, (u16)index);
	return virtio->notify.address +
	       virtio_read16(virtio, VIRTIO_PCI_COMMON_Q_NOFF) * virtio->notify_multiplier;
}

void virtio_notify(const struct virtio *virtio, unsigned index)
{
	write16(virtio_notify_address(virtio, index), (u16)index);
}

void ring_describe(struct ring *ring, u16 index, const void *address, u32 len, u16 flags, u16 next)
{
	ring->desc[index] = (struct vring_desc){(u64)address, len, flags, next};
}

static void offer_split(struct ring *ring, u16 head)
{
	ring->avail->ring[ring->available++ % ring->size] = head;
	/* x86 keeps stores in order; only the compiler has to be told. */
	barrier();
	ring->avail->idx = ring->available;
}

/* virtio: Driver and Device Ring Wrap Counters: AVAIL is the counter, USED its inverse. */
u16 ring_marked_flags(const struct ring *ring, u16 flags)
{
	return (u16)(flags ^ (ring->wrap ? PACKED_AVAIL : PACKED_USED));
}

/* The next slot but for its flags, which are left to be written last. */
static volatile u16 *fill_slot(struct ring *ring, u64 address, u32 len, u16 id)
{
	volatile struct vring_packed_desc *slot = &ring->slots[ring->next];

	slot->addr = address;
	slot->len = len;
	slot->id = id;
	if (++ring->next == ring->size) {
		ring->next = 0;
		ring->wrap = !ring->wrap;
	}
	return &slot->flags;
}

void ring_put(struct ring *ring, const void *address, u32 len, u16 flags, u16 id)
{
	volatile u16 *to = fill_slot(ring, (u64)address, len, id);

	barrier();
	*to = flags;
	__sync_synchronize();
}

/* The first of a chain shows the device all of it, so that one is marked last. */
static void offer_packed(struct ring *ring, u16 head)
{
	const u16 first_flags = ring_marked_flags(ring, ring->desc[head].flags);
	volatile u16 *first = NULL;
	u16 at = head;

	ring->offered = head;
	for (ring->lengths[head] = 1; ring->lengths[head] <= ring->size; ring->lengths[head]++) {
		const struct vring_desc *desc = &ring->desc[at];
		const u16 flags = ring_marked_flags(ring, desc->flags);
		volatile u16 *to = fill_slot(ring, desc->addr, desc->len, head);

		if (first)
			*to = flags;
		else
			first = to;
		if (!(desc->flags & VRING_DESC_F_NEXT))
			break;
		at = desc->next;
	}
	barrier();
	*first = first_flags;
}

void ring_offer(struct ring *ring, u16 head)
{
	if (ring->packed)
		offer_packed(ring, head);
	else
		offer_split(ring, head);
	/*
	 * Before looking at flags or event words, as drivers do: a store and then a load is the one
	 * order x86 does not keep.
	 */
	__sync_synchronize();
}

bool ring_has_used(const struct ring *ring)
{
	u16 flags;

	if (!ring->packed)
		return ring->used->idx != ring->used_seen;
	flags = ring->slots[ring->next_used].flags;
	return !(flags & PACKED_AVAIL) == !ring->used_wrap &&
	       !(flags & PACKED_USED) == !ring->used_wrap;
}

static void take_split(struct ring *ring, u16 *head, u32 *len)
{
	volatile struct vring_used_elem *element =
		&ring->used->ring[ring->used_seen++ % ring->size];

	*head = (u16)element->id;
	*len = element->len;
}

/* Where nothing was written, the length means nothing (virtio: Element Address and Length). */
static void take_packed(struct ring *ring, u16 *id, u32 *len)
{
	volatile struct vring_packed_desc *slot = &ring->slots[ring->next_used];

	*id = slot->id;
	*len = slot->flags & VRING_DESC_F_WRITE ? slot->len : 0;
	ring->next_used = (u16)(ring->next_used + ring->lengths[*id % RING_SIZE_MAX]);
	if (ring->next_used >= ring->size) {
		ring->next_used = (u16)(ring->next_used - ring->size);
		ring->used_wrap = !ring->used_wrap;
	}
}

bool ring_take(struct ring *ring, u16 *head, u32 *len)
{
	if (!wait_for(ring_has_used(ring)))
		return false;
	if (ring->packed)
		take_packed(ring, head, len);
	else
		take_split(ring, head, len);
	return true;
}

/* The slot of the device's event, if it is one of the last chain's, is just behind us. */
static bool packed_wants_notification(const struct ring *ring)
{
	const u16 flags = ring->device_event->flags, word = ring->device_event->off_wrap;
	u16 event = word & (u16)(PACKED_WRAP - 1);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	if (!(word & PACKED_WRAP) != !ring->wrap)
		event = (u16)(event - ring->size);
	return vring_need_event(event, ring->next,
				(u16)(ring->next - ring->lengths[ring->offered]));
}

bool ring_wants_notification(const struct ring *ring)
{
	if (ring->packed)
		return packed_wants_notification(ring);
	if (!ring->event_idx)
		return !(ring->used->flags & VRING_USED_F_NO_NOTIFY);
	return vring_need_event(*ring_avail_event((struct ring *)ring), ring->available,
				(u16)(ring->available - 1));
}

void ring_mute(struct ring *ring)
{
	if (ring->packed)
		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	else
		ring->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	__sync_synchronize();
}

void ring_unmute(struct ring *ring)
{
	if (ring->packed)
		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	else
		ring->avail->flags = 0;
	__sync_synchronize();
}

void ring_interrupt_after(struct ring *ring, u16 more)
{
	u16 slot = (u16)(ring->next_used + more);
	bool wrap = ring->used_wrap;

	if (!ring->packed) {
		*ring_used_event(ring) = (u16)(ring->used_seen + more);
	} else {
		if (slot >= ring->size) {
			slot = (u16)(slot - ring->size);
			wrap = !wrap;
		}
		ring->driver_event->off_wrap = (u16)(slot | (wrap ? PACKED_WRAP : 0));
		barrier();
		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
	}
	__sync_synchronize();
}

volatile u16 *ring_used_event(struct ring *ring)
{
	return &ring->avail->ring[ring->size];
}

volatile u16 *ring_avail_event(struct ring *ring)
{
	return (volatile u16 *)&ring->used->ring[ring->size];
}

bool console_send(struct virtio *virtio, const char *text)
{
	struct ring *ring = &virtio->rings[CONSOLE_TX];
	u16 head;
	u32 len;

	ring_describe(ring, 0, text, (u32)strlen(text), 0, 0);
	ring_offer(ring, 0);
	virtio_notify(virtio, CONSOLE_TX);
	return ring_take(ring, &head, &len);
}

void console_emergency(const struct virtio *virtio, const char *text)
{
	while (*text)
		write32(virtio->config.address + CONSOLE_EMERGENCY, (u8)*text++);
}

void window_set(const struct virtio *virtio, u8 bar, u32 offset, u32 len)
{
	pci_write8(virtio->slot, virtio->window + VIRTIO_PCI_CAP_BAR, bar);
	pci_write32(virtio->slot, virtio->window + VIRTIO_PCI_CAP_OFFSET, offset);
	pci_write32(virtio->slot, virtio->window + VIRTIO_PCI_CAP_LENGTH, len);
}

/* The data are where struct virtio_pci_cap ends. */
static unsigned window_data(const struct virtio *virtio)
{
	return virtio->window + sizeof(struct virtio_pci_cap);
}

u32 window_read(const struct virtio *virtio, u8 bar, u32 offset, u32 len)
{
	window_set(virtio, bar, offset, len);
	if (len == 1)
		return pci_read8(virtio->slot, window_data(virtio));
	if (len == 2)
		return pci_read16(virtio->slot, window_data(virtio));
	return pci_read32(virtio->slot, window_data(virtio));
}

void window_write(const struct virtio *virtio, u8 bar, u32 offset, u32 len, u32 value)
{
	window_set(virtio, bar, offset, len);
	if (len == 1)
		pci_write8(virtio->slot, window_data(virtio), (u8)value);
	else if (len == 2)
		pci_write16(virtio->slot, window_data(virtio), (u16)value);
	else
		pci_write32(virtio->slot, window_data(virtio), value);
}
