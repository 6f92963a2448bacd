/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver that breaks the rules, one at a time, on request:
 *
 *   violation=VT-6.2	breaks rule VT-6 in the second of the ways that violations.h lists
 *   violation=all	one after the other
 *   list		prints them all
 *   packed=1		with packed rings instead of split ones
 *   device=NAME	who suffers it: console (which is always there), block, net, rng
 *
 * Then it looks whether the device takes it as it should: sulking until it is
 * reset and working afterwards, or not taking notice. Under --strict the launcher
 * ends before that.
 */
#include "lib/guest.h"
#include "lib/honest.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>

#define QUEUE_SIZE		16
#define STATUS_UNKNOWN_BIT	0x10
#define AVAIL_WITHOUT_EVENT	(sizeof(struct vring_avail) + QUEUE_SIZE * sizeof(u16))
#define USED_WITHOUT_EVENT	(sizeof(struct vring_used) + QUEUE_SIZE * sizeof(struct vring_used_elem))
#define ACKNOWLEDGED_AND_DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define STATUS_LIVE                                                                                \
	(ACKNOWLEDGED_AND_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)
#define ISR_CONFIG 2

/* How far the driver comes before it goes wrong. LIVE_INPUT is LIVE; see violations.h. */
enum stage { RESET, ACKNOWLEDGED, DRIVER, AGREED, SET_UP, ENABLED, LIVE, LIVE_LARGE, LIVE_INPUT };

struct violation {
	const char *name;
	enum kind kind;
	unsigned devices;
	enum stage stage;
	u64 features;
	const char *what;
};

#define VIOLATION(part, rule, number, kind, devices, stage, features, what, action)                \
	{#part "-" #rule "." #number, kind, devices, stage, features, what},
static const struct violation violations[] = {
#include "violations.h"
};
#undef VIOLATION

/* The same lines once more, as the index of each. */
#define VIOLATION(part, rule, number, kind, devices, stage, features, what, action)                \
	part##rule##_##number,
enum {
#include "violations.h"
};
#undef VIOLATION

/* What chains are made of. */
static u8 payload = '.';
static union {
	struct vring_desc split[QUEUE_SIZE + 1];
	struct vring_packed_desc packed[QUEUE_SIZE + 1];
} indirect_table;
/* A guest has one memory, and one device that it is rude to; the actions need to know them. */
static u64 end_of_ram;
static const struct device_type *target;
/* Another one of the kind, if there is one: it is treated well, and helps. slot 0: there is none.
 */
static struct virtio twin;

static void set_status(const struct virtio *v, u8 status)
{
	virtio_write8(v, VIRTIO_PCI_COMMON_STATUS, status);
}

static void queue_write16(const struct virtio *v, u16 queue, u32 field, u16 value)
{
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, queue);
	virtio_write16(v, field, value);
}

static void queue_write32(const struct virtio *v, u16 queue, u32 field, u32 value)
{
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, queue);
	virtio_write32(v, field, value);
}

/* FEATURES_OK, without a look at what became of it. */
static void agree_blindly(const struct virtio *v)
{
	virtio_accept(v, FEATURE(VIRTIO_F_VERSION_1));
	set_status(v, ACKNOWLEDGED_AND_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
}

static void agree_to(const struct virtio *v, u64 features)
{
	virtio_accept(v, features);
	set_status(v, ACKNOWLEDGED_AND_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
}

/* The first queue that the device does not have. */
static u16 absent(const struct virtio *v)
{
	return virtio_read16(v, VIRTIO_PCI_COMMON_NUMQ);
}

/* A feature bit for device types (virtio: Feature Bits) that this device does not offer. */
static u64 not_offered(const struct virtio *v)
{
	const u64 offered = virtio_offered(v);
	u64 feature = 1;

	while (offered & feature)
		feature <<= 1;
	return feature;
}

/* Enable the queue with one of its areas somewhere else. */
static void enable_at(const struct virtio *v, u32 field, u64 address)
{
	queue_write32(v, (u16)target->queue, field, (u32)address);
	queue_write32(v, (u16)target->queue, field + 4, (u32)(address >> 32));
	virtio_enable_ring(v, target->queue);
}

/* All queues but the one. */
static void enable_others(const struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++)
		if (i != target->queue)
			virtio_enable_ring(v, i);
}

/* Of the one byte that there is, or of more than there is; in the direction of the queue. */
static void describe(struct virtio *v, u16 index, u32 len, u16 flags, u16 next)
{
	ring_describe(&v->rings[target->queue], index, &payload, len, target->direction | flags,
		      next);
}

/* In whichever direction it says. */
static void describe_as(struct virtio *v, u16 index, u16 flags, u16 next)
{
	ring_describe(&v->rings[target->queue], index, &payload, 1, flags, next);
}

static void describe_at(struct virtio *v, u64 address, u32 len)
{
	ring_describe(&v->rings[target->queue], 0, (void *)address, len, target->direction, 0);
}

/* Of a table. In that of a packed ring one entry comes after the other, whatever it says. */
static void describe_entry(struct virtio *v, u16 index, const void *address, u16 flags, u16 next)
{
	flags |= target->direction;
	if (v->packed)
		indirect_table.packed[index] = (struct vring_packed_desc){
			.addr = (u64)address,
			.len = 1,
			.flags = flags & ~VRING_DESC_F_NEXT,
		};
	else
		indirect_table.split[index] = (struct vring_desc){(u64)address, 1, flags, next};
}

/* A descriptor that refers to a table of `count` chained ones. */
static void describe_indirect(struct virtio *v, u16 index, u32 count, u16 flags)
{
	for (u16 i = 0; i < count; i++)
		describe_entry(v, i, &payload, i + 1u < count ? VRING_DESC_F_NEXT : 0, i + 1);
	ring_describe(&v->rings[target->queue], index, &indirect_table,
		      count * sizeof(indirect_table.split[0]), VRING_DESC_F_INDIRECT | flags, 0);
}

static void offer(struct virtio *v, u16 head)
{
	ring_offer(&v->rings[target->queue], head);
	virtio_notify(v, target->queue);
}

/* One descriptor, raw, into a packed ring. */
static void put(struct virtio *v, u16 flags, u16 id)
{
	struct ring *ring = &v->rings[target->queue];

	ring_put(ring, &payload, 1, ring_marked_flags(ring, target->direction | flags), id);
	virtio_notify(v, target->queue);
}

static void run_ahead(struct virtio *v, u16 by)
{
	struct ring *ring = &v->rings[target->queue];

	for (u16 i = 0; i < QUEUE_SIZE; i++) {
		describe(v, i, 1, 0, 0);
		ring->avail->ring[i] = i;
	}
	barrier();
	ring->avail->idx = by;
	virtio_notify(v, target->queue);
}

/* All of RAM above us, as often as it takes. */
static void offer_huge(struct virtio *v)
{
	struct ring *ring = &v->rings[target->queue];
	u32 len = (u32)(end_of_ram - LAYOUT_KERNEL);
	u64 count = GiB(4) / len + 1;

	if (count > ring->size)
		give_up("RAM of 32 MiB or more, for a chain of 4 GiB");
	for (u16 i = 0; i < count; i++)
		ring_describe(ring, i, (void *)LAYOUT_KERNEL, len,
			      target->direction | (i + 1u < count ? VRING_DESC_F_NEXT : 0), i + 1);
	offer(v, 0);
}

static void expect_status(const struct virtio *v, u8 status)
{
	check_equal(virtio_status(v), status, "device_status");
}

static void expect_no_queue(const struct virtio *v)
{
	virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, absent(v));
	check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), 0,
		    "queue_size of an absent queue reads 0");
}

static void expect_no_vector(const struct virtio *v, u32 field)
{
	check_equal(virtio_read16(v, field), VIRTIO_MSI_NO_VECTOR, "it reads back as no vector");
}

static bool works(struct virtio *v)
{
	static u8 room[REQUEST_ROOM];

	return device_works(target, v, room);
}

/* Something to receive: a network's comes from the twin, others have theirs already. */
static void provoke(void)
{
	static u8 room[REQUEST_ROOM];

	if (twin.slot)
		check(device_works(target, &twin, room), "the twin works");
}

static void expect_works(struct virtio *v)
{
	check(works(v), "the device works all the same");
}

/* VT-12: what the window does not find is 0, and writing there does nothing. */
static void expect_blind(const struct virtio *v, u8 bar, u32 offset, u32 len)
{
	window_set(v, bar, offset, len);
	check_equal(pci_read32(v->slot, v->window + sizeof(struct virtio_pci_cap)), 0,
		    "the window shows 0");
	pci_write32(v->slot, v->window + sizeof(struct virtio_pci_cap), 0);
	expect_status(v, STATUS_LIVE);
}

static void commit(struct virtio *v, unsigned index)
{
#define VIOLATION(part, rule, number, kind, devices, stage, features, what, action)                \
	case part##rule##_##number:                                                                \
		action;                                                                            \
		break;
	switch (index) {
#include "violations.h"
	}
#undef VIOLATION
}

/* Everything by the book, as far as it goes. */
static void prepare(struct virtio *v, enum stage stage, u64 features)
{
	features |= FEATURE(VIRTIO_F_VERSION_1);
	if (v->packed)
		features |= FEATURE(VIRTIO_F_RING_PACKED);
	v->event_idx = features & FEATURE(VIRTIO_RING_F_EVENT_IDX);
	if (!virtio_reset(v))
		give_up("a reset ends");
	if (stage >= ACKNOWLEDGED)
		virtio_add_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	if (stage >= DRIVER)
		virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER);
	if (stage >= AGREED) {
		if ((virtio_offered(v) & features) != features)
			give_up("features %lx are offered", features);
		agree_to(v, features);
		expect_status(v, ACKNOWLEDGED_AND_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	}
	for (unsigned i = 0; i < v->queue_count; i++) {
		if (stage >= SET_UP)
			virtio_set_ring(v, i, stage == LIVE_LARGE ? RING_SIZE_MAX : QUEUE_SIZE);
		if (stage >= ENABLED)
			virtio_enable_ring(v, i);
	}
	if (stage >= LIVE)
		virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool needs_reset(const struct virtio *v)
{
	return virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* More of the same must be met with silence, and whoever reads stderr counts the lines. */
static void violate_again(const struct virtio *v)
{
	write8(v->isr.address, 0);
	virtio_write16(v, VIRTIO_PCI_COMMON_NUMQ, 0);
	virtio_read16(v, VIRTIO_PCI_COMMON_STATUS);
}

static void expect_not_served(struct virtio *v)
{
	struct ring *ring = &v->rings[target->queue];
	u16 head;
	u32 len;

	while (ring_has_used(ring))
		ring_take(ring, &head, &len);
	describe(v, 0, 1, 0, 0);
	offer(v, 0);
	linger();
	check(!ring_has_used(ring), "no queue is served");
}

/* What a device type keeps in its configuration first: something that does not change. */
static u16 first_words(const struct virtio *v)
{
	return target->bit & CONFIGURED ? read16(v->config.address) : 0;
}

static void expect_broken(struct virtio *v, u16 words)
{
	bool live;

	check(wait_for(needs_reset(v)), "the device needs a reset");
	live = virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK;
	if (live)
		check(wait_for(read8(v->isr.address) & ISR_CONFIG),
		      "a configuration interrupt says so");
	else
		check_equal(read8(v->isr.address), 0, "no interrupt before DRIVER_OK");
	check_equal(read8(v->isr.address), 0, "the ISR is clear once it was read");
	violate_again(v);
	check(needs_reset(v), "the device still needs a reset");
	check_equal(first_words(v), words, "device configuration can be read");
	if (live && v->rings[target->queue].size)
		expect_not_served(v);
}

static void expect_nothing(const struct virtio *v)
{
	linger();
	check(!needs_reset(v), "the device does not mind");
	check(!(read8(v->isr.address) & ISR_CONFIG), "and there is no configuration interrupt");
}

static void expect_refused(const struct virtio *v)
{
	expect_status(v, ACKNOWLEDGED_AND_DRIVER);
}

static void expect_recovery(struct virtio *v)
{
	check(virtio_reset(v), "a reset ends");
	check_equal(read8(v->isr.address), 0, "the ISR is clear after the reset");
	for (u16 i = 0; i < v->queue_count; i++) {
		virtio_write16(v, VIRTIO_PCI_COMMON_Q_SELECT, i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_ENABLE), 0,
			    "queue %u is not enabled", i);
		check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), RING_SIZE_MAX,
			    "queue %u has its full size", i);
	}
	virtio_start(v, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	check(works(v), "the device works after a reset");
	check(!needs_reset(v), "and the device is content");
}

static void violate(struct virtio *v, unsigned index)
{
	const struct violation *violation = &violations[index];
	const u16 words = first_words(v);

	print("violate %s: %s\n", violation->name, violation->what);
	prepare(v, violation->stage, violation->features);
	commit(v, index);
	if (violation->kind == BREAKS)
		expect_broken(v, words);
	else if (violation->kind == REFUSED)
		expect_refused(v);
	else
		expect_nothing(v);
	if (target->bit == CONSOLE)
		console_emergency(v, "the emergency console works\n");
	expect_recovery(v);
	print("violated %s\n", violation->name);
}

/* The first of its kind on the bus, and its twin. */
static void find_target(struct virtio *v, const char *name)
{
	unsigned slot;

	target = device_type_named(name);
	if (!target)
		give_up("there is a type of device called %s", name);
	slot = pci_find(VIRTIO_VENDOR, VIRTIO_FIRST_MODERN + target->id);
	if (slot == PCI_SLOTS)
		give_up("there is a %s", name);
	virtio_find(v, slot);
	while (++slot < PCI_SLOTS &&
	       pci_read32(slot, PCI_VENDOR_ID) != pci_read32(v->slot, PCI_VENDOR_ID))
		;
	if (slot == PCI_SLOTS)
		return;
	virtio_find(&twin, slot);
	virtio_start(&twin, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
}

static void list(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(violations); i++)
		print("%s: %s%s\n", violations[i].name, violations[i].what,
		      violations[i].kind == BREAKS ? "" : " (with --strict)");
}

static bool possible(const struct virtio *v, unsigned devices)
{
	return devices & target->bit && !(devices & (v->packed ? ONLY_SPLIT : ONLY_PACKED));
}

void guest_main(const struct boot *boot)
{
	static struct virtio device;
	bool known = false;
	char name[16];

	if (boot_option(boot, "list", name, sizeof(name))) {
		list();
		finish();
	}
	find_target(&device, boot_option(boot, "device", name, sizeof(name)) ? name : "console");
	device.packed = boot_option(boot, "packed", name, sizeof(name));
	if (!boot_option(boot, "violation", name, sizeof(name)))
		give_up("the command line says violation=NAME, or list");
	end_of_ram = boot_ram_end(boot);
	for (unsigned i = 0; i < ARRAY_SIZE(violations); i++) {
		if (!possible(&device, violations[i].devices) ||
		    (strcmp(violations[i].name, name) && strcmp(name, "all")))
			continue;
		known = true;
		violate(&device, i);
	}
	if (!known)
		give_up("there is a violation %s of a %s", name, target->name);
}
