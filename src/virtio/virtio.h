/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device, and what it needs from its transport.
 *
 * A device is one file. It fills in a struct virtio_ops and embeds a struct
 * virtio_device; virtio_plug() puts it on the PCI bus. The transport
 * (virtio/pci.c) is the registers; virtio/device.c is the life of a device:
 * status, features, one thread per queue, violations, interrupts.
 *
 * Tour 4.100: What a device is
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "board/pci.h"
#include "host/machine.h"
#include "virtio/queue.h"

#include <linux/virtio_config.h>

struct virtio_device;

/* What a queue waits for, after it was served. */
enum queue_wait {
	WAIT_KICK = 1,	 /* the driver to make more available: the ring is drained */
	WAIT_SOURCE = 2, /* the queue's source to become readable */
	WAIT_BROKEN = 4, /* nothing: virtio_violation() was called */
};

/*
 * Its names, and what it does when a queue has work: serve() is the one function that every
 * device must have. All else is for those who need it.
 *
 * Tour 4.101: What a device has to bring
 */
struct virtio_ops {
	const char *name;    /* "console" */
	u16 id;		     /* virtio: Device Types */
	u32 class_code;	     /* PCI class, subclass, interface: 0x078000 */
	u64 features;	     /* device-specific ones; those of the transport and ring are added */
	unsigned config_len; /* bytes of device configuration; 0: none */

	/*
	 * Serve the queue as far as it goes: pop, work, push. On the queue's own
	 * thread, after a notification or when the source is readable; must not block
	 * but where it also watches queue_stop_fd(). Returns what to wait for.
	 */
	unsigned (*serve)(struct virtio_device *device, unsigned queue);

	/*
	 * The queue is about to rest, and serve() will not be called until it runs again: await
	 * what is in flight and push it, or give it up. On the queue's own thread; the ring can
	 * still be used. When it returns, nothing of the guest's is touched any more. May be NULL.
	 */
	void (*rest)(struct virtio_device *device, unsigned queue);

	/* A descriptor that the queue's thread polls beside notifications, or -1. May be NULL. */
	int (*source)(struct virtio_device *device, unsigned queue);

	/*
	 * Device configuration, len 1, 2, 4 (or 8), aligned, inside config_len. No
	 * write: read-only. A read sees no change half done (virtio_config_begin()),
	 * and must not call virtio_*(). Any vCPU thread.
	 */
	u64 (*config_read)(struct virtio_device *device, unsigned offset, unsigned len);
	/* False: the field may not be written (a violation, VT-11). */
	bool (*config_write)(struct virtio_device *device, unsigned offset, unsigned len,
			     u64 value);

	/* Are these features consistent? May be NULL. VT-3. */
	bool (*features_ok)(struct virtio_device *device, u64 features);

	/* DRIVER_OK: `features` are settled, queues are about to be served. May be NULL. */
	void (*driver_ok)(struct virtio_device *device, u64 features);

	/* The queue, at rest, is about to be set up anew: what is held of it is void. May be NULL.
	 */
	void (*reset_queue)(struct virtio_device *device, unsigned queue);

	/* Forget the driver. Its queues are at rest. May be NULL. */
	void (*reset)(struct virtio_device *device);

	/* The device itself goes. May be NULL. */
	void (*destroy)(struct virtio_device *device);
};

struct virtio_queue; /* a struct queue, its thread and its eventfds: device.c's */
struct virtio_pci;   /* registers: pci.c's */

struct virtio_device {
	const struct virtio_ops *ops;
	struct machine *machine;
	const struct memory *memory;
	char name[16]; /* "console", "block1": for messages */
	unsigned queue_count;
	struct virtio_queue *queues;
	_Atomic u8 status;
	u64 offered;	     /* feature bits; a device may add its own before virtio_plug() */
	u64 accepted;	     /* what the driver wrote; settled once FEATURES_OK sticks */
	_Atomic bool broken; /* a violation was reported, until reset */
	_Atomic u64 lines;   /* what it has told the user, while lguest runs */
	struct virtio_pci *pci;
};

/* The driver has accepted this feature. */
static inline bool virtio_has(const struct virtio_device *device, unsigned feature)
{
	return device->accepted >> feature & 1;
}

/*
 * Make the device known to the PCI bus at that slot, with these queues (`directions` NULL: each
 * goes both ways), and start their threads (they rest until DRIVER_OK). `device->ops` is set.
 * -errno with *problem filled.
 */
int virtio_plug(struct virtio_device *device, struct pci_bus *pci, unsigned slot,
		struct machine *machine, const struct memory *memory,
		const enum queue_direction *directions, unsigned count, struct problem *problem);

/*
 * Power-on state: threads at rest, registers clear. No vCPU runs; the engine that did
 * run is still open, as notifiers are taken back from it.
 */
void virtio_power_on(struct virtio_device *device);

/*
 * After pci_destroy(), at rest: ends the threads and frees what virtio_plug() made;
 * calls ops->destroy().
 */
void virtio_unplug(struct virtio_device *device);

/* The ring of a queue, for serve(). */
struct queue *virtio_queue(struct virtio_device *device, unsigned queue);

/* Readable once the queue is to stop: poll it wherever serve() blocks. */
int virtio_stop_fd(struct virtio_device *device, unsigned queue);

/* queue_pop() for serve(): 1, 0, or -EPROTO after the violation was reported. */
int virtio_pop(struct virtio_device *device, unsigned queue, struct chain *chain);

/*
 * Interrupt the driver now, if it wants that for what was pushed since the last time. Whenever
 * serve() returns this is done; one that goes on for long, or waits, does it itself.
 */
void virtio_signal(struct virtio_device *device, unsigned queue);

/* How often the driver has notified this queue since it was plugged in. For that queue's thread. */
u64 virtio_kicks(struct virtio_device *device, unsigned queue);

/*
 * The driver broke a rule, as serve() found out. Reports it as the mode asks; the
 * caller returns WAIT_BROKEN (unless it was strict only).
 */
void virtio_violation(struct virtio_device *device, const struct violation *violation);

/*
 * Change device configuration between these two: no read comes in between, and after
 * the second there is a new generation, and an interrupt once DRIVER_OK. Any thread.
 */
void virtio_config_begin(struct virtio_device *device);
void virtio_config_changed(struct virtio_device *device);

#endif
