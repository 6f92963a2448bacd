/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI bus: 32 slots, and 256 bytes in each by which a guest finds out what is
 * plugged in, and decides where it is to answer.
 *
 * A guest reaches those bytes through two ports (PCI Local Bus Specification 3.0,
 * "Configuration Mechanism #1"): it writes an address to the one and reads or writes data at the
 * other. The bytes are an array here, with a second one that says which bits may be
 * written. After each write we look what became of it: BARs may have to move, an
 * interrupt that was held back may have to go out. That is all; there is no other
 * state than what the guest can read.
 *
 * A device's lock guards its bytes, and with them where its BARs are on the bus: two
 * vCPUs that move the same BAR do it one after the other. Interrupts are sent after
 * the lock was dropped. MSI-X is next door, in msix.c. What a device does inside its BARs is
 * not our concern.
 *
 * Tour 3.230
 */
#include "board/pci.h"

#include "board/layout.h"
#include "board/msix.h"
#include "host/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * The host bridge. No driver wants it; it must merely look like one to kernels that check
 * (class 06.00) before they believe in the mechanism. It has the vendor id that the virtio devices
 * have, because a chipset maker's would have kernels apply the cures for that maker's
 * chipsets. The device id is from the range that this vendor leaves to experiments,
 * 0x10F0 to 0x10FF, clear of the virtio devices' (0x1000 to 0x107F).
 */
#define BRIDGE_VENDOR 0x1af4
#define BRIDGE_DEVICE 0x10f0
#define BRIDGE_CLASS  0x060000

/* The address port. */
#define ADDRESS_ENABLE	    0x80000000u
#define ADDRESS_BUS(a)	    ((a) >> 16 & 0xff)
#define ADDRESS_SLOT(a)	    ((a) >> 11 & 0x1f)
#define ADDRESS_FUNCTION(a) ((a) >> 8 & 0x7)
#define ADDRESS_REGISTER(a) ((a)&0xfc)
#define ADDRESS_PORT_SIZE   4
#define DATA_PORT_SIZE	    4

#define COMMAND_WRITABLE (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define CONFIG_HEADER	 0x40 /* where capabilities may begin */
#define INTA		 1    /* value of PCI_INTERRUPT_PIN */

static void put_le(u8 *bytes, u32 value, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		bytes[i] = value >> (8 * i);
}

static u32 get_le(const u8 *bytes, unsigned len)
{
	u32 value = 0;

	for (unsigned i = 0; i < len; i++)
		value |= (u32)bytes[i] << (8 * i);
	return value;
}

static unsigned bar_offset(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* Interrupts */

static unsigned intx_pin(const struct pci_device *device)
{
	return GSI_INTX + device->slot % GSI_INTX_COUNT;
}

/*
 * Does the device pull its wire? It wants to, the guest lets it, and it does not use
 * MSI-X: "a function is prohibited from using its INTx# pin" then. Lock held.
 */
static bool intx_asserted(const struct pci_device *device)
{
	return device->intx && !msix_enabled(device) &&
	       !(pci_config_word(device, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
}

/*
 * Bring the wire in line with that. The IOAPIC may send, so our lock is not held when it is
 * told; somebody else may then tell it something newer before our news arrives. So
 * whoever told it looks again, and who spoke last is known to have been right.
 */
static void intx_update(struct pci_device *device)
{
	bool told, now;

	if (!device->config[PCI_INTERRUPT_PIN])
		return;
	pthread_mutex_lock(&device->lock);
	now = intx_asserted(device);
	pthread_mutex_unlock(&device->lock);
	do {
		told = now;
		ioapic_set(device->pci->ioapic, intx_pin(device), device->slot, told);
		pthread_mutex_lock(&device->lock);
		now = intx_asserted(device);
		pthread_mutex_unlock(&device->lock);
	} while (now != told);
}

void pci_set_intx(struct pci_device *device, bool asserted)
{
	pthread_mutex_lock(&device->lock);
	device->intx = asserted;
	pthread_mutex_unlock(&device->lock);
	intx_update(device);
}

/* BARs. The device's lock is held for these. */

static void bar_unmap(struct pci_device *device, unsigned index)
{
	struct pci_bar *bar = &device->bars[index];

	if (!bar->mapped)
		return;
	bus_remove(device->pci->bus, MEMORY, &bar->region);
	bar->mapped = false;
	if (device->ops && device->ops->bar_moved)
		device->ops->bar_moved(device, index, bar->region.base, false);
}

static void bar_map(struct pci_device *device, unsigned index)
{
	struct pci_bar *bar = &device->bars[index];

	bar->region.base = bar->base;
	bus_add(device->pci->bus, MEMORY, &bar->region);
	bar->mapped = true;
	if (device->ops && device->ops->bar_moved)
		device->ops->bar_moved(device, index, bar->base, true);
}

/*
 * PCI-3: the BARs are where configuration space says. A guest that sizes a BAR while it decodes
 * finds it at the top of memory for a moment: so does one on a real machine.
 */
static void bars_update(struct pci_device *device)
{
	bool decoding = pci_config_word(device, PCI_COMMAND) & PCI_COMMAND_MEMORY;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &device->bars[i];

		if (!bar->size)
			continue;
		bar->base = get_le(device->config + bar_offset(i), 4);
		if (!decoding || bar->base != bar->region.base)
			bar_unmap(device, i);
		if (decoding && !bar->mapped)
			bar_map(device, i);
	}
}

/* Configuration space */

static bool is_bus_master(const struct pci_device *device)
{
	return pci_config_word(device, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

bool pci_is_bus_master(struct pci_device *device)
{
	bool master;

	pthread_mutex_lock(&device->lock);
	master = is_bus_master(device);
	pthread_mutex_unlock(&device->lock);
	return master;
}

static bool in_window(const struct pci_device *device, unsigned offset)
{
	return offset - device->window < device->window_len;
}

u32 pci_config_read(struct pci_device *device, unsigned offset, unsigned len)
{
	u8 dword[4];

	if (in_window(device, offset))
		return device->ops->window_read(device, offset - device->window, len);

	pthread_mutex_lock(&device->lock);
	memcpy(dword, device->config + align_down(offset, 4), sizeof(dword));
	/* "Interrupt Status": what the device wants, whether or not the guest lets it. */
	if (align_down(offset, 4) == PCI_COMMAND && device->intx)
		dword[PCI_STATUS - PCI_COMMAND] |= PCI_STATUS_INTERRUPT;
	pthread_mutex_unlock(&device->lock);
	return get_le(dword + offset % 4, len);
}

/*
 * A guest writes some bytes of configuration space. Which bits of them take is in `writable`;
 * whatever else follows - BARs that move, interrupts that may go out at last - follows from
 * what the bytes are now, and not from what was written.
 *
 * Tour 3.231: A write, and what becomes of it
 */
void pci_config_write(struct pci_device *device, unsigned offset, unsigned len, u32 value)
{
	struct msix_outbox outbox;
	bool master, master_changed;

	if (in_window(device, offset)) {
		device->ops->window_write(device, offset - device->window, len, value);
		return;
	}

	outbox.count = 0;
	pthread_mutex_lock(&device->lock);
	master = is_bus_master(device);
	for (unsigned i = 0; i < len; i++) {
		u8 *byte = &device->config[offset + i], writable = device->writable[offset + i];

		*byte = (*byte & ~writable) | (value >> (8 * i) & writable);
	}
	master_changed = is_bus_master(device) != master;
	bars_update(device);
	msix_collect(device, &outbox);
	pthread_mutex_unlock(&device->lock);
	msix_deliver(device, &outbox);
	intx_update(device);
	if (master_changed && device->ops && device->ops->bus_master_changed)
		device->ops->bus_master_changed(device);
}

/* The ports. PCI-2. */

static u64 address_read(void *opaque, u64 offset, unsigned len)
{
	struct pci_bus *pci = opaque;
	u8 bytes[ADDRESS_PORT_SIZE];

	pthread_mutex_lock(&pci->lock);
	put_le(bytes, pci->address, sizeof(bytes));
	pthread_mutex_unlock(&pci->lock);
	return get_le(bytes + offset, len);
}

/*
 * A bridge takes only dwords here, and lets the rest go by to whatever else has a
 * port there. Nothing else has, and guests that probe write bytes: all of it latches.
 */
static void address_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct pci_bus *pci = opaque;
	u8 bytes[ADDRESS_PORT_SIZE];

	pthread_mutex_lock(&pci->lock);
	put_le(bytes, pci->address, sizeof(bytes));
	put_le(bytes + offset, value, len);
	pci->address = get_le(bytes, sizeof(bytes));
	pthread_mutex_unlock(&pci->lock);
}

/* Whom the latched address means, or NULL; *reg is the dword's offset. */
static struct pci_device *addressed(struct pci_bus *pci, unsigned *reg)
{
	u32 address;

	pthread_mutex_lock(&pci->lock);
	address = pci->address;
	pthread_mutex_unlock(&pci->lock);

	if (!(address & ADDRESS_ENABLE) || ADDRESS_BUS(address) || ADDRESS_FUNCTION(address))
		return NULL;
	*reg = ADDRESS_REGISTER(address);
	return pci->devices[ADDRESS_SLOT(address)];
}

static u64 data_read(void *opaque, u64 offset, unsigned len)
{
	unsigned reg;
	struct pci_device *device = addressed(opaque, &reg);
	u32 value;

	if (!device)
		return ~0ull;
	reg += offset;
	value = pci_config_read(device, reg, len);
	log_verbose("%s: %u bytes at %#x of configuration space: read %#x", device->name, len, reg,
		    value);
	return value;
}

static void data_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	unsigned reg;
	struct pci_device *device = addressed(opaque, &reg);

	if (!device)
		return;
	reg += offset;
	log_verbose("%s: %u bytes at %#x of configuration space: write %#x", device->name, len, reg,
		    (u32)value);
	pci_config_write(device, reg, len, value);
}

static const struct region_ops address_ops = {.read = address_read, .write = address_write};
static const struct region_ops data_ops = {.read = data_read, .write = data_write};

/* Making a device */

void pci_device_init(struct pci_device *device, const char *name, const struct pci_ops *ops,
		     u16 vendor, u16 id, u8 revision, u32 class_code)
{
	memset(device, 0, sizeof(*device));
	device->name = name;
	device->ops = ops;
	pthread_mutex_init(&device->lock, NULL);
	device->next_capability = CONFIG_HEADER;

	put_le(device->config + PCI_VENDOR_ID, vendor, 2);
	put_le(device->config + PCI_DEVICE_ID, id, 2);
	put_le(device->config + PCI_CLASS_REVISION, class_code << 8 | revision, 4);
	put_le(device->config + PCI_SUBSYSTEM_VENDOR_ID, vendor, 2);
	put_le(device->config + PCI_SUBSYSTEM_ID, id, 2);

	/* PCI-4. The first three do nothing here, but a guest may use them as it likes. */
	device->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	device->writable[PCI_LATENCY_TIMER] = 0xff;
	device->writable[PCI_INTERRUPT_LINE] = 0xff;
	put_le(device->writable + PCI_COMMAND, COMMAND_WRITABLE, 2);
}

void pci_set_bar(struct pci_device *device, unsigned bar, u32 size, const struct region_ops *ops,
		 void *opaque)
{
	assert(bar < PCI_BARS && !device->bars[bar].size);
	assert(size >= 16 && is_power_of_two(size));
	device->bars[bar].size = size;
	device->bars[bar].region = (struct region){
		.size = size,
		.ops = ops,
		.opaque = opaque,
		.name = device->name,
	};
	/* The bits below the size cannot be set: that is how a guest learns the size. */
	put_le(device->writable + bar_offset(bar), ~(size - 1), 4);
}

unsigned pci_add_capability(struct pci_device *device, const void *capability, unsigned len)
{
	unsigned offset = device->next_capability;
	unsigned link = device->last_capability ? device->last_capability + PCI_CAP_LIST_NEXT
						: PCI_CAPABILITY_LIST;

	assert(len >= 2 && offset + len <= PCI_CONFIG_SIZE);
	memcpy(device->config + offset, capability, len);
	device->config[offset + PCI_CAP_LIST_NEXT] = 0;
	device->config[link] = offset;
	device->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	device->last_capability = offset;
	device->next_capability = align_up(offset + len, 4);
	return offset;
}

void pci_add_window(struct pci_device *device, unsigned offset, unsigned len)
{
	/* So that an access, which lies inside a dword, is inside or outside. */
	assert(offset % 4 == 0 && len % 4 == 0 && offset + len <= PCI_CONFIG_SIZE);
	assert(!device->window_len);
	device->window = offset;
	device->window_len = len;
}

/*
 * Find a place for each BAR, aligned to its size. If there is none, the device is not to be plugged
 * in, and nobody else's place is lost.
 */
static int assign_bars(struct pci_bus *pci, struct pci_device *device)
{
	u64 next = pci->next_base;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &device->bars[i];

		if (!bar->size)
			continue;
		next = align_up(next, bar->size);
		if (next + bar->size > LAYOUT_PCI_WINDOW_END)
			return -ENOSPC;
		put_le(device->config + bar_offset(i), next, 4);
		next += bar->size;
	}
	pci->next_base = next;
	return 0;
}

int pci_add(struct pci_bus *pci, struct pci_device *device, unsigned slot)
{
	unsigned command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	int err;

	if (slot >= PCI_SLOTS || pci->devices[slot])
		return -EBUSY;
	err = assign_bars(pci, device);
	if (err)
		return err;
	device->pci = pci;
	device->slot = slot;

	/* Decoding from the start, for kernels that take the BARs as they are. */
	put_le(device->config + PCI_COMMAND, command, 2);
	/*
	 * All devices of ours that interrupt at all have MSI-X, and INTA# for guests that have not.
	 */
	if (device->msix.vectors) {
		device->config[PCI_INTERRUPT_PIN] = INTA;
		device->config[PCI_INTERRUPT_LINE] = intx_pin(device);
	}
	msix_reset(device);
	memcpy(device->power_on, device->config, sizeof(device->power_on));
	pci->devices[slot] = device;

	log_verbose("PCI device %u: %s (%04x:%04x)", slot, device->name,
		    pci_config_word(device, PCI_VENDOR_ID), pci_config_word(device, PCI_DEVICE_ID));
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (device->bars[i].size)
			log_verbose("PCI device %u: BAR %u at %#x, %#x bytes", slot, i,
				    get_le(device->config + bar_offset(i), 4),
				    device->bars[i].size);
	return 0;
}

/* The bus */

void pci_init(struct pci_bus *pci, struct bus *bus, struct ioapic *ioapic)
{
	memset(pci, 0, sizeof(*pci));
	pci->bus = bus;
	pci->ioapic = ioapic;
	pci->next_base = LAYOUT_PCI_WINDOW;
	pthread_mutex_init(&pci->lock, NULL);

	pci_device_init(&pci->bridge, "host bridge", NULL, BRIDGE_VENDOR, BRIDGE_DEVICE, 0,
			BRIDGE_CLASS);
	pci_add(pci, &pci->bridge, 0);

	pci->address_region = (struct region){
		.base = PORT_PCI_ADDRESS,
		.size = ADDRESS_PORT_SIZE,
		.ops = &address_ops,
		.opaque = pci,
		.name = "PCI address",
	};
	pci->data_region = (struct region){
		.base = PORT_PCI_DATA,
		.size = DATA_PORT_SIZE,
		.ops = &data_ops,
		.opaque = pci,
		.name = "PCI data",
	};
	bus_add(bus, PORT, &pci->address_region);
	bus_add(bus, PORT, &pci->data_region);
}

/* Devices are off the bus, but not told: there is no engine any more that they could tell. */
void pci_destroy(struct pci_bus *pci)
{
	bus_remove(pci->bus, PORT, &pci->address_region);
	bus_remove(pci->bus, PORT, &pci->data_region);
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		struct pci_device *device = pci->devices[i];

		if (!device)
			continue;
		for (unsigned j = 0; j < PCI_BARS; j++)
			if (device->bars[j].mapped)
				bus_remove(pci->bus, MEMORY, &device->bars[j].region);
		pthread_mutex_destroy(&device->lock);
	}
	pthread_mutex_destroy(&pci->lock);
}

static void device_reset(struct pci_device *device)
{
	pthread_mutex_lock(&device->lock);
	/*
	 * All the way off, so that the device hears of the new place even where it is the old one.
	 */
	for (unsigned i = 0; i < PCI_BARS; i++)
		bar_unmap(device, i);
	memcpy(device->config, device->power_on, sizeof(device->config));
	device->intx = false;
	msix_reset(device);
	bars_update(device);
	pthread_mutex_unlock(&device->lock);
	intx_update(device);
}

void pci_reset(struct pci_bus *pci, struct engine *engine)
{
	pci->engine = engine;
	pthread_mutex_lock(&pci->lock);
	pci->address = 0;
	pthread_mutex_unlock(&pci->lock);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		if (pci->devices[i])
			device_reset(pci->devices[i]);
}
