/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio memory balloon: see balloon.h.
 *
 * A guest's RAM costs the host nothing until it is touched, and from then on for good: the
 * host cannot know that a page is free again. The driver can. With "free page reporting" it
 * hands us buffers that *are* its free pages, we let the host have them back, and the next
 * touch finds a new page of zeros. The balloon itself is never blown up.
 */
#include "balloon.h"

#include "host/log.h"

#include <inttypes.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <sys/mman.h>

#define BALLOON_CLASS 0xff0000 /* PCI: a device that fits no class */

/*
 * The standard (virtio: Memory Balloon Device: Virtqueues) has reports on the fifth queue. Linux
 * counts only the queues that it uses, and has them on the third. The two between belong to
 * features that are not offered: so whatever comes behind the second is a report.
 */
enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_REPORTS, QUEUES = 5 };

/*
 * The host takes whole pages, and a buffer begins and ends where the guest likes: round inwards.
 * What cannot be given back stays as it is, and nobody is worse off.
 */
static u64 give_back(const struct memory *memory, const struct iovec *buffer)
{
	const u64 begin = align_up((u64)buffer->iov_base, PAGE_SIZE);
	const u64 end = align_down((u64)buffer->iov_base + buffer->iov_len, PAGE_SIZE);
	/* RAM may be a file that the soft engine shares with others: that gets a hole. */
	const int how = memory->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;

	return begin < end && !madvise((void *)begin, end - begin, how) ? end - begin : 0;
}

static void take_report(struct virtio_device *device, const struct chain *chain)
{
	u64 bytes = 0;

	for (unsigned i = 0; i < chain->writable; i++)
		bytes += give_back(device->memory, &chain->iov[chain->readable + i]);
	log_verbose("%s: %" PRIu64 " KiB given back", device->name, bytes >> 10);
}

/*
 * On the queue's own thread, when the driver has made something available. It all comes back as
 * written: zeros are there now, and queue_push() tells an engine that had translated code there.
 */
static unsigned balloon_serve(struct virtio_device *device, unsigned index)
{
	struct chain chain;
	int taken;

	while ((taken = virtio_pop(device, index, &chain)) > 0) {
		if (index >= QUEUE_REPORTS)
			take_report(device, &chain);
		queue_push(virtio_queue(device, index), &chain,
			   MIN(chain.writable_len, UINT32_MAX));
	}
	return taken ? WAIT_BROKEN : WAIT_KICK;
}

/* How many pages we want in the balloon, and how many the driver says are there: none. */
static u64 balloon_config_read(struct virtio_device *device, unsigned offset, unsigned len)
{
	(void)device, (void)offset, (void)len;
	return 0;
}

/* The second number is the driver's to write. It tells us nothing. */
static bool balloon_config_write(struct virtio_device *device, unsigned offset, unsigned len,
				 u64 value)
{
	(void)device, (void)value;
	return offset == offsetof(struct virtio_balloon_config, actual) && len == sizeof(u32);
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.class_code = BALLOON_CLASS,
	.features = 1ull << VIRTIO_BALLOON_F_REPORTING,
	.config_len = offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.serve = balloon_serve,
};

int balloon_init(struct balloon *balloon, struct pci_bus *pci, unsigned slot,
		 struct machine *machine, const struct memory *memory, struct problem *why)
{
	static const enum queue_direction directions[QUEUES] = {QUEUE_OUT, QUEUE_OUT, QUEUE_IN,
								QUEUE_IN, QUEUE_IN};

	balloon->virtio.ops = &balloon_ops;
	return virtio_plug(&balloon->virtio, pci, slot, machine, memory, directions, QUEUES, why);
}
