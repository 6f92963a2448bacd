/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device under a mad driver (virtio_world.h), in front of disks
 * in memory: one that io_uring serves, one that we serve ourselves, one that may only be
 * read, one past the host's cache. Each ends with bytes that are no whole sector.
 *
 * Whatever is asked of them, the disks never change their length, nor those last
 * bytes, nor, if they may only be read, anything. And where the driver was polite enough
 * that we know what it named, no sector changes that was in none of its requests.
 */
#include "virtio_world.h"

#include "virtio/block.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTORS	  64
#define TAIL	  100
#define DISK_SIZE (SECTORS * DISK_SECTOR + TAIL)
#define QUEUES	  2

/* Where in its own bytes a request has them; list and status are larger than they must be. */
#define HEADER_AT 0
#define LIST_AT	  16
#define STATUS_AT 63

enum variant { RING, SYNCHRONOUS, READ_ONLY, DIRECT, VARIANTS };

struct fuzzed {
	struct world world;
	struct disk disk;
	struct disk_options options;
	struct block block;
	char file[32];
	int fd;
	u8 *content;		/* of the file, mapped */
	u8 expected[DISK_SIZE]; /* when nothing was written */
	bool named[SECTORS];	/* a request has, so that it may have changed */
};

static struct fuzzed *fuzzed_of(struct world *world)
{
	return container_of(world, struct fuzzed, world);
}

static u64 features(u8 choice)
{
	u64 wanted = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE;

	wanted |= choice & 1 ? 0 : 1ull << VIRTIO_BLK_F_FLUSH;
	wanted |= choice & 2 ? 0 : 1ull << VIRTIO_BLK_F_DISCARD;
	wanted |= choice & 4 ? 0 : 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	wanted |= choice & 8 ? 1ull << VIRTIO_BLK_F_CONFIG_WCE : 0;
	wanted |= choice & 16 ? 1ull << VIRTIO_BLK_F_MQ : 0;
	return wanted | 1ull << VIRTIO_BLK_F_RO;
}

static void name_sectors(struct fuzzed *fuzzed, u64 first, u64 count)
{
	for (u64 i = first; i < SECTORS && i - first < count; i++)
		fuzzed->named[i] = true;
}

/* Often near the end of the disk, and now and then far beyond. */
static u64 take_sector(struct input *input)
{
	const u8 sector = take(input, 1);

	if (sector < SECTORS)
		return sector;
	return sector < 0xf0 ? SECTORS - 4 + sector % 8 : -(u64)sector % 4 + (1ull << sector % 64);
}

/* Of a segment of a discard, or of a write-zeroes. */
static void request_segments(struct world *world, struct input *input, struct request *request)
{
	struct virtio_blk_discard_write_zeroes *list;
	const unsigned count = take(input, 1) % 3;

	list = take_private(world, request, LIST_AT, 2 * sizeof(*list), false);
	for (unsigned i = 0; i < count; i++) {
		list[i] = (struct virtio_blk_discard_write_zeroes){
			.sector = take_sector(input),
			.num_sectors = take_sector(input),
			.flags = take(input, 1) % 4,
		};
		/* Told as what was asked for, even if the device will find fault with it. */
		name_sectors(fuzzed_of(world), list[i].sector, list[i].num_sectors);
	}
	request->buffers[request->count - 1].len = count * sizeof(*list);
}

static void request(struct world *world, struct input *input, unsigned queue,
		    struct request *request)
{
	static const u32 types[] = {
		VIRTIO_BLK_T_IN,    VIRTIO_BLK_T_OUT,	  VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_IN,    VIRTIO_BLK_T_GET_ID,
	};
	struct virtio_blk_outhdr *header;
	const u8 what = take(input, 1);
	u64 len = 0;

	(void)queue;
	header = take_private(world, request, HEADER_AT, sizeof(*header), false);
	*header = (struct virtio_blk_outhdr){.type = types[what % ARRAY_SIZE(types)],
					     .sector = take_sector(input)};
	if (what & 0x80)
		header->type = take(input, 1);
	if (header->type == VIRTIO_BLK_T_DISCARD || header->type == VIRTIO_BLK_T_WRITE_ZEROES)
		request_segments(world, input, request);
	else
		take_buffers(request, input, header->type != VIRTIO_BLK_T_OUT, WORLD_BUFFERS - 2);
	for (unsigned i = 1; i < request->count; i++)
		len += request->buffers[i].len;
	if (header->type == VIRTIO_BLK_T_OUT)
		name_sectors(fuzzed_of(world), header->sector, len / DISK_SECTOR + 1);
	*(u8 *)take_private(world, request, STATUS_AT, 1, true) = 0xff;
}

static void completed(struct world *world, unsigned queue, const struct request *request,
		      u32 written)
{
	const u8 status = world->memory->base[request->gpa + STATUS_AT];

	(void)queue;
	MUST(status <= VIRTIO_BLK_S_UNSUPP && written);
	MUST(status == VIRTIO_BLK_S_OK || written == 1);
}

/* The write cache goes on and off. */
static void step(struct world *world, struct input *input, u8 what)
{
	(void)what;
	bar_write(world, 0x2000 + offsetof(struct virtio_blk_config, wce), 1, take(input, 1) & 1);
}

static bool may_have_changed(const struct fuzzed *fuzzed, unsigned sector)
{
	return !fuzzed->disk.read_only && (fuzzed->world.was_wild || fuzzed->named[sector]);
}

static void at_rest(struct world *world)
{
	struct fuzzed *fuzzed = fuzzed_of(world);
	struct stat st;

	MUST(!fstat(fuzzed->fd, &st) && st.st_size == DISK_SIZE);
	for (unsigned i = 0; i < SECTORS; i++) {
		u8 *content = fuzzed->content + (size_t)i * DISK_SECTOR;
		const u8 *expected = fuzzed->expected + (size_t)i * DISK_SECTOR;

		if (!memcmp(content, expected, DISK_SECTOR))
			continue;
		MUST(may_have_changed(fuzzed, i));
		memcpy(content, expected, DISK_SECTOR);
	}
	MUST(!memcmp(fuzzed->content + DISK_SIZE - TAIL, fuzzed->expected + DISK_SIZE - TAIL,
		     TAIL));
	memset(fuzzed->named, 0, sizeof(fuzzed->named));
}

static u8 ask(struct world *world, u32 type, u64 sector, const struct fake_buffer *data)
{
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	struct fake_buffer buffers[3] = {{PRIVATE, sizeof(header), false}};
	unsigned count = 1;
	u8 *status = world->memory->base + PRIVATE + STATUS_AT;

	memcpy(world->memory->base + PRIVATE, &header, sizeof(header));
	*status = 0xff;
	if (data)
		buffers[count++] = *data;
	buffers[count++] = (struct fake_buffer){PRIVATE + STATUS_AT, 1, true};
	MUST(world_ask(world, sector % QUEUES, buffers, count) >= 1);
	return *status;
}

static void must_work(struct world *world)
{
	struct fuzzed *fuzzed = fuzzed_of(world);
	const struct fake_buffer out = {DATA, DISK_SECTOR, false};
	const struct fake_buffer in = {DATA + KiB(4), DISK_SECTOR, true};
	const u64 sector = SECTORS - 1;

	memset(world->memory->base + out.gpa, 0x5a, out.len);
	if (fuzzed->disk.read_only) {
		MUST(ask(world, VIRTIO_BLK_T_OUT, sector, &out) == VIRTIO_BLK_S_IOERR);
		memcpy(world->memory->base + out.gpa, fuzzed->expected + sector * DISK_SECTOR,
		       DISK_SECTOR);
	} else {
		fuzzed->named[sector] = true;
		MUST(ask(world, VIRTIO_BLK_T_OUT, sector, &out) == VIRTIO_BLK_S_OK);
		MUST(ask(world, VIRTIO_BLK_T_FLUSH, 0, NULL) == VIRTIO_BLK_S_OK);
	}
	MUST(ask(world, VIRTIO_BLK_T_IN, sector, &in) == VIRTIO_BLK_S_OK);
	MUST(!memcmp(world->memory->base + in.gpa, world->memory->base + out.gpa, DISK_SECTOR));
}

static const struct fuzzed_ops ops = {
	.queues = QUEUES,
	.lines = 2, /* the violation, and that the guest gave up; a disk in memory has no errors */
	.features = features,
	.request = request,
	.completed = completed,
	.step = step,
	.at_rest = at_rest,
	.must_work = must_work,
};

static void make_file(struct fuzzed *fuzzed)
{
	for (unsigned i = 0; i < DISK_SIZE; i++)
		fuzzed->expected[i] = 1 + (i / DISK_SECTOR * 7 + i) % 255;
	fuzzed->fd = memfd_create("disk", MFD_CLOEXEC);
	MUST(fuzzed->fd >= 0 &&
	     write(fuzzed->fd, fuzzed->expected, DISK_SIZE) == (ssize_t)DISK_SIZE);
	fuzzed->content = mmap(NULL, DISK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fuzzed->fd, 0);
	MUST(fuzzed->content != MAP_FAILED);
	snprintf(fuzzed->file, sizeof(fuzzed->file), "/proc/self/fd/%d", fuzzed->fd);
}

static struct fuzzed *build(enum variant variant)
{
	struct fuzzed *fuzzed = calloc(1, sizeof(*fuzzed));
	struct problem why;

	MUST(fuzzed);
	world_init(&fuzzed->world, &ops);
	make_file(fuzzed);
	fuzzed->options = (struct disk_options){.file = fuzzed->file,
						.id = "the id of this disk",
						.read_only = variant == READ_ONLY,
						.direct = variant == DIRECT};
	/* Not every kernel has direct access to files in memory. */
	if (disk_open(&fuzzed->disk, &fuzzed->options, &why)) {
		MUST(variant == DIRECT);
		fuzzed->options.direct = false;
		MUST(!disk_open(&fuzzed->disk, &fuzzed->options, &why));
	}
	fuzzed->disk.synchronous = variant == SYNCHRONOUS;
	MUST(!block_init(&fuzzed->block, &fuzzed->world.pci, WORLD_SLOT, &fuzzed->world.machine,
			 fuzzed->world.memory, &fuzzed->disk, QUEUES, &why));
	fuzzed->world.virtio = &fuzzed->block.virtio;
	return fuzzed;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed *fuzzed[VARIANTS];
	struct input input = {data, size};
	const unsigned variant = take(&input, 1) % VARIANTS;

	if (!fuzzed[variant])
		fuzzed[variant] = build(variant);
	world_run(&fuzzed[variant]->world, input.data, input.left);
	return 0;
}
