/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over PCI, the modern kind: where a driver finds the registers of a
 * device, rings its bell, and hears from it.
 *
 * All registers lie in BAR 0, a page for each kind, and can be reached through
 * configuration space as well (virtio: PCI configuration access capability), for
 * firmware that has no BARs yet. The largest of those pages, the common
 * configuration, is next door in virtio/common.c; configuration space itself and
 * MSI-X are board/pci.c's.
 *
 * A handler that finds a rule broken fills in a struct violation, and goes no further; it is
 * reported once no lock is held, because that may send an interrupt.
 *
 * Tour 4.120: Registers and bells
 */
#include "virtio/transport.h"

#include "engine/engine.h"
#include "host/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* virtio: PCI Device Discovery */
#define VIRTIO_PCI_VENDOR   0x1af4
#define VIRTIO_PCI_ID	    0x1040 /* plus the device's virtio id */
#define VIRTIO_PCI_REVISION 1

/* Bit 0 of the ISR status, for which <linux/virtio_pci.h> has no name. */
#define ISR_QUEUE  0x1
#define ISR_CONFIG VIRTIO_PCI_ISR_CONFIG

/* BAR 0: a page for each structure, so that each can be mapped, and noticed, alone. */
#define BAR_REGISTERS	  0
#define BAR_MSIX	  1
#define BAR_SIZE	  KiB(16)
#define COMMON_OFFSET	  0x0000
#define ISR_OFFSET	  0x1000
#define DEVICE_OFFSET	  0x2000
#define NOTIFY_OFFSET	  0x3000
#define NOTIFY_MULTIPLIER 4 /* PCI-8: an address for each queue */
#define NOTIFY_LENGTH	  2 /* bytes: virtio: Available Buffer Notifications */

#define ACCESS_DATA VIRTIO_PCI_NOTIFY_CAP_MULT /* pci_cfg_data, after the capability proper */

/* Interrupts */

/*
 * The pin is to follow the ISR. Telling pci.c may send an interrupt, so it is done
 * without the lock; one thread at a time does it, and goes on until what it told
 * last is still true, so that nobody's news is overtaken by older news.
 */
void virtio_pci_settle(struct virtio_pci *pci)
{
	pthread_mutex_lock(&pci->interrupt_lock);
	if (!pci->settling) {
		pci->settling = true;
		while (pci->pin != !!pci->isr) {
			bool asserted = pci->isr;

			pci->pin = asserted;
			pthread_mutex_unlock(&pci->interrupt_lock);
			pci_set_intx(&pci->pci, asserted);
			pthread_mutex_lock(&pci->interrupt_lock);
		}
		pci->settling = false;
	}
	pthread_mutex_unlock(&pci->interrupt_lock);
}

/* A device that was reset meanwhile has nothing to say: false. */
static bool isr_set(struct virtio_pci *pci, u8 bit)
{
	bool live;

	pthread_mutex_lock(&pci->interrupt_lock);
	live = pci->device->status & VIRTIO_CONFIG_S_DRIVER_OK;
	if (live)
		pci->isr |= bit;
	pthread_mutex_unlock(&pci->interrupt_lock);
	return live;
}

/*
 * virtio: Used Buffer Notifications. NO_VECTOR is one that no table has, and is not sent.
 *
 * Tour 4.121: The way back
 */
void virtio_pci_interrupt_queue(struct virtio_queue *queue)
{
	struct virtio_pci *pci = queue->device->pci;

	if (pci_msix_enabled(&pci->pci))
		pci_msix_send(&pci->pci, queue->vector);
	else if (isr_set(pci, ISR_QUEUE))
		virtio_pci_settle(pci);
}

/*
 * virtio: Notification of Device Configuration Changes. The ISR tells of these with
 * MSI-X as well (virtio: ISR status capability); the wire stays quiet then, board/pci.c
 * sees to that.
 */
void virtio_pci_interrupt_config(struct virtio_pci *pci)
{
	if (!isr_set(pci, ISR_CONFIG))
		return;
	virtio_pci_settle(pci);
	pci_msix_send(&pci->pci, pci->config_vector);
}

static u8 isr_read(struct virtio_pci *pci)
{
	u8 isr;

	pthread_mutex_lock(&pci->interrupt_lock);
	isr = pci->isr;
	pci->isr = 0;
	pthread_mutex_unlock(&pci->interrupt_lock);
	virtio_pci_settle(pci);
	return isr;
}

bool virtio_pci_break(struct virtio_pci *pci, u8 status_bit)
{
	bool was;

	pthread_mutex_lock(&pci->interrupt_lock);
	was = atomic_exchange(&pci->device->broken, true);
	if (!was || status_bit != VIRTIO_CONFIG_S_NEEDS_RESET)
		atomic_fetch_or(&pci->device->status, status_bit);
	pthread_mutex_unlock(&pci->interrupt_lock);
	return !was;
}

/* Notifications */

static u32 notify_length(const struct virtio_pci *pci)
{
	return pci->device->queue_count * NOTIFY_MULTIPLIER;
}

static u64 notify_offset(const struct virtio_queue *queue)
{
	return NOTIFY_OFFSET + queue->index * NOTIFY_MULTIPLIER;
}

/* With notifier_lock held, like the next three. */
static void notifier_place(struct virtio_pci *pci, struct virtio_queue *queue)
{
	struct engine *engine = pci->pci.pci->engine;

	if (!queue->notified || !pci->mapped || !engine || !engine->ops->on_write)
		return;
	queue->notifier = engine->ops->on_write(engine, pci->base + notify_offset(queue),
						NOTIFY_LENGTH, queue->kick_fd);
}

static void notifier_lift(struct virtio_pci *pci, struct virtio_queue *queue)
{
	struct engine *engine = pci->pci.pci->engine;

	if (queue->notifier)
		engine->ops->remove_notifier(engine, queue->notifier);
	queue->notifier = NULL;
}

void virtio_pci_add_notifier(struct virtio_queue *queue)
{
	struct virtio_pci *pci = queue->device->pci;

	pthread_mutex_lock(&pci->notifier_lock);
	if (!queue->notified) {
		queue->notified = true;
		notifier_place(pci, queue);
	}
	pthread_mutex_unlock(&pci->notifier_lock);
}

void virtio_pci_remove_notifier(struct virtio_queue *queue)
{
	struct virtio_pci *pci = queue->device->pci;

	pthread_mutex_lock(&pci->notifier_lock);
	queue->notified = false;
	notifier_lift(pci, queue);
	pthread_mutex_unlock(&pci->notifier_lock);
}

/* PCI-3: notification addresses move with the BAR. */
static void bar_moved(struct pci_device *device, unsigned bar, u64 base, bool mapped)
{
	struct virtio_pci *pci = container_of(device, struct virtio_pci, pci);

	if (bar != BAR_REGISTERS)
		return;
	pthread_mutex_lock(&pci->notifier_lock);
	pci->base = base;
	pci->mapped = mapped;
	for (unsigned i = 0; i < pci->device->queue_count; i++) {
		struct virtio_queue *queue = &pci->device->queues[i];

		notifier_lift(pci, queue);
		notifier_place(pci, queue);
	}
	pthread_mutex_unlock(&pci->notifier_lock);
}

/*
 * PCI-4. A queue's thread may be at sending an interrupt, which needs the lock of configuration
 * space: hence the hook, where we can wait for it. Two vCPUs that are at odds about the bit come
 * here one after the other, and the later acts on what both have left.
 */
static void bus_master_changed(struct pci_device *device)
{
	struct virtio_pci *pci = container_of(device, struct virtio_pci, pci);

	pthread_mutex_lock(&pci->lock);
	virtio_heed_bus_master(pci->device);
	pthread_mutex_unlock(&pci->lock);
}

/*
 * VT-10. Only what the engine did not catch comes here: 32-bit notifications, all of
 * them on an engine that catches none, and those that should not have been sent. No
 * lock: a queue that is just being reset will not mind one kick more.
 *
 * Tour 4.122: The bell
 */
static bool notify_write(struct virtio_pci *pci, u64 offset, unsigned len, u64 value,
			 struct violation *violation)
{
	struct virtio_device *device = pci->device;
	const unsigned index = offset / NOTIFY_MULTIPLIER;

	if ((len != 2 && len != 4) || offset % NOTIFY_MULTIPLIER)
		return violation_set(
			violation,
			"VT-10: notification of %u bytes at 0x%llx of the notification "
			"structure, must be 2 or 4 bytes at a multiple of %u",
			len, (unsigned long long)offset, NOTIFY_MULTIPLIER);
	if (index >= device->queue_count)
		return violation_set(violation, "queue %u: VT-10: notified, but there is none",
				     index);
	if (!(device->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return violation_set(violation, "queue %u: VT-10: notified before DRIVER_OK",
				     index);
	if (!device->queues[index].enabled)
		return violation_set(violation, "queue %u: VT-10: notified, but is not enabled",
				     index);
	if (value != index &&
	    !violation_unless_lenient(
		    device, violation,
		    "queue %u: VT-10: notified with value %llu, must be its index", index,
		    (unsigned long long)value))
		return false;
	eventfd_write(device->queues[index].kick_fd, 1);
	return true;
}

/* Device configuration */

static bool config_access_fits(const struct virtio_device *device, u64 offset, unsigned len,
			       const char *verb, struct violation *violation)
{
	if (offset % len == 0 && offset + len <= device->ops->config_len)
		return true;
	return violation_set(violation,
			     "VT-9: %u bytes %s at 0x%llx of the device configuration, must be "
			     "aligned and inside its %u bytes",
			     len, verb, (unsigned long long)offset, device->ops->config_len);
}

/*
 * virtio: Common configuration structure layout: the generation has changed after the
 * driver read a value that has. Counting reads after changes, not changes, keeps 8 bits
 * from wrapping round unseen.
 */
static u64 config_read(struct virtio_pci *pci, u64 offset, unsigned len)
{
	struct virtio_device *device = pci->device;
	u64 value;

	pthread_mutex_lock(&pci->config_lock);
	if (pci->config_changed)
		pci->generation++;
	pci->config_changed = false;
	value = device->ops->config_read(device, offset, len);
	pthread_mutex_unlock(&pci->config_lock);
	log_verbose("%s: %u bytes of configuration at 0x%llx read: 0x%llx", device->name, len,
		    (unsigned long long)offset, (unsigned long long)value);
	return value;
}

static bool config_write(struct virtio_pci *pci, u64 offset, unsigned len, u64 value,
			 struct violation *violation)
{
	struct virtio_device *device = pci->device;

	log_verbose("%s: %u bytes of configuration at 0x%llx written: 0x%llx", device->name, len,
		    (unsigned long long)offset, (unsigned long long)value);
	if (device->ops->config_write && device->ops->config_write(device, offset, len, value))
		return true;
	return violation_set(violation,
			     "VT-11: 0x%llx written at 0x%llx of the device configuration, is "
			     "read-only",
			     (unsigned long long)value, (unsigned long long)offset);
}

/* The regions of BAR 0 */

static bool past_end(u64 offset, unsigned len, const char *verb, struct violation *violation)
{
	return violation_set(violation,
			     "VT-9: %u bytes %s at 0x%llx of BAR 0, where no structure is", len,
			     verb, (unsigned long long)offset);
}

static u64 registers_read(void *opaque, u64 offset, unsigned len)
{
	struct virtio_pci *pci = opaque;
	struct violation violation;
	u64 value = 0;
	u32 word = 0;
	bool fine;

	if (offset < ISR_OFFSET) {
		fine = virtio_common_access(pci, offset, len, false, &word, &violation);
		value = word;
	} else if (offset < DEVICE_OFFSET) {
		fine = offset == ISR_OFFSET && len == 1;
		if (fine)
			value = isr_read(pci);
		else
			past_end(offset, len, "read", &violation);
	} else if (offset < NOTIFY_OFFSET) {
		fine = config_access_fits(pci->device, offset - DEVICE_OFFSET, len, "read",
					  &violation);
		if (fine)
			value = config_read(pci, offset - DEVICE_OFFSET, len);
	} else {
		/* Nothing is said about reading addresses of queues, so nothing is wrong. */
		fine = offset + len <= NOTIFY_OFFSET + notify_length(pci) ||
		       past_end(offset, len, "read", &violation);
	}
	if (!fine)
		virtio_violation(pci->device, &violation);
	return value;
}

static void registers_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct virtio_pci *pci = opaque;
	struct violation violation;
	u32 word = value;
	bool fine;

	if (offset < ISR_OFFSET)
		fine = virtio_common_access(pci, offset, len, true, &word, &violation);
	else if (offset == ISR_OFFSET)
		fine = violation_set(&violation, "VT-8: isr 0x%llx written, is read-only",
				     (unsigned long long)value);
	else if (offset < DEVICE_OFFSET)
		fine = past_end(offset, len, "written", &violation);
	else if (offset < NOTIFY_OFFSET)
		fine = config_access_fits(pci->device, offset - DEVICE_OFFSET, len, "written",
					  &violation) &&
		       config_write(pci, offset - DEVICE_OFFSET, len, value, &violation);
	else
		fine = notify_write(pci, offset - NOTIFY_OFFSET, len, value, &violation);
	if (!fine)
		virtio_violation(pci->device, &violation);
}

static const struct region_ops registers = {registers_read, registers_write};

/* The window in configuration space */

static u32 low_bytes(u32 value, unsigned len)
{
	return len < 4 ? value & ((1u << len * 8) - 1) : value;
}

/* VT-12: it looks only into what another capability names. */
static bool window_aims(const struct virtio_pci *pci, u32 offset, u32 len)
{
	const struct {
		u32 offset, len;
	} structures[] = {
		{COMMON_OFFSET, VIRTIO_COMMON_LENGTH},
		{ISR_OFFSET, 1},
		{DEVICE_OFFSET, pci->device->ops->config_len},
		{NOTIFY_OFFSET, notify_length(pci)},
	};

	if ((len != 1 && len != 2 && len != 4) || offset % len)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(structures); i++)
		if (offset >= structures[i].offset &&
		    (u64)offset + len <= (u64)structures[i].offset + structures[i].len)
			return true;
	return false;
}

/*
 * pci_cfg_data is touched: where does the window look? False: nowhere, and that has
 * been said if it had to be.
 */
static bool window_open(struct virtio_pci *pci, const char *verb, u32 *offset, u32 *len)
{
	struct violation violation;
	bool aims;
	u8 bar;

	pthread_mutex_lock(&pci->lock);
	bar = pci->access_bar;
	*offset = pci->access_offset;
	*len = pci->access_length;
	pthread_mutex_unlock(&pci->lock);

	aims = bar == BAR_REGISTERS && window_aims(pci, *offset, *len);
	log_verbose("%s: window on %u bytes at 0x%x of BAR %u %s%s", pci->device->name, *len,
		    *offset, bar, verb, aims ? "" : ": nothing there");
	if (!aims &&
	    !violation_unless_lenient(pci->device, &violation,
				      "VT-12: pci_cfg_data %s with length %u, offset 0x%x, "
				      "bar %u, where no structure is",
				      verb, *len, *offset, bar))
		virtio_violation(pci->device, &violation);
	return aims;
}

/*
 * virtio: PCI configuration access capability: what was read is kept, and shows in part
 * to narrower reads.
 */
static u32 window_data_read(struct virtio_pci *pci, unsigned at)
{
	u32 offset, len, value;

	if (!window_open(pci, "read", &offset, &len))
		return 0;
	value = registers_read(pci, offset, len);
	pthread_mutex_lock(&pci->lock);
	memcpy(pci->access_data, &value, len);
	memcpy(&value, pci->access_data, sizeof(value));
	pthread_mutex_unlock(&pci->lock);
	return value >> at * 8;
}

static void window_data_write(struct virtio_pci *pci, unsigned at, unsigned n, u32 written)
{
	u32 offset, len, value = 0;

	pthread_mutex_lock(&pci->lock);
	memcpy(pci->access_data + at, &written, n);
	pthread_mutex_unlock(&pci->lock);
	if (!window_open(pci, "written", &offset, &len))
		return;
	pthread_mutex_lock(&pci->lock);
	memcpy(&value, pci->access_data, len);
	pthread_mutex_unlock(&pci->lock);
	registers_write(pci, offset, len, value);
}

/*
 * The bytes of one of the capability's 32-bit fields, or of configuration space as
 * board/pci.c keeps it.
 */
static u32 window_read(struct pci_device *device, unsigned offset, unsigned len)
{
	struct virtio_pci *pci = container_of(device, struct virtio_pci, pci);
	const unsigned in_config = pci->window + offset;
	const unsigned dword = in_config & ~3u, at = in_config & 3u;
	u32 value;

	if (dword == pci->access + ACCESS_DATA)
		return low_bytes(window_data_read(pci, at), len);
	/* Capabilities are read-only: their bytes have not changed since they were put there. */
	memcpy(&value, device->config + dword, sizeof(value));
	pthread_mutex_lock(&pci->lock);
	if (dword == pci->access + VIRTIO_PCI_CAP_BAR)
		value = pci->access_bar;
	else if (dword == pci->access + VIRTIO_PCI_CAP_OFFSET)
		value = pci->access_offset;
	else if (dword == pci->access + VIRTIO_PCI_CAP_LENGTH)
		value = pci->access_length;
	pthread_mutex_unlock(&pci->lock);
	return low_bytes(value >> at * 8, len);
}

/*
 * VT-8: no field of a capability is written but these. Configuration space is often
 * written in dwords, and bar shares one with three bytes that must stay 0: writing 0
 * there changes nothing.
 */
static bool capability_write(struct virtio_pci *pci, unsigned in_config, unsigned len, u32 value,
			     struct violation *violation)
{
	const unsigned dword = in_config & ~3u, at = in_config & 3u;
	const u32 written = low_bytes(value, len);

	if (dword == pci->access + VIRTIO_PCI_CAP_BAR && !at && written <= 0xff) {
		pci->access_bar = written;
		return true;
	}
	if (dword == pci->access + VIRTIO_PCI_CAP_OFFSET) {
		memcpy((u8 *)&pci->access_offset + at, &written, len);
		return true;
	}
	if (dword == pci->access + VIRTIO_PCI_CAP_LENGTH) {
		memcpy((u8 *)&pci->access_length + at, &written, len);
		return true;
	}
	return violation_set(violation,
			     "VT-8: 0x%x written at 0x%x of configuration space, a read-only field "
			     "of a capability",
			     written, in_config);
}

static void window_write(struct pci_device *device, unsigned offset, unsigned len, u32 value)
{
	struct virtio_pci *pci = container_of(device, struct virtio_pci, pci);
	const unsigned in_config = pci->window + offset;
	struct violation violation;
	bool fine;

	if ((in_config & ~3u) == pci->access + ACCESS_DATA) {
		window_data_write(pci, in_config & 3u, len, value);
		return;
	}
	pthread_mutex_lock(&pci->lock);
	fine = capability_write(pci, in_config, len, value, &violation);
	pthread_mutex_unlock(&pci->lock);
	if (!fine)
		virtio_violation(pci->device, &violation);
}

static const struct pci_ops pci_ops = {
	.window_read = window_read,
	.window_write = window_write,
	.bar_moved = bar_moved,
	.bus_master_changed = bus_master_changed,
};

/* Coming and going */

static unsigned add_structure(struct virtio_pci *pci, u8 type, u32 offset, u32 length)
{
	const struct virtio_pci_cap capability = {
		.cap_vndr = PCI_CAP_ID_VNDR,
		.cap_len = sizeof(capability),
		.cfg_type = type,
		.bar = BAR_REGISTERS,
		.offset = offset,
		.length = length,
	};

	return pci_add_capability(&pci->pci, &capability, sizeof(capability));
}

static void add_notify(struct virtio_pci *pci)
{
	const struct virtio_pci_notify_cap capability = {
		.cap.cap_vndr = PCI_CAP_ID_VNDR,
		.cap.cap_len = sizeof(capability),
		.cap.cfg_type = VIRTIO_PCI_CAP_NOTIFY_CFG,
		.cap.bar = BAR_REGISTERS,
		.cap.offset = NOTIFY_OFFSET,
		.cap.length = notify_length(pci),
		.notify_off_multiplier = NOTIFY_MULTIPLIER,
	};

	pci_add_capability(&pci->pci, &capability, sizeof(capability));
}

/* PCI-6. The window covers all of them, so that we hear of writes to what is read-only. */
static void add_capabilities(struct virtio_pci *pci)
{
	const struct virtio_pci_cfg_cap access = {
		.cap.cap_vndr = PCI_CAP_ID_VNDR,
		.cap.cap_len = sizeof(access),
		.cap.cfg_type = VIRTIO_PCI_CAP_PCI_CFG,
	};

	pci->window =
		add_structure(pci, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, VIRTIO_COMMON_LENGTH);
	add_notify(pci);
	add_structure(pci, VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET, 1);
	if (pci->device->ops->config_len)
		add_structure(pci, VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET,
			      pci->device->ops->config_len);
	pci->access = pci_add_capability(&pci->pci, &access, sizeof(access));
	pci_add_window(&pci->pci, pci->window, pci->access + sizeof(access) - pci->window);
	pci_add_msix(&pci->pci, BAR_MSIX, pci->device->queue_count + 1);
}

int virtio_pci_plug(struct virtio_device *device, struct pci_bus *bus, unsigned slot,
		    struct problem *problem_)
{
	struct virtio_pci *pci = calloc(1, sizeof(*pci));
	int err;

	if (!pci)
		return problem(problem_, ENOMEM, "cannot make device %s: out of memory",
			       device->name);
	pci->device = device;
	device->pci = pci;
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->config_lock, NULL);
	pthread_mutex_init(&pci->interrupt_lock, NULL);
	pthread_mutex_init(&pci->notifier_lock, NULL);
	pci->config_vector = VIRTIO_MSI_NO_VECTOR;
	_Static_assert(VIRTIO_MSI_NO_VECTOR >= PCI_MSIX_MAX, "NO_VECTOR is a vector");

	pci_device_init(&pci->pci, device->name, &pci_ops, VIRTIO_PCI_VENDOR,
			VIRTIO_PCI_ID + device->ops->id, VIRTIO_PCI_REVISION,
			device->ops->class_code);
	pci_set_bar(&pci->pci, BAR_REGISTERS, BAR_SIZE, &registers, pci);
	add_capabilities(pci);
	err = pci_add(bus, &pci->pci, slot);
	if (err) {
		virtio_pci_unplug(device);
		return problem(problem_, -err, "cannot plug device %s into PCI slot %u: %s",
			       device->name, slot, strerror(-err));
	}
	return 0;
}

void virtio_pci_unplug(struct virtio_device *device)
{
	struct virtio_pci *pci = device->pci;

	device->pci = NULL;
	pthread_mutex_destroy(&pci->lock);
	pthread_mutex_destroy(&pci->config_lock);
	pthread_mutex_destroy(&pci->interrupt_lock);
	pthread_mutex_destroy(&pci->notifier_lock);
	free(pci);
}

void virtio_pci_forget(struct virtio_pci *pci)
{
	pci->device_feature_select = 0;
	pci->driver_feature_select = 0;
	pci->queue_select = 0;
	pci->features_confirmed = false;
	pci->config_vector = VIRTIO_MSI_NO_VECTOR;

	/* Under this lock, so that no interrupt of the old life finds its way into the new one. */
	pthread_mutex_lock(&pci->interrupt_lock);
	pci->isr = 0;
	atomic_store(&pci->device->status, 0);
	atomic_store(&pci->device->broken, false);
	pthread_mutex_unlock(&pci->interrupt_lock);
}

void virtio_pci_power_on(struct virtio_pci *pci)
{
	pthread_mutex_lock(&pci->lock);
	pci->access_bar = 0;
	pci->access_offset = 0;
	pci->access_length = 0;
	memset(pci->access_data, 0, sizeof(pci->access_data));
	pthread_mutex_unlock(&pci->lock);

	pthread_mutex_lock(&pci->config_lock);
	pci->generation = 0;
	pci->config_changed = false;
	pthread_mutex_unlock(&pci->config_lock);
}
