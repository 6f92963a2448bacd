/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio entropy device: see rng.h.
 *
 * The driver hands out empty buffers, we fill them, and that is the whole of the
 * protocol. The numbers come from getrandom(2), which needs no file: it works
 * behind a chroot, and with the sandbox shut.
 *
 * A chain may be of 4 GiB, which takes the host's generator many seconds. So it is
 * filled a piece at a time, with a look between two of them at whether anybody
 * wants the queue to stop.
 *
 * Tour 4.210
 */
#include "virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

#define RNG_CLASS 0xff0000 /* a device that fits no class (PCI-5) */

/* Bytes: a fraction of a millisecond of work, so that looking up costs next to nothing. */
#define PIECE KiB(64)

/* Bytes: a driver with many long chains hears after so many, and not after its terabyte. */
#define SIGNAL_AFTER MiB(1)

/* The used ring has no number for 4 GiB: the very last byte of a chain that long is left out. */
#define FILL_MAX UINT32_MAX

enum { QUEUE_REQUESTS, QUEUES }; /* virtio: Entropy Device: Virtqueues */

static bool must_stop(struct virtio_device *device)
{
	struct pollfd stop = {.fd = virtio_stop_fd(device, QUEUE_REQUESTS), .events = POLLIN};

	return poll(&stop, 1, 0) > 0;
}

/*
 * The only way in which this can fail for good is that the RAM is not there: pages of a kernel
 * that was mapped from its file, and the file was truncated. As anywhere else, that is the end.
 */
static bool fill_piece(struct virtio_device *device, u8 *at, size_t len)
{
	while (len) {
		const ssize_t filled = getrandom(at, len, 0);

		if (filled < 0 && errno == EINTR)
			continue;
		if (filled < 0) {
			machine_stop(device->machine, EXIT_CRASHED,
				     "%s: cannot get random numbers: %s", device->name,
				     strerror(errno));
			return false;
		}
		at += filled;
		len -= filled;
	}
	return true;
}

/*
 * How many bytes were filled: all there are, unless the queue is to stop. At least a piece,
 * because a buffer that comes back without a random byte in it is against the rules (virtio:
 * Device Requirements: Entropy Device: Device Operation).
 *
 * Tour 4.211
 */
static u32 fill(struct virtio_device *device, const struct chain *chain)
{
	u32 filled = 0;

	for (unsigned i = 0; i < chain->writable; i++) {
		const struct iovec *buffer = &chain->iov[chain->readable + i];
		const size_t room = MIN(buffer->iov_len, (size_t)(FILL_MAX - filled));

		for (size_t done = 0, piece; done < room; done += piece) {
			piece = MIN(room - done, PIECE);
			if (filled && must_stop(device))
				return filled;
			if (!fill_piece(device, (u8 *)buffer->iov_base + done, piece))
				return filled;
			filled += piece;
		}
	}
	return filled;
}

/*
 * A chain that was cut short by a stop is given back with what it got: a queue that only rests
 * while the device is no bus master goes on later where it was, and its driver still waits.
 *
 * Tour 4.212, 3 items: All of a virtio device
 */
static unsigned rng_serve(struct virtio_device *device, unsigned index)
{
	struct chain chain;
	u64 unsaid = 0;
	int taken;

	while ((taken = virtio_pop(device, index, &chain)) > 0) {
		const u32 filled = fill(device, &chain);

		queue_push(virtio_queue(device, index), &chain, filled);
		unsaid += filled;
		if (unsaid >= SIGNAL_AFTER) {
			virtio_signal(device, index);
			unsaid = 0;
		}
	}
	return taken ? WAIT_BROKEN : WAIT_KICK;
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.class_code = RNG_CLASS,
	.serve = rng_serve,
};

int rng_init(struct rng *rng, struct pci_bus *pci, unsigned slot, struct machine *machine,
	     const struct memory *memory, struct problem *why)
{
	static const enum queue_direction directions[QUEUES] = {QUEUE_IN};

	rng->virtio.ops = &rng_ops;
	return virtio_plug(&rng->virtio, pci, slot, machine, memory, directions, QUEUES, why);
}
