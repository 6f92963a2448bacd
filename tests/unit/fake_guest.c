/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a processor: see fake_guest.h.
 */
#include "fake_guest.h"

#include <assert.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUEUE_SIZE 16

/* Each queue has a MiB for its rings and buffers. */
static u64 queue_area(unsigned queue)
{
	return MiB(1) * (queue + 1);
}

void fake_guest_init(struct fake_guest *guest, bool strict)
{
	struct problem why;

	memset(guest, 0, sizeof(*guest));
	guest->machine.strict = strict;
	assert(!machine_init(&guest->machine));
	guest->memory = memory_new(FAKE_GUEST_RAM, &why);
	assert(guest->memory);
	guest->bus = bus_new();
	ioapic_init(&guest->ioapic, guest->bus);
	pci_init(&guest->pci, guest->bus, &guest->ioapic);
	fake_engine_init(&guest->engine);

	fflush(stderr);
	guest->saved_stderr = dup(STDERR_FILENO);
	guest->caught = memfd_create("stderr", MFD_CLOEXEC);
	dup2(guest->caught, STDERR_FILENO);
}

void fake_guest_power_on(struct fake_guest *guest)
{
	ioapic_reset(&guest->ioapic, &guest->engine.engine);
	pci_reset(&guest->pci, &guest->engine.engine);
}

void fake_guest_destroy_board(struct fake_guest *guest)
{
	pci_destroy(&guest->pci);
	ioapic_destroy(&guest->ioapic);
	bus_free(guest->bus);
}

void fake_guest_destroy(struct fake_guest *guest)
{
	dup2(guest->saved_stderr, STDERR_FILENO);
	close(guest->saved_stderr);
	/* What nobody asked for may be why a test failed. */
	fputs(fake_guest_said(guest), stderr);
	close(guest->caught);
	fake_engine_destroy(&guest->engine);
	memory_free(guest->memory);
	machine_destroy(&guest->machine);
}

const char *fake_guest_said(struct fake_guest *guest)
{
	ssize_t n = pread(guest->caught, guest->said, sizeof(guest->said) - 1, 0);

	guest->said[n > 0 ? n : 0] = '\0';
	assert(!ftruncate(guest->caught, 0));
	lseek(guest->caught, 0, SEEK_SET);
	return guest->said;
}

struct pci_device *fake_guest_device(struct fake_guest *guest)
{
	return guest->pci.devices[FAKE_GUEST_SLOT];
}

static u64 bar_base(struct fake_guest *guest, unsigned bar)
{
	return pci_config_read(fake_guest_device(guest), PCI_BASE_ADDRESS_0 + bar * 4, 4) &
	       PCI_BASE_ADDRESS_MEM_MASK;
}

u64 fake_guest_read(struct fake_guest *guest, unsigned bar, u64 offset, unsigned len)
{
	return bus_read(guest->bus, MEMORY, bar_base(guest, bar) + offset, len);
}

void fake_guest_write(struct fake_guest *guest, unsigned bar, u64 offset, unsigned len, u64 value)
{
	bus_write(guest->bus, MEMORY, bar_base(guest, bar) + offset, len, value);
}

static unsigned field_width(unsigned field)
{
	switch (field) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT ... VIRTIO_PCI_COMMON_Q_NOFF:
	case VIRTIO_PCI_COMMON_Q_NDATA:
	case VIRTIO_PCI_COMMON_Q_RESET:
		return 2;
	default:
		return 4;
	}
}

u32 common_get(struct fake_guest *guest, unsigned field)
{
	return fake_guest_read(guest, 0, REGISTERS_COMMON + field, field_width(field));
}

void common_set(struct fake_guest *guest, unsigned field, u32 value)
{
	fake_guest_write(guest, 0, REGISTERS_COMMON + field, field_width(field), value);
}

u32 queue_get(struct fake_guest *guest, unsigned queue, unsigned field)
{
	common_set(guest, VIRTIO_PCI_COMMON_Q_SELECT, queue);
	return common_get(guest, field);
}

void queue_set(struct fake_guest *guest, unsigned queue, unsigned field, u32 value)
{
	common_set(guest, VIRTIO_PCI_COMMON_Q_SELECT, queue);
	common_set(guest, field, value);
}

u8 status_get(struct fake_guest *guest)
{
	return common_get(guest, VIRTIO_PCI_COMMON_STATUS);
}

void status_add(struct fake_guest *guest, u8 bits)
{
	common_set(guest, VIRTIO_PCI_COMMON_STATUS, status_get(guest) | bits);
}

u64 offered_features(struct fake_guest *guest)
{
	u64 features;

	common_set(guest, VIRTIO_PCI_COMMON_DFSELECT, 1);
	features = common_get(guest, VIRTIO_PCI_COMMON_DF);
	common_set(guest, VIRTIO_PCI_COMMON_DFSELECT, 0);
	return features << 32 | common_get(guest, VIRTIO_PCI_COMMON_DF);
}

void accept_features(struct fake_guest *guest, u64 features)
{
	common_set(guest, VIRTIO_PCI_COMMON_GFSELECT, 0);
	common_set(guest, VIRTIO_PCI_COMMON_GF, features);
	common_set(guest, VIRTIO_PCI_COMMON_GFSELECT, 1);
	common_set(guest, VIRTIO_PCI_COMMON_GF, features >> 32);
}

void queue_lay_out(struct fake_guest *guest, unsigned queue, u16 size, u64 features)
{
	fake_driver_init(&guest->queues[queue], guest->memory, queue_area(queue), MiB(1), size,
			 features);
}

void queue_place(struct fake_guest *guest, unsigned queue)
{
	const struct fake_driver *driver = &guest->queues[queue];

	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_SIZE, driver->size);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_DESCLO, driver->desc_gpa);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_DESCHI, driver->desc_gpa >> 32);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_AVAILLO, driver->avail_gpa);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_AVAILHI, driver->avail_gpa >> 32);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_USEDLO, driver->used_gpa);
	queue_set(guest, queue, VIRTIO_PCI_COMMON_Q_USEDHI, driver->used_gpa >> 32);
}

void bring_up(struct fake_guest *guest, enum stage stage, u64 features)
{
	const unsigned queues = MIN(common_get(guest, VIRTIO_PCI_COMMON_NUMQ), FAKE_GUEST_QUEUES);

	common_set(guest, VIRTIO_PCI_COMMON_STATUS, 0);
	if (stage >= STAGE_ACKNOWLEDGED)
		status_add(guest, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	if (stage >= STAGE_DRIVER)
		status_add(guest, VIRTIO_CONFIG_S_DRIVER);
	if (stage >= STAGE_FEATURES) {
		accept_features(guest, features);
		status_add(guest, VIRTIO_CONFIG_S_FEATURES_OK);
		assert(status_get(guest) & VIRTIO_CONFIG_S_FEATURES_OK);
	}
	for (unsigned i = 0; stage >= STAGE_QUEUES && i < queues; i++) {
		queue_lay_out(guest, i, QUEUE_SIZE, features);
		queue_place(guest, i);
		if (pci_msix_enabled(fake_guest_device(guest)))
			queue_set(guest, i, VIRTIO_PCI_COMMON_Q_MSIX, i + 1);
		queue_set(guest, i, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	}
	if (stage >= STAGE_LIVE)
		status_add(guest, VIRTIO_CONFIG_S_DRIVER_OK);
}

void notify(struct fake_guest *guest, unsigned queue)
{
	fake_guest_write(guest, 0, REGISTERS_NOTIFY + queue * 4, 2, queue);
}

void submit(struct fake_guest *guest, unsigned queue)
{
	if (fake_driver_publish(&guest->queues[queue]))
		notify(guest, queue);
}

u32 await_used(struct fake_guest *guest, unsigned queue, u16 *head)
{
	u32 written;

	for (unsigned tries = 0; !fake_driver_take(&guest->queues[queue], head, &written);
	     tries++) {
		assert(tries < 20000);
		usleep(tries < 100 ? 20 : 1000);
	}
	return written;
}

void enable_msix(struct fake_guest *guest, unsigned vectors)
{
	struct pci_device *device = fake_guest_device(guest);
	const unsigned control = device->msix.capability + PCI_MSIX_FLAGS;

	for (unsigned i = 0; i < vectors; i++) {
		fake_guest_write(guest, 1, i * PCI_MSIX_ENTRY_SIZE, 4, FAKE_MSI_ADDRESS);
		fake_guest_write(guest, 1, i * PCI_MSIX_ENTRY_SIZE + 4, 4, 0);
		fake_guest_write(guest, 1, i * PCI_MSIX_ENTRY_SIZE + 8, 4, FAKE_MSI_DATA + i);
		fake_guest_write(guest, 1, i * PCI_MSIX_ENTRY_SIZE + 12, 4, 0);
	}
	pci_config_write(device, control, 2, PCI_MSIX_FLAGS_ENABLE);
}
