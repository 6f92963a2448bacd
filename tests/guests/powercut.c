/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes to a disk until its power is cut, which is tests/powercut's to do: many
 * numbered writes in flight at once, and with "flush" on the command line a FLUSH
 * among them now and then. It reports what must survive (see powercut.h): what had
 * been answered when a FLUSH was sent, once that is answered; and where FLUSH was
 * not negotiated, or with "cache-off" the write cache was turned off, all that was
 * answered (virtio: Block Device: Device Operation).
 */
#include "powercut.h"

#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#define VENDOR	     0x1af4
#define DEVICE_BLOCK (0x1040 + VIRTIO_ID_BLOCK)
#define WRITES	     16	    /* in flight */
#define FLUSH	     WRITES /* the request that is no write */
#define PARTS	     3	    /* of a request: header, data, status */
#define RING_SIZE    64
#define ABOVE_BITS   64

struct request {
	struct virtio_blk_outhdr header;
	u64 data[POWERCUT_BLOCK / 8];
	volatile u8 status;
	u64 number; /* 0: not in flight */
};

/* What was answered: the writes 1 to `low`, and those whose bits are set above. */
struct answered {
	u64 low, above;
};

struct writer {
	struct virtio disk;
	u64 notify;
	bool with_flush, flushing;
	struct request requests[WRITES + 1];
	u64 last; /* number of the last write that was sent */
	struct answered answered, at_flush;
	unsigned news; /* answers since the last flush, or report */
};

static void send(struct writer *writer, unsigned index, u32 type, u64 sector)
{
	struct request *request = &writer->requests[index];
	struct ring *ring = &writer->disk.rings[0];
	const u16 head = (u16)(index * PARTS);
	const bool has_data = type == VIRTIO_BLK_T_OUT;

	request->header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	request->status = 0xff;
	ring_describe(ring, head, &request->header, sizeof(request->header), VRING_DESC_F_NEXT,
		      has_data ? head + 1 : head + 2);
	ring_describe(ring, head + 1, request->data, sizeof(request->data), VRING_DESC_F_NEXT,
		      head + 2);
	ring_describe(ring, head + 2, (const void *)&request->status, 1, VRING_DESC_F_WRITE, 0);
	ring_offer(ring, head);
}

static void send_write(struct writer *writer, unsigned index)
{
	struct request *request = &writer->requests[index];
	u64 sector;

	request->number = ++writer->last;
	sector = powercut_block(request->number) * POWERCUT_BLOCK_SECTORS;
	for (unsigned i = 0; i < ARRAY_SIZE(request->data); i++)
		request->data[i] = powercut_word(request->number, sector + i / POWERCUT_WORDS,
						 i % POWERCUT_WORDS);
	send(writer, index, VIRTIO_BLK_T_OUT, sector);
}

/* As many writes as there is room for, and as the report has bits for. */
static void send_writes(struct writer *writer)
{
	for (unsigned i = 0; i < WRITES; i++)
		if (!writer->requests[i].number && writer->last - writer->answered.low < ABOVE_BITS)
			send_write(writer, i);
}

static void report(const struct answered *answered)
{
	print("durable %lu %lx\n", answered->low, answered->above);
}

static void note_answer(struct writer *writer, u64 number)
{
	struct answered *answered = &writer->answered;

	answered->above |= 1ull << (number - answered->low - 1);
	while (answered->above & 1) {
		answered->above >>= 1;
		answered->low++;
	}
	writer->news++;
}

static void take_answer(struct writer *writer)
{
	u16 head;
	u32 len;
	struct request *request;

	if (!ring_take(&writer->disk.rings[0], &head, &len))
		give_up("a request is answered");
	request = &writer->requests[head / PARTS];
	if (request->status != VIRTIO_BLK_S_OK)
		give_up("request %u has status %u", head / PARTS, request->status);
	if (head / PARTS == FLUSH) {
		writer->flushing = false;
		report(&writer->at_flush);
	} else {
		note_answer(writer, request->number);
		request->number = 0;
	}
}

/* Now after few writes, now after many. */
static bool time_for_news(const struct writer *writer)
{
	return writer->news > writer->last % 47;
}

static void write_on(struct writer *writer)
{
	send_writes(writer);
	if (writer->with_flush && !writer->flushing && time_for_news(writer)) {
		writer->at_flush = writer->answered;
		writer->flushing = true;
		writer->news = 0;
		send(writer, FLUSH, VIRTIO_BLK_T_FLUSH, 0);
	}
	write16(writer->notify, 0);
	do
		take_answer(writer);
	while (ring_has_used(&writer->disk.rings[0]));
	if (!writer->with_flush && time_for_news(writer)) {
		writer->news = 0;
		report(&writer->answered);
	}
}

static bool has_word(const struct boot *boot, const char *word)
{
	char value[2];

	return boot_option(boot, word, value, sizeof(value));
}

void guest_main(const struct boot *boot)
{
	static struct writer writer;
	const unsigned slot = pci_find(VENDOR, DEVICE_BLOCK);
	const bool cache_off = has_word(boot, "cache-off");
	u64 features = FEATURE(VIRTIO_F_VERSION_1);

	if (slot == PCI_SLOTS)
		give_up("there is a disk");
	virtio_find(&writer.disk, slot);
	writer.with_flush = has_word(boot, "flush");
	if (writer.with_flush || cache_off)
		features |= FEATURE(VIRTIO_BLK_F_FLUSH);
	if (cache_off)
		features |= FEATURE(VIRTIO_BLK_F_CONFIG_WCE);
	if (features & ~virtio_offered(&writer.disk))
		give_up("the disk has what it takes: %lx", features);
	virtio_start(&writer.disk, features, RING_SIZE);
	if (cache_off)
		write8(writer.disk.config.address + offsetof(struct virtio_blk_config, wce), 0);
	writer.notify = virtio_notify_address(&writer.disk, 0);
	for (;;)
		write_on(&writer);
}
