/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The common configuration structure (virtio: Common configuration structure
 * layout): 60 bytes by which a driver negotiates with a device and sets up its
 * queues.
 *
 * Most of this file is a driver being told what it may not do. What is left is a
 * table of fields, a function that reads one, and a function that writes one,
 * both with the transport lock held. A write that breaks a rule changes nothing, but for two: of
 * a status with several bits the good beginning stands, and a vector that the table
 * does not have becomes none. What status and queues do with all this is virtio/device.c's
 * business.
 *
 * Tour 4.130: What a driver may write, and when
 */
#include "virtio/transport.h"

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

/*
 * The field that this access means, or NULL with *violation filled.
 *
 * Tour 4.131: Which field is it?
 */
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

/*
 * VT-4. Whether the size must be a power of two depends on features that may not be settled yet:
 * a common driver may write it too early (VT-7). Then enabling the queue is the time to ask.
 */
static bool queue_size_fits(const struct virtio_queue *queue, u16 size, struct violation *violation)
{
	const struct virtio_device *device = queue->device;
	const bool split = device->status & VIRTIO_CONFIG_S_FEATURES_OK &&
			   !virtio_has(device, VIRTIO_F_RING_PACKED);

	if (size && size <= QUEUE_SIZE_MAX && (!split || is_power_of_two(size)))
		return true;
	return violation_set(violation, "queue %u: VT-4: queue_size %u, must be %s %u",
			     queue->index, size, split ? "a power of two up to" : "1 to",
			     QUEUE_SIZE_MAX);
}

static bool queue_size_write(struct virtio_queue *queue, u16 size, struct violation *violation)
{
	if (queue->enabled)
		return violation_set(violation,
				     "queue %u: VT-4: queue_size %u written while it is enabled",
				     queue->index, size);
	if (!queue_size_fits(queue, size, violation))
		return false;
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

/*
 * Most writes look like this one: what may be written, when, and then the deed. A violation is
 * a line for the user with the number of the rule in it.
 *
 * Tour 4.132: One rule after the other
 */
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
	    !virtio_has(device, VIRTIO_F_RING_RESET) &&
	    !violation_unless_lenient(device, violation, "queue %u: VT-6: enabled after DRIVER_OK",
				      queue->index))
		return false;
	if (queue->enabled)
		return true;
	return queue_size_fits(queue, queue->ring.size, violation) &&
	       virtio_enable_queue(queue, violation);
}

static bool queue_reset_write(struct virtio_queue *queue, u16 value, struct violation *violation)
{
	if (!virtio_has(queue->device, VIRTIO_F_RING_RESET) ||
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
 * reset, FAILED, selectors, vectors. A queue is taken down when that is asked for: Linux reads
 * queue_enable until it is 0, with nobody to tell it that this will not happen. The rest falls on
 * deaf ears; above all, no queue gets set up.
 *
 * Tour 4.133: Who is sulking, and still listens
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
	case VIRTIO_PCI_COMMON_Q_RESET:
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

bool virtio_common_access(struct virtio_pci *pci, u64 offset, unsigned len, bool write, u32 *value,
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
