/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver that has lost its mind, for any virtio device: the input is a list of
 * accesses to its registers, its configuration space and its rings, and of requests
 * that are nearly right, while the device's threads serve what they find. A fuzzer
 * of a device (fuzz_console.c and the like) says what its requests look like, what the
 * host does to it, and what must be true; the rest is here.
 *
 * No crash is the least of it. A device that was reset is at rest; one that is
 * broken says so in its status, and said it in a line; nothing but --strict
 * ends the machine; and after a power cycle it serves an honest driver, whatever
 * came before.
 *
 * Half of the inputs are polite: they make requests as odd as they like, but never
 * write to registers or RAM behind the driver's back. What such a driver asked for is
 * known, and so what the device must not have done.
 */
#ifndef FUZZ_VIRTIO_WORLD_H
#define FUZZ_VIRTIO_WORLD_H

#include "fake_driver.h"
#include "input.h"

#include "board/bus.h"
#include "board/ioapic.h"
#include "board/pci.h"
#include "engine/engine.h"
#include "virtio/transport.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define WORLD_RAM     KiB(128)
#define WORLD_QUEUES  2
#define WORLD_BUFFERS 8 /* of one request */
#define WORLD_SLOT    1

/* Each queue's rings and tables; then what a request has for itself; the rest is data. */
#define RINGS_SIZE    KiB(8)
#define PRIVATE	      (WORLD_QUEUES * RINGS_SIZE)
#define PRIVATE_SIZE  64
#define DATA	      KiB(32)
#define DATA_SIZE     (WORLD_RAM - DATA)
#define QUEUE_ENTRIES 16 /* at most */

struct world;

struct request {
	u64 gpa; /* PRIVATE_SIZE bytes of its own, for headers and the like */
	struct fake_buffer buffers[WORLD_BUFFERS];
	unsigned count;
};

struct fuzzed_ops {
	unsigned queues;
	unsigned lines; /* that a device may cost the user in one life */

	/* Which features of the device's own to accept. NULL: none. */
	u64 (*features)(u8 choice);

	/* Fill in what the driver asks for. */
	void (*request)(struct world *world, struct input *input, unsigned queue,
			struct request *request);

	/* A request came back to a driver that has done no wrong. May be NULL. */
	void (*completed)(struct world *world, unsigned queue, const struct request *request,
			  u32 written);

	/* Something that the host does, or a register that only this device has. May be NULL. */
	void (*step)(struct world *world, struct input *input, u8 what);

	/* After each step: whoever is behind the device has a moment. May be NULL. */
	void (*moment)(struct world *world);

	/* The device is at rest, before and after an input: look at the back end, tidy it up. May
	   be NULL. */
	void (*at_rest)(struct world *world);

	/* The device is up, with a driver that behaves: make requests, and see to it that they are
	   served. */
	void (*must_work)(struct world *world);
};

struct world {
	const struct fuzzed_ops *ops;
	struct virtio_device *virtio;
	struct engine engine;
	struct machine machine;
	struct memory *memory;
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	int notifiers; /* that the engine has */

	struct fake_driver drivers[WORLD_QUEUES];
	struct request requests[WORLD_QUEUES][QUEUE_ENTRIES]; /* by head */

	/* Each byte of DATA, since the last time at rest: a polite driver has lent it to the device
	   to write to; the device has said that it wrote there (guest_ram_written()). */
	bool lent[DATA_SIZE], told[DATA_SIZE];
	bool polite;
	bool wild;     /* registers or RAM may be anything: not as the driver thinks */
	bool was_wild; /* since the last time at rest */
};

/*
 * A world without a device, built once: what a guest did, a power cycle must undo. Then the device
 * is plugged in at WORLD_SLOT, and world->virtio set.
 */
void world_init(struct world *world, const struct fuzzed_ops *ops);

/* One input, from power-on to power-off. */
void world_run(struct world *world, const u8 *data, size_t size);

/* What is printed meanwhile is counted. */
unsigned world_lines(void);

u64 bar_read(struct world *world, u64 offset, unsigned len);
void bar_write(struct world *world, u64 offset, unsigned len, u64 value);

/* Append buffers after the input's taste, in DATA or beside it, at most `max`. */
void take_buffers(struct request *request, struct input *input, bool writable, unsigned max);

/* Append `len` bytes of the request's own. */
void *take_private(struct world *world, struct request *request, unsigned offset, u32 len,
		   bool writable);

/* must_work(): make this request, wait until it is served; bytes written. */
u32 world_ask(struct world *world, unsigned queue, const struct fake_buffer *buffers,
	      unsigned count);

#endif
