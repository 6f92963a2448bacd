/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device (virtio/block.c) between a driver and a file: every
 * request there is, right and wrong, cut in many ways (VQ-10), with what it writes (VQ-9) and
 * what becomes of the file. Each test is run with io_uring and without.
 *
 * What takes a disk that is slow, or fails, is in test_block_flight.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "framing.h"
#include "virtio/block.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTORS 2048
#define SIZE	(SECTORS * 512)
#define QUEUES	2

#define F(name)	 (1ull << VIRTIO_BLK_F_##name)
#define WRITABLE (F(FLUSH) | F(DISCARD) | F(WRITE_ZEROES) | FEATURE_VERSION_1)
#define CONFIG(field)                                                                              \
	(REGISTERS_DEVICE + offsetof(struct virtio_blk_config, field)),                            \
		sizeof(((struct virtio_blk_config *)0)->field)

struct fixture {
	const bool *synchronous;
	struct fake_guest guest;
	char file[32];
	int fd;
	struct disk_options options;
	struct disk disk;
	struct block block;
};

/* Bytes that say where in the file they are. */
static void fill(u8 *data, u64 len, u64 offset)
{
	for (u64 i = 0; i < len; i++)
		data[i] = (offset + i) * 11 + ((offset + i) >> 9);
}

static int new_fixture(void **state, bool strict, bool read_only)
{
	struct fixture *f = calloc(1, sizeof(*f));
	u8 *data = malloc(SIZE);
	struct problem why;

	assert_non_null(f);
	assert_non_null(data);
	f->synchronous = *state;
	strcpy(f->file, "/tmp/lguest-block-XXXXXX");
	f->fd = mkstemp(f->file);
	fill(data, SIZE, 0);
	assert_int_equal(write(f->fd, data, SIZE), SIZE);
	free(data);
	f->options.file = f->file;
	f->options.id = "serial number";
	f->options.read_only = read_only;
	assert_int_equal(disk_open(&f->disk, &f->options, &why), 0);
	f->disk.synchronous = *f->synchronous;
	fake_guest_init(&f->guest, strict);
	assert_int_equal(block_init(&f->block, &f->guest.pci, FAKE_GUEST_SLOT, &f->guest.machine,
				    f->guest.memory, &f->disk, QUEUES, &why),
			 0);
	fake_guest_power_on(&f->guest);
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2,
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return new_fixture(state, false, false);
}

static int setup_strict(void **state)
{
	return new_fixture(state, true, false);
}

static int setup_read_only(void **state)
{
	return new_fixture(state, false, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	/* Whatever the driver did, the file is as long as it was. */
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	virtio_power_on(&f->block.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->block.virtio);
	fake_guest_destroy(&f->guest);
	disk_close(&f->disk);
	close(f->fd);
	unlink(f->file);
	free(f);
	return 0;
}

/* A request, in one piece each of what is read and what is written. */
struct request {
	u64 out, in; /* guest-physical */
	u32 out_len, in_len;
};

static u8 *out_data(struct fixture *f, const struct request *r)
{
	return (u8 *)fake_driver_at(&f->guest.queues[0], r->out, r->out_len) +
	       sizeof(struct virtio_blk_outhdr);
}

static u8 *in_data(struct fixture *f, const struct request *r)
{
	return fake_driver_at(&f->guest.queues[0], r->in, r->in_len);
}

/* Header and status are added to the lengths of the data. What may be written is full of 0xee. */
static struct request make(struct fixture *f, unsigned queue, u32 type, u64 sector,
			   const void *data, u32 out_len, u32 in_len)
{
	struct fake_driver *driver = &f->guest.queues[queue];
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	struct request r = {.out_len = sizeof(header) + out_len, .in_len = in_len + 1};

	r.out = fake_driver_alloc(driver, r.out_len, 1);
	r.in = fake_driver_alloc(driver, r.in_len, 1);
	memcpy(fake_driver_at(driver, r.out, sizeof(header)), &header, sizeof(header));
	if (data)
		memcpy(out_data(f, &r), data, out_len);
	memset(in_data(f, &r), 0xee, r.in_len);
	return r;
}

static void submit_whole(struct fixture *f, unsigned queue, const struct request *r)
{
	const struct fake_buffer buffers[] = {{r->out, r->out_len, false},
					      {r->in, r->in_len, true}};

	assert_true(fake_driver_add(&f->guest.queues[queue], buffers, 2) >= 0);
	submit(&f->guest, queue);
}

/* Do it: the status; *written is the used length. */
static u8 complete(struct fixture *f, unsigned queue, const struct request *r, u32 *written)
{
	u16 head;

	*written = await_used(&f->guest, queue, &head);
	return in_data(f, r)[r->in_len - 1];
}

static void assert_done(struct fixture *f, const struct request *r, u8 status, u32 written)
{
	u32 really;

	submit_whole(f, 0, r);
	assert_int_equal(complete(f, 0, r, &really), status);
	assert_int_equal(really, written);
	/* Of what may be written, nothing was that is not told. */
	for (u32 i = written - 1; i < r->in_len - 1; i++)
		assert_int_equal(in_data(f, r)[i], 0xee);
}

static void assert_request(struct fixture *f, u32 type, u64 sector, u32 out_len, u32 in_len,
			   u8 status, u32 written)
{
	const struct request r = make(f, 0, type, sector, NULL, out_len, in_len);

	assert_done(f, &r, status, written);
}

static void assert_content(const u8 *data, u64 len, u64 offset)
{
	u8 *want = malloc(len);

	assert_non_null(want);
	fill(want, len, offset);
	assert_memory_equal(data, want, len);
	free(want);
}

static const u8 *file_at(struct fixture *f, u64 offset, u64 len)
{
	static u8 data[SIZE];

	assert_int_equal(pread(f->fd, data, len, offset), len);
	return data;
}

static bool is_broken(struct fixture *f)
{
	return status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Configuration and features */

static void test_features(void **state)
{
	struct fixture *f = *state;
	u64 offered;

	bring_up(&f->guest, STAGE_DRIVER, 0);
	offered = offered_features(&f->guest);
	assert_true((offered & 0xffffff) == (F(SEG_MAX) | F(BLK_SIZE) | F(FLUSH) | F(TOPOLOGY) |
					     F(CONFIG_WCE) | F(MQ) | F(DISCARD) | F(WRITE_ZEROES)));
}

static void test_features_read_only(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_DRIVER, 0);
	assert_true((offered_features(&f->guest) & 0xffffff) ==
		    (F(SEG_MAX) | F(BLK_SIZE) | F(FLUSH) | F(TOPOLOGY) | F(CONFIG_WCE) | F(MQ) |
		     F(RO)));
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	struct fake_guest *guest = &f->guest;

	bring_up(guest, STAGE_DRIVER, 0);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(capacity)), SECTORS);
	assert_int_equal(fake_guest_read(guest, 0, REGISTERS_DEVICE, 4), SECTORS);
	assert_int_equal(fake_guest_read(guest, 0, REGISTERS_DEVICE + 4, 4), 0);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(seg_max)), 254);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(blk_size)), 512);
	assert_int_equal(512 << fake_guest_read(guest, 0, CONFIG(physical_block_exp)),
			 f->disk.physical_block_size);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(num_queues)), QUEUES);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(max_discard_seg)), 16);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(max_write_zeroes_seg)), 16);
	assert_true(fake_guest_read(guest, 0, CONFIG(max_discard_sectors)));
	assert_true(fake_guest_read(guest, 0, CONFIG(max_write_zeroes_sectors)));
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(write_zeroes_may_unmap)), 1);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(unused)), 0);
	assert_false(is_broken(f));
	fake_guest_write(guest, 0, CONFIG(capacity), SECTORS * 2);
	assert_true(is_broken(f));
	assert_non_null(strstr(fake_guest_said(guest), "VT-11"));
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(capacity)), SECTORS);
}

static void test_writeback(void **state)
{
	struct fixture *f = *state;
	struct fake_guest *guest = &f->guest;

	bring_up(guest, STAGE_LIVE, FEATURE_VERSION_1 | F(FLUSH) | F(CONFIG_WCE));
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(wce)), 1);
	fake_guest_write(guest, 0, CONFIG(wce), 0);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(wce)), 0);
	fake_guest_write(guest, 0, CONFIG(wce), 1);
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(wce)), 1);
	assert_false(is_broken(f));
	fake_guest_write(guest, 0, CONFIG(wce), 2);
	assert_true(is_broken(f));
	/* A driver that knows no FLUSH has to be told to begin without a cache. */
	bring_up(guest, STAGE_FEATURES, FEATURE_VERSION_1 | F(CONFIG_WCE));
	assert_int_equal(fake_guest_read(guest, 0, CONFIG(wce)), 0);
	bring_up(guest, STAGE_LIVE, FEATURE_VERSION_1 | F(FLUSH));
	fake_guest_write(guest, 0, CONFIG(wce), 0);
	assert_true(is_broken(f));
	fake_guest_said(guest);
}

/* Requests */

static void test_read(void **state)
{
	struct fixture *f = *state;
	struct request r;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	r = make(f, 0, VIRTIO_BLK_T_IN, 3, NULL, 0, 512);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 513);
	assert_content(in_data(f, &r), 512, 3 * 512);
	r = make(f, 0, VIRTIO_BLK_T_IN, SECTORS - 200, NULL, 0, 200 * 512);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 200 * 512 + 1);
	assert_content(in_data(f, &r), 200 * 512, (SECTORS - 200) * 512);
	assert_request(f, VIRTIO_BLK_T_IN, SECTORS, 0, 0, VIRTIO_BLK_S_OK, 1);
}

static void test_write(void **state)
{
	struct fixture *f = *state;
	static u8 data[64 * 512];
	struct request r;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	fill(data, sizeof(data), 77);
	r = make(f, 0, VIRTIO_BLK_T_OUT, SECTORS - 64, data, sizeof(data), 0);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 1);
	assert_content(file_at(f, (SECTORS - 64) * 512, sizeof(data)), sizeof(data), 77);
	assert_content(file_at(f, (SECTORS - 65) * 512, 512), 512, (SECTORS - 65) * 512);
	assert_request(f, VIRTIO_BLK_T_OUT, 0, 0, 0, VIRTIO_BLK_S_OK, 1);
	/* Room for more than the status is not used. */
	r = make(f, 0, VIRTIO_BLK_T_OUT, 0, data, 512, 100);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 1);
}

static void test_past_the_end(void **state)
{
	static const struct {
		u64 sector;
		u32 sectors;
	} past[] = {
		{SECTORS, 1},
		{SECTORS - 1, 2},
		{SECTORS + 1, 0},
		{1ull << 55, 1},
		{(1ull << 55) - 1, 1},
		{UINT64_MAX / 512, 1},
		{UINT64_MAX, 1},
		{UINT64_MAX - 1, 2},
		{1ull << 63, 0},
		{UINT64_MAX / 512 + 1, 1},
		{(1ull << 54) + SECTORS - 1, 2},
	};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	for (size_t i = 0; i < ARRAY_SIZE(past); i++) {
		assert_request(f, VIRTIO_BLK_T_IN, past[i].sector, 0, past[i].sectors * 512,
			       VIRTIO_BLK_S_IOERR, 1);
		assert_request(f, VIRTIO_BLK_T_OUT, past[i].sector, past[i].sectors * 512, 0,
			       VIRTIO_BLK_S_IOERR, 1);
	}
	assert_string_equal(fake_guest_said(&f->guest), "");
	assert_request(f, VIRTIO_BLK_T_IN, SECTORS - 1, 0, 512, VIRTIO_BLK_S_OK, 513);
}

static void test_past_the_end_strict(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	assert_request(f, VIRTIO_BLK_T_IN, SECTORS - 1, 0, 1024, VIRTIO_BLK_S_IOERR, 1);
	assert_false(machine_running(&f->guest.machine));
	assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
	assert_string_equal(f->guest.machine.why,
			    "block: queue 0: DEV-2: 2 sectors from 2047 on, but the disk has only "
			    "2048");
}

static void test_odd_lengths(void **state)
{
	static const u32 lengths[] = {1, 511, 513, 1023, 4095};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		assert_request(f, VIRTIO_BLK_T_IN, 0, 0, lengths[i], VIRTIO_BLK_S_IOERR, 1);
		assert_request(f, VIRTIO_BLK_T_OUT, 0, lengths[i], 0, VIRTIO_BLK_S_IOERR, 1);
	}
	assert_content(file_at(f, 0, 8192), 8192, 0);
}

static void test_flush(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	assert_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, 0, VIRTIO_BLK_S_OK, 1);
	/* It should be 0, and there should be no data. */
	assert_request(f, VIRTIO_BLK_T_FLUSH, UINT64_MAX, 100, 7, VIRTIO_BLK_S_OK, 1);
}

static void test_get_id(void **state)
{
	struct fixture *f = *state;
	struct request r;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	r = make(f, 0, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 21);
	assert_memory_equal(in_data(f, &r), "serial number\0\0\0\0\0\0\0", 20);
	r = make(f, 0, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 6);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 7);
	assert_memory_equal(in_data(f, &r), "serial", 6);
	r = make(f, 0, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 40);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 21);
	f->options.id = "01234567890123456789";
	r = make(f, 0, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 21);
	assert_memory_equal(in_data(f, &r), "01234567890123456789", 20);
	f->options.id = NULL;
	r = make(f, 0, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 21);
	assert_int_equal(in_data(f, &r)[0], 0);
}

static void test_unknown_types(void **state)
{
	static const u32 types[] = {
		2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 18, 20, 22, 24, 26, 0x80000000, 0xffffffff,
	};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_request(f, types[i], 0, 512, 512, VIRTIO_BLK_S_UNSUPP, 1);
	assert_content(file_at(f, 0, 4096), 4096, 0);
	/* What was not negotiated is not known either. */
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_request(f, VIRTIO_BLK_T_DISCARD, 0, 16, 0, VIRTIO_BLK_S_UNSUPP, 1);
	assert_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0, VIRTIO_BLK_S_UNSUPP, 1);
	assert_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, 0, VIRTIO_BLK_S_OK, 1);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | F(RO));
	assert_request(f, VIRTIO_BLK_T_IN, 0, 0, 512, VIRTIO_BLK_S_OK, 513);
	assert_request(f, VIRTIO_BLK_T_OUT, 0, 512, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_OUT, 0, 0, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_FLUSH, 0, 0, 0, VIRTIO_BLK_S_OK, 1);
	assert_request(f, VIRTIO_BLK_T_DISCARD, 0, 16, 0, VIRTIO_BLK_S_UNSUPP, 1);
	assert_content(file_at(f, 0, 4096), 4096, 0);
}

/* Discard and write-zeroes */

struct segments {
	unsigned count;
	struct virtio_blk_discard_write_zeroes list[17];
};

static void assert_segments(struct fixture *f, u32 type, const struct segments *s, u8 status)
{
	const struct request r = make(f, 0, type, 0, s->list, s->count * sizeof(s->list[0]), 0);

	assert_done(f, &r, status, 1);
}

static void assert_zeroes(struct fixture *f, u64 sector, u64 sectors)
{
	const u8 *data = file_at(f, sector * 512, sectors * 512);

	for (u64 i = 0; i < sectors * 512; i++)
		assert_int_equal(data[i], 0);
}

static void test_write_zeroes(void **state)
{
	struct fixture *f = *state;
	struct segments s = {3, {{1, 2, 0}, {10, 1, 1}, {SECTORS - 40, 40, 0}}};

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	assert_segments(f, VIRTIO_BLK_T_WRITE_ZEROES, &s, VIRTIO_BLK_S_OK);
	assert_content(file_at(f, 0, 512), 512, 0);
	assert_zeroes(f, 1, 2);
	assert_content(file_at(f, 3 * 512, 7 * 512), 7 * 512, 3 * 512);
	assert_zeroes(f, 10, 1);
	assert_content(file_at(f, 11 * 512, 512), 512, 11 * 512);
	assert_zeroes(f, SECTORS - 40, 40);
	s = (struct segments){1, {{20, 0, 0}}};
	assert_segments(f, VIRTIO_BLK_T_WRITE_ZEROES, &s, VIRTIO_BLK_S_OK);
	assert_content(file_at(f, 20 * 512, 512), 512, 20 * 512);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	struct segments s = {2, {{16, 1024, 0}, {SECTORS - 8, 8, 0}}};
	struct stat before, after;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	fsync(f->fd);
	assert_int_equal(fstat(f->fd, &before), 0);
	assert_segments(f, VIRTIO_BLK_T_DISCARD, &s, VIRTIO_BLK_S_OK);
	fsync(f->fd);
	assert_int_equal(fstat(f->fd, &after), 0);
	assert_true(after.st_blocks <= before.st_blocks - 1024);
	assert_content(file_at(f, 15 * 512, 512), 512, 15 * 512);
	assert_content(file_at(f, (16 + 1024) * 512, 512), 512, (16 + 1024) * 512);
}

/* The last of several is wrong: then none is done. */
static void test_wrong_segments(void **state)
{
	static const struct {
		struct virtio_blk_discard_write_zeroes segment;
		u8 zeroes, discard;
	} wrong[] = {
		{{SECTORS, 1, 0}, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR},
		{{SECTORS - 1, 2, 0}, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR},
		{{UINT64_MAX, 2, 0}, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR},
		{{0, UINT32_MAX, 0}, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR},
		{{0, 1, 2}, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_UNSUPP},
		{{0, 1, 0x80000001}, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_UNSUPP},
		{{0, 1, 1}, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP},
	};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct segments s = {2, {{8, 8, 0}, wrong[i].segment}};

		assert_segments(f, VIRTIO_BLK_T_DISCARD, &s, wrong[i].discard);
		if (wrong[i].zeroes != VIRTIO_BLK_S_OK)
			assert_segments(f, VIRTIO_BLK_T_WRITE_ZEROES, &s, wrong[i].zeroes);
		assert_content(file_at(f, 0, 16 * 512), 16 * 512, 0);
	}
	/* Of a wrong length: none, a part of one, too many. */
	assert_request(f, VIRTIO_BLK_T_DISCARD, 0, 0, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 15, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 17, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_DISCARD, 0, 17 * 16, 0, VIRTIO_BLK_S_IOERR, 1);
	assert_request(f, VIRTIO_BLK_T_DISCARD, 0, 16 * 16, 0, VIRTIO_BLK_S_OK, 1);
}

/* Framing: each type of request, cut in every way */

struct framed {
	struct fixture *f;
	struct request_bytes {
		struct virtio_blk_outhdr header;
		u8 data[2 * 512];
	} out;
	u32 in_len; /* of data */
	u8 status;
	u32 used;
};

#define FRAMED_AT 40 /* in sectors */

/* The file is as it was in the beginning. */
static void restore(void *opaque)
{
	struct framed *framed = opaque;
	u8 data[4 * 512];

	fill(data, sizeof(data), FRAMED_AT * 512);
	assert_int_equal(pwrite(framed->f->fd, data, sizeof(data), FRAMED_AT * 512), sizeof(data));
}

static bool has_done(const struct framed *framed, const u8 *written)
{
	static const u8 id[20] = "serial number";
	const u8 *file = file_at(framed->f, FRAMED_AT * 512, 2 * 512);
	u8 before[2 * 512];

	fill(before, sizeof(before), FRAMED_AT * 512);
	if (framed->status == VIRTIO_BLK_S_OK) {
		switch (framed->out.header.type) {
		case VIRTIO_BLK_T_IN:
			return !memcmp(written, before, framed->in_len);
		case VIRTIO_BLK_T_OUT:
			return !memcmp(file, framed->out.data, sizeof(framed->out.data));
		case VIRTIO_BLK_T_GET_ID:
			return !memcmp(written, id, sizeof(id));
		case VIRTIO_BLK_T_WRITE_ZEROES:
			memset(before + 512, 0, 512);
			break;
		case VIRTIO_BLK_T_DISCARD:
			return true;
		}
	}
	return !memcmp(file, before, sizeof(before));
}

static bool check_framed(void *opaque, const u8 *written, u32 used)
{
	const struct framed *framed = opaque;

	return used == framed->used && written[framed->in_len] == framed->status &&
	       has_done(framed, written);
}

static void test_framing(void **state)
{
	static const struct virtio_blk_discard_write_zeroes segments[] = {{FRAMED_AT + 1, 1, 0},
									  {FRAMED_AT + 4, 1, 0}};
	static const struct {
		u32 type, out_len, in_len;
		u64 sector;
		u8 status;
		u32 used;
	} cases[] = {
		{VIRTIO_BLK_T_IN, 0, 2 * 512, FRAMED_AT, VIRTIO_BLK_S_OK, 2 * 512 + 1},
		{VIRTIO_BLK_T_IN, 0, 2 * 512, SECTORS - 1, VIRTIO_BLK_S_IOERR, 1},
		{VIRTIO_BLK_T_OUT, 2 * 512, 0, FRAMED_AT, VIRTIO_BLK_S_OK, 1},
		{VIRTIO_BLK_T_OUT, 2 * 512, 0, SECTORS - 1, VIRTIO_BLK_S_IOERR, 1},
		{VIRTIO_BLK_T_FLUSH, 0, 0, 0, VIRTIO_BLK_S_OK, 1},
		{VIRTIO_BLK_T_GET_ID, 0, 20, 0, VIRTIO_BLK_S_OK, 21},
		{VIRTIO_BLK_T_DISCARD, sizeof(segments), 0, 0, VIRTIO_BLK_S_OK, 1},
		{VIRTIO_BLK_T_WRITE_ZEROES, sizeof(segments), 0, 0, VIRTIO_BLK_S_OK, 1},
		{VIRTIO_BLK_T_SECURE_ERASE, sizeof(segments), 9, 0, VIRTIO_BLK_S_UNSUPP, 1},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const u32 header = sizeof(struct virtio_blk_outhdr);
		struct framed framed = {
			.f = f,
			.out.header = {.type = cases[i].type, .sector = cases[i].sector},
			.in_len = cases[i].in_len,
			.status = cases[i].status,
			.used = cases[i].used,
		};
		const struct framing framing = {
			.features = WRITABLE,
			.readable = &framed.out,
			.readable_len = header + cases[i].out_len,
			.writable_len = cases[i].in_len + 1,
			.readable_edges = {header, cases[i].out_len > 512 ? header + 512 : 0},
			.writable_edges = {cases[i].in_len, cases[i].in_len > 512 ? 512 : 0},
			.prepare = restore,
			.check = check_framed,
			.opaque = &framed,
		};

		fill(framed.out.data, sizeof(framed.out.data), i + 99);
		if (cases[i].out_len == sizeof(segments))
			memcpy(framed.out.data, segments, sizeof(segments));
		assert_true(frame_every_way(&f->guest, &framing) > 6);
	}
	assert_false(is_broken(f));
}

/* Violations */

static void test_no_room(void **state)
{
	static const struct {
		u32 readable, writable;
	} wrong[] = {{15, 1}, {16, 0}, {0, 1}, {0, 513}, {528, 0}, {1, 1}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct fake_driver *driver = &f->guest.queues[0];
		struct fake_buffer buffers[2];
		unsigned count = 0;

		bring_up(&f->guest, STAGE_LIVE, WRITABLE);
		if (wrong[i].readable)
			buffers[count++] = fake_readable(driver, NULL, wrong[i].readable);
		if (wrong[i].writable)
			buffers[count++] = fake_writable(driver, wrong[i].writable);
		fake_driver_add(driver, buffers, count);
		submit(&f->guest, 0);
		AWAIT(is_broken(f));
		/* The status comes before the words; after a reset, both have come. */
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		assert_non_null(strstr(fake_guest_said(&f->guest),
				       "block: queue 0: DEV-2: request at head 0 has "));
		/* It serves nothing, and is as good as new after a reset. */
		assert_int_equal(driver->used->idx, 0);
		bring_up(&f->guest, STAGE_LIVE, WRITABLE);
		assert_request(f, VIRTIO_BLK_T_IN, 0, 0, 512, VIRTIO_BLK_S_OK, 513);
	}
}

/* Several queues */

static void test_two_queues(void **state)
{
	struct fixture *f = *state;
	u32 written;

	bring_up(&f->guest, STAGE_LIVE, WRITABLE | F(MQ));
	for (unsigned i = 0; i < 100; i++) {
		const struct request a = make(f, 0, VIRTIO_BLK_T_IN, i, NULL, 0, 1024);
		const struct request b = make(f, 1, VIRTIO_BLK_T_IN, i + 100, NULL, 0, 512);

		submit_whole(f, 0, &a);
		submit_whole(f, 1, &b);
		assert_int_equal(complete(f, 1, &b, &written), VIRTIO_BLK_S_OK);
		assert_int_equal(written, 513);
		assert_int_equal(complete(f, 0, &a, &written), VIRTIO_BLK_S_OK);
		assert_int_equal(written, 1025);
		assert_content(in_data(f, &a), 1024, i * 512);
		assert_content(in_data(f, &b), 512, (i + 100) * 512);
	}
}

/* What a write of the device's is said to have touched covers what it has. */
static void note_written(void *opaque, u64 gpa, u64 len)
{
	memset((u8 *)opaque + gpa, 1, len);
}

static void test_writes_are_told(void **state)
{
	struct fixture *f = *state;
	static u8 told[FAKE_GUEST_RAM];
	struct fake_buffer buffers[4];
	struct request r;
	u16 head;

	f->guest.memory->written = note_written;
	f->guest.memory->written_opaque = told;
	bring_up(&f->guest, STAGE_LIVE, WRITABLE);
	r = make(f, 0, VIRTIO_BLK_T_IN, 0, NULL, 0, 1024);
	buffers[0] = (struct fake_buffer){r.out, r.out_len, false};
	buffers[1] = (struct fake_buffer){r.in, 100, true};
	buffers[2] = fake_writable(&f->guest.queues[0], 500);
	buffers[3] = (struct fake_buffer){r.in + 100, 1024 - 600 + 1, true};
	fake_driver_add(&f->guest.queues[0], buffers, 4);
	submit(&f->guest, 0);
	assert_int_equal(await_used(&f->guest, 0, &head), 1025);
	assert_false(told[r.out]);
	for (unsigned i = 1; i < 4; i++) {
		assert_false(told[buffers[i].gpa + buffers[i].len] && i != 1);
		for (unsigned j = 0; j < buffers[i].len; j++)
			assert_true(told[buffers[i].gpa + j]);
	}
	/* Of a write, the status. */
	r = make(f, 0, VIRTIO_BLK_T_OUT, 0, NULL, 512, 0);
	assert_done(f, &r, VIRTIO_BLK_S_OK, 1);
	assert_true(told[r.in]);
	assert_false(told[r.in - 1]);
	virtio_power_on(&f->block.virtio);
	f->guest.memory->written = NULL;
}

static const bool by_ring = false, by_hand = true;

#define BOTH_WAYS(test, setup)                                                                     \
	{#test " (io_uring)", test, setup, teardown, (void *)&by_ring},                            \
	{                                                                                          \
#test " (preadv)", test, setup, teardown, (void *)&by_hand                         \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_WAYS(test_features, setup),
		BOTH_WAYS(test_features_read_only, setup_read_only),
		BOTH_WAYS(test_config, setup),
		BOTH_WAYS(test_writeback, setup),
		BOTH_WAYS(test_read, setup),
		BOTH_WAYS(test_write, setup),
		BOTH_WAYS(test_past_the_end, setup),
		BOTH_WAYS(test_past_the_end_strict, setup_strict),
		BOTH_WAYS(test_odd_lengths, setup),
		BOTH_WAYS(test_flush, setup),
		BOTH_WAYS(test_get_id, setup),
		BOTH_WAYS(test_unknown_types, setup),
		BOTH_WAYS(test_read_only, setup_read_only),
		BOTH_WAYS(test_write_zeroes, setup),
		BOTH_WAYS(test_discard, setup),
		BOTH_WAYS(test_wrong_segments, setup),
		BOTH_WAYS(test_framing, setup),
		BOTH_WAYS(test_no_room, setup),
		BOTH_WAYS(test_two_queues, setup),
		BOTH_WAYS(test_writes_are_told, setup),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
