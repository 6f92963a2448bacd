/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small driver for virtio over PCI, in pieces: a test takes the steps that it
 * wants to take, in the order it wants, rightly or wrongly. Split rings or packed
 * ones, up to two queues, no interrupts unless the test sees to them.
 *
 * virtio_read8() and the like go to the common configuration structure, with the
 * offsets of <linux/virtio_pci.h>; other regions are reached by address.
 */
#ifndef LIB_VIRTIO_H
#define LIB_VIRTIO_H

#include "lib/guest.h"

#include <linux/virtio_ring.h>

/* PCI ids of a device of that type: virtio: PCI Device Discovery. */
#define VIRTIO_VENDOR	    0x1af4
#define VIRTIO_FIRST_MODERN 0x1040

#define SLOT_VIRTIO_CONSOLE 1 /* on our board: always there (PCI-1) */

/* Not yet in the headers of every distribution (virtio: Common configuration structure layout). */
#ifndef VIRTIO_PCI_COMMON_Q_RESET
#define VIRTIO_PCI_COMMON_Q_RESET 58
#endif
#ifndef VIRTIO_F_RING_RESET
#define VIRTIO_F_RING_RESET 40
#endif

#define CONSOLE_RX 0
#define CONSOLE_TX 1

/* Console configuration (virtio: Console Device, Device configuration layout). */
#define CONSOLE_COLUMNS	  0
#define CONSOLE_ROWS	  2
#define CONSOLE_PORTS	  4
#define CONSOLE_EMERGENCY 8

#define FEATURE(bit) (1ull << (bit))

/* In a packed descriptor, and in an event structure. */
#define PACKED_AVAIL FEATURE(VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  FEATURE(VRING_PACKED_DESC_F_USED)
#define PACKED_WRAP  FEATURE(VRING_PACKED_EVENT_F_WRAP_CTR)

/* A structure that a capability points to. */
struct region {
	u64 address; /* 0: there is none */
	u8 bar;
	u32 offset, length;
	unsigned capability; /* where in configuration space it is named */
};

#define RING_SIZE_MAX 256
#define RINGS_MAX     2 /* a device may have more queues; this driver leaves them alone */

/*
 * Tests describe chains in `desc` and offer them by their heads, whichever kind the ring is. If it
 * is packed, the device never sees that table: what is offered is copied from it, with the head as
 * the buffer id.
 */
struct ring {
	unsigned index;
	u16 size;
	bool packed, event_idx;
	struct vring_desc *desc;

	/* Split */
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	u16 available, used_seen; /* free-running, as in the ring */

	/* Packed */
	volatile struct vring_packed_desc *slots;
	volatile struct vring_packed_desc_event *driver_event, *device_event;
	u16 next, next_used;	    /* slots to fill and to look at next, */
	bool wrap, used_wrap;	    /* and the wrap counters there */
	u16 lengths[RING_SIZE_MAX]; /* of what was offered, by id */
	u16 offered;		    /* the last id that was */
};

struct virtio {
	unsigned slot;
	struct region common, notify, isr, config;
	u32 notify_multiplier;
	unsigned window;      /* offset of the PCI_CFG capability */
	unsigned memory;      /* whose rings' memory: the last two that were found have their own */
	unsigned queue_count; /* how many of `rings` the device has queues for */
	bool packed;	      /* the test's: virtio_negotiate() is to ask for packed rings */
	bool event_idx;	      /* negotiated */
	struct ring rings[RINGS_MAX];
};

/* Find the device's regions; gives up if it is not a modern virtio device. */
void virtio_find(struct virtio *virtio, unsigned slot);

#define VIRTIO_ACCESS(bits)                                                                        \
	static inline u##bits virtio_read##bits(const struct virtio *virtio, u32 offset)           \
	{                                                                                          \
		return read##bits(virtio->common.address + offset);                                \
	}                                                                                          \
	static inline void virtio_write##bits(const struct virtio *virtio, u32 offset,             \
					      u##bits value)                                       \
	{                                                                                          \
		write##bits(virtio->common.address + offset, value);                               \
	}
VIRTIO_ACCESS(8)
VIRTIO_ACCESS(16)
VIRTIO_ACCESS(32)
VIRTIO_ACCESS(64)

u8 virtio_status(const struct virtio *virtio);
void virtio_add_status(const struct virtio *virtio, u8 bits);

/* Write 0 and wait until it reads back. False: it never does. */
bool virtio_reset(const struct virtio *virtio);

u64 virtio_offered(const struct virtio *virtio);
void virtio_accept(const struct virtio *virtio, u64 features);

/* From reset to FEATURES_OK. False: the device did not agree. */
bool virtio_negotiate(struct virtio *virtio, u64 features);

/*
 * Empty rings of `size` entries in memory of our own; the device is told where, but not yet to use
 * them.
 */
void virtio_set_ring(struct virtio *virtio, unsigned index, u16 size);
void virtio_enable_ring(const struct virtio *virtio, unsigned index);

/* All of it: from reset to DRIVER_OK with all its queues. Gives up if the device does not agree. */
void virtio_start(struct virtio *virtio, u64 features, u16 size);

u64 virtio_notify_address(const struct virtio *virtio, unsigned index);
void virtio_notify(const struct virtio *virtio, unsigned index);

/* Fill in a descriptor; offer the chain that begins there. */
void ring_describe(struct ring *ring, u16 index, const void *address, u32 len, u16 flags, u16 next);
void ring_offer(struct ring *ring, u16 head);

/*
 * As raw as a packed ring can have it: write this descriptor into the next slot. marked_flags() are
 * flags with what makes a descriptor there available.
 */
void ring_put(struct ring *ring, const void *address, u32 len, u16 flags, u16 id);
u16 ring_marked_flags(const struct ring *ring, u16 flags);

/* Something was used that was not taken yet. */
bool ring_has_used(const struct ring *ring);
/* Wait for the next used element. False: nothing came. */
bool ring_take(struct ring *ring, u16 *head, u32 *len);

/* Whether the device wants to be notified of the last chain that was offered. */
bool ring_wants_notification(const struct ring *ring);

/*
 * The device is to interrupt for no used buffer, or for each; or, with EVENT_IDX, for the one that
 * is used after `more` others, and only for that.
 */
void ring_mute(struct ring *ring);
void ring_unmute(struct ring *ring);
void ring_interrupt_after(struct ring *ring, u16 more);

/* The event words at the end of either split ring (virtio: Used Buffer Notification Suppression).
 */
volatile u16 *ring_used_event(struct ring *ring);
volatile u16 *ring_avail_event(struct ring *ring);

/*
 * Text out through the transmit queue, and wait until the device has used it. False: it never did.
 */
bool console_send(struct virtio *virtio, const char *text);

/* Text out through the emergency register: no driver needed. */
void console_emergency(const struct virtio *virtio, const char *text);

/*
 * Access `len` bytes of BAR `bar` through configuration space (virtio: PCI configuration access
 * capability).
 */
void window_set(const struct virtio *virtio, u8 bar, u32 offset, u32 len);
u32 window_read(const struct virtio *virtio, u8 bar, u32 offset, u32 len);
void window_write(const struct virtio *virtio, u8 bar, u32 offset, u32 len, u32 value);

#endif
