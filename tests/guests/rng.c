/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takes numbers from the entropy device (DEV-4): every buffer is filled to its
 * last byte and not beyond, however it was cut; and a reset does not wait for four
 * gigabytes of them. Whether they are random, nobody can check.
 */
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#define CLASS_RNG 0xff0000
#define UNLIKELY  32 /* bytes that are all zero, if somebody filled them */
#define REQUESTS  0
#define BUFFER	  KiB(100)
/* A chain of 2^32 bytes, in RAM that is nobody's: the upper half of 64 MiB, again and again. */
#define PART	MiB(32)
#define PARTS	(GiB(4) / PART)
#define PART_AT MiB(32)

static u8 memory[UNLIKELY + BUFFER + UNLIKELY];

static bool is_zero(const u8 *at, u32 len)
{
	while (len && !*at)
		at++, len--;
	return !len;
}

static bool looks_random(const u8 *at, u32 len)
{
	for (; len >= UNLIKELY; at += UNLIKELY, len -= UNLIKELY)
		if (is_zero(at, UNLIKELY))
			return false;
	return true;
}

/* In `count` buffers, the last of which is larger than the others, or smaller. */
static void fill(struct virtio *rng, u32 len, u16 count)
{
	struct ring *ring = &rng->rings[REQUESTS];
	const u32 part = len / count;
	u32 used = 0;
	u16 head;

	memset(memory, 0, sizeof(memory));
	for (u16 i = 0; i < count; i++) {
		bool last = i + 1 == count;

		ring_describe(ring, i, memory + UNLIKELY + i * part, last ? len - i * part : part,
			      VRING_DESC_F_WRITE | (last ? 0 : VRING_DESC_F_NEXT), i + 1);
	}
	ring_offer(ring, 0);
	virtio_notify(rng, REQUESTS);
	check(ring_take(ring, &head, &used), "%u bytes in %u buffers come back", len, count);
	check_equal(used, len, "all of it is used");
	check(looks_random(memory + UNLIKELY, len), "and filled");
	check(is_zero(memory, UNLIKELY) && is_zero(memory + UNLIKELY + len, UNLIKELY),
	      "nothing around it is");
}

static void fill_all_ways(struct virtio *rng)
{
	static const u32 lengths[] = {32, 64, 1000, KiB(64), BUFFER};
	static const u16 counts[] = {1, 2, 6, 16};

	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++)
		for (unsigned j = 0; j < ARRAY_SIZE(counts); j++)
			fill(rng, lengths[i], counts[j]);
}

static void ask_for_too_much(struct virtio *rng)
{
	struct ring *ring = &rng->rings[REQUESTS];
	const volatile u8 *part = (const u8 *)PART_AT;

	virtio_start(rng, FEATURE(VIRTIO_F_VERSION_1), RING_SIZE_MAX);
	for (u16 i = 0; i < PARTS; i++)
		ring_describe(ring, i, (void *)PART_AT, PART,
			      VRING_DESC_F_WRITE | (i + 1u < PARTS ? VRING_DESC_F_NEXT : 0), i + 1);
	ring_offer(ring, 0);
	virtio_notify(rng, REQUESTS);
	check(wait_for(part[0] | part[1] | part[2] | part[3]), "a chain of 4 GiB is begun");
	check(virtio_reset(rng), "a reset ends");
	check(!ring_has_used(ring) || ring->used->ring[0].len < PART * (PARTS - 1),
	      "before the chain was filled");
}

void guest_main(const struct boot *boot)
{
	static struct virtio rng;
	const unsigned slot = pci_find(VIRTIO_VENDOR, VIRTIO_FIRST_MODERN + VIRTIO_ID_RNG);

	(void)boot;
	if (slot == PCI_SLOTS)
		give_up("there is an entropy device");
	check_equal(pci_read32(slot, PCI_CLASS_REVISION) >> 8, CLASS_RNG, "its class code");
	virtio_find(&rng, slot);
	check_equal(rng.queue_count, 1, "its queues");
	check_equal(rng.config.address, 0, "it has no configuration");
	virtio_start(&rng, FEATURE(VIRTIO_F_VERSION_1), 16);
	fill_all_ways(&rng);
	ask_for_too_much(&rng);
	virtio_start(&rng, FEATURE(VIRTIO_F_VERSION_1), 16);
	fill_all_ways(&rng);
}
