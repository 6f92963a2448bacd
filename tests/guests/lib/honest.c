/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Honest requests: see honest.h. A line of text for the console, a sector from a
 * disk, a frame for whoever is on the network, some numbers.
 */
#include "lib/honest.h"

#include <linux/virtio_ids.h>

static void prepare_text(struct ring *ring, void *room)
{
	static const char text[] = "the console works\n";

	memcpy(room, text, sizeof(text));
	ring_describe(ring, 0, room, sizeof(text) - 1, 0, 0);
}

static bool text_answered(const void *room, u32 len)
{
	(void)room;
	return len == 0;
}

/* virtio: Block Device, Device Operation */
struct sector_request {
	u32 type, reserved;
	u64 sector;
	u8 data[512];
	u8 status;
};

#define DISK_READ   0
#define DISK_OK	    0
#define DISK_HEADER 16

static void prepare_sector(struct ring *ring, void *room)
{
	struct sector_request *request = room;

	memset(request, 0xff, sizeof(*request));
	request->type = DISK_READ;
	request->reserved = 0;
	request->sector = 0;
	ring_describe(ring, 0, request, DISK_HEADER, VRING_DESC_F_NEXT, 1);
	ring_describe(ring, 1, request->data, sizeof(request->data),
		      VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2);
	ring_describe(ring, 2, &request->status, 1, VRING_DESC_F_WRITE, 0);
}

static bool sector_answered(const void *room, u32 len)
{
	const struct sector_request *request = room;

	return len == sizeof(request->data) + 1 && request->status == DISK_OK;
}

/* virtio: Network Device, Device Operation: a header that says nothing. */
#define NET_HEADER 12
#define FRAME_MIN  60

static void prepare_frame(struct ring *ring, void *room)
{
	/* To everybody, of the type that is for experiments (IEEE 802). */
	static const u8 frame[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
				   0,	 0,    0,    0,	   1,	 0x88, 0xb5};

	memset(room, 0, NET_HEADER + FRAME_MIN);
	memcpy((u8 *)room + NET_HEADER, frame, sizeof(frame));
	ring_describe(ring, 0, room, NET_HEADER + FRAME_MIN, 0, 0);
}

#define NUMBERS 32 /* bytes: never all zero, if somebody filled them */

static void prepare_numbers(struct ring *ring, void *room)
{
	memset(room, 0, NUMBERS);
	ring_describe(ring, 0, room, NUMBERS, VRING_DESC_F_WRITE, 0);
}

static bool numbers_answered(const void *room, u32 len)
{
	const u8 *numbers = room;
	u8 any = 0;

	for (unsigned i = 0; i < NUMBERS; i++)
		any |= numbers[i];
	return len == NUMBERS && any;
}

static const struct device_type device_types[] = {
	{"console", CONSOLE, VIRTIO_ID_CONSOLE, CONSOLE_TX, 0, CONSOLE_RX, prepare_text,
	 text_answered},
	{"block", BLOCK, VIRTIO_ID_BLOCK, 0, 0, 0, prepare_sector, sector_answered},
	{"net", NET, VIRTIO_ID_NET, 1, 0, 0, prepare_frame, text_answered},
	{"rng", RNG, VIRTIO_ID_RNG, 0, VRING_DESC_F_WRITE, 0, prepare_numbers, numbers_answered},
};

const struct device_type *device_type_named(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(device_types); i++)
		if (!strcmp(device_types[i].name, name))
			return &device_types[i];
	return NULL;
}

const struct device_type *device_type_of(u16 id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(device_types); i++)
		if (device_types[i].id == id)
			return &device_types[i];
	return NULL;
}

bool device_works(const struct device_type *type, struct virtio *virtio, void *room)
{
	struct ring *ring = &virtio->rings[type->queue];
	u32 len = 0;
	u16 head;

	type->prepare(ring, room);
	ring_offer(ring, 0);
	virtio_notify(virtio, type->queue);
	return ring_take(ring, &head, &len) && type->answered(room, len);
}
