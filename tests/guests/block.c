/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device driven by hand: what its configuration says, each type
 * of request, cut in several ways (VQ-10), wrong ones, and many at once.
 *
 *   sectors=N   how large the disk is said to be
 *   id=NAME     and what it is called
 *   ro=1        it is read-only: nothing is written, and what tries to must fail
 *   boots=N     only counts its boots, on the disk, and reboots until there were N
 *   packed=1    its rings are packed ones
 *
 * By the rules, so that --strict has nothing to say; with
 *
 *   past=1      it asks for what is past the end, which --strict does not forgive
 *
 * A disk that may be written needs 2048 sectors, and in the end holds a pattern that the test's
 * other half knows (tests/system/disks.c).
 */
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#define SECTOR 512

#define WANTED                                                                                     \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |                      \
	 FEATURE(VIRTIO_BLK_F_FLUSH))
#define WRITING (FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))

/* Where each check works; the pattern at the end of it all is tests/system/disks.c's, too. */
#define COUNTER_AT   1
#define FRAMES_AT    100
#define ZEROES_AT    200
#define DISCARD_AT   300
#define MANY_AT	     1024
#define MANY	     80 /* requests in flight: three descriptors each of the ring's 256 */
#define MANY_SECTORS 4
#define RING_SIZE    RING_SIZE_MAX

#define DESCRIPTORS_MAX 64 /* of one request: more than any frame has pieces */

static struct virtio block;
static bool read_only;
static u64 capacity;

static u64 config(u32 offset, unsigned len)
{
	const u64 at = block.config.address + offset;

	return len == 1 ? read8(at) : len == 2 ? read16(at) : len == 4 ? read32(at) : read64(at);
}

#define CONFIG(field)                                                                              \
	config(offsetof(struct virtio_blk_config, field),                                          \
	       sizeof(((struct virtio_blk_config *)0)->field))

static void find_disk(void)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (pci_read16(slot, PCI_VENDOR_ID) == VIRTIO_VENDOR &&
		    pci_read16(slot, PCI_DEVICE_ID) == VIRTIO_FIRST_MODERN + VIRTIO_ID_BLOCK) {
			virtio_find(&block, slot);
			return;
		}
	give_up("there is a disk");
}

/* Bytes that say in which sector of which round they are. */
static void fill(u8 *data, u64 sector, unsigned count, u8 round)
{
	for (unsigned i = 0; i < count * SECTOR; i++)
		data[i] = (u8)(i + (sector + i / SECTOR) * 17 + round);
}

static bool is_filled(const u8 *data, u64 sector, unsigned count, u8 round)
{
	for (unsigned i = 0; i < count * SECTOR; i++)
		if (data[i] != (u8)(i + (sector + i / SECTOR) * 17 + round))
			return false;
	return true;
}

static bool is_zero(const u8 *data, unsigned count)
{
	for (unsigned i = 0; i < count * SECTOR; i++)
		if (data[i])
			return false;
	return true;
}

/* One request, laid out as if there were no descriptors: what is read, and what is written. */
static u8 readable[sizeof(struct virtio_blk_outhdr) + 8 * SECTOR];
static u8 writable[8 * SECTOR + 1];
static u8 *const out_data = readable + sizeof(struct virtio_blk_outhdr);

/* Lengths of descriptors, ended by 0; the last descriptor has what is left. */
struct frame {
	const char *name;
	u32 readable[20], writable[20];
	bool indirect;
};

static const struct frame plain = {"header, data, status", {16}, {0}, false};

/* Describe one side from descriptor `at` on; where the next one goes. */
static u16 describe(struct vring_desc *table, u16 at, u8 *data, u32 len, const u32 *pieces,
		    u16 flags)
{
	while (len) {
		const u32 part = *pieces ? MIN(*pieces, len) : len;

		if (*pieces)
			pieces++;
		table[at] = (struct vring_desc){(u64)data, part, flags | VRING_DESC_F_NEXT,
						(u16)(at + 1)};
		at++;
		data += part;
		len -= part;
	}
	return at;
}

/* A table is as the ring is: packed, its descriptors come one after the other, and have no next. */
static const void *table_of(const struct ring *ring, const struct vring_desc *table, u16 count)
{
	static struct vring_packed_desc packed[DESCRIPTORS_MAX] __attribute__((aligned(16)));

	if (!ring->packed)
		return table;
	for (u16 i = 0; i < count; i++)
		packed[i] =
			(struct vring_packed_desc){.addr = table[i].addr,
						   .len = table[i].len,
						   .flags = table[i].flags & VRING_DESC_F_WRITE};
	return packed;
}

static void offer(const struct frame *frame, u32 out_len, u32 in_len)
{
	static struct vring_desc indirect[DESCRIPTORS_MAX] __attribute__((aligned(16)));
	struct ring *ring = &block.rings[0];
	struct vring_desc *table = frame->indirect ? indirect : ring->desc;
	u16 count;

	count = describe(table, 0, readable, sizeof(struct virtio_blk_outhdr) + out_len,
			 frame->readable, 0);
	count = describe(table, count, writable, in_len + 1, frame->writable, VRING_DESC_F_WRITE);
	table[count - 1].flags &= (u16)~VRING_DESC_F_NEXT;
	if (frame->indirect)
		ring_describe(ring, 0, table_of(ring, indirect, count),
			      count * (u32)sizeof(*indirect), VRING_DESC_F_INDIRECT, 0);
	ring_offer(ring, 0);
	virtio_notify(&block, 0);
}

/* Ask, and wait: the used length has to be `written`; returns the status. */
static u8 ask_in(const struct frame *frame, u32 type, u64 sector, u32 out_len, u32 in_len,
		 u32 written)
{
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	u32 len = 0;
	u16 head;

	memcpy(readable, &header, sizeof(header));
	memset(writable, 0xee, sizeof(writable));
	offer(frame, out_len, in_len);
	if (!ring_take(&block.rings[0], &head, &len))
		give_up("type %u, sector %lu, %s: is answered", type, sector, frame->name);
	if (len != written)
		check_equal(len, written, "type %u, sector %lu, %s: used length", type, sector,
			    frame->name);
	return writable[in_len];
}

static u8 ask(u32 type, u64 sector, u32 out_len, u32 in_len, u32 written)
{
	return ask_in(&plain, type, sector, out_len, in_len, written);
}

static bool read_sectors(u64 sector, unsigned count)
{
	return ask(VIRTIO_BLK_T_IN, sector, 0, count * SECTOR, count * SECTOR + 1) ==
	       VIRTIO_BLK_S_OK;
}

static bool write_sectors(u64 sector, unsigned count, u8 round)
{
	fill(out_data, sector, count, round);
	return ask(VIRTIO_BLK_T_OUT, sector, count * SECTOR, 0, 1) == VIRTIO_BLK_S_OK;
}

static bool flush(void)
{
	return ask(VIRTIO_BLK_T_FLUSH, 0, 0, 0, 1) == VIRTIO_BLK_S_OK;
}

static u8 ask_segment(const struct frame *frame, u32 type, u64 sector, u32 count, u32 flags)
{
	const struct virtio_blk_discard_write_zeroes segment = {sector, count, flags};

	memcpy(out_data, &segment, sizeof(segment));
	return ask_in(frame, type, 0, sizeof(segment), 0, 1);
}

/* The checks */

static void check_config(const struct boot *boot)
{
	const u64 offered = virtio_offered(&block);
	char text[24];
	u64 wanted = 0;

	capacity = CONFIG(capacity);
	if (boot_option(boot, "sectors", text, sizeof(text))) {
		for (const char *digit = text; *digit; digit++)
			wanted = wanted * 10 + (u64)(*digit - '0');
		check_equal(capacity, wanted, "capacity");
	}
	check_equal(config(0, 4), (u32)capacity, "capacity, the lower half by itself");
	check_equal(CONFIG(seg_max), RING_SIZE_MAX - 2, "seg_max");
	check_equal(CONFIG(blk_size), SECTOR, "blk_size");
	check_equal(CONFIG(num_queues), virtio_read16(&block, VIRTIO_PCI_COMMON_NUMQ),
		    "num_queues");
	check_equal(offered & WANTED, WANTED, "features offered");
	check_equal(offered >> VIRTIO_BLK_F_RO & 1, read_only, "read-only");
	check_equal(offered & WRITING, read_only ? 0 : WRITING, "discard and write-zeroes");
}

static void start(void)
{
	virtio_start(&block, WANTED | (read_only ? FEATURE(VIRTIO_BLK_F_RO) : WRITING), RING_SIZE);
}

static void check_id(const struct boot *boot)
{
	char id[VIRTIO_BLK_ID_BYTES + 1] = "";

	boot_option(boot, "id", id, sizeof(id));
	check_equal(ask(VIRTIO_BLK_T_GET_ID, 0, 0, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_ID_BYTES + 1),
		    VIRTIO_BLK_S_OK, "get-id");
	check(!memcmp(writable, id, VIRTIO_BLK_ID_BYTES), "the id is \"%s\"", id);
}

static void check_read_only(void)
{
	check(read_sectors(0, 1), "the first sector can be read");
	check(read_sectors(capacity - 1, 1), "and the last");
	check_equal(ask(VIRTIO_BLK_T_OUT, 0, SECTOR, 0, 1), VIRTIO_BLK_S_IOERR,
		    "but not be written");
	check_equal(ask_segment(&plain, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP,
		    "nor discarded");
	check_equal(ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_UNSUPP,
		    "nor zeroed");
	check(flush(), "there is nothing to flush");
}

static void check_read_write(void)
{
	static const struct {
		u64 sector;
		unsigned count;
	} places[] = {{0, 1}, {7, 3}, {2040, 8}, {2047, 1}, {3, 8}};
	bool fine = true;

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		fine &= write_sectors(places[i].sector, places[i].count, (u8)i) &&
			read_sectors(places[i].sector, places[i].count) &&
			is_filled(writable, places[i].sector, places[i].count, (u8)i);
	check(fine, "what was written is read");
	check(flush(), "a flush");
	check(read_sectors(7, 3) && is_filled(writable, 7, 3, 4), "the last write counts");
	check_equal(ask(VIRTIO_BLK_T_IN, 9, 0, 0, 1), VIRTIO_BLK_S_OK, "reading nothing");
	check_equal(ask(VIRTIO_BLK_T_OUT, 9, 0, 0, 1), VIRTIO_BLK_S_OK, "writing nothing");
}

static void check_wrong(void)
{
	static const u32 unknown[] = {2, 3, 5, 9, 10, 12, 14, 15, 16, 26, 0x80000000, 0xffffffff};
	bool fine = true;

	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		fine &= ask(unknown[i], 0, 32, 32, 1) == VIRTIO_BLK_S_UNSUPP;
	check(fine, "unknown types are unsupported");
	check_equal(ask(VIRTIO_BLK_T_IN, 0, 0, SECTOR - 1, 1), VIRTIO_BLK_S_IOERR,
		    "511 bytes cannot be read");
	check_equal(ask(VIRTIO_BLK_T_OUT, 0, SECTOR + 1, 0, 1), VIRTIO_BLK_S_IOERR,
		    "nor 513 be written");
	check_equal(
		ask_segment(&plain, VIRTIO_BLK_T_DISCARD, 0, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		VIRTIO_BLK_S_UNSUPP, "a discard that may unmap");
	check_equal(ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2), VIRTIO_BLK_S_UNSUPP,
		    "a flag that nobody knows");
	check_equal(ask(VIRTIO_BLK_T_DISCARD, 0, 15, 0, 1), VIRTIO_BLK_S_IOERR,
		    "part of a segment");
}

static void check_past_the_end(void)
{
	const u64 wrong[][2] = {
		{capacity, 1},	   {capacity - 1, 2}, {(u64)-1, 1},
		{(u64)1 << 55, 1}, {capacity + 9, 8},
	};
	bool fine = true;

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		const u32 len = (u32)wrong[i][1] * SECTOR;

		fine &= ask(VIRTIO_BLK_T_IN, wrong[i][0], 0, len, 1) == VIRTIO_BLK_S_IOERR;
		fine &= ask(VIRTIO_BLK_T_OUT, wrong[i][0], len, 0, 1) == VIRTIO_BLK_S_IOERR;
		fine &= ask_segment(&plain, VIRTIO_BLK_T_DISCARD, wrong[i][0], (u32)wrong[i][1],
				    0) == VIRTIO_BLK_S_IOERR;
		fine &= ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, wrong[i][0],
				    (u32)wrong[i][1], 0) == VIRTIO_BLK_S_IOERR;
	}
	check(fine, "past the end there is nothing");
	check(read_sectors(capacity - 1, 1), "before it there is");
}

static const struct frame frames[] = {
	{"in two pieces", {0}, {0}, false},
	{"header, data, status", {16}, {2 * SECTOR}, false},
	{"header cut", {5}, {1}, false},
	{"header and some data together", {16 + 7}, {2 * SECTOR - 3}, false},
	{"header in single bytes",
	 {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	 {1, 2, 3, 4, 5},
	 false},
	{"status with the last byte of data", {16, SECTOR}, {2 * SECTOR - 1}, false},
	{"indirect", {16}, {2 * SECTOR}, true},
	{"indirect, in odd pieces", {3, 11, 13}, {7, 600, 77}, true},
};

static void check_frame(const struct boot *boot, const struct frame *frame, u8 round)
{
	char id[VIRTIO_BLK_ID_BYTES + 1] = "";
	bool fine = true;

	boot_option(boot, "id", id, sizeof(id));
	fill(out_data, FRAMES_AT, 3, round);
	fine &= ask_in(frame, VIRTIO_BLK_T_OUT, FRAMES_AT, 3 * SECTOR, 0, 1) == VIRTIO_BLK_S_OK;
	fine &= ask_in(frame, VIRTIO_BLK_T_IN, FRAMES_AT + 1, 0, 2 * SECTOR, 2 * SECTOR + 1) ==
		VIRTIO_BLK_S_OK;
	fine &= is_filled(writable, FRAMES_AT + 1, 2, round);
	fine &= ask_in(frame, VIRTIO_BLK_T_GET_ID, 0, 0, VIRTIO_BLK_ID_BYTES,
		       VIRTIO_BLK_ID_BYTES + 1) == VIRTIO_BLK_S_OK;
	fine &= !memcmp(writable, id, VIRTIO_BLK_ID_BYTES);
	fine &= ask_segment(frame, VIRTIO_BLK_T_WRITE_ZEROES, FRAMES_AT, 2, 0) == VIRTIO_BLK_S_OK;
	fine &= ask_segment(frame, VIRTIO_BLK_T_DISCARD, DISCARD_AT, 8, 0) == VIRTIO_BLK_S_OK;
	fine &= ask_in(frame, VIRTIO_BLK_T_FLUSH, 0, 0, 0, 1) == VIRTIO_BLK_S_OK;
	fine &= ask_in(frame, 77, 0, 5, 5, 1) == VIRTIO_BLK_S_UNSUPP;
	fine &= read_sectors(FRAMES_AT, 3) && is_zero(writable, 2) &&
		is_filled(writable + 2 * SECTOR, FRAMES_AT + 2, 1, round);
	check(fine, "every request, %s", frame->name);
}

static void check_zeroes(void)
{
	check(write_sectors(ZEROES_AT, 8, 9), "there is something");
	check_equal(ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, ZEROES_AT + 1, 2, 0),
		    VIRTIO_BLK_S_OK, "write-zeroes");
	check_equal(ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, ZEROES_AT + 5, 1,
				VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		    VIRTIO_BLK_S_OK, "write-zeroes that may unmap");
	check(read_sectors(ZEROES_AT, 8) && is_filled(writable, ZEROES_AT, 1, 9) &&
		      is_zero(writable + SECTOR, 2) &&
		      is_filled(writable + 3 * SECTOR, ZEROES_AT + 3, 2, 9) &&
		      is_zero(writable + 5 * SECTOR, 1) &&
		      is_filled(writable + 6 * SECTOR, ZEROES_AT + 6, 2, 9),
	      "zeroes are there, and only there");
}

/* As many as the ring has room for, offered at once; they come back in any order. */
static struct flight {
	struct virtio_blk_outhdr header;
	u8 data[MANY_SECTORS * SECTOR];
	u8 status;
} flights[MANY];

static bool fly(u32 type, u8 round)
{
	struct ring *ring = &block.rings[0];
	const bool in = type == VIRTIO_BLK_T_IN;
	bool fine = true;

	for (u16 i = 0; i < MANY; i++) {
		struct flight *flight = &flights[i];
		const u64 sector = MANY_AT + (MANY - 1u - i) * MANY_SECTORS;
		const u16 at = (u16)(i * 3);

		flight->header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
		flight->status = 0xee;
		if (in)
			memset(flight->data, 0, sizeof(flight->data));
		else
			fill(flight->data, sector, MANY_SECTORS, round);
		ring_describe(ring, at, &flight->header, sizeof(flight->header), VRING_DESC_F_NEXT,
			      (u16)(at + 1));
		ring_describe(ring, (u16)(at + 1), flight->data, sizeof(flight->data),
			      (u16)(VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0)),
			      (u16)(at + 2));
		ring_describe(ring, (u16)(at + 2), &flight->status, 1, VRING_DESC_F_WRITE, 0);
		ring_offer(ring, at);
	}
	virtio_notify(&block, 0);
	for (unsigned i = 0; i < MANY; i++) {
		u16 head;
		u32 len;

		if (!ring_take(ring, &head, &len))
			give_up("%u of %u requests are answered", MANY, MANY);
		fine &= head % 3 == 0 && head / 3 < MANY && flights[head / 3].status == 0 &&
			len == (in ? sizeof(flights->data) + 1 : 1);
	}
	for (unsigned i = 0; in && i < MANY; i++)
		fine &= is_filled(flights[i].data, flights[i].header.sector, MANY_SECTORS, round);
	return fine;
}

static void check_many(void)
{
	bool fine = true;

	for (u8 round = 0; round < 10; round++)
		fine &= fly(VIRTIO_BLK_T_OUT, round) && flush() && fly(VIRTIO_BLK_T_IN, round);
	check(fine, "%u requests at once", MANY);
}

/* Half of them are still on their way, as like as not. */
static void check_reset_in_flight(void)
{
	struct ring *ring = &block.rings[0];
	bool fine = true;

	for (unsigned i = 0; i < 20; i++) {
		fill(out_data, MANY_AT, 8, 9);
		for (u16 j = 0; j < MANY; j++) {
			flights[j].header = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_FLUSH};
			ring_describe(ring, (u16)(j * 3), &flights[j].header,
				      sizeof(flights[j].header), VRING_DESC_F_NEXT,
				      (u16)(j * 3 + 1));
			ring_describe(ring, (u16)(j * 3 + 1), &flights[j].status, 1,
				      VRING_DESC_F_WRITE, 0);
			ring_offer(ring, (u16)(j * 3));
		}
		virtio_notify(&block, 0);
		fine &= virtio_reset(&block);
		start();
		fine &= read_sectors(0, 1);
	}
	check(fine, "a reset while requests are in flight");
}

static void leave_pattern(void)
{
	bool fine = true;

	for (u64 sector = 0; sector < 2048; sector += 8)
		fine &= write_sectors(sector, 8, 42);
	fine &= ask_segment(&plain, VIRTIO_BLK_T_WRITE_ZEROES, 1000, 3, 0) == VIRTIO_BLK_S_OK;
	check(fine && flush(), "the pattern is left");
}

static __attribute__((noreturn)) void count_boots(u8 wanted)
{
	u8 boots;

	if (!read_sectors(COUNTER_AT, 1))
		give_up("the counter can be read");
	boots = (u8)(writable[0] + 1);
	print("block: boot %u\n", boots);
	memcpy(out_data, writable, SECTOR);
	out_data[0] = boots;
	check_equal(ask(VIRTIO_BLK_T_OUT, COUNTER_AT, SECTOR, 0, 1), VIRTIO_BLK_S_OK,
		    "the counter can be written");
	if (boots >= wanted)
		finish();
	print("block: go on?\n");
	serial_get();
	out8(PORT_ACPI_RESET, ACPI_RESET_VALUE);
	linger();
	give_up("the machine resets");
}

void guest_main(const struct boot *boot)
{
	char text[8];

	find_disk();
	read_only = boot_option(boot, "ro", text, sizeof(text));
	block.packed = boot_option(boot, "packed", text, sizeof(text));
	virtio_add_status(&block, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(&block, VIRTIO_CONFIG_S_DRIVER);
	check_config(boot);
	start();
	if (boot_option(boot, "boots", text, sizeof(text)))
		count_boots((u8)(text[0] - '0'));
	check_id(boot);
	if (read_only) {
		check_read_only();
		return;
	}
	check_read_write();
	check_wrong();
	if (boot_option(boot, "past", text, sizeof(text)))
		check_past_the_end();
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++)
		check_frame(boot, &frames[i], (u8)i);
	check_zeroes();
	check_many();
	check_reset_in_flight();
	leave_pattern();
}
