/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X: a device interrupts by writing a word to an address, and the guest says
 * which word and where, vector by vector, in a table inside one of the device's
 * BARs. The rules are those of the PCI Local Bus Specification 3.0, "MSI-X
 * Capability and Table Structures".
 *
 * A vector that may not be sent just now is not lost: its pending bit is set, and it
 * goes out when the last obstacle is gone. The obstacles are the vector's own mask
 * bit, the function's mask bit, and a bus master bit that is off: a message is a
 * write to memory by the device, and without that bit it may not write. With
 * MSI-X switched off there are no vectors, and nothing is pending for them.
 *
 * The rest of configuration space is pci.c's. Where the message ends up is the
 * engine's affair; it is called without any lock of ours.
 *
 * Tour 3.250
 */
#include "board/msix.h"

#include <assert.h>
#include <string.h>

/* The BAR: a page, so that a guest can map it; the table first, the pending bits after it. */
#define MSIX_BAR_SIZE	 PAGE_SIZE
#define MSIX_PBA_OFFSET	 0x800
#define MSIX_PBA_SIZE	 (PCI_MSIX_MAX / 8)
#define MSIX_NOBODY_READ (~0ull)

_Static_assert(PCI_MSIX_MAX *PCI_MSIX_ENTRY_SIZE <= MSIX_PBA_OFFSET,
	       "the table reaches into the PBA");
_Static_assert(PCI_MSIX_MAX <= 64, "pending bits are one u64");

static u16 msix_control(const struct pci_device *device)
{
	return pci_config_word(device, device->msix.capability + PCI_MSIX_FLAGS);
}

bool msix_enabled(const struct pci_device *device)
{
	return device->msix.vectors && (msix_control(device) & PCI_MSIX_FLAGS_ENABLE);
}

/* No obstacle that concerns all vectors. */
static bool function_may_send(const struct pci_device *device)
{
	return msix_enabled(device) && !(msix_control(device) & PCI_MSIX_FLAGS_MASKALL) &&
	       (pci_config_word(device, PCI_COMMAND) & PCI_COMMAND_MASTER);
}

static bool vector_masked(const struct pci_device *device, unsigned vector)
{
	return device->msix.table[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void outbox_add(struct msix_outbox *outbox, const struct msix_entry *entry)
{
	outbox->messages[outbox->count++] = (struct msix_message){entry->address, entry->data};
}

void msix_collect(struct pci_device *device, struct msix_outbox *outbox)
{
	if (!msix_enabled(device))
		device->msix.pending = 0;
	if (!device->msix.pending || !function_may_send(device))
		return;
	for (unsigned i = 0; i < device->msix.vectors; i++) {
		if (!(device->msix.pending & 1ull << i) || vector_masked(device, i))
			continue;
		device->msix.pending &= ~(1ull << i);
		outbox_add(outbox, &device->msix.table[i]);
	}
}

void msix_deliver(struct pci_device *device, const struct msix_outbox *outbox)
{
	struct engine *engine = device->pci->engine;

	for (unsigned i = 0; i < outbox->count; i++)
		engine->ops->msi(engine, outbox->messages[i].address, outbox->messages[i].data);
}

void msix_reset(struct pci_device *device)
{
	device->msix.pending = 0;
	for (unsigned i = 0; i < PCI_MSIX_MAX; i++)
		device->msix.table[i] = (struct msix_entry){.control = PCI_MSIX_ENTRY_CTRL_MASKBIT};
}

bool pci_msix_enabled(struct pci_device *device)
{
	bool enabled;

	pthread_mutex_lock(&device->lock);
	enabled = msix_enabled(device);
	pthread_mutex_unlock(&device->lock);
	return enabled;
}

/*
 * What every virtio device says when it is done. Whether the guest wants to hear it now is in
 * the table and in three bits elsewhere; if not, it is noted, and msix_collect() finds it as
 * soon as one of them changes.
 *
 * Tour 3.251: An interrupt is sent
 */
void pci_msix_send(struct pci_device *device, unsigned vector)
{
	struct msix_outbox outbox;

	outbox.count = 0; /* the rest is a kilobyte that need not be cleared for each interrupt */
	pthread_mutex_lock(&device->lock);
	if (vector < device->msix.vectors && msix_enabled(device)) {
		if (function_may_send(device) && !vector_masked(device, vector))
			outbox_add(&outbox, &device->msix.table[vector]);
		else
			device->msix.pending |= 1ull << vector;
	}
	pthread_mutex_unlock(&device->lock);
	msix_deliver(device, &outbox);
}

/*
 * One dword of the table or the pending bits; what is neither is reserved and reads 0. Lock held.
 */
static u32 read_dword(const struct pci_device *device, unsigned offset)
{
	unsigned vector = offset / PCI_MSIX_ENTRY_SIZE;
	const struct msix_entry *entry;

	if (offset >= MSIX_PBA_OFFSET && offset < MSIX_PBA_OFFSET + MSIX_PBA_SIZE)
		return device->msix.pending >> (8 * (offset - MSIX_PBA_OFFSET));
	if (vector >= device->msix.vectors)
		return 0;
	entry = &device->msix.table[vector];
	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return entry->address;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return entry->address >> 32;
	case PCI_MSIX_ENTRY_DATA:
		return entry->data;
	default:
		return entry->control;
	}
}

/* The pending bits are read-only, and so is what is reserved. Lock held. */
static void write_dword(struct pci_device *device, unsigned offset, u32 value)
{
	unsigned vector = offset / PCI_MSIX_ENTRY_SIZE;
	struct msix_entry *entry;

	if (vector >= device->msix.vectors)
		return;
	entry = &device->msix.table[vector];
	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		/*
		 * "For proper DWORD alignment, software must always write zeroes to these two bits"
		 */
		entry->address = (entry->address & ~0xffffffffull) | (value & ~3u);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		entry->address = (entry->address & 0xffffffffull) | (u64)value << 32;
		break;
	case PCI_MSIX_ENTRY_DATA:
		entry->data = value;
		break;
	default:
		entry->control = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
		break;
	}
}

/*
 * Software must use aligned dwords or qwords; of all else the result is undefined, and ours is
 * nothing.
 */
static bool well_formed(u64 offset, unsigned len)
{
	return (len == 4 || len == 8) && offset % len == 0;
}

static u64 table_read(void *opaque, u64 offset, unsigned len)
{
	struct pci_device *device = opaque;
	u64 value;

	if (!well_formed(offset, len))
		return MSIX_NOBODY_READ;
	pthread_mutex_lock(&device->lock);
	value = read_dword(device, offset);
	if (len == 8)
		value |= (u64)read_dword(device, offset + 4) << 32;
	pthread_mutex_unlock(&device->lock);
	return value;
}

static void table_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct pci_device *device = opaque;
	struct msix_outbox outbox;

	if (!well_formed(offset, len))
		return;
	outbox.count = 0;
	pthread_mutex_lock(&device->lock);
	write_dword(device, offset, value);
	if (len == 8)
		write_dword(device, offset + 4, value >> 32);
	msix_collect(device, &outbox);
	pthread_mutex_unlock(&device->lock);
	msix_deliver(device, &outbox);
}

static const struct region_ops table_ops = {.read = table_read, .write = table_write};

void pci_add_msix(struct pci_device *device, unsigned bar, unsigned vectors)
{
	u8 capability[PCI_CAP_MSIX_SIZEOF] = {
		[0] = PCI_CAP_ID_MSIX,
		[PCI_MSIX_FLAGS] = vectors - 1, /* "N-1 encoded" */
		[PCI_MSIX_TABLE] = bar,
		[PCI_MSIX_PBA] = bar | (MSIX_PBA_OFFSET & 0xff),
		[PCI_MSIX_PBA + 1] = MSIX_PBA_OFFSET >> 8,
	};

	assert(vectors >= 1 && vectors <= PCI_MSIX_MAX);
	device->msix.vectors = vectors;
	device->msix.capability = pci_add_capability(device, capability, sizeof(capability));
	device->writable[device->msix.capability + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	pci_set_bar(device, bar, MSIX_BAR_SIZE, &table_ops, device);
}
