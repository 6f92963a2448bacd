/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that has gone mad on the PCI bus: the input is a list of things to do to
 * configuration ports, BARs, MSI-X tables and the IOAPIC, mixed with interrupts of the
 * devices. Two devices that share a wire, one without interrupts, and the bridge.
 *
 * Not crashing is the least of it. After each step, all that the parts know of each other
 * must agree: BARs are on the bus where configuration space says, the wire is what the
 * device and the guest make it, no message waits that could have been sent. And whoever is
 * called must be called without a lock, which one thread can tell by trying to take it.
 */
#include "input.h"

#include "board/pci.h"

#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define DEVICES	   3 /* beside the bridge */
#define WINDOW_LEN 20
#define BAR_LARGE  (64 * 1024)

struct world {
	struct engine engine;
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct pci_device devices[DEVICES];
	u64 seen[DEVICES][PCI_BARS]; /* where bar_moved() said that the BAR is, or ~0 */
	bool master[DEVICES];	     /* as the device saw when it last was told to look */
};

static const unsigned slots[] = {5, 13, 31, 0, 7}; /* the devices, the bridge, nobody */

static void world_must_be_unlocked(struct world *world)
{
	must_be_unlocked(&world->ioapic.lock);
	must_be_unlocked(&world->pci.lock);
	for (unsigned i = 0; i < DEVICES; i++)
		must_be_unlocked(&world->devices[i].lock);
}

static void fuzz_msi(struct engine *engine, u64 address, u32 data)
{
	(void)address;
	(void)data;
	world_must_be_unlocked(container_of(engine, struct world, engine));
}

static void fuzz_route(struct engine *engine, unsigned pin, u64 address, u32 data, bool level,
		       bool masked)
{
	(void)engine;
	MUST(pin < GSI_COUNT && address >> 20 == LAYOUT_LAPIC >> 20);
	MUST(level == !!(data & 0x8000));
	(void)masked;
}

static const struct engine_ops engine_ops = {
	.name = "fuzz",
	.msi = fuzz_msi,
	.ioapic_route = fuzz_route,
};

static void must_fit(struct pci_device *device, u64 offset, unsigned len)
{
	MUST(len == 1 || len == 2 || len == 4 || len == 8);
	MUST(offset < BAR_LARGE && offset + len <= BAR_LARGE);
	must_be_unlocked(&device->lock);
}

static u64 bar_read(void *opaque, u64 offset, unsigned len)
{
	must_fit(opaque, offset, len);
	return offset;
}

static void bar_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	must_fit(opaque, offset, len);
	/* As an ISR or a queue would: what the guest writes interrupts it. */
	pci_set_intx(opaque, value & 1);
	pci_msix_send(opaque, value >> 1 & 0x7f);
}

static const struct region_ops bar_ops = {.read = bar_read, .write = bar_write};

static u32 window_read(struct pci_device *device, unsigned offset, unsigned len)
{
	MUST(offset + len <= WINDOW_LEN && offset / 4 == (offset + len - 1) / 4);
	must_be_unlocked(&device->lock);
	return bus_read(device->pci->bus, MEMORY, device->bars[0].base + offset, len);
}

static void window_write(struct pci_device *device, unsigned offset, unsigned len, u32 value)
{
	MUST(offset + len <= WINDOW_LEN && offset / 4 == (offset + len - 1) / 4);
	must_be_unlocked(&device->lock);
	bus_write(device->pci->bus, MEMORY, device->bars[0].base + offset, len, value);
}

static void bar_moved(struct pci_device *device, unsigned bar, u64 base, bool mapped)
{
	struct world *world = container_of(device->pci, struct world, pci);
	u64 *seen = &world->seen[device - world->devices][bar];

	/* One goes before one comes. */
	MUST(mapped ? *seen == ~0ull : *seen == base);
	*seen = mapped ? base : ~0ull;
}

static void bus_master_changed(struct pci_device *device)
{
	struct world *world = container_of(device->pci, struct world, pci);

	must_be_unlocked(&device->lock);
	world->master[device - world->devices] = pci_is_bus_master(device);
}

/* A reset tells nobody: whoever resets the bus sees to the devices as well. */
static void reset(struct world *world)
{
	ioapic_reset(&world->ioapic, &world->engine);
	pci_reset(&world->pci, &world->engine);
	for (unsigned i = 0; i < DEVICES; i++)
		world->master[i] = pci_is_bus_master(&world->devices[i]);
}

static const struct pci_ops device_ops = {
	.window_read = window_read,
	.window_write = window_write,
	.bar_moved = bar_moved,
	.bus_master_changed = bus_master_changed,
};

static struct world *world_new(void)
{
	static const u8 vendor[WINDOW_LEN] = {PCI_CAP_ID_VNDR, 0, WINDOW_LEN};
	struct world *world = calloc(1, sizeof(*world));

	MUST(world);
	world->engine.ops = &engine_ops;
	world->bus = bus_new();
	MUST(world->bus);
	memset(world->seen, 0xff, sizeof(world->seen));
	ioapic_init(&world->ioapic, world->bus);
	pci_init(&world->pci, world->bus, &world->ioapic);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct pci_device *device = &world->devices[i];

		pci_device_init(device, "fuzz", &device_ops, 0x1af4, 0x1040 + i, 1, 0xff0000);
		pci_set_bar(device, 0, BAR_LARGE, &bar_ops, device);
		pci_add_window(device, pci_add_capability(device, vendor, sizeof(vendor)),
			       WINDOW_LEN);
		if (i < 2)
			pci_add_msix(device, i ? 5 : 1, i ? PCI_MSIX_MAX : 3);
		MUST(!pci_add(&world->pci, device, slots[i]));
	}
	return world;
}

static u16 word_at(const struct pci_device *device, unsigned offset)
{
	return device->config[offset] | device->config[offset + 1] << 8;
}

static void check_device(struct world *world, unsigned index)
{
	struct pci_device *device = &world->devices[index];
	const struct ioapic_pin *pin =
		&world->ioapic.pins[GSI_INTX + device->slot % GSI_INTX_COUNT];
	u16 command = word_at(device, PCI_COMMAND), control = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &device->bars[i];
		u32 base = word_at(device, PCI_BASE_ADDRESS_0 + 4 * i) |
			   (u32)word_at(device, PCI_BASE_ADDRESS_0 + 4 * i + 2) << 16;

		MUST(bar->size ? base % bar->size == 0 : base == 0);
		MUST(bar->mapped == (bar->size && command & PCI_COMMAND_MEMORY));
		MUST(world->seen[index][i] == (bar->mapped ? base : ~0ull));
		MUST(!bar->mapped || bar->region.base == base);
	}
	MUST(world->master[index] == !!(command & PCI_COMMAND_MASTER));
	MUST(!memcmp(device->config, device->power_on, PCI_COMMAND));
	MUST(!memcmp(device->config + PCI_STATUS, device->power_on + PCI_STATUS,
		     PCI_CACHE_LINE_SIZE - PCI_STATUS));
	MUST(!memcmp(device->config + PCI_CARDBUS_CIS, device->power_on + PCI_CARDBUS_CIS,
		     PCI_INTERRUPT_LINE - PCI_CARDBUS_CIS));

	if (!device->msix.vectors)
		return;
	control = word_at(device, device->msix.capability + PCI_MSIX_FLAGS);
	MUST((control & PCI_MSIX_FLAGS_QSIZE) == device->msix.vectors - 1);
	MUST((control & PCI_MSIX_FLAGS_ENABLE) || !device->msix.pending);
	for (unsigned i = 0; i < PCI_MSIX_MAX; i++) {
		if (!(device->msix.pending & 1ull << i))
			continue;
		MUST(i < device->msix.vectors);
		MUST((control & PCI_MSIX_FLAGS_MASKALL) || !(command & PCI_COMMAND_MASTER) ||
		     (device->msix.table[i].control & PCI_MSIX_ENTRY_CTRL_MASKBIT));
	}
	MUST(!!(pin->sources & 1ull << device->slot) ==
	     (device->intx && !(command & PCI_COMMAND_INTX_DISABLE) &&
	      !(control & PCI_MSIX_FLAGS_ENABLE)));
}

static void config_access(struct world *world, struct input *input, bool write)
{
	unsigned slot = slots[take(input, 1) % ARRAY_SIZE(slots)];
	unsigned reg = take(input, 1), len = 1 << take(input, 1) % 3;

	bus_write(world->bus, PORT, PORT_PCI_ADDRESS, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
	if (write)
		bus_write(world->bus, PORT, PORT_PCI_DATA + reg % 4, len, take(input, len));
	else
		bus_read(world->bus, PORT, PORT_PCI_DATA + reg % 4, len);
}

/* Around a place where something may be: the start of a BAR, the IOAPIC, the top, or anywhere. */
static u64 some_address(struct world *world, struct input *input)
{
	unsigned where = take(input, 1);
	u64 offset = take(input, 2);

	switch (where % 4) {
	case 0:
		return LAYOUT_IOAPIC + offset % 64;
	case 1:
		return offset - 8;
	case 2:
		return take(input, 4) << 12 | offset;
	default:
		where /= 4;
		return world->devices[where % DEVICES].bars[where / DEVICES % PCI_BARS].base +
		       offset - 4;
	}
}

static void step(struct world *world, struct input *input)
{
	u8 what = take(input, 1);
	struct pci_device *device = &world->devices[what / 16 % DEVICES];
	unsigned len;
	u64 at;

	switch (what % 16) {
	case 0:
		at = PORT_PCI_ADDRESS - 1 + take(input, 1) % 10;
		len = 1 << take(input, 1) % 3;
		bus_write(world->bus, PORT, at, len, take(input, len));
		break;
	case 1:
		at = PORT_PCI_ADDRESS - 1 + take(input, 1) % 10;
		bus_read(world->bus, PORT, at, 1 << take(input, 1) % 3);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		config_access(world, input, true);
		break;
	case 6:
		config_access(world, input, false);
		break;
	case 7:
	case 8:
	case 9:
		at = some_address(world, input);
		len = 1 + take(input, 1) % 8;
		bus_write(world->bus, MEMORY, at, len, take(input, len));
		break;
	case 10:
		at = some_address(world, input);
		bus_read(world->bus, MEMORY, at, 1 + take(input, 1) % 8);
		break;
	case 11:
		bus_write(world->bus, MEMORY, LAYOUT_IOAPIC, 4, take(input, 1));
		bus_write(world->bus, MEMORY, LAYOUT_IOAPIC + 0x10, 4, take(input, 4));
		break;
	case 12:
		pci_msix_send(device, take(input, 1));
		break;
	case 13:
		if (device->msix.vectors)
			pci_set_intx(device, take(input, 1) & 1);
		break;
	case 14:
		ioapic_eoi(&world->ioapic, take(input, 1));
		break;
	case 15:
		reset(world);
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct world *world; /* built once: what a guest did, a reset must undo */
	struct input input = {data, size};

	if (!world)
		world = world_new();
	reset(world);
	while (input.left) {
		step(world, &input);
		world_must_be_unlocked(world);
		for (unsigned i = 0; i < DEVICES; i++)
			check_device(world, i);
	}
	return 0;
}
