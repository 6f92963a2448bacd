/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What virtio/device.c, virtio/pci.c and virtio/common.c know of each other, and
 * nobody else.
 *
 * The locks, outermost first:
 *
 * - virtio_pci.lock, the transport lock: registers, and what a device does with
 *   them. It is held while waiting for a queue's thread to come to rest, so those
 *   threads never take it, nor does any function that a device may call from them.
 * - pci_device.lock, board/pci.c's: pci_ops.bar_moved() comes with it held.
 * - config_lock, interrupt_lock, notifier_lock, virtio_queue.lock: leaves, no two
 *   at once. A device's config_read() is called with config_lock held, so a lock
 *   that it takes must never be held across virtio_config_begin().
 *
 * No lock is held across anything that may send an interrupt.
 *
 * Tour 4.110: Three files and their locks
 */
#ifndef VIRTIO_TRANSPORT_H
#define VIRTIO_TRANSPORT_H

#include "virtio/virtio.h"

#include <linux/virtio_pci.h>
#include <pthread.h>
#include <stdatomic.h>

/* What a queue's thread does. */
enum queue_life {
	QUEUE_RESTS,
	QUEUE_RUNS,
	QUEUE_STOPS, /* was told to rest, and has not come to it */
	QUEUE_ENDS,  /* the device is unplugged */
};

/* virtio_queue.addresses: which areas the driver has named. */
enum queue_areas { AREA_DESC = 1, AREA_DRIVER = 2, AREA_DEVICE = 4, AREAS_ALL = 7 };

struct virtio_queue {
	struct virtio_device *device;
	unsigned index;
	struct queue ring;  /* while the thread runs, its own; else guarded by the transport lock */
	unsigned addresses; /* transport lock */
	_Atomic bool enabled;
	_Atomic u16 vector; /* of MSI-X, or VIRTIO_MSI_NO_VECTOR */
	int kick_fd, stop_fd;
	u64 kicks; /* taken from kick_fd so far */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic enum queue_life life; /* changes with `lock` held */

	/* pci.c's, under notifier_lock */
	bool notified; /* live: writes to its notification address should reach kick_fd directly */
	struct notifier *notifier; /* and this is how; NULL where the engine cannot */
};

struct virtio_pci {
	struct pci_device pci;
	struct virtio_device *device;
	unsigned window; /* where our capabilities begin in configuration space */
	unsigned access; /* where the last of them is: PCI_CFG */

	pthread_mutex_t lock; /* the transport lock */
	u32 device_feature_select, driver_feature_select;
	u16 queue_select;
	bool features_confirmed; /* the driver has read that FEATURES_OK stuck */
	u8 access_bar;		 /* the PCI_CFG capability's fields */
	u32 access_offset, access_length;
	u8 access_data[4];

	pthread_mutex_t config_lock;
	u8 generation;
	bool config_changed; /* and the driver has not read any of it since */

	pthread_mutex_t interrupt_lock;
	u8 isr;
	bool pin, settling; /* what pci.c was told last; somebody is telling it */
	_Atomic u16 config_vector;

	pthread_mutex_t notifier_lock;
	u64 base; /* of BAR 0 */
	bool mapped;
};

/* common.c */

#define VIRTIO_COMMON_LENGTH                                                                       \
	(VIRTIO_PCI_COMMON_Q_RESET + 2) /* bytes: queue_reset is the last field */

/* An access to the common configuration. False with *violation filled. No lock held. */
bool virtio_common_access(struct virtio_pci *pci, u64 offset, unsigned len, bool write, u32 *value,
			  struct violation *violation);

/* device.c: with the transport lock held. */

/*
 * The driver wrote device_status. False with *violation filled: a rule was broken. Of several bits
 * written at once, those that come before the broken rule are set by then, with all they entail.
 */
bool virtio_set_status(struct virtio_device *device, u8 value, struct violation *violation);

/* The driver wrote queue_enable, or queue_reset: the queue exists. */
bool virtio_enable_queue(struct virtio_queue *queue, struct violation *violation);
void virtio_reset_queue(struct virtio_queue *queue);

/* PCI-4: the bus master bit may have changed; the queues run or rest as it says now. */
void virtio_heed_bus_master(struct virtio_device *device);

/*
 * As violation_set(), for rules that only --strict knows: false under --strict and true without,
 * when the driver is to be taken in the obvious sense.
 */
bool violation_unless_lenient(const struct virtio_device *device, struct violation *violation,
			      const char *format, ...) PRINTF(3, 4);

/* pci.c */

/* -errno with *problem filled. The queues exist. */
int virtio_pci_plug(struct virtio_device *device, struct pci_bus *bus, unsigned slot,
		    struct problem *problem);
void virtio_pci_unplug(struct virtio_device *device);

/*
 * Registers, interrupts and status back to where they were at power-on. Transport lock
 * held, queues at rest; virtio_pci_settle() must follow without it.
 */
void virtio_pci_forget(struct virtio_pci *pci);

/*
 * Until virtio_pci_forget(), the device serves nothing; the status says why. False if
 * it was so already. Any thread.
 */
bool virtio_pci_break(struct virtio_pci *pci, u8 status_bit);

/* Have INTA# follow the ISR. No lock held. */
void virtio_pci_settle(struct virtio_pci *pci);

/* What a reset of the device does not touch is as at power-on, too: the PCI_CFG fields. */
void virtio_pci_power_on(struct virtio_pci *pci);

/* The queue has become live, or no longer is. Transport lock held. */
void virtio_pci_add_notifier(struct virtio_queue *queue);
void virtio_pci_remove_notifier(struct virtio_queue *queue);

/* Any thread, no lock held. Nothing before DRIVER_OK. */
void virtio_pci_interrupt_queue(struct virtio_queue *queue);
void virtio_pci_interrupt_config(struct virtio_pci *pci);

#endif
