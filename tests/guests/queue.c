/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio console driven by hand, with split rings or (packed=1) packed ones:
 * negotiation, both queues, every way to cut text into descriptors, suppression of
 * interrupts and notifications, resets of a queue and of the device. All by the rules, so that not
 * even --strict has anything to say; "violate" is for the others.
 *
 * What the guest cannot see is whether the text came out: each piece is a line
 * that begins with "hvc:", for the test to look for. No input is needed, and where
 * the receive queue waits it is to wait in vain.
 */
#include "lib/guest.h"
#include "lib/virtio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_pci.h>

#define QUEUE_SIZE   16
#define QUEUE_ABSENT 2
#define ODD_SIZE     3
#define ISR_QUEUE    1
#define ROUNDS	     500 /* of ping-pong, to find a notification that got lost */

#define VERSION_1 FEATURE(VIRTIO_F_VERSION_1)
#define INDIRECT  FEATURE(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define RESET	  FEATURE(VIRTIO_F_RING_RESET)
#define PACKED	  FEATURE(VIRTIO_F_RING_PACKED)

static void check_power_on(const struct virtio *v)
{
	console_emergency(v, "hvc: emergency, and no driver in sight\n");
	check_equal(virtio_status(v), 0, "a device that nobody touched has status 0");
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_NUMQ), 2, "number of queues");
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR,
		    "no vector for configuration changes");
	for (u16 i = 0; i < 2; i++) {
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), RING_SIZE_MAX,
			    "queue %u: size", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_ENABLE), 0,
			    "queue %u: not enabled", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR,
			    "queue %u: no vector", i);
	}
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, QUEUE_ABSENT);
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), 0, "queue %u is not there",
		    QUEUE_ABSENT);
	check(virtio_notify_address(v, 0) != virtio_notify_address(v, 1),
	      "queues have a notification address each");
}

static void check_negotiation(struct virtio *v)
{
	const u64 wanted = VERSION_1 | INDIRECT | EVENT_IDX | RESET | PACKED |
			   FEATURE(VIRTIO_CONSOLE_F_EMERG_WRITE);
	const u64 agreed = VERSION_1 | INDIRECT | (v->packed ? PACKED : 0);

	virtio_add_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER);
	check_equal(virtio_offered(v) & wanted, wanted, "features offered");
	virtio_write32(v, VIRTIO_PCI_COMMON_DFSELECT, 2);
	check_equal(virtio_read32(v, VIRTIO_PCI_COMMON_DF), 0, "no features beyond 63");
	check(virtio_negotiate(v, VERSION_1 | INDIRECT), "features are agreed upon");
	virtio_write32(v, VIRTIO_PCI_COMMON_GFSELECT, 0);
	check_equal(virtio_read32(v, VIRTIO_PCI_COMMON_GF), (u32)agreed,
		    "driver_feature reads back, low half");
	virtio_write32(v, VIRTIO_PCI_COMMON_GFSELECT, 1);
	check_equal(virtio_read32(v, VIRTIO_PCI_COMMON_GF), (u32)(agreed >> 32),
		    "driver_feature reads back, high half");
	check(virtio_reset(v), "a reset ends");
}

/*
 * The transmit queue is to use what was offered; a used length of 0 says that nothing was written
 * (VQ-9).
 */
static void expect_sent(struct virtio *v, u16 head, const char *how)
{
	u16 used;
	u32 len;

	if (!check(ring_take(&v->rings[CONSOLE_TX], &used, &len), "%s: used", how))
		return;
	check_equal(used, head, "%s: head", how);
	check_equal(len, 0, "%s: used length", how);
}

static void offer(struct virtio *v, u16 head)
{
	ring_offer(&v->rings[CONSOLE_TX], head);
	virtio_notify(v, CONSOLE_TX);
}

static void check_plain(struct virtio *v)
{
	static const char line[] = "hvc: cut into single bytes\n";
	struct ring *tx = &v->rings[CONSOLE_TX];
	const u16 pieces = QUEUE_SIZE;

	virtio_start(v, VERSION_1, QUEUE_SIZE);
	ring_describe(tx, 3, "hvc: in one piece\n", 18, 0, 0);
	offer(v, 3);
	expect_sent(v, 3, "one descriptor");

	/*
	 * The first 15 bytes one by one, in a chain that runs backwards through the table, then the
	 * rest.
	 */
	for (u16 i = 0; i < pieces; i++) {
		u16 at = pieces - 1 - i;
		u32 len = at ? 1 : sizeof(line) - pieces;

		ring_describe(tx, at, line + i, len, at ? VRING_DESC_F_NEXT : 0, at - 1);
	}
	offer(v, pieces - 1);
	expect_sent(v, pieces - 1, "a chain as long as the queue");

	ring_describe(tx, 0, "hvc: with", 9, VRING_DESC_F_NEXT, 1);
	ring_describe(tx, 1, "", 0, VRING_DESC_F_NEXT, 2);
	ring_describe(tx, 2, " an empty buffer\n", 17, 0, 0);
	offer(v, 0);
	expect_sent(v, 0, "an empty buffer in the middle");

	ring_describe(tx, 0, "hvc: notified with 32 bits\n", 27, 0, 0);
	ring_offer(tx, 0);
	write32(virtio_notify_address(v, CONSOLE_TX), CONSOLE_TX);
	expect_sent(v, 0, "a notification of 32 bits");
}

/* Fill the ring, notify once, and have it all back in order. */
static bool send_batch(struct virtio *v)
{
	struct ring *tx = &v->rings[CONSOLE_TX];
	bool order = true;
	u16 head;
	u32 len;

	for (u16 i = 0; i < tx->size; i++)
		ring_offer(tx, i);
	virtio_notify(v, CONSOLE_TX);
	for (u16 i = 0; i < tx->size && order; i++)
		order = ring_take(tx, &head, &len) && head == i;
	return order;
}

static void check_batches(struct virtio *v)
{
	struct ring *tx = &v->rings[CONSOLE_TX];
	unsigned batches = 0x10000 / RING_SIZE_MAX + 1;

	virtio_start(v, VERSION_1, QUEUE_SIZE);
	for (u16 i = 0; i < QUEUE_SIZE; i++)
		ring_describe(tx, i, i + 1 < QUEUE_SIZE ? "=" : "\n", 1, 0, 0);
	check(send_batch(v), "%u chains for one notification come back in order", QUEUE_SIZE);

	/* Empty chains: 65536 of anything else would be a lot of text. */
	virtio_start(v, VERSION_1, RING_SIZE_MAX);
	for (u16 i = 0; i < RING_SIZE_MAX; i++)
		ring_describe(tx, i, "", 0, 0, 0);
	while (batches && send_batch(v))
		batches--;
	check(!batches, "the index runs through all its values and on");
}

/* Split: the entries in any order. Packed: one after the other, and nothing but WRITE counts. */
static unsigned fill_table(const struct ring *tx)
{
	static struct vring_desc split[3];
	static struct vring_packed_desc packed[3];

	split[0] = (struct vring_desc){(u64) "hvc: ", 5, VRING_DESC_F_NEXT, 2};
	split[2] = (struct vring_desc){(u64) "indirect", 8, VRING_DESC_F_NEXT, 1};
	split[1] = (struct vring_desc){(u64) " table\n", 7, 0, 0};
	packed[0] = (struct vring_packed_desc){(u64) "hvc: ", 5, 0xffff, 0};
	packed[1] = (struct vring_packed_desc){(u64) "indirect", 8, 0, 0};
	packed[2] = (struct vring_packed_desc){(u64) " table\n", 7, 0, VRING_DESC_F_NEXT};
	tx->desc[5] = (struct vring_desc){.addr = tx->packed ? (u64)packed : (u64)split,
					  .len = sizeof(split),
					  .flags = VRING_DESC_F_INDIRECT};
	return 5;
}

static void check_indirect(struct virtio *v)
{
	struct ring *tx = &v->rings[CONSOLE_TX];
	u16 head;

	virtio_start(v, VERSION_1 | INDIRECT, QUEUE_SIZE);
	head = fill_table(tx);
	offer(v, head);
	expect_sent(v, head, "an indirect table");

	/*
	 * virtio: Indirect Descriptors: WRITE on the descriptor that refers to the table is
	 * ignored.
	 */
	tx->desc[head].flags |= VRING_DESC_F_WRITE;
	offer(v, head);
	expect_sent(v, head, "an indirect table that says WRITE");

	if (tx->packed)
		return;
	ring_describe(tx, 7, "hvc: after an ordinary one ", 27, VRING_DESC_F_NEXT, head);
	offer(v, 7);
	expect_sent(v, 7, "an indirect table after an ordinary descriptor");
}

static u8 isr(const struct virtio *v)
{
	return read8(v->isr.address);
}

/* Without EVENT_IDX, flags decide (VQ-6). */
static void check_interrupt_flag(struct virtio *v)
{
	struct ring *tx = &v->rings[CONSOLE_TX];

	virtio_start(v, VERSION_1, QUEUE_SIZE);
	check_equal(isr(v), 0, "nothing to report yet");
	console_send(v, "hvc: with an interrupt\n");
	check(wait_for(isr(v) == ISR_QUEUE), "the ISR tells of a used buffer");
	check_equal(isr(v), 0, "and is clear once it was read");

	ring_mute(tx);
	console_send(v, "hvc: without an interrupt\n");
	linger();
	check_equal(isr(v), 0, "a flag suppresses the interrupt");
	ring_unmute(tx);
	console_send(v, "hvc: and with one again\n");
	check(wait_for(isr(v) == ISR_QUEUE), "and lets it through again");
}

/*
 * With EVENT_IDX, the driver's event does: an interrupt when the buffer of that place is used, and
 * only then.
 */
static void check_interrupt_event(struct virtio *v)
{
	struct ring *tx = &v->rings[CONSOLE_TX];

	virtio_start(v, VERSION_1 | EVENT_IDX, QUEUE_SIZE);
	ring_interrupt_after(tx, 2);
	console_send(v, "hvc: an event");
	console_send(v, " decides");
	linger();
	check_equal(isr(v), 0, "after two: two used buffers do not interrupt");
	console_send(v, " on interrupts\n");
	check(wait_for(isr(v) == ISR_QUEUE), "after two: the third does");
	console_send(v, "hvc: the fourth is silent\n");
	linger();
	check_equal(isr(v), 0, "after two: the fourth does not");
	if (!tx->packed)
		check_equal(tx->used->flags, 0, "used.flags stays 0 with EVENT_IDX");
}

/*
 * virtio: Available Buffer Notification Suppression: the device is told only where it asked to be,
 * by flags or by place.
 */
static void check_notifications(struct virtio *v, u64 event_idx)
{
	struct ring *tx = &v->rings[CONSOLE_TX];
	unsigned told = 0, i;
	u16 head;
	u32 len;

	virtio_start(v, VERSION_1 | event_idx, QUEUE_SIZE);
	ring_describe(tx, 0, "", 0, 0, 0);
	for (i = 0; i < ROUNDS; i++) {
		ring_offer(tx, 0);
		if (ring_wants_notification(tx)) {
			virtio_notify(v, CONSOLE_TX);
			told++;
		}
		if (!ring_take(tx, &head, &len))
			break;
	}
	check(i == ROUNDS,
	      "no buffer is lost when notifications are sent only where asked for (%u of %u)", told,
	      i);
}

static bool reset_ring(const struct virtio *v, u16 index)
{
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, index);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_RESET, 1);
	return wait_for(!virtio_read16(v, VIRTIO_PCI_COMMON_Q_RESET));
}

/* VT-14 */
static void check_ring_reset(struct virtio *v)
{
	static u8 input[16];
	struct ring *rx = &v->rings[CONSOLE_RX];

	virtio_start(v, VERSION_1 | RESET, QUEUE_SIZE);
	ring_describe(rx, 0, input, sizeof(input), VRING_DESC_F_WRITE, 0);
	ring_offer(rx, 0);
	virtio_notify(v, CONSOLE_RX);
	console_send(v, "hvc: before the queues are reset\n");
	for (u16 i = 0; i < 2; i++) {
		check(reset_ring(v, i), "queue %u: its reset ends", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_ENABLE), 0,
			    "queue %u: not enabled then", i);
	}
	virtio_set_ring(v, CONSOLE_TX, 2 * QUEUE_SIZE);
	virtio_enable_ring(v, CONSOLE_TX);
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_ENABLE), 1,
		    "enabled again, with another size");
	check(console_send(v, "hvc: after the queues were reset\n"), "and it works");
	check(!ring_has_used(rx), "the receive queue gave nothing back");
}

/* VT-13: the receive queue waits for input that does not come; the reset is not to. */
static void check_reset(struct virtio *v)
{
	static u8 input[16];
	struct ring *rx = &v->rings[CONSOLE_RX], *tx = &v->rings[CONSOLE_TX];

	virtio_start(v, VERSION_1, QUEUE_SIZE);
	ring_describe(rx, 0, input, sizeof(input), VRING_DESC_F_WRITE, 0);
	ring_offer(rx, 0);
	virtio_notify(v, CONSOLE_RX);
	console_send(v, "hvc: before the reset\n");
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, CONSOLE_TX);
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_MSIX, 1);

	check(virtio_reset(v), "a reset ends while the receive queue waits for input");
	ring_describe(tx, 0, "hvc: THIS MUST NOT BE SEEN\n", 27, 0, 0);
	ring_offer(tx, 0);
	linger();
	check(!ring_has_used(tx), "the old rings are left alone");
	check_equal(isr(v), 0, "the ISR is clear");
	for (u16 i = 0; i < 2; i++) {
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_ENABLE), 0,
			    "queue %u: not enabled", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), RING_SIZE_MAX,
			    "queue %u: full size", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR,
			    "queue %u: no vector", i);
	}
	virtio_write32(v, VIRTIO_PCI_COMMON_GFSELECT, 1);
	check_equal(virtio_read32(v, VIRTIO_PCI_COMMON_GF), 0, "features are forgotten");
	virtio_start(v, VERSION_1, QUEUE_SIZE);
	check(console_send(v, "hvc: after the reset\n"), "the console works after a reset");
}

/* VT-1: a driver may give up, and may think better of it. */
static void check_failed(struct virtio *v)
{
	virtio_start(v, VERSION_1, QUEUE_SIZE);
	virtio_add_status(v, VIRTIO_CONFIG_S_FAILED);
	check(virtio_status(v) & VIRTIO_CONFIG_S_FAILED, "FAILED can be set");
	check(!(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET), "which is no violation");
	ring_describe(&v->rings[CONSOLE_TX], 0, "hvc: THIS MUST NOT BE SEEN\n", 27, 0, 0);
	offer(v, 0);
	linger();
	check(!ring_has_used(&v->rings[CONSOLE_TX]), "a device that was given up serves no queue");
	virtio_start(v, VERSION_1, QUEUE_SIZE);
	check(console_send(v, "hvc: given up, and taken back\n"), "it works after a reset");
}

/* VT-9: the halves of an address in either order. */
static void check_extremes(struct virtio *v)
{
	u32 low;

	virtio_negotiate(v, VERSION_1);
	virtio_set_ring(v, CONSOLE_TX, 1);
	low = virtio_read32(v, VIRTIO_PCI_COMMON_Q_DESCLO);
	virtio_write32(v, VIRTIO_PCI_COMMON_Q_DESCHI, 0);
	virtio_write32(v, VIRTIO_PCI_COMMON_Q_DESCLO, low);
	virtio_enable_ring(v, CONSOLE_TX);
	virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	check(console_send(v, "hvc: a queue of one, ") && console_send(v, "twice\n"),
	      "a queue of size 1 works");

	virtio_start(v, VERSION_1, RING_SIZE_MAX);
	check(console_send(v, "hvc: a queue of 256\n"), "a queue of size %u works", RING_SIZE_MAX);

	if (!v->packed)
		return;
	virtio_start(v, VERSION_1, ODD_SIZE);
	check(console_send(v, "hvc: a queue of three,") && console_send(v, " once,") &&
		      console_send(v, " twice,") && console_send(v, " and round the end\n"),
	      "a packed queue of size %u works", ODD_SIZE);
}

void guest_main(const struct boot *boot)
{
	static struct virtio console;
	char packed[2];

	virtio_find(&console, SLOT_VIRTIO_CONSOLE);
	console.packed = boot_option(boot, "packed", packed, sizeof(packed));
	check_power_on(&console);
	check_negotiation(&console);
	check_plain(&console);
	check_batches(&console);
	check_indirect(&console);
	check_interrupt_flag(&console);
	check_interrupt_event(&console);
	check_notifications(&console, 0);
	check_notifications(&console, EVENT_IDX);
	check_ring_reset(&console);
	check_reset(&console);
	check_failed(&console);
	check_extremes(&console);
	check_equal(virtio_status(&console) & VIRTIO_CONFIG_S_NEEDS_RESET, 0, "no rule was broken");
}
