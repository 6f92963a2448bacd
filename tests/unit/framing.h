/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VQ-10 for tests of devices: one request, cut into descriptors in every way, and
 * each time the device must do the same.
 *
 * Every way is: split rings and packed ones; as ordinary descriptors, as an indirect
 * table and (split) as one descriptor and then a table; what is readable and what is
 * writable each in as many pieces as fit into six together. A short buffer is cut
 * between any two of its bytes. A long one is cut where that may matter: after its
 * first byte, before its last, and just before, at and just after the places that the
 * test names, where a header ends or a status begins.
 *
 * The pieces lie apart in RAM, with bytes between them that nobody may touch; and none is
 * aligned to anything.
 */
#ifndef FRAMING_H
#define FRAMING_H

#include "fake_guest.h"

#define FRAMING_PIECES 6
#define FRAMING_EDGES  2

struct framing {
	unsigned queue;
	u64 features; /* to negotiate, besides VERSION_1, INDIRECT_DESC and RING_PACKED */

	/* The request: what the device reads, and how much it may write. 0: nothing of that sort.
	 */
	const void *readable;
	u32 readable_len, writable_len;
	u32 readable_edges[FRAMING_EDGES], writable_edges[FRAMING_EDGES]; /* offsets; 0: none */

	/* Before each request is made. May be NULL. */
	void (*prepare)(void *opaque);
	/*
	 * The device has used it, and wrote `used` bytes of the writable_len at `written`. False:
	 * not what it ought to be; the test fails, and is told which way it was cut.
	 */
	bool (*check)(void *opaque, const u8 *written, u32 used);
	void *opaque;
};

/*
 * Run it, bringing the device up (from reset to DRIVER_OK) for each kind of ring. Returns in how
 * many ways.
 */
unsigned frame_every_way(struct fake_guest *guest, const struct framing *framing);

#endif
