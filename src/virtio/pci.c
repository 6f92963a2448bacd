/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over PCI, the modern kind: the registers by which a driver finds out
 * what a device is, sets up its queues, rings its bell, and hears from it.
 *
 * All registers lie in BAR 0, a page for each kind, and can be reached through
 * configuration space as well (virtio: PCI configuration access capability), for
 * firmware that has no BARs yet. What a register does to the life of the device
 * is virtio/device.c's business; configuration space and MSI-X are board/pci.c's.
 *
 * Most of this file is a driver being told what it may not do. The pattern: a
 * handler works with the transport lock held, and where a rule was broken it
 * fills in a struct violation and changes nothing; whoever called it lets go of
 * the lock, and only then reports, because a report may send an interrupt.
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
#define COMMON_LENGTH	  (VIRTIO_PCI_COMMON_Q_RESET + 2)
#define NOTIFY_MULTIPLIER 4 /* PCI-8: an address for each queue */
#define NOTIFY_LENGTH	  2 /* bytes: virtio: Available Buffer Notifications */

#define ACCESS_DATA VIRTIO_PCI_NOTIFY_CAP_MULT /* pci_cfg_data, after the capability proper */

static bool device_has(const struct virtio_device *device, unsigned feature)
{
	return device->accepted >> feature & 1;
}

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

static void send_vector(struct virtio_pci *pci, u16 vector)
{
	if (vector != VIRTIO_MSI_NO_VECTOR)
		pci_msix_send(&pci->pci, vector);
}

/* virtio: Used Buffer Notifications */
void virtio_pci_interrupt_queue(struct virtio_queue *queue)
{
	struct virtio_pci *pci = queue->device->pci;

	if (pci_msix_enabled(&pci->pci))
		send_vector(pci, queue->vector);
	else if (isr_set(pci, ISR_QUEUE))
		virtio_pci_settle(pci);
}

/*
 * virtio: Notification of Device Configuration Changes. The ISR tells of these with MSI-X as well (virtio: ISR
 * status capability); the wire stays quiet then, board/pci.c sees to that.
 */
void virtio_pci_interrupt_config(struct virtio_pci *pci)
{
	if (!isr_set(pci, ISR_CONFIG))
		return;
	virtio_pci_settle(pci);
	send_vector(pci, pci->config_vector);
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
 * VT-10. Only what the engine did not catch comes here: 32-bit notifications, all of
 * them on an engine that catches none, and those that should not have been sent. No
 * lock: a queue that is just being reset will not mind one kick more.
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

/* The common configuration structure */

/* VT-9: each field has one width; 64-bit addresses are two fields. */
static const struct field {
	u8 offset, width;
	const char *name;
	bool read_only, of_queue;
} fields[] = {
	{VIRTIO_PCI_COMMON_DFSELECT, 4, "device_feature_select", false, false},
	{VIRTIO_PCI_COMMON_DF, 4, "device_feature", true, false},
	{VIRTIO_PCI_COMMON_GFSELECT, 4, "driver_feature_select", false, false},
	{VIRTIO_PCI_COMMON_GF, 4, "driver_feature", false, false},
	{VIRTIO_PCI_COMMON_MSIX, 2, "config_msix_vector", false, false},
	{VIRTIO_PCI_COMMON_NUMQ, 2, "num_queues", true, false},
	{VIRTIO_PCI_COMMON_STATUS, 1, "device_status", false, false},
	{VIRTIO_PCI_COMMON_CFGGENERATION, 1, "config_generation", true, false},
	{VIRTIO_PCI_COMMON_Q_SELECT, 2, "queue_select", false, false},
	{VIRTIO_PCI_COMMON_Q_SIZE, 2, "queue_size", false, true},
	{VIRTIO_PCI_COMMON_Q_MSIX, 2, "queue_msix_vector", false, true},
	{VIRTIO_PCI_COMMON_Q_ENABLE, 2, "queue_enable", false, true},
	{VIRTIO_PCI_COMMON_Q_NOFF, 2, "queue_notify_off", true, true},
	{VIRTIO_PCI_COMMON_Q_DESCLO, 4, "queue_desc", false, true},
	{VIRTIO_PCI_COMMON_Q_DESCHI, 4, "queue_desc (high)", false, true},
	{VIRTIO_PCI_COMMON_Q_AVAILLO, 4, "queue_driver", false, true},
	{VIRTIO_PCI_COMMON_Q_AVAILHI, 4, "queue_driver (high)", false, true},
	{VIRTIO_PCI_COMMON_Q_USEDLO, 4, "queue_device", false, true},
	{VIRTIO_PCI_COMMON_Q_USEDHI, 4, "queue_device (high)", false, true},
	{VIRTIO_PCI_COMMON_Q_NDATA, 2, "queue_notif_config_data", true, true},
	{VIRTIO_PCI_COMMON_Q_RESET, 2, "queue_reset", false, true},
};

/* The field that this access means, or NULL with *violation filled. */
static const struct field *field_at(u64 offset, unsigned len, const char *verb,
				    struct violation *violation)
{
	for (const struct field *field = fields; field < fields + ARRAY_SIZE(fields); field++) {
		if (offset < field->offset || offset >= field->offset + field->width)
			continue;
		if (offset == field->offset && len == field->width)
			return field;
		violation_set(violation, "VT-9: %s: %u bytes at its byte %u %s, is %u bytes wide",
			      field->name, len, (unsigned)offset - field->offset, verb,
			      field->width);
		return NULL;
	}
	violation_set(violation,
		      "VT-9: %u bytes %s at 0x%llx, past the end of the common configuration", len,
		      verb, (unsigned long long)offset);
	return NULL;
}

static struct virtio_queue *selected_queue(struct virtio_pci *pci)
{
	if (pci->queue_select >= pci->device->queue_count)
		return NULL;
	return &pci->device->queues[pci->queue_select];
}

/* 32 of 64 bits, as a selector asks: there are no more yet (VT-3). */
static u32 feature_word(u64 features, u32 select)
{
	return select > 1 ? 0 : features >> select * 32;
}

/* VT-5: of a queue that there is not, nothing is known but that its size is 0. */
static u32 queue_field_read(struct virtio_pci *pci, const struct field *field)
{
	const struct virtio_queue *queue = selected_queue(pci);

	if (!queue)
		return field->offset == VIRTIO_PCI_COMMON_Q_MSIX ? VIRTIO_MSI_NO_VECTOR : 0;
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return queue->ring.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return queue->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return queue->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return queue->index;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return queue->ring.desc;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return queue->ring.desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return queue->ring.driver;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return queue->ring.driver >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return queue->ring.used;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return queue->ring.used >> 32;
	default:
		/*
		 * queue_notif_config_data exists only with a feature that we do not
		 * offer; queue_reset is 1 only while the write to it has not returned,
		 * and whoever reads meanwhile waits for the lock.
		 */
		return 0;
	}
}

static u8 generation_read(struct virtio_pci *pci)
{
	u8 generation;

	pthread_mutex_lock(&pci->config_lock);
	generation = pci->generation;
	pthread_mutex_unlock(&pci->config_lock);
	return generation;
}

static bool may_read_features(const struct virtio_pci *pci, struct violation *violation)
{
	if (pci->device->status & VIRTIO_CONFIG_S_DRIVER)
		return true;
	return violation_unless_lenient(pci->device, violation,
					"VT-3: device_feature read before DRIVER");
}

static u8 status_read(struct virtio_pci *pci)
{
	u8 status = pci->device->status;

	if (status & VIRTIO_CONFIG_S_FEATURES_OK)
		pci->features_confirmed = true;
	return status;
}

static bool common_read(struct virtio_pci *pci, const struct field *field, u32 *value,
			struct violation *violation)
{
	if (field->of_queue) {
		*value = queue_field_read(pci, field);
		return true;
	}
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		*value = pci->device_feature_select;
		return true;
	case VIRTIO_PCI_COMMON_DF:
		*value = feature_word(pci->device->offered, pci->device_feature_select);
		return may_read_features(pci, violation);
	case VIRTIO_PCI_COMMON_GFSELECT:
		*value = pci->driver_feature_select;
		return true;
	case VIRTIO_PCI_COMMON_GF:
		*value = feature_word(pci->device->accepted, pci->driver_feature_select);
		return true;
	case VIRTIO_PCI_COMMON_MSIX:
		*value = pci->config_vector;
		return true;
	case VIRTIO_PCI_COMMON_NUMQ:
		*value = pci->device->queue_count;
		return true;
	case VIRTIO_PCI_COMMON_STATUS:
		*value = status_read(pci);
		return true;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		*value = generation_read(pci);
		return true;
	default: /* queue_select is what is left */
		*value = pci->queue_select;
		return true;
	}
}

static bool features_write(struct virtio_pci *pci, u32 value, struct violation *violation)
{
	struct virtio_device *device = pci->device;
	const u32 select = pci->driver_feature_select;
	const unsigned shift = select * 32;

	if (!(device->status & VIRTIO_CONFIG_S_DRIVER))
		return violation_set(violation, "VT-3: driver_feature 0x%x written before DRIVER",
				     value);
	if (device->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return violation_set(violation,
				     "VT-3: driver_feature 0x%x written after FEATURES_OK", value);
	if (select > 1)
		return !value ||
		       violation_set(violation,
				     "VT-3: driver_feature 0x%x at driver_feature_select %u, where "
				     "none was offered",
				     value, select);
	device->accepted = (device->accepted & ~(0xffffffffull << shift)) | (u64)value << shift;
	return true;
}

/*
 * The guest may name any vector; what the table does not have comes out as none, and it
 * is to look (PCI-7).
 */
static bool vector_check(struct virtio_pci *pci, u16 *vector, struct violation *violation)
{
	u16 wanted = *vector;

	if (wanted < pci->pci.msix.vectors || wanted == VIRTIO_MSI_NO_VECTOR)
		return true;
	*vector = VIRTIO_MSI_NO_VECTOR;
	return violation_unless_lenient(pci->device, violation,
					"VT-8: MSI-X vector %u, the table has %u", wanted,
					pci->pci.msix.vectors);
}

static bool queue_size_write(struct virtio_queue *queue, u16 size, struct violation *violation)
{
	if (queue->enabled)
		return violation_set(violation,
				     "queue %u: VT-4: queue_size %u written while it is enabled",
				     queue->index, size);
	if (!size || size & (size - 1) || size > QUEUE_SIZE_MAX)
		return violation_set(
			violation, "queue %u: VT-4: queue_size %u, must be a power of two up to %u",
			queue->index, size, QUEUE_SIZE_MAX);
	queue->ring.size = size;
	return true;
}

/* VT-9: the halves come in either order; one that is never written is 0. */
static bool queue_address_write(struct virtio_queue *queue, const struct field *field, u32 value,
				struct violation *violation)
{
	u64 *address;
	bool high = false;
	enum queue_areas area;

	if (queue->enabled)
		return violation_set(violation,
				     "queue %u: VT-7: %s 0x%x written while it is enabled",
				     queue->index, field->name, value);
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		high = true;
		/* fall through */
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		address = &queue->ring.desc;
		area = AREA_DESC;
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		high = true;
		/* fall through */
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		address = &queue->ring.driver;
		area = AREA_DRIVER;
		break;
	default:
		high = field->offset == VIRTIO_PCI_COMMON_Q_USEDHI;
		address = &queue->ring.used;
		area = AREA_DEVICE;
		break;
	}
	*address = high ? (u32)*address | (u64)value << 32 : (*address & ~0xffffffffull) | value;
	queue->addresses |= area;
	return true;
}

static bool queue_enable_write(struct virtio_queue *queue, u16 value, struct violation *violation)
{
	struct virtio_device *device = queue->device;

	if (value != 1)
		return violation_set(violation,
				     "queue %u: VT-6: queue_enable %u, only 1 may be written",
				     queue->index, value);
	if (!(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return violation_set(violation, "queue %u: VT-6: enabled before FEATURES_OK",
				     queue->index);
	if (device->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	    !device_has(device, VIRTIO_F_RING_RESET) &&
	    !violation_unless_lenient(device, violation, "queue %u: VT-6: enabled after DRIVER_OK",
				      queue->index))
		return false;
	return queue->enabled || virtio_enable_queue(queue, violation);
}

static bool queue_reset_write(struct virtio_queue *queue, u16 value, struct violation *violation)
{
	if (!device_has(queue->device, VIRTIO_F_RING_RESET) ||
	    !(queue->device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return violation_set(violation,
				     "queue %u: VT-14: queue_reset %u, but VIRTIO_F_RING_RESET was "
				     "not negotiated",
				     queue->index, value);
	if (value != 1)
		return violation_set(violation,
				     "queue %u: VT-14: queue_reset %u, only 1 may be written",
				     queue->index, value);
	virtio_reset_queue(queue);
	return true;
}

/*
 * When queues are set up: after the driver has seen that its features were accepted
 * (VT-2, VT-7). A vector may also be taken away from a device that was just reset, and
 * common drivers do. queue_enable has a sterner rule of its own.
 */
static bool queue_setup_allowed(struct virtio_pci *pci, const struct field *field,
				struct violation *violation)
{
	const struct virtio_device *device = pci->device;

	if (!(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return field->offset == VIRTIO_PCI_COMMON_Q_MSIX ||
		       field->offset == VIRTIO_PCI_COMMON_Q_ENABLE ||
		       violation_unless_lenient(device, violation,
						"queue %u: VT-7: %s written before FEATURES_OK",
						pci->queue_select, field->name);
	return pci->features_confirmed ||
	       violation_unless_lenient(
		       device, violation,
		       "queue %u: VT-2: %s written, but FEATURES_OK was not read back",
		       pci->queue_select, field->name);
}

static bool queue_field_write(struct virtio_pci *pci, const struct field *field, u32 value,
			      struct violation *violation)
{
	struct virtio_queue *queue = selected_queue(pci);
	u16 vector = value;
	bool fine;

	if (!queue)
		return violation_set(violation,
				     "queue %u: VT-5: %s 0x%x written, but there is none",
				     pci->queue_select, field->name, value);
	if (field->offset == VIRTIO_PCI_COMMON_Q_RESET)
		return queue_reset_write(queue, value, violation);
	if (!queue_setup_allowed(pci, field, violation))
		return false;
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return queue_size_write(queue, value, violation);
	case VIRTIO_PCI_COMMON_Q_MSIX:
		fine = vector_check(pci, &vector, violation);
		queue->vector = vector;
		return fine;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return queue_enable_write(queue, value, violation);
	default:
		return queue_address_write(queue, field, value, violation);
	}
}

/*
 * A broken device listens to what brings it back, or what is nobody else's business:
 * reset, FAILED, selectors, vectors. The rest falls on deaf ears; above all, no queue
 * gets set up.
 */
static bool heard_while_broken(const struct field *field)
{
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return true;
	default:
		return false;
	}
}

static bool common_write(struct virtio_pci *pci, const struct field *field, u32 value,
			 struct violation *violation)
{
	u16 vector = value;
	bool fine;

	if (pci->device->broken && !heard_while_broken(field))
		return true;
	if (field->read_only)
		return violation_set(violation, "VT-8: %s 0x%x written, is read-only", field->name,
				     value);
	if (field->of_queue)
		return queue_field_write(pci, field, value, violation);
	switch (field->offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		pci->device_feature_select = value;
		return true;
	case VIRTIO_PCI_COMMON_GFSELECT:
		pci->driver_feature_select = value;
		return true;
	case VIRTIO_PCI_COMMON_GF:
		return features_write(pci, value, violation);
	case VIRTIO_PCI_COMMON_MSIX:
		fine = vector_check(pci, &vector, violation);
		pci->config_vector = vector;
		return fine;
	case VIRTIO_PCI_COMMON_STATUS:
		return virtio_set_status(pci->device, value, violation);
	default: /* queue_select is what is left */
		pci->queue_select = value;
		return true;
	}
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

static bool common_access(struct virtio_pci *pci, u64 offset, unsigned len, bool write, u32 *value,
			  struct violation *violation)
{
	const struct field *field = field_at(offset, len, write ? "written" : "read", violation);
	bool fine;

	if (!field)
		return false;
	pthread_mutex_lock(&pci->lock);
	fine = write ? common_write(pci, field, *value, violation)
		     : common_read(pci, field, value, violation);
	pthread_mutex_unlock(&pci->lock);
	/* A reset has let go of the interrupt line. */
	if (write && field->offset == VIRTIO_PCI_COMMON_STATUS)
		virtio_pci_settle(pci);
	return fine;
}

static u64 registers_read(void *opaque, u64 offset, unsigned len)
{
	struct virtio_pci *pci = opaque;
	struct violation violation;
	bool fine;
	u64 value = 0;
	u32 word = 0;

	if (offset < ISR_OFFSET) {
		fine = common_access(pci, offset, len, false, &word, &violation);
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
		/* Nothing is said about reading these, so nothing is wrong with it. */
		fine = true;
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
		fine = common_access(pci, offset, len, true, &word, &violation);
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
		{COMMON_OFFSET, COMMON_LENGTH},
		{ISR_OFFSET, 1},
		{DEVICE_OFFSET, pci->device->ops->config_len},
		{NOTIFY_OFFSET, pci->device->queue_count * NOTIFY_MULTIPLIER},
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

static const struct pci_ops pci_ops = {window_read, window_write, bar_moved};

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
		.cap.length = pci->device->queue_count * NOTIFY_MULTIPLIER,
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

	pci->window = add_structure(pci, VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, COMMON_LENGTH);
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
